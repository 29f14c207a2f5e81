"""A tag's samples of a span from wherever they lie: the days' files, and what is hot. Only what is needed is opened."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

import numpy as np

from tagwerk.actors.historian.catalog import DayState
from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.logic.series import Series, as_kind, empty, joined
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.quality import BAD_DATA_LOST
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tagwerk.actors.historian.day_file import Chunk
    from tagwerk.actors.historian.interface import HistoryStore

FIRST_NS: Final = -(1 << 63)
LAST_NS: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Part:
    """Chunks of one day that overlap in time, and hot samples among them; nothing of other parts lies between.

    Args:
        day: The day.
        chunks: In the order of arrival; mostly one.
        hot: What came after them, and what is held back.
    """

    day: int
    chunks: tuple[Chunk, ...]
    hot: Series

    @property
    def single(self) -> Chunk | None:
        """The one chunk that it is, if it is no more than that."""
        return self.chunks[0] if len(self.chunks) == 1 and not len(self.hot) else None


@final
class Past:
    """Looks back from one moment: what is sealed meanwhile is not seen twice. What cannot be read is a noted gap.

    As long as it is used, nothing may be put in order: see `HistoryStore.readings`.

    Args:
        store: Where the samples lie.
        tag: The tag.
        kind: The type of its values.
    """

    def __init__(self, store: HistoryStore, tag: int, kind: ValueType) -> None:
        self._note_damage = store.note_damage
        # A database may go and come back: what is looked at is what was there at the begin, or nothing.
        self._catalog, self._days = store.catalog, store.days
        self._tag = tag
        self._kind = kind
        self._sealed = self._catalog.batch
        self._hot = joined([store.hot.series(tag, kind), store.newest(tag, kind)], kind)

    def parts(self, start_ns: int, end_ns: int, *, newest_first: bool = False) -> Iterator[Part]:
        """The parts that may hold samples with `start_ns <= time < end_ns`, in the order of time or against it."""
        hot = self._hot.between(start_ns, end_ns)
        hot_days = np.unique(hot.times // DAY_NS).tolist() if len(hot) else []
        stored = [day for day in self._catalog.days if start_ns // DAY_NS <= day <= (end_ns - 1) // DAY_NS]
        for day in sorted({*stored, *hot_days}, reverse=newest_first):
            of_day = hot.between(max(start_ns, day * DAY_NS), min(end_ns, (day + 1) * DAY_NS))
            found = self._parts_of(day, of_day, start_ns, end_ns)
            yield from reversed(found) if newest_first else found

    def load(self, part: Part) -> Series:
        """A part's samples."""
        loaded = [self._load(part.day, chunk) for chunk in part.chunks]
        return joined([*loaded, part.hot], self._kind)

    def first(self, start_ns: int, end_ns: int) -> Series:
        """The first sample of the span, as a series of at most one."""
        for part in self.parts(start_ns, end_ns):
            found = self.load(part).between(start_ns, end_ns)
            if len(found):
                return found.take(slice(0, 1))
        return empty(self._kind)

    def last(self, start_ns: int, end_ns: int, *, usable: bool = False) -> Series:
        """The last sample of the span, or the last usable one, as a series of at most one."""
        for part in self.parts(start_ns, end_ns, newest_first=True):
            found = self.load(part).between(start_ns, end_ns)
            if usable:
                found = found.take(found.usable)
            if len(found):
                return found.take(slice(len(found) - 1, len(found)))
        return empty(self._kind)

    def _parts_of(self, day: int, hot: Series, start_ns: int, end_ns: int) -> list[Part]:
        known = self._catalog.days.get(day)
        chunks: list[Chunk] = []
        if known is not None and known.state is not DayState.DROPPED:
            try:
                file = self._days.file(day, frozen=known.state is DayState.FROZEN)
                chunks = file.chunks(self._tag, self._sealed, start_ns, end_ns)
            except sqlite3.DatabaseError as error:
                self._note_damage(day, str(error))
                hot = joined([self._lost(max(start_ns, day * DAY_NS)), hot], self._kind)
        return _parts(day, chunks, hot, empty(self._kind))

    def _load(self, day: int, chunk: Chunk) -> Series:
        frozen = self._catalog.days[day].state is DayState.FROZEN
        try:
            return as_kind(self._days.file(day, frozen=frozen).load(chunk), self._kind)
        except (RemoteProtocolError, sqlite3.DatabaseError) as error:
            self._note_damage(day, str(error))
            return self._lost(chunk.first)

    def _lost(self, time_ns: int) -> Series:
        values = empty(self._kind).values
        filler = np.zeros(1, values.dtype) if self._kind is not ValueType.STR else np.array([""], object)
        quality = np.array([BAD_DATA_LOST], np.uint32)
        return Series(self._kind, np.array([time_ns], np.int64), filler, quality, np.zeros(1, np.bool_))


def _parts(day: int, chunks: list[Chunk], hot: Series, nothing: Series) -> list[Part]:
    """Group what overlaps. Equal times belong together: their order is that of arrival."""
    spans = [(chunk.first, chunk.last, place) for place, chunk in enumerate(chunks)]
    if len(hot):
        spans.append((int(hot.times[0]), int(hot.times[-1]), len(chunks)))
    found: list[Part] = []
    group: list[int] = []
    last = 0
    for first, end, place in sorted(spans):
        if group and first > last:
            found.append(_part(day, chunks, hot, nothing, group))
            group = []
        last = max(last, end) if group else end
        group.append(place)
    if group:
        found.append(_part(day, chunks, hot, nothing, group))
    return found


def _part(day: int, chunks: list[Chunk], hot: Series, nothing: Series, group: list[int]) -> Part:
    with_hot = len(chunks) in group
    return Part(
        day, tuple(chunks[place] for place in sorted(group) if place < len(chunks)), hot if with_hot else nothing
    )
