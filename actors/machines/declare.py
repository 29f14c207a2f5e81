"""What a machine declares: inputs, outputs, parameters. Pure descriptors over the machine's bench."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, overload

from tagwerk.protocols.errors import Refused, RefusedCode

if TYPE_CHECKING:
    from typing import Self

    from tagwerk.actors.machines.bench import Bench
    from tagwerk.protocols.samples import Value

TYPES: Final = ("float", "int", "bool", "str")
TEXT_LIMIT: Final = 1_000  # characters of a parameter
KEEP: Final = "keep"
"""The safe value of an output that stays as it is."""


class _Missing(Enum):
    MISSING = "not given"


MISSING: Final = _Missing.MISSING

P = TypeVar("P", float, int, bool, str)


class _OnBench(Protocol):
    @property
    def bench(self) -> Bench: ...


class Input:
    """A tag that the machine reads: the attribute is its value in `unit`, or None while it is Bad.

    Args:
        tag: The tag's name.
        unit: The unit that the machine calculates in; "" is the tag's own. A difference needs a unit of difference
            on both sides (`delta_degC`).
        required: The machine runs only while this input is there.
    """

    def __init__(self, tag: str, unit: str = "", required: bool = False) -> None:
        self.tag = tag
        self.unit = unit
        self.required = required
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, machine: None, owner: type) -> Self: ...

    # Any: the type of the value is that of the tag, which the plant file knows.
    @overload
    def __get__(self, machine: _OnBench, owner: type) -> Any: ...

    def __get__(self, machine: _OnBench | None, owner: type) -> Any:
        return self if machine is None else machine.bench.read_input(self.name)

    def __set__(self, machine: _OnBench, value: Any) -> None:
        msg = f"{self.name} is an input: it cannot be set"
        raise AttributeError(msg)


class Output:
    """A tag that the machine sets, when what it assigns changes.

    Reading the attribute gives what was assigned last; before that, what was read back from the tag.

    Args:
        tag: The tag's name; None: the output is a tag of its own, `<machine>.<attribute>`.
        unit: The unit that the machine calculates in; "" is the tag's own.
        type: `float`, `int`, `bool` or `str`, of an output without `tag`; else the tag's type counts.
        safe: What the tag is set to when nobody renews the lease, in `unit`, or "keep". Must be given with `tag`.
        description: What it is, in words, of an output without `tag`.
    """

    def __init__(
        self,
        tag: str | None = None,
        unit: str = "",
        type: str = "float",
        safe: Value | _Missing = MISSING,
        description: str = "",
    ) -> None:
        self.tag = tag
        self.unit = unit
        self.type = type
        self.safe = safe
        self.description = description
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def keeps(self) -> bool:
        """Whether the output stays as it is when the lease lapses."""
        return self.safe is MISSING or self.safe == KEEP

    @overload
    def __get__(self, machine: None, owner: type) -> Self: ...

    @overload
    def __get__(self, machine: _OnBench, owner: type) -> Any: ...

    def __get__(self, machine: _OnBench | None, owner: type) -> Any:
        return self if machine is None else machine.bench.read_output(self.name)

    def __set__(self, machine: _OnBench, value: Any) -> None:
        machine.bench.assign(self.name, value)


class Parameter(Generic[P]):
    """A value that the plant file may set, and an operator while the machine runs; it survives a restart.

    Args:
        default: Its value, and with it its type.
        unit: Its unit, for people.
        low: Least value of a number.
        high: Greatest value of a number.
    """

    def __init__(self, default: P, unit: str = "", low: float | None = None, high: float | None = None) -> None:
        self.default: P = default
        self.unit = unit
        self.low = low
        self.high = high
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def type_name(self) -> str:
        """`float`, `int`, `bool` or `str`."""
        return type(self.default).__name__

    def accept(self, value: object) -> float | int | bool | str:
        """The value as the parameter has it.

        Raises:
            Refused: `WrongType`, `BadValue` or `OutOfRange`.
        """
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and isinstance(value, float) and not math.isfinite(value):
            raise Refused(RefusedCode.BAD_VALUE, f"{self.name}: {value} is not a finite number")
        if self.type_name == "float" and isinstance(value, (int, float)) and number:
            return self._in_range(float(value))
        if self.type_name == "int" and isinstance(value, (int, float)) and number and value == int(value):
            return self._in_range(int(value))
        if self.type_name == "bool" and isinstance(value, bool):
            return value
        if self.type_name == "str" and isinstance(value, str) and len(value) <= TEXT_LIMIT:
            return value
        what = f"a str of at most {TEXT_LIMIT} characters" if self.type_name == "str" else f"{self.type_name}"
        raise Refused(RefusedCode.WRONG_TYPE, f"{self.name}: {str(value)[:60]!r} is not {what}")

    def _in_range(self, value: float) -> float:
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        if above and below:
            return value
        span = f"{'' if self.low is None else f'{self.low:g}'}..{'' if self.high is None else f'{self.high:g}'}"
        raise Refused(RefusedCode.OUT_OF_RANGE, f"{self.name}: {value:g} is outside {span} {self.unit}".rstrip())

    @overload
    def __get__(self, machine: None, owner: type) -> Self: ...

    @overload
    def __get__(self, machine: _OnBench, owner: type) -> P: ...

    def __get__(self, machine: _OnBench | None, owner: type) -> Any:
        return self if machine is None else machine.bench.parameters[self.name]

    def __set__(self, machine: _OnBench, value: P) -> None:
        msg = f"{self.name} is a parameter: an operator sets it, not the machine"
        raise AttributeError(msg)


def inputs_of(machine: type) -> dict[str, Input]:
    """The inputs of a machine's class by name, those of its base classes first."""
    return _declared(machine, Input)


def outputs_of(machine: type) -> dict[str, Output]:
    """The outputs of a machine's class by name, those of its base classes first."""
    return _declared(machine, Output)


def parameters_of(machine: type) -> dict[str, Parameter[Any]]:
    """The parameters of a machine's class by name, those of its base classes first."""
    return _declared(machine, Parameter)


Declared = TypeVar("Declared")


def _declared(machine: type, kind: type[Declared]) -> dict[str, Declared]:
    seen: dict[str, Any] = {}
    for base in reversed(machine.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, (Input, Output, Parameter)) or name in seen:
                seen[name] = value  # a subclass may replace an output by an input, or by something else
    return {name: value for name, value in seen.items() if isinstance(value, kind)}
