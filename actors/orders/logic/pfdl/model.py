"""A program as read from its text: structs, tasks, statements, each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

START_TASK: Final = "productionTask"
PRIMITIVES: Final = ("number", "string", "boolean")


class Place(NamedTuple):
    """Where something stands in the text, both from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


NOWHERE: Final = Place(0, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a text.

    Args:
        place: Where.
        message: What is wrong.
        expected: What would be right, or "".
        value: What stands there, or "".
        key: What it is part of, `Task cut`, or "".
    """

    place: Place
    message: str
    expected: str = ""
    value: str = ""
    key: str = ""

    def __str__(self) -> str:
        parts = [str(self.place), self.key, self.message] if self.key else [str(self.place), self.message]
        text = ": ".join(parts) + (f" (got {self.value})" if self.value else "")
        return f"{text}; expected {self.expected}" if self.expected else text


@dataclass(frozen=True, slots=True)
class Type:
    """The type of a variable or field.

    Args:
        name: `number`, `string`, `boolean` or a struct's name.
        array: Whether it is an array of these.
        length: How many, if the array's length is fixed.
    """

    name: str
    array: bool = False
    length: int | None = None

    def __str__(self) -> str:
        return self.name + (f"[{'' if self.length is None else self.length}]" if self.array else "")

    @property
    def element(self) -> Type:
        """The type of an array's elements."""
        return Type(self.name)

    def takes(self, given: Type) -> bool:
        """Tell whether a value of type `given` may stand where this type is asked for."""
        return self == given or (self.array and given.array and self.name == given.name and self.length is None)


NUMBER: Final = Type("number")
STRING: Final = Type("string")
BOOLEAN: Final = Type("boolean")


@dataclass(frozen=True, slots=True)
class Definition:
    """`name: Type`."""

    place: Place
    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Counter:
    """`[i]` in a path: the count of a loop."""

    name: str


Step: TypeAlias = str | int | Counter


@dataclass(frozen=True, slots=True)
class Path:
    """`order.parts[i].width`: a variable, and the way into it."""

    place: Place
    name: str
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return self.text({})

    def text(self, counts: Mapping[str, int]) -> str:
        """Give the path as written, with the loops' counts put in."""
        parts = [self.name]
        for step in self.steps:
            if isinstance(step, str):
                parts.append(f".{step}")
            else:
                parts.append(f"[{counts.get(step.name, step.name) if isinstance(step, Counter) else step}]")
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, text or truth value in an expression."""

    place: Place
    value: float | str | bool


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator in an expression; `neg` is the minus before one value."""

    place: Place
    symbol: str

    @property
    def is_unary(self) -> bool:
        """Whether it takes one value."""
        return self.symbol in ("!", "neg")


Expression: TypeAlias = tuple[Constant | Path | Operator, ...]
"""In postfix order, so that no expression is too deep to be looked at."""


@dataclass(frozen=True, slots=True)
class Json:
    """One value of a literal: a number, text, truth value, an array, or an object as (key, its place, value)."""

    place: Place
    value: Any

    @property
    def is_object(self) -> bool:
        """Whether it is `{...}`."""
        return isinstance(self.value, tuple)

    @property
    def is_array(self) -> bool:
        """Whether it is `[...]`."""
        return isinstance(self.value, list)


@dataclass(frozen=True, slots=True)
class Literal:
    """`Color {"name": "green"}`: a struct written out."""

    place: Place
    struct: str
    value: Json


Input: TypeAlias = Path | Literal


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a service (upper case) or of a task (lower case).

    Args:
        timeout_s: After this a service that has not finished has failed; None: it may take for ever.
        retries: How often a failed service is tried again.
        on_error: What is done if it failed for good; None: the task fails too.
    """

    place: Place
    name: str
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Definition, ...] = ()
    timeout_s: float | None = None
    retries: int = 0
    on_error: tuple[Statement, ...] | None = None

    @property
    def is_service(self) -> bool:
        """Whether a service is called, not a task."""
        return self.name[0].isupper()


@dataclass(frozen=True, slots=True)
class Parallel:
    """Tasks that run side by side; it ends when all have ended."""

    place: Place
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class While:
    """`Loop While test`."""

    place: Place
    test: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """`Loop i To limit`, and with `parallel` its iterations side by side: its body is then one call of a task."""

    place: Place
    counter: str
    limit: Path | int
    body: tuple[Statement, ...]
    parallel: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """`Condition`, `Passed`, `Failed`."""

    place: Place
    test: Expression
    passed: tuple[Statement, ...]
    failed: tuple[Statement, ...] = ()


Statement: TypeAlias = Call | Parallel | While | Count | Condition


@dataclass(frozen=True, slots=True)
class Struct:
    """A type with fields."""

    place: Place
    name: str
    fields: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A task: inputs, statements, and the names of the variables that are its outputs."""

    place: Place
    name: str
    inputs: tuple[Definition, ...]
    body: tuple[Statement, ...]
    outputs: tuple[tuple[str, Place], ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """All of a text.

    Args:
        dialect: 0 for plain PFDL; N for `# dialect: tagwerk N`.
        digest: Of the text: a state belongs to one text.
    """

    structs: Mapping[str, Struct]
    tasks: Mapping[str, Task]
    dialect: int = 0
    digest: str = ""
    fields: Mapping[str, Mapping[str, Type]] = field(default_factory=dict[str, Mapping[str, Type]])
    """Struct -> field -> type."""

    def services(self) -> set[str]:
        """Give the names of all services that are called somewhere."""
        return {
            found.name
            for task in self.tasks.values()
            for found in statements_in(task.body)
            if isinstance(found, Call) and found.is_service
        }


def statements_in(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """Give all statements of a body, those inside others too, in the order of the text."""
    for statement in body:
        yield statement
        for part in parts_of(statement):
            yield from statements_in(part)


def parts_of(statement: Statement) -> tuple[tuple[Statement, ...], ...]:
    """Give the bodies that stand inside a statement."""
    if isinstance(statement, Call):
        return (statement.on_error,) if statement.on_error else ()
    if isinstance(statement, Parallel):
        return (statement.calls,)
    if isinstance(statement, Condition):
        return (statement.passed, statement.failed)
    return (statement.body,)


def types_of(task: Task) -> dict[str, Type]:
    """Give the types of all variables of a task; its inputs come before what its calls give."""
    types = {one.name: one.type for one in task.inputs}
    for statement in statements_in(task.body):
        for one in statement.outputs if isinstance(statement, Call) else ():
            types.setdefault(one.name, one.type)
    return types
