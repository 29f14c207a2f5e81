"""Reading one tag's history in pages. Everything that was committed is seen, wherever it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import numpy as np

from tagwerk.actors.historian.logic.series import Series, empty, frames_of, joined
from tagwerk.actors.historian.past import FIRST_NS, LAST_NS, Past
from tagwerk.protocols.history import GetHistory, HistoryPage
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from tagwerk.actors.historian.interface import HistoryStore

PAGE_ROWS: Final = 1 << 16
"""Samples in a page: 1.6 MB of numbers."""

PAGE_TEXT_BYTES: Final = 2 << 20
"""Text in a page; the last one may exceed it."""


@final
class Reading:
    """Answers `GetHistory` from a store. It remembers nothing: a reading goes on after a restart.

    Args:
        store: The store.
    """

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    def page(self, asked: GetHistory, kind: ValueType, *, behind: bool = False) -> HistoryPage:
        """One page of a tag's history.

        Args:
            asked: What is asked for.
            kind: The type of the tag.
            behind: Told in the page, see `HistoryPage`.
        """
        past = Past(self._store, asked.handle, kind)
        start_ns = clamp(asked.start_ns)
        end_ns = max(clamp(asked.end_ns), start_ns)
        wanted = min(asked.limit, PAGE_ROWS) if asked.limit else PAGE_ROWS
        going_on = asked.skip > 0
        place_ns, skip = max(clamp(asked.after), start_ns) if going_on else start_ns, asked.skip
        if asked.newest and not going_on:
            place_ns, skip = _newest(past, start_ns, end_ns, asked.limit or PAGE_ROWS)
        found, more = _rows(past, place_ns, end_ns, skip, wanted, kind)
        next_after, next_skip = None, 0
        if more:
            next_after = int(found.times[-1])
            same = int(np.count_nonzero(found.times == next_after))
            next_skip = same + (skip if next_after == place_ns else 0)
        if asked.bounds:
            first = empty(kind) if going_on else past.last(FIRST_NS, start_ns)
            last = empty(kind) if more else past.first(end_ns, LAST_NS)
            found = joined([first, found, last], kind)
        return HistoryPage(frames_of(asked.handle, found), next_after, behind, next_skip)


def _rows(past: Past, start_ns: int, end_ns: int, skip: int, wanted: int, kind: ValueType) -> tuple[Series, bool]:
    """At most `wanted` samples from a place on, and whether there are more."""
    pieces: list[Series] = []
    count = text_bytes = 0
    for part in past.parts(start_ns, end_ns):
        piece = past.load(part).between(start_ns, end_ns)
        passed = min(skip, int(np.searchsorted(piece.times, start_ns, side="right")))
        piece, skip = piece.take(slice(passed, None)), skip - passed
        room = wanted - count
        if kind is ValueType.STR:
            room = min(room, _texts_that_fit(piece, PAGE_TEXT_BYTES - text_bytes))
            text_bytes += _text_bytes(piece)
        pieces.append(piece.take(slice(0, room)))
        count += len(piece)
        if len(piece) > room:
            return joined(pieces, kind), True
    return joined(pieces, kind), False


def _newest(past: Past, start_ns: int, end_ns: int, limit: int) -> tuple[int, int]:
    """The place of the last `limit` samples of the span: (time, how many of that time are left out)."""
    pieces: list[Series] = []
    count = 0
    for part in past.parts(start_ns, end_ns, newest_first=True):
        piece = past.load(part).between(start_ns, end_ns)
        pieces.append(piece)
        count += len(piece)
        if count > limit:
            break
    if count <= limit:
        return start_ns, 0
    times = np.concatenate([piece.times for piece in reversed(pieces)])
    place_ns = int(times[count - limit])
    # All of this time are in the pieces: equal times lie in one part, and the part before the newest is there.
    return place_ns, int(np.count_nonzero(times[: count - limit] == place_ns))


def _text_bytes(piece: Series) -> int:
    return sum(len(text.encode()) for text in piece.values)


def _texts_that_fit(piece: Series, room_bytes: int) -> int:
    ends = np.cumsum([len(text.encode()) for text in piece.values])
    return int(np.searchsorted(ends, room_bytes)) + 1


def clamp(time_ns: int) -> int:
    """What came from outside may be no time at all."""
    return max(FIRST_NS, min(time_ns, LAST_NS))
