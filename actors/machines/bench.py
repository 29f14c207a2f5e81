"""The bench: all that a machine sees and sets. The actor fills it from tags, a test by hand."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from tagwerk.actors.machines.declare import outputs_of, parameters_of
from tagwerk.protocols import quality as q

if TYPE_CHECKING:
    from tagwerk.protocols.samples import Value

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a tag.

    Args:
        value: In the unit that the machine declares; None while there is none.
        quality: OPC UA StatusCode.
        time_ns: Source time, UTC, ns since 1970; 0 while there is none.
    """

    value: Value = None
    quality: int = q.BAD_WAITING_FOR_INITIAL_DATA
    time_ns: int = 0


WAITING: Final = Reading()


@final
class Place:
    """Where in its chart a machine is, and since when. python-statemachine reads and writes `state`."""

    __slots__ = ("_bench", "_state", "changes", "entered_ns")

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._state: Any = None
        self.entered_ns = bench.mono_ns
        """When the state was entered, monotonic ns."""
        self.changes = 0

    @property
    def state(self) -> Any:
        """The value of the present state; None before the machine is built."""
        return self._state

    @state.setter
    def state(self, value: Any) -> None:
        if value != self._state:
            self.entered_ns = self._bench.mono_ns
            self.changes += 1
        self._state = value

    def restore(self, value: Any, entered_ns: int) -> None:
        """Be in a state without entering it: its entry actions ran before the restart."""
        self._state = value
        self.entered_ns = entered_ns


@final
class Bench:
    """Inputs, outputs, parameters and time of one machine.

    A test drives a machine with it: `mash = Mash()`, then `mash.bench.feed("temperature", 52.0)`, `mash.cycle(...)` and
    a look at `mash.setpoint`.

    Args:
        machine: The machine's class, for its parameters' defaults and its outputs' types.
        parameters: Values that replace defaults.
        types: Types of the outputs' tags, where they are known.
        log: Where the machine logs to.

    Attributes:
        now_ns: Wall time, UTC, ns since 1970.
        mono_ns: Monotonic time, ns.
        cycle_s: Seconds that the present cycle accounts for.
        inputs: Readings by name.
        readback: Readings of the outputs' tags by name.
        wanted: What the machine assigned last, by output.
        forced: Outputs that must be written although nothing changed.
        place: Where in its chart the machine is.
    """

    def __init__(
        self,
        machine: type,
        *,
        parameters: dict[str, float | int | bool | str] | None = None,
        types: dict[str, str] | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.now_ns = 0
        self.mono_ns = 0
        self.cycle_s = 0.0
        self.inputs: dict[str, Reading] = {}
        self.readback: dict[str, Reading] = {}
        self.wanted: dict[str, Value] = {}
        self.forced: set[str] = set()
        self.parameters = {name: given.default for name, given in parameters_of(machine).items()} | (parameters or {})
        self.types = {name: given.type for name, given in outputs_of(machine).items() if given.tag is None}
        self.types |= types or {}
        self.log = log if log is not None else logging.getLogger(machine.__name__)
        self.place = Place(self)

    def feed(self, name: str, value: Value, quality: int = q.GOOD, time_ns: int | None = None) -> None:
        """Give an input a value, in the input's unit; `time_ns` None is the bench's time."""
        self.inputs[name] = Reading(value, quality, self.now_ns if time_ns is None else time_ns)

    def advance(self, seconds: float) -> None:
        """Let time pass; the next cycle accounts for it."""
        self.now_ns += round(seconds * _NS)
        self.mono_ns += round(seconds * _NS)
        self.cycle_s = seconds

    def read_input(self, name: str) -> Value:
        """The value of an input; None if it is Bad."""
        reading = self.inputs.get(name, WAITING)
        return None if q.is_bad(reading.quality) else reading.value

    def read_output(self, name: str) -> Value:
        """What was assigned last; before that, what was read back from the output's tag."""
        if name in self.wanted:
            return self.wanted[name]
        reading = self.readback.get(name, WAITING)
        return None if q.is_bad(reading.quality) else reading.value

    def assign(self, name: str, value: Any) -> None:
        """Set an output; a number that is not finite is no value, as None is.

        Raises:
            TypeError: The value does not fit the output's type.
        """
        self.wanted[name] = fitted(name, value, self.types.get(name, ""))

    def elapsed_s(self) -> float:
        """Seconds in the present state."""
        return max(0, self.mono_ns - self.place.entered_ns) / _NS


def fitted(name: str, value: Any, type_name: str) -> Value:
    """The value as its type has it; `type_name` "" takes any type.

    Raises:
        TypeError: It does not fit.
    """
    plain: Any = value.item() if isinstance(value, np.generic) else value
    if plain is None or (isinstance(plain, float) and not math.isfinite(plain)):
        return None
    number = isinstance(plain, (int, float)) and not isinstance(plain, bool)
    if type_name == "float" and number:
        return float(plain)
    if type_name == "int" and number and plain == int(plain):
        return int(plain)
    fits = {
        "bool": isinstance(plain, bool),
        "str": isinstance(plain, str),
        "": number or isinstance(plain, (bool, str)),
    }
    if not fits.get(type_name, False):
        msg = f"{name} takes {type_name or 'a number, a bool or a str'}, not {plain!r}"
        raise TypeError(msg)
    result: Value = plain
    return result
