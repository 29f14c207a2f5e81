"""A run without resources: services take their time on a virtual clock and give what they are told to give."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from tagwerk.actors.orders.logic.paces import Answers, Paces
from tagwerk.actors.orders.logic.pfdl.interpreter import Interpreter, root_uuid
from tagwerk.actors.orders.logic.pfdl.model import START_TASK, Program
from tagwerk.actors.orders.logic.pfdl.talk import (
    Command,
    Event,
    FireEvent,
    OrderEnded,
    OrderState,
    ServiceEnded,
    ServiceFailed,
    ServiceFinished,
    ServiceStarted,
    TaskStarted,
)
from tagwerk.actors.orders.logic.pfdl.values import zero

ORDER_ID: Final = "simulation"
MOST_SERVICES: Final = 100_000
"""A run that has called so many services is stopped: a loop waits for an answer that never comes."""


@dataclass(slots=True)
class SimulatedCall:
    """One call of a service.

    Args:
        task: The task that called it.
        state: RUNNING if the simulation was stopped before its end, CANCELLED if nobody needed it any more.
    """

    service: str
    service_uuid: str
    task: str
    task_uuid: str
    attempt: int
    start_s: float
    inputs: list[dict[str, Any]]
    end_s: float | None = None
    state: OrderState = OrderState.RUNNING
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came of a run.

    Args:
        state: How the order stands at the end; RUNNING if it was stopped after too many services.
        reason: Why it did not finish.
        duration_s: By the virtual clock.
        calls: All of them, in the order of their beginning.
        variables: Those of the first task.
        line: Where the text could not go on, 0 if it could.
        column: Likewise.
    """

    state: OrderState
    reason: str
    duration_s: float
    calls: tuple[SimulatedCall, ...]
    variables: Mapping[str, Any]
    line: int = 0
    column: int = 0


def simulate(program: Program, paces: Paces, answers: Answers, seed: int = 0) -> Simulation:
    """Run a program to its end.

    Args:
        program: A sound one. What its first task takes is the zero of its type.
        paces: How long services take, how often they fail.
        answers: What they give.
        seed: Of the draws that decide which call fails.

    Raises:
        ConfigErrors: An answer does not fit.
    """
    return _Run(program, paces, answers, seed).to_its_end()


class _Run:
    def __init__(self, program: Program, paces: Paces, answers: Answers, seed: int) -> None:
        self._program = program
        self._paces = paces
        self._answers = answers
        self._seed = seed
        self._now_s = 0.0
        self._coming: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._calls: dict[str, SimulatedCall] = {}
        self._tasks: dict[str, str] = {}
        self._end: OrderEnded | None = None

    def to_its_end(self) -> Simulation:
        interpreter = Interpreter(self._program)
        inputs = {one.name: zero(one.type, self._program.fields) for one in self._program.tasks[START_TASK].inputs}
        state, commands = interpreter.start(ORDER_ID, inputs)
        self._take(commands)
        while self._coming and self._end is None and len(self._calls) <= MOST_SERVICES:
            at_s, _, event = heapq.heappop(self._coming)
            after, commands = interpreter.step(state, event)
            if after is not state:  # else it was of a service that nobody needs any more: its end is no time of ours
                state, self._now_s = after, at_s
                self._take(commands)
        end = self._end or OrderEnded(OrderState.RUNNING, f"stopped after {MOST_SERVICES} services: an endless loop?")
        variables = state.tasks[root_uuid(ORDER_ID)].variables
        calls = tuple(self._calls.values())
        return Simulation(end.state, end.reason, self._now_s, calls, variables, end.line, end.column)

    def _take(self, commands: tuple[Command, ...]) -> None:
        for command in commands:
            if isinstance(command, TaskStarted):
                self._tasks[command.task_uuid] = command.name
            elif isinstance(command, ServiceStarted):
                self._start(command)
            elif isinstance(command, ServiceFinished):
                outputs = {one.name: one.value for one in command.outputs}
                self._close(command.service_uuid, OrderState.FINISHED, outputs=outputs)
            elif isinstance(command, ServiceEnded):
                state = OrderState.CANCELLED if command.running else OrderState.FAILED
                self._close(command.service_uuid, state, command.reason)
            elif isinstance(command, OrderEnded):
                self._end = command

    def _start(self, command: ServiceStarted) -> None:
        uuid, pace = command.service_uuid, self._paces.of(command.name)
        inputs = [{"name": one.name, "type": one.type, "value": one.value} for one in command.inputs]
        task = self._tasks[command.context_uuid]
        self._calls[uuid] = SimulatedCall(
            command.name, uuid, task, command.context_uuid, command.attempt, self._now_s, inputs
        )
        event: Event
        duration_s = pace.duration_s
        if command.timeout_s is not None and duration_s > command.timeout_s:
            duration_s = command.timeout_s
            event = ServiceFailed(uuid, f"not finished within {duration_s:g} s")
        elif self._draw(uuid) < pace.failure_rate:
            event = ServiceFailed(uuid, "failed by chance")
        else:
            event = FireEvent(uuid, self._answers.to(command))
        heapq.heappush(self._coming, (self._now_s + duration_s, next(self._order), event))

    def _draw(self, service_uuid: str) -> float:
        """Give a number from 0 to 1, the same for a call whatever runs beside it."""
        digest = blake2b(f"{self._seed}/{service_uuid}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") / 2**64

    def _close(
        self, service_uuid: str, state: OrderState, reason: str = "", outputs: dict[str, Any] | None = None
    ) -> None:
        call = self._calls[service_uuid]
        call.end_s, call.state, call.reason, call.outputs = self._now_s, state, reason, outputs or {}
