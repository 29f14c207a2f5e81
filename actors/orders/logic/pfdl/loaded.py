"""A program made ready to run."""

from __future__ import annotations

from typing import Any

from tagwerk.actors.orders.logic.pfdl.code import Do, Fork, code_of
from tagwerk.actors.orders.logic.pfdl.model import (
    NUMBER,
    Call,
    Literal,
    Path,
    Place,
    Program,
    Type,
    statements_in,
    types_of,
)
from tagwerk.actors.orders.logic.pfdl.talk import TaskRun
from tagwerk.actors.orders.logic.pfdl.values import plain


class Loaded:
    """What a run looks up.

    Args:
        program: A sound one.
    """

    def __init__(self, program: Program) -> None:
        self.tasks = program.tasks
        self.fields = program.fields
        self.code = {name: code_of(task) for name, task in program.tasks.items()}
        self.types = {name: types_of(task) for name, task in program.tasks.items()}
        self.literals: dict[Place, Any] = {
            one.place: plain(one.value)
            for task in program.tasks.values()
            for call in statements_in(task.body)
            if isinstance(call, Call)
            for one in call.inputs
            if isinstance(one, Literal)
        }

    def call(self, run: TaskRun, branch: int) -> Call:
        """Give the call that a task waits for."""
        item = self.code[run.name][run.at]
        if isinstance(item, Do):
            return item.call
        assert isinstance(item, Fork), "a task waits only at a call"
        return item.calls[0 if item.counter else branch]

    def type_at(self, task: str, path: Path) -> Type:
        """Give the type at the end of a path."""
        type_ = self.types[task].get(path.name, NUMBER)  # what is no variable is the count of a loop
        for step in path.steps:
            type_ = self.fields[type_.name][step] if isinstance(step, str) else type_.element
        return type_
