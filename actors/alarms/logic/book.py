"""The book of alarms: each one's state and occurrence, moved only through the tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tagwerk.actors.alarms.logic.definition import SYSTEM
from tagwerk.actors.alarms.logic.states import Core, Phase, Trigger, may, next_core
from tagwerk.protocols.alarms import AlarmRow, Occurrence
from tagwerk.protocols.errors import RefusedCode
from tagwerk.protocols.message import Refusal

if TYPE_CHECKING:
    from tagwerk.actors.alarms.logic.definition import AlarmDef
    from tagwerk.protocols.samples import Value

COMMENT_LIMIT: Final = 1_000
"""Characters of an operator's comment."""


@dataclass(frozen=True, slots=True)
class AlarmState:
    """All that is kept of one alarm. Times in ns since 1970, UTC.

    Args:
        core: What the operator sees.
        phase: Where the value stands.
        since_ns: When the shard received the sample with which the running delay began.
        since_time_ns: The source time of that sample.
        since_value: Its value.
        number: How many occurrences there were.
        raised_ns: When the present or last occurrence began, as the source says.
        cleared_ns: When it ended, None while it lasts.
        acked_ns: When it was acknowledged.
        acked_by: By whom.
        comment: What they said.
        value: The value that raised it.
        late: It was over when it was found.
        found_in_replay: It was raised in a replay, and the replay goes on.
        last_ns: The time of the last raise or clear.
        level: Of a system alarm: the count of failures that was dealt with.
    """

    core: Core = Core.NORMAL
    phase: Phase = Phase.OFF
    since_ns: int = 0
    since_time_ns: int = 0
    since_value: Value = None
    number: int = 0
    raised_ns: int | None = None
    cleared_ns: int | None = None
    acked_ns: int | None = None
    acked_by: str = ""
    comment: str = ""
    value: Value = None
    late: bool = False
    found_in_replay: bool = False
    last_ns: int = 0
    level: int = 0


INITIAL: Final = AlarmState()


class Book:
    """The states of all alarms by name, and what has changed since it was last stored.

    Args:
        states: As they were stored.
    """

    def __init__(self, states: dict[str, AlarmState]) -> None:
        self._states = states
        self._system = [name for name in states if name.startswith(SYSTEM)]
        self.urgent = False
        """Something changed that an operator sees; delays that run are not."""
        self._changed: set[str] = set()
        self._occurrences: dict[str, Occurrence] = {}

    def state(self, name: str) -> AlarmState:
        """Give an alarm's state; one that was never heard of is normal."""
        return self._states.get(name, INITIAL)

    def system_names(self) -> tuple[str, ...]:
        """Give the names of the system alarms that were ever other than normal, or are about to be."""
        return tuple(self._system)

    def put(self, name: str, state: AlarmState) -> None:
        """Take a state whose `core` is unchanged."""
        if name not in self._states and name.startswith(SYSTEM):
            self._system.append(name)
        self._states[name] = state
        self._changed.add(name)

    def raise_(self, name: str, at_ns: int, value: Value, *, latch: bool = False, in_replay: bool = False) -> None:
        """Begin a new occurrence."""
        state = self.state(name)
        trigger = Trigger.RAISE_LATCHING if latch else Trigger.RAISE
        self._record(
            name,
            replace(
                state, core=next_core(state.core, trigger), number=state.number + 1, raised_ns=at_ns, last_ns=at_ns,
                cleared_ns=None, acked_ns=None, acked_by="", comment="", value=value, late=False,
                found_in_replay=in_replay,
            ),
        )  # fmt: skip

    def clear(self, name: str, at_ns: int, *, late: bool = False) -> None:
        """End the present occurrence."""
        state = self.state(name)
        core = next_core(state.core, Trigger.CLEAR)
        self._record(name, replace(state, core=core, cleared_ns=at_ns, last_ns=at_ns, late=late, found_in_replay=False))

    def acknowledge(self, name: str, occurrence: str, by: str, comment: str, now_ns: int) -> Refusal | None:
        """Take an operator's acknowledgement of the present occurrence; None means done."""
        state = self.state(name)
        present = occurrence_id(name, state.number)
        if len(comment) > COMMENT_LIMIT:
            return _refusal(name, RefusedCode.BAD_VALUE, f"the comment has more than {COMMENT_LIMIT} characters")
        # OPC UA Part 9, 5.7.3: an acknowledgement names the occurrence that the operator saw.
        if occurrence and occurrence != present:
            return _refusal(
                name, RefusedCode.CONFLICT, f"{name} is at occurrence {present or 'none'}, not {occurrence}"
            )
        if not may(state.core, Trigger.ACK):
            return _refusal(name, RefusedCode.NOT_ACTIVE, f"{name} has nothing to acknowledge")
        core = next_core(state.core, Trigger.ACK)
        self._record(name, replace(state, core=core, acked_ns=now_ns, acked_by=by, comment=comment))
        return None

    def take_back(self, name: str, state: AlarmState) -> None:
        """Put back the state before an operator's request that could not be stored."""
        self._record(name, state)

    def reset(self, name: str) -> Refusal | None:
        """End the latching of an alarm that is cleared and acknowledged; None means done."""
        state = self.state(name)
        if not state.core.latched:
            return _refusal(name, RefusedCode.NOT_ACTIVE, f"{name} is not latched")
        if not may(state.core, Trigger.RESET):
            why = "still active" if state.core.active else "not acknowledged yet"
            return _refusal(name, RefusedCode.CONFLICT, f"{name} is {why}")
        self.put(name, replace(state, core=next_core(state.core, Trigger.RESET)))
        self.urgent = True
        return None

    def take_states(self) -> dict[str, AlarmState]:
        """Give the states that changed since the last call."""
        changed = {name: self._states[name] for name in sorted(self._changed)}
        self._changed.clear()
        self.urgent = False
        return changed

    def take_occurrences(self) -> list[Occurrence]:
        """Give the occurrences that began or changed since the last call, in the order in which they began."""
        changed = list(self._occurrences.values())
        self._occurrences.clear()
        return changed

    def _record(self, name: str, state: AlarmState) -> None:
        self.put(name, state)
        self.urgent = True
        identity = occurrence_id(name, state.number)
        self._occurrences[identity] = Occurrence(
            identity, name, state.raised_ns or 0, state.cleared_ns, state.acked_ns, state.acked_by, state.comment,
            state.value, state.late,
        )  # fmt: skip


def occurrence_id(name: str, number: int) -> str:
    """Give the id of an alarm's occurrence, the same in live and in replay; "" if there was none."""
    return f"{name}-{number}" if number else ""


def row(alarm: AlarmDef, state: AlarmState, value: Value, quality: int) -> AlarmRow:
    """Put definition and state together, as outsiders see them.

    Shelving, suppression, out of service and disabling are operations of a later version.
    """
    core = state.core
    return AlarmRow(
        name=alarm.name, tag=alarm.tag, type=alarm.type.value, limit=alarm.limit, unit=alarm.unit,
        priority=alarm.priority, severity=alarm.severity, active=core.active, acked=core.acked, latched=core.latched,
        shelved=False, suppressed=False, out_of_service=False, enabled=True, letter=core.letter,
        occurrence=occurrence_id(alarm.name, state.number), raised_ns=state.raised_ns, cleared_ns=state.cleared_ns,
        acked_by=state.acked_by, value=value, quality=quality, area=alarm.area, text=alarm.text,
        acked_ns=state.acked_ns, comment=state.comment,
    )  # fmt: skip


def _refusal(name: str, code: RefusedCode, message: str) -> Refusal:
    return Refusal(code.value, message, name)
