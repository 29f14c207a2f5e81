"""Tasks as flat code: nested loops and conditions become jumps, so that a place in a run is one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tagwerk.actors.orders.logic.pfdl.model import (
    Call,
    Condition,
    Expression,
    Parallel,
    Path,
    Statement,
    Task,
    While,
)


@dataclass(frozen=True, slots=True)
class Do:
    """Call something and wait for it.

    Args:
        handler: Where to go on if it fails for good; None: the task fails.
    """

    call: Call
    handler: int | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """Call tasks side by side and wait for all.

    Args:
        calls: One for each branch; one alone if `counter` is set.
        counter: What counts the branches of a parallel loop, or "".
        limit: How many of them there are.
    """

    calls: tuple[Call, ...]
    counter: str = ""
    limit: Path | int = 0


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on elsewhere."""

    to: int


@dataclass(frozen=True, slots=True)
class Unless:
    """Go on elsewhere if the test is not true."""

    test: Expression
    to: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Set a counter to 0."""

    counter: str


@dataclass(frozen=True, slots=True)
class Enough:
    """Forget the counter and go on elsewhere if it has reached its limit, which is looked at each time."""

    counter: str
    limit: Path | int
    to: int


@dataclass(frozen=True, slots=True)
class Again:
    """Add one to a counter and go back."""

    counter: str
    to: int


Instruction: TypeAlias = Do | Fork | Jump | Unless | Begin | Enough | Again


def code_of(task: Task) -> tuple[Instruction, ...]:
    """Give the code of a task; past its end the task is done."""
    code: list[Instruction] = []
    _emit(task.body, code)
    return tuple(code)


def _emit(body: tuple[Statement, ...], code: list[Instruction]) -> None:
    for statement in body:
        at = len(code)
        if isinstance(statement, Call):
            code.append(Do(statement))
            if statement.on_error is not None:
                code.append(Jump(0))
                _emit(statement.on_error, code)
                code[at : at + 2] = [Do(statement, at + 2), Jump(len(code))]
        elif isinstance(statement, Parallel):
            code.append(Fork(statement.calls))
        elif isinstance(statement, Condition):
            _emit_condition(statement, code)
        elif isinstance(statement, While):
            code.append(Jump(0))
            _emit(statement.body, code)
            code.append(Jump(at))
            code[at] = Unless(statement.test, len(code))
        elif statement.parallel:
            calls = tuple(one for one in statement.body if isinstance(one, Call))
            code.append(Fork(calls, statement.counter, statement.limit))
        else:
            code += [Begin(statement.counter), Jump(0)]
            _emit(statement.body, code)
            code.append(Again(statement.counter, at + 1))
            code[at + 1] = Enough(statement.counter, statement.limit, len(code))


def _emit_condition(condition: Condition, code: list[Instruction]) -> None:
    at = len(code)
    code.append(Jump(0))
    _emit(condition.passed, code)
    if not condition.failed:
        code[at] = Unless(condition.test, len(code))
        return
    end = len(code)
    code.append(Jump(0))
    code[at] = Unless(condition.test, len(code))
    _emit(condition.failed, code)
    code[end] = Jump(len(code))
