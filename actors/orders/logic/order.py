"""An order in a plant as a pure fold: records in their order make its life; each also says what is to be done next.

A record is stored before anything that it asks for is done, so that after a crash the same records make the same life,
and `pending` says what may have been left undone. All of that may be done twice: a resource knows each service uuid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, final

from tagwerk.actors.orders.logic.life import (
    Assign,
    Change,
    Effect,
    Execute,
    Life,
    ServiceRun,
    ServiceState,
    Stop,
    Wake,
)
from tagwerk.actors.orders.logic.pfdl import Interpreter, Program
from tagwerk.actors.orders.logic.pfdl.talk import (
    CancelOrder,
    Command,
    Event,
    FireEvent,
    OrderEnded,
    OrderState,
    Parameter,
    ServiceEnded,
    ServiceFailed,
    ServiceFinished,
    ServiceRepeated,
    ServiceStarted,
)
from tagwerk.actors.orders.logic.records import (
    Assigned,
    Begun,
    Controlled,
    Doubted,
    Fell,
    Gave,
    Heard,
    Overdue,
    Progressed,
    Record,
    Resolved,
    Restored,
    ServiceTold,
    Stopped,
    TaskTold,
    TokenAgain,
    TokensTaken,
)
from tagwerk.actors.orders.logic.services import Failure
from tagwerk.actors.orders.logic.told import take_service, take_task, told_tasks
from tagwerk.protocols.errors import LocalProtocolError
from tagwerk.protocols.order_feed import TaskPicture
from tagwerk.protocols.orders import Asked, Given, Token

MOST_TRIES: Final = 5
"""Resources that are tried for one service if they cannot be reached."""


@final
class Order:
    """One order.

    Args:
        run_id: What the uuids of its services are made of: never given a second time.
        program: Its program; None: another dispatcher says what is to be done.
        life: How it stands.
    """

    def __init__(self, run_id: str, program: Program | None, life: Life | None = None) -> None:
        self.life = life or Life()
        self._run_id = run_id
        self._interpreter = None if program is None else Interpreter(program)
        self._effects: list[Effect] = []
        self._touched: dict[str, ServiceRun] = {}
        self._commands: list[Command] = []
        self._now_ns = 0
        self._takers: Mapping[type, Callable[[Any], None]] = {
            Begun: self._begun, Assigned: self._assigned, Progressed: self._progressed, Gave: self._gave,
            Fell: self._fell, Doubted: self._doubted, Heard: self._heard, Overdue: self._overdue,
            Stopped: self._stopped, Resolved: self._resolved, Controlled: self._controlled, TaskTold: self._task_told,
            Restored: self._restored,
            ServiceTold: self._service_told, TokensTaken: self._tokens_taken,
            TokenAgain: self._token_again,
        }  # fmt: skip

    def apply(self, record: Record, now_ns: int) -> Change:
        """Take a record.

        Raises:
            Refused: It is a `Begun` whose inputs do not fit. Nothing was changed.
        """
        self._now_ns, self._effects, self._touched, self._commands = now_ns, [], {}, []
        self._takers[type(record)](record)
        return Change(self._effects, list(self._touched.values()), self._commands)

    def pending(self) -> list[Effect]:
        """Give all that may have been left undone by a crash."""
        life = self.life
        found: list[Effect] = [Stop(uuid, resource) for uuid, resource in life.stopping.items()]
        for one in life.services.values():
            if one.state == ServiceState.SENT:
                found.append(Execute(one))
            elif one.state == ServiceState.WAITING and not life.paused:
                found.append(Assign(one))
        return found

    def tasks(self) -> Iterator[TaskPicture]:
        """Give its tasks, those first that called the others. A first task that has ended is there, too."""
        run = self.life.run
        if self._interpreter is None:
            yield from told_tasks(self.life)
        elif run is not None:
            for uuid, task in run.tasks.items():
                variables = self._interpreter.variables(run, uuid)
                values = tuple(Given(one.name, one.type, one.value) for one in variables)
                yield TaskPicture(uuid, task.name, task.context_uuid, task.service_uuid != "", task.served, values)

    # --- one record each ---

    def _begun(self, record: Begun) -> None:
        if self._interpreter is None:
            return
        self.life.run, commands = self._interpreter.start(self._run_id, record.inputs)
        self._take(commands)

    def _assigned(self, record: Assigned) -> None:
        one = self._service(record.service_uuid, ServiceState.WAITING)
        if one is None:
            return
        one.state, one.resource, one.url = ServiceState.SENT, record.resource, record.url
        one.why, one.fixed, one.phase = record.why, record.fixed, ""
        self._effects.append(Execute(one))

    def _progressed(self, record: Progressed) -> None:
        one = self._service(record.service_uuid, ServiceState.SENT)
        if one is not None:
            one.phase = record.phase
            self._times(one, record)

    def _gave(self, record: Gave) -> None:
        one = self._service(record.service_uuid, ServiceState.SENT)
        if one is None:
            return
        self._times(one, record)
        one.given = record.outputs
        self._step(one, FireEvent(one.uuid, record.outputs))

    def _fell(self, record: Fell) -> None:
        one = self._service(record.service_uuid, ServiceState.SENT, ServiceState.WAITING)
        if one is None:
            return
        self._times(one, record)
        if one.state == ServiceState.SENT:
            retriable = record.failure == Failure.UNREACHABLE and not one.fixed
            if retriable and len(one.exclude) + 1 < MOST_TRIES:
                one.exclude = (*one.exclude, one.resource)
                one.state, one.resource, one.url = ServiceState.WAITING, "", ""
                one.reason = record.reason
                if not self.life.paused:
                    self._effects.append(Assign(one))
                return
        self._step(one, ServiceFailed(one.uuid, record.reason))

    def _doubted(self, record: Doubted) -> None:
        one = self._service(record.service_uuid, ServiceState.SENT)
        if one is not None:
            self._times(one, record)
            one.state, one.reason, one.phase = ServiceState.UNKNOWN, record.reason, "UNKNOWN"

    def _heard(self, record: Heard) -> None:
        one = self._service(record.service_uuid, ServiceState.UNKNOWN)
        if one is None:
            return
        if one.orphan:
            state = ServiceState.FAILED if record.failure else ServiceState.FINISHED
            self._end(one, state, record.reason)
            return
        one.state, one.phase = ServiceState.SENT, ""
        self._times(one, record)
        if record.failure:
            self._step(one, ServiceFailed(one.uuid, record.reason))
        else:
            one.given = record.outputs
            self._step(one, FireEvent(one.uuid, record.outputs))

    def _restored(self, _record: Restored) -> None:
        for one in self.life.services.values():
            self._touched[one.uuid] = one
            one.state, one.phase = ServiceState.UNKNOWN, "UNKNOWN"
            one.reason = "the plant was restored from a backup: whether it was executed since is not known"

    def _overdue(self, record: Overdue) -> None:
        one = self._service(record.service_uuid, ServiceState.SENT, ServiceState.WAITING)
        if one is not None:
            self._stop(one)
            self._step(one, ServiceFailed(one.uuid, f"not finished within {one.timeout_s or 0:g} s"))

    def _stopped(self, record: Stopped) -> None:
        self.life.stopping.pop(record.service_uuid, None)

    def _resolved(self, record: Resolved) -> None:
        one = self._service(record.service_uuid, ServiceState.UNKNOWN)
        if one is None:
            return
        self._stop(one)
        said = f"{record.by} says: {record.outcome}" + (f" ({record.reason})" if record.reason else "")
        if one.orphan:
            state = ServiceState.FINISHED if record.outcome == "done" else ServiceState.FAILED
            self._end(one, state, said)
            return
        one.state = ServiceState.SENT
        if record.outcome == "done":
            one.given = record.outputs
            self._step(one, FireEvent(one.uuid, record.outputs))
        elif record.outcome == "retry":
            self._step(one, ServiceRepeated(one.uuid, said))
        else:
            self._step(one, ServiceFailed(one.uuid, said))

    def _controlled(self, record: Controlled) -> None:
        life = self.life
        reason = f"{record.action} by {record.by}" + (f": {record.reason}" if record.reason else "")
        if record.action == "pause":
            life.paused = True
        elif record.action == "resume":
            life.paused = False
            for one in life.services.values():
                if one.state == ServiceState.WAITING:
                    one.since_ns = self._now_ns
                    self._effects.append(Assign(one))
        elif record.action == "cancel":
            self._cancel(reason)
        elif record.action == "retry" and life.before is not None and self._interpreter is not None:
            life.run, life.before = life.before, None
            life.state, life.reason, life.line, life.column = OrderState.RUNNING, "", 0, 0
            for uuid in list(life.run.services):
                life.run, commands = self._interpreter.step(life.run, ServiceRepeated(uuid, reason))
                self._take(commands)

    def _task_told(self, record: TaskTold) -> None:
        self._commands.append(take_task(self.life, record))
        if record.finished and record.task_uuid == record.context_uuid == self.life.root:
            state = OrderState.FAILED if record.failed else OrderState.FINISHED
            self._close(state, record.failed)

    def _service_told(self, record: ServiceTold) -> None:
        self._commands += take_service(self.life, record)
        self._start(
            record.service_uuid, record.name, record.context_uuid, "", 1, record.inputs, record.outputs,
            record.timeout_s,
        )  # fmt: skip

    def _tokens_taken(self, record: TokensTaken) -> None:
        self.life.tokens = [one for one in self.life.tokens if one.number > record.upto]

    def _token_again(self, record: TokenAgain) -> None:
        life = self.life
        life.token_number += 1
        life.tokens.append(Token(life.token_number, record.service_uuid, record.outputs, record.failed))
        self._effects.append(Wake())

    # --- what is common ---

    def _service(self, uuid: str, *states: ServiceState) -> ServiceRun | None:
        """Give a service if it is in one of these states; what comes too late changes nothing."""
        one = self.life.services.get(uuid)
        if one is None or one.state not in states:
            return None
        self._touched[uuid] = one
        return one

    @staticmethod
    def _times(one: ServiceRun, record: Progressed | Gave | Fell | Doubted | Heard) -> None:
        one.queued_ns, one.called_ns = record.queued_ns or one.queued_ns, record.called_ns or one.called_ns

    def _stop(self, one: ServiceRun) -> None:
        if one.resource and one.state != ServiceState.WAITING:
            self.life.stopping[one.uuid] = one.resource
            self._effects.append(Stop(one.uuid, one.resource))

    def _step(self, one: ServiceRun, event: Event) -> None:
        """Let the dispatcher take the end of a service."""
        life = self.life
        if self._interpreter is None or life.run is None:
            self._token(one, event)
            return
        before = life.run
        life.run, commands = self._interpreter.step(before, event)
        self._take(commands)
        if life.state == OrderState.FAILED and isinstance(event, ServiceFailed):
            life.before = before

    def _token(self, one: ServiceRun, event: Event) -> None:
        """Keep a token for a dispatcher that is somewhere else."""
        life = self.life
        life.token_number += 1
        if isinstance(event, FireEvent):
            life.tokens.append(Token(life.token_number, one.uuid, event.outputs))
            values = {each.name: Given(each.name, each.type, event.outputs.get(each.name)) for each in one.outputs}
            life.scopes.setdefault(one.task_uuid, {}).update(values)
            given = tuple(Parameter(each.name, each.type, each.value) for each in values.values())
            self._commands.append(ServiceFinished(one.uuid, one.name, one.task_uuid, given))
            self._end(one, ServiceState.FINISHED, "")
        else:
            life.tokens.append(Token(life.token_number, one.uuid, {}, event.reason))
            self._commands.append(ServiceEnded(one.uuid, one.name, one.task_uuid, event.reason, running=False))
            self._end(one, ServiceState.FAILED, event.reason)
        self._effects.append(Wake())

    def _take(self, commands: tuple[Command, ...]) -> None:
        self._commands += commands
        for command in commands:
            if isinstance(command, ServiceStarted):
                self._started(command)
            elif isinstance(command, ServiceFinished):
                self._end(self.life.services[command.service_uuid], ServiceState.FINISHED, "")
                self.life.avoid.pop(command.context_uuid, None)
            elif isinstance(command, ServiceEnded):
                self._ended(command)
            elif isinstance(command, OrderEnded):
                self._close(command.state, command.reason, command.line, command.column)

    def _started(self, command: ServiceStarted) -> None:
        inputs = tuple(Given(one.name, one.type, one.value) for one in command.inputs)
        outputs = tuple(Asked(one.name, one.type) for one in command.outputs)
        task = self._task_name(command.context_uuid)
        self._start(
            command.service_uuid, command.name, command.context_uuid, task, command.attempt, inputs, outputs,
            command.timeout_s,
        )  # fmt: skip

    def _start(
        self, uuid: str, name: str, task_uuid: str, task: str, attempt: int, inputs: tuple[Given, ...],
        outputs: tuple[Asked, ...], timeout_s: float | None,
    ) -> None:  # fmt: skip
        life = self.life
        life.count += 1
        one = ServiceRun(
            life.count, uuid, name, task_uuid, task, attempt, inputs, outputs, timeout_s, self._now_ns, self._now_ns,
            avoid=life.avoid.get(task_uuid, ()),
        )  # fmt: skip
        life.services[uuid] = self._touched[uuid] = one
        if not life.paused:
            self._effects.append(Assign(one))

    def _ended(self, command: ServiceEnded) -> None:
        one = self.life.services.get(command.service_uuid)
        if one is None:
            return
        self._touched[one.uuid] = one
        if not command.running:
            if one.resource:
                avoid = self.life.avoid
                avoid[command.context_uuid] = (*avoid.get(command.context_uuid, ()), one.resource)[-MOST_TRIES:]
            self._end(one, ServiceState.FAILED, command.reason)
        elif one.state == ServiceState.UNKNOWN:
            one.orphan = True  # it may still be at work: its place is kept until somebody has looked
        else:
            self._stop(one)
            self._end(one, ServiceState.CANCELLED, command.reason)

    def _cancel(self, reason: str) -> None:
        life = self.life
        if self._interpreter is not None and life.run is not None:
            life.run, commands = self._interpreter.step(life.run, CancelOrder(reason))
            self._take(commands)
            return
        self._close(OrderState.CANCELLED, reason)

    def _close(self, state: OrderState, reason: str, line: int = 0, column: int = 0) -> None:
        life = self.life
        life.state, life.reason, life.line, life.column = state, reason, line, column
        life.paused = False
        for one in list(life.services.values()):  # an interpreter has ended them already
            ended = ServiceEnded(one.uuid, one.name, one.task_uuid, reason or "its order has ended", running=True)
            self._ended(ended)
            if self._interpreter is None:  # which has said all that itself
                self._commands.append(ended)
        if self._interpreter is None:
            self._commands.append(OrderEnded(state, reason))
        self._effects.append(Wake())

    def _end(self, one: ServiceRun, state: ServiceState, reason: str) -> None:
        one.state, one.ended_ns, one.reason = state, self._now_ns, reason
        self.life.services.pop(one.uuid, None)
        self.life.finished += state is ServiceState.FINISHED
        self._touched[one.uuid] = one

    def _task_name(self, task_uuid: str) -> str:
        run = self.life.run
        if run is None or task_uuid not in run.tasks:
            if self._interpreter is None:
                raise LocalProtocolError(f"no task {task_uuid}")
            return ""
        return run.tasks[task_uuid].name
