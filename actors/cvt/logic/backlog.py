"""What a shard applies when it comes back: many journaled frames at once, as columns, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.samples import FrameRow, ValueType, frame_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tagwerk.actors.cvt.logic.table import Table

LIMIT_BYTES: Final = 64 << 20
"""So much is gathered before it is put into the table."""

_SPAN_BYTES: Final = 2 << 20
_SPAN_FRAMES: Final = 4_000  # what is looked at together: numpy's own cost is small then, and so is what is in vain
UNREADABLE: Final = (RemoteProtocolError, TypeError, ValueError, LookupError)
"""What a journaled frame raises that is none."""

_WIDTH: Final = 4  # bytes of a handle


class Backlog:
    """Gathers journaled frames in their order, and puts what they say into a table.

    Only the last sample of a tag counts, so the newest frames are looked at first, and of older ones little more than
    the handles. Frames of a journal were checked when they were taken: nothing is checked again here.

    Args:
        table: Takes the values.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.unreadable = 0
        """Frames that are none, left out: a shard that ended over them would never start again."""
        self._size = 0
        self._frames: list[memoryview] = []
        self._origins: list[tuple[int, int, int]] = []  # writer, session, received_ns

    def add(self, frame: memoryview, writer: int, session: int, received_ns: int) -> None:
        """Take one frame of samples that became current.

        Args:
            frame: As it was journaled.
            writer: Its number.
            session: Its birth.
            received_ns: When the shard took it, UTC ns.
        """
        self._frames.append(frame)
        self._origins.append((writer, session, received_ns))
        self._size += len(frame)
        if self._size >= LIMIT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put everything gathered into the table: of each tag the last value, and the last quality."""
        frames, self._frames = self._frames, []
        origins, self._origins = self._origins, []
        self._size = 0
        shown = _Shown(self._table)
        stop = len(frames)
        while stop:
            start, size = stop, 0
            while start and size < _SPAN_BYTES and stop - start < _SPAN_FRAMES:
                start -= 1
                size += len(frames[start])
            shown.put(frames[start:stop], origins[start:stop])
            stop = start
        self.unreadable += shown.unreadable


class _Shown:
    """A table that is filled from the end: what is there already is newer than what comes."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._has_quality = np.zeros(len(table) + 1, np.bool_)
        self._has_quality[-1] = True  # row -1: a tag that left the plant file
        self._has_value = self._has_quality.copy()
        self._seen: set[tuple[int, bytes]] = set()
        """Kinds and tags of frames that were put in: older ones of the same say nothing."""
        self.unreadable = 0

    def put(self, frames: list[memoryview], origins: list[tuple[int, int, int]]) -> None:
        """Put in what these frames say of tags that no newer one has said."""
        batches: list[tuple[Any, ...]] = []
        for frame, origin in zip(frames, origins, strict=True):
            try:
                found = _whole(frame_rows(frame))
            except UNREADABLE:
                self.unreadable += 1
                continue
            batches += (
                (row.kind, row.tags, row.values, row.times, row.quality, origin)
                for row in found
                if (row.kind, bytes(row.tags)) not in self._seen
            )
        if not batches:
            return
        self._seen.update((kind, bytes(tags)) for kind, tags, *_ in batches)
        kinds, tags, values, times, quality, origins = map(list, zip(*batches, strict=True))
        rows = self._table.rows(np.frombuffer(b"".join(tags), "<u4"))
        counts = np.array([len(column) for column in tags]) // _WIDTH
        self._put_values(rows, np.repeat(np.array(kinds, np.uint8), counts), kinds, values)
        last = _last_of_each(rows, self._has_quality)
        if not len(last):
            return
        table, at = self._table, rows[last]
        codes = [bytes(len(column)) if code is None else code for column, code in zip(tags, quality, strict=True)]
        table.times[at] = np.frombuffer(b"".join(times), "<i8")[last]
        table.quality[at] = np.frombuffer(b"".join(codes), "<u4")[last]
        batch_of = np.searchsorted(np.cumsum(counts), last, side="right")
        table.owner[at], table.born[at], table.received[at] = np.array(origins, "<i8")[batch_of].T
        table.heard[at] = table.received[at]

    def _put_values(
        self, rows: NDArray[np.intp], kind_of: NDArray[np.uint8], kinds: list[int], values: list[Any]
    ) -> None:
        table = self._table
        for kind, column, dtype in (
            (ValueType.FLOAT, table.floats, "<f8"),
            (ValueType.INT, table.ints, "<i8"),
            (ValueType.BOOL, table.ints, "?"),
            (ValueType.STR, None, ""),
        ):
            if kind not in kinds:
                continue
            of_kind = rows[kind_of == kind]
            last = _last_of_each(of_kind, self._has_value)
            if not len(last):
                continue
            at = of_kind[last]
            table.has_value[at] = True
            given = [column for column, its in zip(values, kinds, strict=True) if its == kind]
            if column is not None:
                column[at] = np.frombuffer(b"".join(given), dtype)[last]
                continue
            texts = [text for batch in given for text in batch]
            for row, number in zip(at.tolist(), last.tolist(), strict=True):
                table.strings[row] = texts[number]


def _whole(rows: list[FrameRow]) -> list[FrameRow]:
    for row in rows:
        if len(row.times) != 2 * len(row.tags):
            raise ValueError("columns of a batch differ in length")
    return rows


def _last_of_each(rows: NDArray[np.intp], known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where each row that is not known stands for the last time; all are known then.

    Args:
        rows: intp (n,).
        known: bool (rows of the table + 1,); the last one is True and stands for -1.
    """
    places = np.flatnonzero(~known[rows])
    if not len(places):
        return places
    last = np.full(len(known), -1, np.intp)
    last[rows[places]] = places
    found = last[last >= 0]
    known[rows[found]] = True
    return found
