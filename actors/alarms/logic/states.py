"""The two state machines of an alarm, as tables, and nothing else.

`Phase` follows the tag: is its value beyond the limit, and has that lasted long enough? `Core` follows the operator: it
is the product of three independent two-state variables (OPC UA Part 9, 4.8), from which the letter of ISA-18.2-2016 is
derived.
"""

from __future__ import annotations

from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from tagwerk.protocols.errors import LocalProtocolError


class Core(Enum):
    """(active, acked, latched)."""

    NORMAL = (False, True, False)
    UNACKED = (True, False, False)
    ACKED = (True, True, False)
    RETURNED = (False, False, False)
    UNACKED_LATCHING = (True, False, True)
    ACKED_LATCHING = (True, True, True)
    LATCHED_UNACKED = (False, False, True)
    LATCHED_ACKED = (False, True, True)

    @property
    def active(self) -> bool:
        """True while the alarm condition holds."""
        return self.value[0]

    @property
    def acked(self) -> bool:
        """True if there is nothing that an operator has still to see."""
        return self.value[1]

    @property
    def latched(self) -> bool:
        """True from the raise of a latching alarm until its reset."""
        return self.value[2]

    @property
    def letter(self) -> str:
        """The state letter of ISA-18.2-2016."""
        return _LETTERS[self]


_LETTERS: Final = MappingProxyType(
    {
        Core.NORMAL: "A",
        Core.UNACKED: "B",
        Core.UNACKED_LATCHING: "B",
        Core.ACKED: "C",
        Core.ACKED_LATCHING: "C",
        Core.RETURNED: "D",
        Core.LATCHED_UNACKED: "E",
        Core.LATCHED_ACKED: "F",
    }
)


class Trigger(Enum):
    """What happens to a `Core`."""

    RAISE = auto()
    RAISE_LATCHING = auto()
    CLEAR = auto()
    ACK = auto()
    RESET = auto()


CORE: Final = MappingProxyType(
    {
        (Core.NORMAL, Trigger.RAISE): Core.UNACKED,
        (Core.NORMAL, Trigger.RAISE_LATCHING): Core.UNACKED_LATCHING,
        # Beyond again before anybody has seen the last time: a new occurrence.
        (Core.RETURNED, Trigger.RAISE): Core.UNACKED,
        (Core.RETURNED, Trigger.RAISE_LATCHING): Core.UNACKED_LATCHING,
        # What is latched stays so, even if `latch` was taken out of the plant file meanwhile.
        (Core.LATCHED_UNACKED, Trigger.RAISE): Core.UNACKED_LATCHING,
        (Core.LATCHED_UNACKED, Trigger.RAISE_LATCHING): Core.UNACKED_LATCHING,
        (Core.LATCHED_ACKED, Trigger.RAISE): Core.UNACKED_LATCHING,
        (Core.LATCHED_ACKED, Trigger.RAISE_LATCHING): Core.UNACKED_LATCHING,
        (Core.UNACKED, Trigger.CLEAR): Core.RETURNED,
        (Core.ACKED, Trigger.CLEAR): Core.NORMAL,
        (Core.UNACKED_LATCHING, Trigger.CLEAR): Core.LATCHED_UNACKED,
        (Core.ACKED_LATCHING, Trigger.CLEAR): Core.LATCHED_ACKED,
        (Core.UNACKED, Trigger.ACK): Core.ACKED,
        (Core.RETURNED, Trigger.ACK): Core.NORMAL,
        (Core.UNACKED_LATCHING, Trigger.ACK): Core.ACKED_LATCHING,
        (Core.LATCHED_UNACKED, Trigger.ACK): Core.LATCHED_ACKED,
        (Core.LATCHED_ACKED, Trigger.RESET): Core.NORMAL,
    }
)


class Phase(Enum):
    """(beyond, active): beyond the limit by the last usable value; active after the delays."""

    OFF = (False, False)
    RISING = (True, False)
    ON = (True, True)
    FALLING = (False, True)

    @property
    def beyond(self) -> bool:
        """True if the last usable value is beyond the limit, hysteresis included."""
        return self.value[0]

    @property
    def pending(self) -> bool:
        """True while a delay runs."""
        return self.value[0] is not self.value[1]


class Turn(Enum):
    """What happens to a `Phase`."""

    BEYOND = auto()
    WITHIN = auto()
    ELAPSED = auto()


PHASE: Final = MappingProxyType(
    {
        (Phase.OFF, Turn.BEYOND): Phase.RISING,
        (Phase.RISING, Turn.WITHIN): Phase.OFF,
        (Phase.RISING, Turn.ELAPSED): Phase.ON,
        (Phase.ON, Turn.WITHIN): Phase.FALLING,
        (Phase.FALLING, Turn.BEYOND): Phase.ON,
        (Phase.FALLING, Turn.ELAPSED): Phase.OFF,
    }
)


def next_phase(phase: Phase, turn: Turn) -> Phase:
    """Give the phase that follows.

    Raises:
        LocalProtocolError: This cannot happen in this phase.
    """
    following = PHASE.get((phase, turn))
    if following is None:
        raise LocalProtocolError(f"{turn.name} cannot happen to an alarm that is {phase.name}")
    return following


def next_core(core: Core, trigger: Trigger) -> Core:
    """Give the state that follows. Ask `may` first for what an operator asks for.

    Raises:
        LocalProtocolError: This cannot happen in this state.
    """
    following = CORE.get((core, trigger))
    if following is None:
        raise LocalProtocolError(f"{trigger.name} cannot happen to an alarm that is {core.name}")
    return following


def may(core: Core, trigger: Trigger) -> bool:
    """Say whether this can happen in this state."""
    return (core, trigger) in CORE
