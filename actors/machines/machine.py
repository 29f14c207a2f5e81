"""The base class of machines: a python-statemachine chart with inputs, outputs, parameters and a cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from statemachine import StateMachine

from tagwerk.actors.machines.bench import WAITING, Bench, Reading
from tagwerk.actors.machines.declare import KEEP, MISSING, Input, Output, Parameter, inputs_of, outputs_of

if TYPE_CHECKING:
    import logging
    from typing import Self

    from tagwerk.protocols.errors import TagwerkError

BUILT_IN: Final = ("resume", "reset")
"""Events that every machine has for its operators."""


class Machine(StateMachine):
    """A state machine that reads tags and sets tags, once a cycle.

    States and transitions are python-statemachine's; states do not nest. An event whose name begins with an underscore
    is the machine's own: operators cannot send it. Events are taken between two cycles.

    Attributes:
        keep: Names of attributes that survive a restart. Their values are what JSON can hold.
    """

    keep: ClassVar[tuple[str, ...]] = ()
    validate_trap_states = False  # a controller is a machine of one state
    _bench: Bench

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if isinstance(value, (Input, Output, Parameter)) and hasattr(Machine, name):
                msg = f"{cls.__name__}.{name}: the name is taken by Machine"
                raise TypeError(msg)

    def __init__(self) -> None:
        if "_bench" not in vars(self):
            self._bench = Bench(type(self))
        super().__init__(model=self._bench.place)

    @classmethod
    def build(cls, bench: Bench) -> Self:
        """A machine on this bench. If the bench's place has a state, the machine is in it and does not enter it."""
        machine = cls.__new__(cls)
        machine._bench = bench  # noqa: SLF001  before __init__: entry actions of the first state run in there
        machine.__init__()  # type: ignore[misc]
        return machine

    def cycle(self, now_ns: int) -> None:
        """Do what is to be done now; called once an interval while the machine runs, in every state.

        Must return soon and must not wait. An exception ends the process: the outputs go to their safe values.

        Args:
            now_ns: Wall time, UTC, ns since 1970.
        """

    def on_write_failed(self, output: str, error: TagwerkError) -> None:
        """A write of an output was `Refused`, `NotSent`, or its outcome is `Unknown`. It is not repeated.

        The next change of the output is written again. Does nothing unless it is overridden.

        Args:
            output: The name of the output.
            error: What became of the write.
        """

    @property
    def bench(self) -> Bench:
        """Inputs, outputs, parameters and time. For tests."""
        return self._bench

    @property
    def state(self) -> str:
        """The name of the present state."""
        return str(self.states_map[self._bench.place.state].id)

    @property
    def now_ns(self) -> int:
        """Wall time of this cycle or event, UTC, ns since 1970."""
        return self._bench.now_ns

    @property
    def elapsed_s(self) -> float:
        """Seconds since the present state was entered; a restart in between counts as time."""
        return self._bench.elapsed_s()

    @property
    def cycle_s(self) -> float:
        """Seconds since the cycle before; the interval in the first cycle after a start or a pause."""
        return self._bench.cycle_s

    @property
    def log(self) -> logging.Logger:
        """The machine's log."""
        return self._bench.log

    def quality_of(self, name: str) -> int:
        """The StatusCode of an input, or of what was read back of an output's tag.

        Raises:
            AttributeError: There is no such input or output.
        """
        return self._reading(name).quality

    def time_of(self, name: str) -> int:
        """The source time of an input or of an output's tag, UTC, ns since 1970; 0 if there is no value yet.

        Raises:
            AttributeError: There is no such input or output.
        """
        return self._reading(name).time_ns

    def to_safe(self) -> None:
        """Set every output to its safe value; it is written even if it was set to it before."""
        for name, output in outputs_of(type(self)).items():
            if output.tag is not None and output.safe is not MISSING and output.safe != KEEP:
                self._bench.assign(name, output.safe)
                self._bench.forced.add(name)

    def write_again(self) -> None:
        """Hand every output that is set to its tag over once more: a PLC or an interlock may have changed it since."""
        for name, output in outputs_of(type(self)).items():
            if output.tag is not None and name in self._bench.wanted:
                self._bench.forced.add(name)

    def _reading(self, name: str) -> Reading:
        kind = type(self)
        if name in inputs_of(kind):
            return self._bench.inputs.get(name, WAITING)
        if name in outputs_of(kind):
            return self._bench.readback.get(name, WAITING)
        msg = f"{kind.__name__} has no input or output {name!r}"
        raise AttributeError(msg)


def operator_events(machine: Machine) -> tuple[str, ...]:
    """The events that an operator may send in the present state, guards aside."""
    names = (str(event.id) for event in machine.allowed_events)
    return tuple(dict.fromkeys(name for name in names if not name.startswith("_")))
