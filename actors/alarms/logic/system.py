"""System alarms: `system.ACTOR.fatal`, `system.LINK.link`, `system.SHARD.journal`, `system.historian/0.disk`.

Nobody tells them anything. The supervisor shows a level (given up or not) and a count that rises with each failure; a
link shows whether it is connected, a shard how full its journal is, the historian how full its disk is. All outlive
`alarms/0`. So whoever looks, and however late, each count becomes one occurrence, never two, and a link that is lost is
one alarm, not one a tag.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from tagwerk.actors.alarms.logic.book import Book, row
from tagwerk.actors.alarms.logic.definition import SYSTEM, AlarmDef, AlarmType
from tagwerk.protocols.quality import GOOD
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from tagwerk.protocols.alarms import AlarmRow


class Trouble(Enum):
    """What a system alarm tells: (severity, priority, text with the actor's name)."""

    FATAL = (900, "critical", "{} failed too often and is down; it is tried again from time to time")
    LINK = (700, "high", "{} is not connected to its device: all that it feeds is Bad")
    JOURNAL = (800, "high", "the journal of {} is nearly full; at its cap nothing more goes to history")

    DISK = (800, "high", "the disk of {} is nearly full: above disk_stop_pct the oldest days of history are removed")

    @property
    def suffix(self) -> str:
        """The end of the alarm's name."""
        return f".{self.name.lower()}"


CANNOT_LISTEN: Final = "{} cannot listen: nobody can look at orders over OPC UA; its log says why"
"""The text of `LINK` for an observer, which has no device and feeds nothing."""


def alarm_name(actor: str, trouble: Trouble = Trouble.FATAL) -> str:
    """Give the name of an actor's system alarm."""
    return f"{SYSTEM}{actor}{trouble.suffix}"


def actor_of(name: str) -> str:
    """Give the actor whose system alarm this is."""
    return name.removeprefix(SYSTEM).rpartition(".")[0]


def raised_names(book: Book) -> list[str]:
    """Give the names of the system alarms that were ever raised."""
    return [name for name in book.system_names() if book.state(name).number]


def watch_level(book: Book, actor: str, trouble: Trouble, *, active: bool, now_ns: int) -> None:
    """Take a level that has no count: it raises when it comes and clears when it goes."""
    name = alarm_name(actor, trouble)
    state = book.state(name)
    if active and not state.core.active:
        book.raise_(name, max(now_ns, state.last_ns), True)
    elif state.core.active and not active:
        book.clear(name, max(now_ns, state.last_ns))


def watch_fatal(book: Book, actor: str, *, fatal: bool, count: int, now_ns: int) -> None:
    """Take the level and the count of one actor, as its slot shows them now."""
    name = alarm_name(actor)
    state = book.state(name)
    now_ns = max(now_ns, state.last_ns)  # the wall clock may be set back
    active = state.core.active
    news = count != state.level
    if active and (news or not fatal):
        book.clear(name, now_ns)
    if news:
        book.put(name, replace(book.state(name), level=count))
        # A count that fell is a supervisor that lost its memory, not a failure.
        if fatal or count > state.level:
            book.raise_(name, now_ns, True)
            if not fatal:
                book.clear(name, now_ns, late=True)


def forget_gone(book: Book, actors: Collection[str], now_ns: int) -> None:
    """Clear the alarms of actors that the plant has no more."""
    for name in raised_names(book):
        state = book.state(name)
        if actor_of(name) not in actors and state.core.active:
            book.clear(name, max(now_ns, state.last_ns))


def system_row(book: Book, name: str) -> AlarmRow:
    """Give a system alarm as outsiders see it."""
    actor = actor_of(name)
    trouble = next(one for one in Trouble if name == alarm_name(actor, one))
    severity, priority, text = trouble.value
    if trouble is Trouble.LINK and actor.startswith("observer/"):
        text = CANNOT_LISTEN
    alarm = AlarmDef(
        name=name, type=AlarmType.BOOL, limit=True, kind=ValueType.BOOL, priority=priority, severity=severity,
        text=text.format(actor),
    )  # fmt: skip
    state = book.state(name)
    return row(alarm, state, state.core.active, GOOD)
