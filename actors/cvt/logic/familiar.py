"""Batches of tags that came before, from the same writer: what was asked about them then is not asked again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tagwerk.actors.cvt.logic.table import AHEAD_NS
from tagwerk.protocols.samples import DTYPES, ValueType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tagwerk.actors.cvt.logic.table import Applied, Table
    from tagwerk.protocols.samples import Samples

_FLOAT: Final = ValueType.FLOAT  # a look into an enum takes its time
LIMIT: Final = 1_024
"""Tag columns that are remembered; then all are forgotten, so that writers who never repeat one cost no memory."""


@dataclass(slots=True)
class _Column:
    """One column of tags that was taken as a whole."""

    kind: ValueType
    writer: int
    session: int
    owners: int
    rows: NDArray[np.intp]
    at: NDArray[np.intp] | slice
    """The same rows, as a slice if they stand in a row."""


class Familiar:
    """Takes batches whose tags, writer and session were judged before, with nothing but their values new.

    Args:
        table: Where they go.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns: dict[bytes, _Column] = {}
        self._seals = np.zeros(len(table), np.int64)
        """By row: the number, in `_marks`, of who gave it alone and was taken; 0 for nobody."""
        self._marks: dict[tuple[int, int, int, int], int] = {}
        """Numbers of writer, session, type and the table's `owners`: with the same, its row is judged as before."""
        self._newest: dict[int, tuple[int, int]] = {}
        """By writer: its session, and the newest time that it gave in it."""

    def apply(
        self, batch: Samples, writer: int, session: int, received_ns: int, wall_ns: int
    ) -> NDArray[np.intp] | None:
        """Make a batch current if there is nothing to decide: not a tag, an owner, a late time or a NaN.

        Args:
            batch: As it came, columns of one length.
            writer: Number of the writer.
            session: Number of its session.
            received_ns: The shard's clock.
            wall_ns: The host's wall clock.

        Returns:
            The table rows; None if `Table.apply` has to judge it.
        """
        if len(batch) == 1:
            return self._apply_one(batch, writer, session, received_ns, wall_ns)
        known, table = self._columns.get(batch.tags.tobytes()), self._table
        if (
            known is None
            or known.kind is not batch.kind
            or known.writer != writer
            or known.session != session
            or known.owners != table.owners
        ):
            return None
        oldest, newest = int(np.minimum.reduce(batch.times)), int(np.maximum.reduce(batch.times))
        if oldest < self._newest[writer][1] or newest - max(received_ns, wall_ns) > AHEAD_NS:
            return None
        if known.kind is _FLOAT:
            if math.isnan(np.minimum.reduce(batch.values)):  # of a column with a NaN it is one
                return None
            table.floats[known.at] = batch.values
        else:
            table.ints[known.at] = batch.values
        table.times[known.at] = batch.times
        table.quality[known.at] = batch.quality
        table.received[known.at] = received_ns
        table.heard[known.at] = received_ns
        self._newest[writer] = (session, newest)
        return known.rows

    def _apply_one(
        self, batch: Samples, writer: int, session: int, received_ns: int, wall_ns: int
    ) -> NDArray[np.intp] | None:
        table = self._table
        mark = self._marks.get((writer, session, batch.kind, table.owners))
        row = table.row(int(batch.tags[0]))
        if mark is None or row is None or self._seals[row] != mark:
            return None
        time_ns, value = int(batch.times[0]), batch.values[0]
        if time_ns < table.times[row] or time_ns - max(received_ns, wall_ns) > AHEAD_NS or value != value:  # a NaN
            return None
        (table.floats if batch.kind is _FLOAT else table.ints)[row] = value
        table.has_value[row] = True  # it may be the first one behind a NaN
        table.times[row] = time_ns
        table.quality[row] = batch.quality[0]
        table.received[row] = table.heard[row] = received_ns
        self._newest[writer] = (session, max(self._newest[writer][1], time_ns))
        return np.array((row,))

    def learn(self, batch: Samples, writer: int, session: int, done: Applied) -> None:
        """Remember what `Table.apply` made of a batch.

        Args:
            batch: As it came.
            writer: Number of the writer.
            session: Number of its session.
            done: What became of it.
        """
        if not done.current:
            return
        newest = max(int(part.times.max()) for part in done.current)
        last = self._newest.get(writer)
        self._newest[writer] = (session, max(newest, last[1]) if last is not None and last[0] == session else newest)
        if not done.untouched or batch.kind not in DTYPES or self._table.banded(done.rows[0]):
            return
        if len(batch) == 1:
            if len(self._marks) >= LIMIT:
                self._marks.clear()
                self._seals[:] = 0
            mark = self._marks.setdefault((writer, session, batch.kind, self._table.owners), len(self._marks) + 1)
            self._seals[done.rows[0]] = mark
            return
        if len(self._columns) >= LIMIT:
            self._columns.clear()
        rows = done.rows[0]
        first, count = int(rows[0]), len(rows)
        in_a_row = np.array_equal(rows, np.arange(first, first + count))
        self._columns[batch.tags.tobytes()] = _Column(
            batch.kind, writer, session, self._table.owners, rows, slice(first, first + count) if in_a_row else rows
        )
