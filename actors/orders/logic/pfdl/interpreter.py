"""The run of a program as a pure function: state and event in, state and commands out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tagwerk.actors.orders.logic.pfdl.loaded import Loaded
from tagwerk.actors.orders.logic.pfdl.model import START_TASK, Program
from tagwerk.actors.orders.logic.pfdl.talk import (
    CancelOrder,
    Command,
    Event,
    FireEvent,
    OrderState,
    Parameter,
    RunState,
    ServiceRepeated,
)
from tagwerk.actors.orders.logic.pfdl.turn import Turn, uuid_of
from tagwerk.actors.orders.logic.pfdl.values import kept, misfits
from tagwerk.protocols.errors import LocalProtocolError, Refused, RefusedCode

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Interpreter:
    """Runs one program. It remembers nothing: the same state and event always give the same answer.

    Args:
        program: A sound one.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._loaded = Loaded(program)

    def start(self, order_id: str, inputs: Mapping[str, Any] = _NOTHING) -> tuple[RunState, tuple[Command, ...]]:
        """Begin a run.

        Args:
            order_id: Names the run; all uuids are made of it.
            inputs: What the first task takes, by name.

        Raises:
            Refused: An input is missing, of a wrong type, or not asked for.
        """
        task = self.program.tasks[START_TASK]
        wrong = [f"`{name}`: {START_TASK} takes no such input" for name in inputs if name not in self._inputs()]
        for name, type_ in self._inputs().items():
            if name not in inputs:
                wrong.append(f"`{name}`: {START_TASK} needs this input, a {type_}")
            else:
                wrong += [f"`{name}`: {misfit}" for misfit in misfits(inputs[name], type_, self.program.fields)]
        if wrong:
            raise Refused(RefusedCode.BAD_VALUE, "; ".join(wrong))
        turn = Turn(self._loaded, RunState(order_id, self.program.digest))
        turn.begin(task.name, {n: kept(inputs[n], t, self.program.fields) for n, t in self._inputs().items()})
        state = turn.run()
        return state, tuple(turn.commands)

    def step(self, state: RunState, event: Event) -> tuple[RunState, tuple[Command, ...]]:
        """Take one event.

        An event of a service that is not waited for (it comes a second time, or too late) and any event after the end
        change nothing: the same state comes back, and no command.

        Raises:
            LocalProtocolError: The state belongs to another text.
        """
        if state.digest != self.program.digest:
            raise LocalProtocolError(f"order {state.order_id} was begun with another text than this one")
        if state.state is not OrderState.RUNNING:
            return state, ()
        turn = Turn(self._loaded, state)
        if isinstance(event, CancelOrder):
            turn.end(OrderState.CANCELLED, event.reason)
        elif event.service_uuid not in state.services:
            return state, ()
        elif isinstance(event, FireEvent):
            turn.fire(event.service_uuid, event.outputs)
        elif isinstance(event, ServiceRepeated):
            turn.repeat(event.service_uuid, event.reason)
        else:
            turn.fail(event.service_uuid, event.reason)
        return turn.run(), tuple(turn.commands)

    def provide_parameter(self, state: RunState, variable: str, task_uuid: str) -> Parameter:
        """Give the value of a variable of a task that runs.

        Raises:
            Refused: There is no such task, or the variable has no value.
        """
        run = state.tasks.get(task_uuid)
        if run is None or variable not in run.variables:
            raise Refused(RefusedCode.UNKNOWN_TAG, f"task {task_uuid} has no value of `{variable}`")
        type_ = self._loaded.types[run.name][variable]
        return Parameter(variable, str(type_), run.variables[variable])

    def variables(self, state: RunState, task_uuid: str) -> list[Parameter]:
        """Give all variables of a task that runs."""
        run = state.tasks[task_uuid]
        types = self._loaded.types[run.name]
        return [Parameter(name, str(types[name]), value) for name, value in run.variables.items()]

    def _inputs(self) -> dict[str, Any]:
        return {one.name: one.type for one in self.program.tasks[START_TASK].inputs}


def root_uuid(order_id: str) -> str:
    """Give the uuid of the first task of a run."""
    return uuid_of(order_id)
