"""Which events the levels in a gauge page stand for. No I/O."""

from __future__ import annotations

from typing import Final

from tagwerk.protocols.plantwide import Event

MISSED_LIMIT: Final = 100
"""Most events made for one actor at once: its counts since the last look."""

CLOCK_STEP_NS: Final = 1_000_000_000
"""A wall clock that moves by more than this between two looks was set."""
CLOCK_DRIFT_NS: Final = 100_000_000
"""What it has drifted is forgotten when it is so much: over weeks it would look like a step."""

OUTBOX_KINDS: Final = frozenset({"plant", "cvt", "alarms", "historian", "opcua", "machine", "order"})
"""Actor kinds that may have an outbox."""


def may_have_outbox(actor: str) -> bool:
    """True if events of this actor are to be fetched."""
    return actor.partition("/")[0] in OUTBOX_KINDS


def fatal_events(actor: str, stored: int, count: int, reason: str, now_ns: int) -> list[tuple[int, Event]]:
    """One event for each time that an actor became FATAL and that is not stored yet, with its count.

    Args:
        actor: Its name.
        stored: The highest count that is stored.
        count: The count in the page.
        reason: Why it is FATAL now; the reasons of those before were not seen.
        now_ns: UTC, ns since 1970.
    """
    events: list[tuple[int, Event]] = []
    for number in range(max(stored, count - MISSED_LIMIT) + 1, count + 1):
        why = reason if number == count else "happened while events/0 was not running"
        events.append((number, Event(now_ns, "", "", "fatal", actor, "", why, f"FATAL for time {number}")))
    return events


def clock_event(step_ns: int, now_ns: int) -> Event:
    """The event of a wall clock that was set.

    Args:
        step_ns: By how much, forward if positive.
        now_ns: The new time, UTC, ns since 1970.
    """
    reason = "the host's clock was set; delays, leases and beats do not follow it"
    return Event(now_ns, "", "", "clock_step", "host", "", f"{step_ns / 1e9:+.1f} s", reason)
