"""What a shard applies when it comes back: many journaled frames at once, as one set of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols.samples import ValueType, frame_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tagwerk.actors.cvt.logic.table import Table

LIMIT_BYTES: Final = 16 << 20
"""So much is gathered before it is put into the table."""

_WIDTH: Final = 4  # bytes of a handle


class Backlog:
    """Gathers journaled frames in their order, and puts what they say into a table.

    Frames of a journal were checked when they were taken: nothing is checked again here. Adding a frame costs about
    4 us, whatever its size; the columns are made once for all of them.

    Args:
        table: Takes the values.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._clear()

    def _clear(self) -> None:
        self._size = 0
        self._counts: list[int] = []
        self._kinds: list[int] = []
        self._origins: list[tuple[int, int, int]] = []  # writer, session, received_ns
        self._columns: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])  # tags, times, quality
        self._values: dict[int, list[bytes]] = {int(kind): [] for kind in ValueType}
        self._texts: list[str] = []

    def add(self, frame: bytes, writer: int, session: int, received_ns: int) -> None:
        """Take one frame of samples that became current.

        Args:
            frame: As it was journaled.
            writer: Its number.
            session: Its birth.
            received_ns: When the shard took it, UTC ns.
        """
        for kind, tags, values, times, quality in frame_rows(frame):
            count = len(tags) // _WIDTH
            self._counts.append(count)
            self._kinds.append(kind)
            self._origins.append((writer, session, received_ns))
            self._columns[0].append(tags)
            self._columns[1].append(times)
            self._columns[2].append(bytes(_WIDTH * count) if quality is None else quality)
            if kind == ValueType.STR:
                self._texts.extend(values)
            elif kind != ValueType.QUALITY:
                self._values[kind].append(values)
        self._size += len(frame)
        if self._size >= LIMIT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put everything gathered into the table: of each tag the last value, and the last quality."""
        if not self._counts:
            return
        table = self._table
        counts = np.array(self._counts)
        tags, times, quality = (b"".join(column) for column in self._columns)
        rows = table.rows(np.frombuffer(tags, "<u4"))
        kinds = np.repeat(np.array(self._kinds, np.uint8), counts)
        self._put_values(rows, kinds)
        last = _last_of_each(rows, len(table))
        frame_of = np.repeat(np.arange(len(counts)), counts)[last]
        origins = np.array(self._origins, "<i8")[frame_of]
        at = rows[last]
        table.times[at] = np.frombuffer(times, "<i8")[last]
        table.quality[at] = np.frombuffer(quality, "<u4")[last]
        table.owner[at], table.born[at], table.received[at] = origins.T
        table.heard[at] = table.received[at]
        self._clear()

    def _put_values(self, rows: NDArray[np.intp], kinds: NDArray[np.uint8]) -> None:
        table = self._table
        for kind, column, dtype in (
            (ValueType.FLOAT, table.floats, "<f8"),
            (ValueType.INT, table.ints, "<i8"),
            (ValueType.BOOL, table.ints, "?"),
        ):
            of_kind = rows[kinds == kind]
            if len(of_kind):
                values: NDArray[Any] = np.frombuffer(b"".join(self._values[kind]), dtype)
                last = _last_of_each(of_kind, len(table))
                column[of_kind[last]] = values[last]
                table.has_value[of_kind[last]] = True
        for row, text in zip(rows[kinds == ValueType.STR].tolist(), self._texts, strict=True):
            if row >= 0:
                table.strings[row] = text
                table.has_value[row] = True


def _last_of_each(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Where each row stands for the last time; rows below 0 (tags that left the plant file) do not count.

    Args:
        rows: intp (n,), each below `count`.
        count: Rows of the table.
    """
    last = np.full(count + 1, -1, np.intp)  # the one more takes what is -1
    last[rows] = np.arange(len(rows))
    return last[:count][last[:count] >= 0]
