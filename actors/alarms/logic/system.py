"""System alarms: an actor that the supervisor has given up for now raises `system.ACTOR.fatal`.

The supervisor tells nobody. It shows a level (fatal or not) and a count that rises with each failure; both outlive any
process. So whoever looks, and however late, each count becomes one occurrence, never two.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tagwerk.actors.alarms.logic.book import Book, row
from tagwerk.actors.alarms.logic.definition import AlarmDef, AlarmType
from tagwerk.protocols.quality import GOOD
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from tagwerk.protocols.alarms import AlarmRow

SEVERITY: Final = 900
PREFIX: Final = "system."
"""Names of alarms that begin so are not free for the plant file."""
_SUFFIX: Final = ".fatal"


def alarm_name(actor: str) -> str:
    """Give the name of an actor's system alarm."""
    return f"{PREFIX}{actor}{_SUFFIX}"


def actor_of(name: str) -> str:
    """Give the actor whose system alarm this is."""
    return name.removeprefix(PREFIX).removesuffix(_SUFFIX)


def raised_names(book: Book) -> list[str]:
    """Give the names of the system alarms that were ever raised."""
    return [name for name in book.names() if name.startswith(PREFIX) and book.state(name).number]


def watch_fatal(book: Book, actor: str, *, fatal: bool, count: int, now_ns: int) -> None:
    """Take the level and the count of one actor, as its slot shows them now."""
    name = alarm_name(actor)
    state = book.state(name)
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
        if actor_of(name) not in actors and book.state(name).core.active:
            book.clear(name, now_ns)


def system_row(book: Book, name: str) -> AlarmRow:
    """Give a system alarm as outsiders see it."""
    alarm = AlarmDef(
        name=name, type=AlarmType.BOOL, limit=True, kind=ValueType.BOOL, priority="critical", severity=SEVERITY,
        text=f"{actor_of(name)} failed too often and is down; it is tried again from time to time",
    )  # fmt: skip
    state = book.state(name)
    return row(alarm, state, state.core.active, GOOD)
