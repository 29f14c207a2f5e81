"""The days of history in one table of chunks: each a row, its samples as the bytes that a day's file would hold."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.chunks import decode_chunk, encode_chunk
from tagwerk.actors.historian.day_file import Chunk, DamagedError
from tagwerk.actors.historian.logic.summary import summary_of
from tagwerk.actors.historian.postgres.binary import HEAD, TAIL, row
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tagwerk.actors.historian.logic.series import Series
    from tagwerk.actors.historian.postgres.session import Session

SLICE_BYTES: Final = 1 << 20
"""Chunks that are brought in at once, if their slice does not end before."""

REMOVE_CHUNKS: Final = 100
"""Chunks removed in one step, about 10 ms."""

_COPY: Final = "COPY chunks FROM STDIN (FORMAT BINARY)"
_INT8: Final = struct.Struct(">q").pack
_INT4: Final = struct.Struct(">i").pack
_INT2: Final = struct.Struct(">h").pack
_FLAG: Final = (b"\0", b"\1")
_CHUNKS: Final = (
    "SELECT id, kind, first, last, count, tight, batch, summary FROM chunks WHERE day = %s AND tag = %s AND batch <= %s"
)


@final
class Days:
    """All days of a plant.

    Args:
        session: The connection; it is closed with the catalog.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        [(newest,)] = session.rows("SELECT coalesce(max(id), 0) FROM chunks")
        self._next_id: int = newest + 1
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def has(self, day: int) -> bool:
        """Chunks and the catalog stand or fall together."""
        del day
        return True

    def file(self, day: int, *, frozen: bool = False) -> DayTable:
        """A day. It is read in one way, whether it is written to or not."""
        del frozen
        return DayTable(self, day)

    def discard_builds(self) -> None:
        """Nothing is built beside the table."""

    def add(self, day: int, batch: int, tag: int, series: Series, body: bytes, *, number: int = 0, tight: bool) -> None:
        """Add a chunk; it is there after the next `commit`.

        Args:
            day: Of which day.
            batch: See `DayFile`.
            tag: Of which tag.
            series: The samples.
            body: The same as bytes.
            number: The chunk in whose place it comes; 0: the next one.
            tight: Whether it is in its last form.
        """
        if not number:
            number, self._next_id = self._next_id, self._next_id + 1
        cells = (
            _INT8(tag), _INT4(day), _INT8(number), _INT8(batch), _INT2(int(series.kind)), _INT8(int(series.times[0])),
            _INT8(int(series.times[-1])), _INT4(len(series)), _FLAG[tight], _INT8(zlib.crc32(body)),
            summary_of(series), body,
        )  # fmt: skip
        self._waiting.append(row(cells))
        self._waiting_bytes += len(body)
        if self._waiting_bytes >= SLICE_BYTES:
            self.flush()

    def begin(self) -> None:
        """Open a slice, if none is. A power cut may undo it; the catalog's next commit makes it safe, too."""
        if not self.session.in_transaction:
            self.session.execute("BEGIN; SET LOCAL synchronous_commit TO off")

    def flush(self) -> None:
        """Bring what waits into the slice."""
        if self._waiting:
            self.begin()
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self.session.copy(_COPY, (HEAD, *waiting, TAIL))

    def commit(self) -> None:
        """End the slice."""
        self.flush()
        if self.session.in_transaction:
            self.session.execute("COMMIT")

    def roll_back(self) -> None:
        """Undo the slice."""
        self._waiting, self._waiting_bytes = [], 0
        self.session.roll_back()

    def remove(self, day: int) -> None:
        """Remove a day."""
        while self.remove_some(day):
            pass

    def remove_some(self, day: int) -> bool:
        """Remove some chunks of a day that the catalog does not show any more; False if there are none."""
        self.commit()
        few = "SELECT ctid FROM chunks WHERE day = %s LIMIT %s"
        gone = f"DELETE FROM chunks WHERE ctid = ANY (ARRAY({few})) RETURNING 1"
        return bool(self.session.rows(f"WITH gone AS ({gone}) SELECT 1 FROM gone LIMIT 1", (day, REMOVE_CHUNKS)))

    def close(self) -> None:
        """What was not committed is gone."""


@final
class DayTable:
    """The chunks of one day.

    Args:
        days: All days.
        day: Which.
    """

    def __init__(self, days: Days, day: int) -> None:
        self._days = days
        self._session = days.session
        self._day = day

    def add(self, batch: int, tag: int, series: Series) -> None:
        """Add a chunk; it is there after the next `commit`."""
        self._days.add(self._day, batch, tag, series, encode_chunk(series), tight=False)

    def replace(self, tag: int, old: Sequence[Chunk], new: Sequence[tuple[Series, bytes]]) -> None:
        """Put chunks of the same samples, in tight form, in the place of others of this tag that follow each other.

        Args:
            tag: The tag.
            old: The chunks that go.
            new: Not more chunks, each with its body.
        """
        self._days.begin()
        ids, batch = sorted(chunk.id for chunk in old), max(chunk.batch for chunk in old)
        gone = "DELETE FROM chunks WHERE id = ANY (%s)"
        self._session.execute(gone, (ids,))
        # The numbers keep the order of arrival, which is that of equal times.
        for number, (series, body) in zip(ids, new, strict=False):
            self._days.add(self._day, batch, tag, series, body, number=number, tight=True)
        self._days.flush()  # all of it is in the slice, whoever ends that

    def sync(self, batch: int) -> None:
        """Commit: in a database that is enough, whatever the batch."""
        del batch
        self._days.commit()

    def checkpoint(self) -> None:
        """The database does it."""

    def forget_after(self, batch: int) -> None:
        """Remove what batches after this one brought: they were not finished."""
        self._days.roll_back()
        self._session.execute("DELETE FROM chunks WHERE day = %s AND batch > %s", (self._day, batch))

    def chunks(self, tag: int, sealed: int, start_ns: int | None = None, end_ns: int | None = None) -> list[Chunk]:
        """A tag's chunks in the order of arrival; with a span those that may hold samples of it.

        Args:
            tag: The tag.
            sealed: The last batch that is there.
            start_ns: From this time on.
            end_ns: Before this time.
        """
        query, given = _CHUNKS, [self._day, tag, sealed]
        if start_ns is not None and end_ns is not None:
            query, given = f"{query} AND last >= %s AND first < %s", [*given, start_ns, end_ns]
        return [
            Chunk(number, ValueType(kind), first, last, count, tight, batch, summary)
            for number, kind, first, last, count, tight, batch, summary in self._session.rows(
                f"{query} ORDER BY id", given
            )
        ]

    def load(self, chunk: Chunk) -> Series:
        """A chunk's samples.

        Raises:
            DamagedError: It is not what was written.
        """
        found = self._session.rows("SELECT crc, body FROM chunks WHERE id = %s", (chunk.id,))
        if not found or zlib.crc32(found[0][1]) != found[0][0]:
            raise DamagedError(f"the samples of chunk {chunk.id} are not those that were written")
        series = decode_chunk(found[0][1])
        if len(series) != chunk.count:
            raise DamagedError(f"chunk {chunk.id} has {len(series)} samples, not {chunk.count}")
        return series

    def tags(self) -> list[int]:
        """The tags with chunks, rising."""
        found = self._session.rows("SELECT DISTINCT tag FROM chunks WHERE day = %s ORDER BY tag", (self._day,))
        return [tag for (tag,) in found]
