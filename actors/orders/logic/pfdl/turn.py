"""What one event sets off in a run, worked out on copies: the state it began from stays as it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any

from msgspec.structs import replace

from tagwerk.actors.orders.logic.pfdl import limits
from tagwerk.actors.orders.logic.pfdl.code import Again, Begin, Do, Enough, Fork, Jump, Unless
from tagwerk.actors.orders.logic.pfdl.expressions import Fault, value_of
from tagwerk.actors.orders.logic.pfdl.loaded import Loaded
from tagwerk.actors.orders.logic.pfdl.model import NOWHERE, Call, Counter, Input, Path, Place
from tagwerk.actors.orders.logic.pfdl.talk import (
    Command,
    OrderEnded,
    OrderState,
    Output,
    Parameter,
    RunState,
    ServiceEnded,
    ServiceFinished,
    ServiceStarted,
    TaskFailed,
    TaskFinished,
    TaskRun,
    TaskStarted,
)
from tagwerk.actors.orders.logic.pfdl.values import kept, misfits


class Exhausted(Exception):  # noqa: N818  of the order, not of ours
    """One event set off more than the bounds allow: the program goes round without ever waiting."""


def uuid_of(text: str) -> str:
    """Give the uuid that belongs to a text (RFC 9562, version 8: made of a hash)."""
    found = blake2b(text.encode(), digest_size=16).hexdigest()
    variant = "89ab"[int(found[16], 16) & 3]
    return f"{found[:8]}-{found[8:12]}-8{found[13:16]}-{variant}{found[17:20]}-{found[20:]}"


class Turn:
    """One step of a run.

    Args:
        loaded: The program.
        state: Where it stands.
    """

    def __init__(self, loaded: Loaded, state: RunState) -> None:
        self._loaded = loaded
        self._state = state
        self._tasks = dict(state.tasks)
        self._services = dict(state.services)
        self._root = uuid_of(state.order_id)
        self._ready: deque[str] = deque()
        self._moves = 0
        self.commands: list[Command] = []

    def begin(self, name: str, inputs: Mapping[str, Any]) -> None:
        """Start the first task."""
        task = self._loaded.tasks[name]
        given = [Parameter(one.name, str(one.type), inputs[one.name]) for one in task.inputs]
        self._start_task(name, self._root, self._root, 0, given)

    def fire(self, service_uuid: str, outputs: Mapping[str, Any]) -> None:
        """Take the token of a service that is waited for."""
        task_uuid, run, call = self._waiting_call(service_uuid)
        fields = self._loaded.fields
        for one in call.outputs:
            if one.name not in outputs:
                wrong = f"it gave no `{one.name}`"
            elif (misfit := next(misfits(outputs[one.name], one.type, fields), None)) is not None:
                wrong = f"what it gave as `{one.name}` is no {one.type}: {misfit}"
            else:
                continue
            self._emit(ServiceEnded(service_uuid, call.name, task_uuid, wrong, running=False))
            self._fail(task_uuid, Fault(f"{call.name}: {wrong}", call.place))
            return
        values = {one.name: kept(outputs[one.name], one.type, fields) for one in call.outputs}
        given = tuple(Parameter(one.name, str(one.type), values[one.name]) for one in call.outputs)
        self._emit(ServiceFinished(service_uuid, call.name, task_uuid, given))
        variables = {**run.variables, **values}
        self._tasks[task_uuid] = replace(run, at=run.at + 1, variables=variables, service_uuid="", attempt=0)
        self._ready.append(task_uuid)

    def fail(self, service_uuid: str, reason: str) -> None:
        """Take word that a service that is waited for has failed."""
        task_uuid, run, call = self._waiting_call(service_uuid)
        self._emit(ServiceEnded(service_uuid, call.name, task_uuid, reason, running=False))
        if run.attempt <= call.retries:
            self._start_service(task_uuid, replace(run, service_uuid=""), call)
        else:
            self._fail(task_uuid, Fault(f"{call.name}: {reason}", call.place))

    def repeat(self, service_uuid: str, reason: str) -> None:
        """Start a service that is waited for once more."""
        task_uuid, run, call = self._waiting_call(service_uuid)
        self._emit(ServiceEnded(service_uuid, call.name, task_uuid, reason, running=False))
        self._start_service(task_uuid, replace(run, service_uuid="", attempt=run.attempt - 1), call)

    def end(self, state: OrderState, reason: str, place: Place = NOWHERE) -> None:
        """End the order now, and all that still runs for it."""
        self._end_below(self._root, reason)
        self._end_service(self._root, reason)
        root = self._tasks[self._root]
        self._tasks[self._root] = replace(root, service_uuid="", waiting=0)
        self.commands.append(TaskFailed(self._root, root.name, root.context_uuid, reason))
        self._close(state, reason, place)

    def run(self) -> RunState:
        """Let all tasks go on that can; give the state in which nothing can but by an event."""
        try:
            while self._ready:
                uuid = self._ready.popleft()
                if uuid in self._tasks:
                    self._advance(uuid)
        except Exhausted as error:
            self._ready.clear()
            self.end(OrderState.FAILED, str(error))
        return replace(self._state, tasks=self._tasks, services=self._services)

    def _emit(self, command: Command) -> None:
        if len(self.commands) >= limits.STEP_COMMANDS:
            raise Exhausted(f"more than {limits.STEP_COMMANDS} commands at once: an endless loop?")
        self.commands.append(command)

    def _waiting_call(self, service_uuid: str) -> tuple[str, TaskRun, Call]:
        task_uuid = self._services.pop(service_uuid)
        run = self._tasks[task_uuid]
        item = self._loaded.code[run.name][run.at]
        assert isinstance(item, Do), "only a call waits for a service"
        return task_uuid, run, item.call

    def _advance(self, uuid: str) -> None:
        """Do a task's instructions until it waits for something, or ends."""
        run = self._tasks[uuid]
        code = self._loaded.code[run.name]
        try:
            while run.at < len(code):
                self._moves += 1
                if self._moves > limits.STEP_MOVES:
                    raise Exhausted(f"more than {limits.STEP_MOVES} steps without a service: an endless loop?")
                item = code[run.at]
                if isinstance(item, Do):
                    self._do(uuid, run, item.call)
                    return
                if isinstance(item, Fork):
                    if self._fork(uuid, run, item):
                        return
                    run = replace(run, at=run.at + 1)
                elif isinstance(item, Jump):
                    run = replace(run, at=item.to)
                elif isinstance(item, Unless):
                    self._moves += len(item.test)
                    passed = value_of(item.test, partial(self._value, run=run))
                    run = replace(run, at=run.at + 1 if passed else item.to)
                else:
                    run = self._count(run, item)
            self._finish(uuid, run)
        except Fault as fault:
            self._tasks[uuid] = run
            self._fail(uuid, fault)

    def _count(self, run: TaskRun, item: Begin | Enough | Again) -> TaskRun:
        if isinstance(item, Begin):
            return replace(run, at=run.at + 1, counts={**run.counts, item.counter: 0})
        if isinstance(item, Again):
            return replace(run, at=item.to, counts={**run.counts, item.counter: run.counts[item.counter] + 1})
        if run.counts[item.counter] < self._limit(item.limit, run):
            return replace(run, at=run.at + 1)
        counts = {name: count for name, count in run.counts.items() if name != item.counter}
        return replace(run, at=item.to, counts=counts)

    def _do(self, uuid: str, run: TaskRun, call: Call) -> None:
        if call.is_service:
            self._start_service(uuid, run, call)
            return
        inputs = [self._parameter(one, run) for one in call.inputs]
        self._tasks[uuid] = replace(run, calls=run.calls + 1, waiting=1)
        self._call_task(call, uuid, run.calls, 0, inputs)

    def _start_service(self, uuid: str, run: TaskRun, call: Call) -> None:
        service_uuid = uuid_of(f"{uuid}/{run.calls}")
        inputs = tuple(self._parameter(one, run) for one in call.inputs)
        outputs = tuple(Output(one.name, str(one.type)) for one in call.outputs)
        attempt = run.attempt + 1
        self._tasks[uuid] = replace(run, calls=run.calls + 1, service_uuid=service_uuid, attempt=attempt, served=True)
        self._services[service_uuid] = uuid
        self._emit(ServiceStarted(service_uuid, call.name, uuid, inputs, outputs, call.timeout_s, attempt))

    def _fork(self, uuid: str, run: TaskRun, item: Fork) -> bool:
        """Start the branches; tell whether there are any."""
        calls: Iterable[Call] = item.calls
        count = len(item.calls)
        if item.counter:
            count = self._limit(item.limit, run)
            calls = item.calls * count if count <= limits.LIVE_TASKS else ()
        if count > limits.LIVE_TASKS - len(self._tasks):
            raise Exhausted(f"more than {limits.LIVE_TASKS} tasks at the same time")
        starts: list[tuple[Call, list[Parameter]]] = []
        for branch, call in enumerate(calls):
            counted = replace(run, counts={**run.counts, item.counter: branch}) if item.counter else run
            starts.append((call, [self._parameter(one, counted) for one in call.inputs]))
        if not starts:
            return False
        self._tasks[uuid] = replace(run, calls=run.calls + len(starts), waiting=len(starts), written={})
        for branch, (call, inputs) in enumerate(starts):
            self._call_task(call, uuid, run.calls + branch, branch, inputs)
        return True

    def _call_task(self, call: Call, context: str, number: int, branch: int, given: list[Parameter]) -> None:
        declared = self._loaded.tasks[call.name].inputs
        inputs = [Parameter(one.name, str(one.type), p.value) for one, p in zip(declared, given, strict=True)]
        self._start_task(call.name, uuid_of(f"{context}/{number}"), context, branch, inputs)

    def _start_task(self, name: str, uuid: str, context: str, branch: int, inputs: list[Parameter]) -> None:
        if len(self._tasks) >= limits.LIVE_TASKS:
            raise Exhausted(f"more than {limits.LIVE_TASKS} tasks at the same time")
        self._tasks[uuid] = TaskRun(name, context, branch, variables={one.name: one.value for one in inputs})
        self._ready.append(uuid)
        self._emit(TaskStarted(uuid, name, context, tuple(inputs)))

    def _finish(self, uuid: str, run: TaskRun) -> None:
        task = self._loaded.tasks[run.name]
        for name, place in task.outputs:
            if name not in run.variables:
                raise Fault(f"`{name}` has no value", place)
        values = [run.variables[name] for name, _ in task.outputs]
        if uuid == self._root:
            types = self._loaded.types[run.name]
            own = [Parameter(name, str(types[name]), run.variables[name]) for name, _ in task.outputs]
            self._tasks[uuid] = run
            self._emit(TaskFinished(uuid, run.name, uuid, tuple(own)))
            self._close(OrderState.FINISHED)
            return
        del self._tasks[uuid]
        context = self._tasks[run.context_uuid]
        call = self._loaded.call(context, run.branch)
        # A later branch of a Parallel wins, whenever it ends: so what comes out does not depend on who was faster.
        new = {
            one.name: Parameter(one.name, str(one.type), value)
            for one, value in zip(call.outputs, values, strict=True)
            if run.branch >= context.written.get(one.name, 0)
        }
        self._emit(TaskFinished(uuid, run.name, run.context_uuid, tuple(new.values())))
        context = replace(
            context,
            variables={**context.variables, **{name: one.value for name, one in new.items()}},
            written={**context.written, **dict.fromkeys(new, run.branch)},
            waiting=context.waiting - 1,
        )
        if context.waiting == 0:
            context = replace(context, at=context.at + 1, written={})
            self._ready.append(run.context_uuid)
        self._tasks[run.context_uuid] = context

    def _fail(self, uuid: str, fault: Fault) -> None:
        """End a task; the call that made it may handle that, or one further out; if none does the order ends."""
        while True:
            run = self._tasks[uuid]
            code = self._loaded.code[run.name]
            item = code[run.at] if run.at < len(code) else None
            if isinstance(item, Do) and item.handler is not None:
                self._tasks[uuid] = replace(run, at=item.handler, waiting=0, written={}, service_uuid="", attempt=0)
                self._ready.append(uuid)
                return
            if uuid == self._root:
                self._ready.clear()
                self.end(OrderState.FAILED, fault.message, fault.place)
                return
            self._emit(TaskFailed(uuid, run.name, run.context_uuid, fault.message))
            del self._tasks[uuid]
            self._end_below(run.context_uuid, fault.message)
            uuid = run.context_uuid

    def _end_below(self, uuid: str, reason: str) -> None:
        """End all tasks that a task has called, and those that these have called."""
        called: dict[str, list[str]] = {}
        for other, run in self._tasks.items():
            if other != self._root:
                called.setdefault(run.context_uuid, []).append(other)
        below = [uuid]
        for one in below:  # grows while it is walked
            below += called.get(one, ())
        for one in reversed(below[1:]):
            self._end_service(one, reason)
            run = self._tasks.pop(one)
            self.commands.append(TaskFailed(one, run.name, run.context_uuid, reason))

    def _end_service(self, task_uuid: str, reason: str) -> None:
        service_uuid = self._tasks[task_uuid].service_uuid
        if self._services.pop(service_uuid, None) is not None:
            call = self._loaded.call(self._tasks[task_uuid], 0)
            self.commands.append(ServiceEnded(service_uuid, call.name, task_uuid, reason, running=True))

    def _close(self, state: OrderState, reason: str = "", place: Place = NOWHERE) -> None:
        self._state = replace(self._state, state=state, reason=reason)
        self.commands.append(OrderEnded(state, reason, *place))

    def _limit(self, limit: Path | int, run: TaskRun) -> int:
        if isinstance(limit, int):
            return limit
        value = self._value(limit, run)
        if value != int(value):
            raise Fault(f"the limit `{limit}` is {value}, no whole number", limit.place)
        return max(0, int(value))

    def _parameter(self, given: Input, run: TaskRun) -> Parameter:
        if isinstance(given, Path):
            type_ = self._loaded.type_at(run.name, given)
            return Parameter(given.text(run.counts), str(type_), self._value(given, run))
        return Parameter("", given.struct, self._loaded.literals[given.place])

    def _value(self, path: Path, run: TaskRun) -> Any:
        if path.name in run.counts and not path.steps:
            return run.counts[path.name]
        if path.name not in run.variables:
            raise Fault(f"`{path.name}` has no value yet", path.place)
        value = run.variables[path.name]
        for step in path.steps:
            if isinstance(step, str):
                value = value[step]
                continue
            index = run.counts[step.name] if isinstance(step, Counter) else step
            if index >= len(value):
                raise Fault(f"`{path.text(run.counts)}`: the array has {len(value)} elements", path.place)
            value = value[index]
        return value
