"""One day of history: a SQLite file with chunks of one tag each.

Chunks carry the number of the batch that brought them: what belongs to a batch that the catalog does not know as sealed
is not there.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.chunks import decode_chunk, encode_chunk
from tagwerk.actors.historian.logic.series import Series
from tagwerk.actors.historian.logic.summary import summary_of
from tagwerk.protocols.errors import ConfigError, RemoteProtocolError
from tagwerk.protocols.samples import ValueType
from tagwerk.runtime.store import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LAYOUT: Final = 1

_SCHEMA: Final = """
CREATE TABLE chunks (tag INTEGER NOT NULL, id INTEGER NOT NULL, batch INTEGER NOT NULL, kind INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, tight INTEGER NOT NULL,
    summary BLOB NOT NULL, PRIMARY KEY (tag, id)) STRICT, WITHOUT ROWID;
CREATE TABLE bodies (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), batch INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (1, 0);
"""
# A body ends somewhere in its last page: with pages of 4 KB that costs a tenth of a byte a sample.
_FIRST: Final = ("PRAGMA page_size = 1024",)
_WHOLE: Final = "SELECT id, kind, first, last, count, tight, batch, summary FROM chunks WHERE tag = ? AND batch <= ?"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is known of a chunk without opening it."""

    id: int
    kind: ValueType
    first: int
    last: int
    count: int
    tight: bool
    batch: int
    summary: bytes


class DamagedError(RemoteProtocolError):
    """A chunk is not what was written."""


class Use(Enum):
    """What a day's file is opened for."""

    WRITE = "write"
    """It is made if it is not there."""
    FROZEN = "frozen"
    """Nobody writes to it: nothing is locked, nothing is made beside it."""
    BUILD = "build"
    """It is not in use yet: nothing is safe before `finish`."""


@final
class DayFile:
    """One day's chunks.

    Args:
        path: The file.
        use: What for.

    Raises:
        ConfigError: It was written by a version with another layout, or is no database.
    """

    def __init__(self, path: Path, use: Use) -> None:
        self._path = path
        if use is Use.FROZEN:
            self._connection = sqlite3.connect(f"{path.as_uri()}?immutable=1", isolation_level=None, uri=True)
        else:
            self._connection = open_store(path, "a day of history", _SCHEMA, LAYOUT, _FIRST)
        try:
            self._begin_use(use)
        except BaseException:  # nobody has it yet who could close it
            self._connection.close()
            raise

    def _begin_use(self, use: Use) -> None:
        if use is Use.FROZEN:
            _refuse_other_layout(self._connection, self._path)
        if use is Use.WRITE:
            # A slice need not be on the disk before all are; `sync` sees to that. Checkpoints are slices as well.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        if use is Use.BUILD:
            self._connection.execute("PRAGMA journal_mode = OFF")
            self._connection.execute("PRAGMA synchronous = OFF")
        newest: int | None = self._connection.execute("SELECT max(id) FROM bodies").fetchone()[0]
        self._next_id = (newest or 0) + 1

    def close(self) -> None:
        """Close the file; what was not committed is gone."""
        self._connection.close()

    # --- writing -----------------------------------------------------------------------------------------------------

    def add(self, batch: int, tag: int, series: Series) -> None:
        """Add a chunk; it is there after the next `commit`."""
        self._begin()
        self._insert(self._next_id, batch, tag, series, encode_chunk(series), tight=False)
        self._next_id += 1

    def put(self, tag: int, batch: int, new: Sequence[tuple[Series, bytes]]) -> None:
        """Add tight chunks."""
        self._begin()
        for series, body in new:
            self._insert(self._next_id, batch, tag, series, body, tight=True)
            self._next_id += 1

    def copy(self, tag: int, chunk: Chunk, body: tuple[int, bytes]) -> None:
        """Add a chunk of another file as it is."""
        self._begin()
        span = (chunk.first, chunk.last, chunk.count)
        row = (tag, self._next_id, chunk.batch, int(chunk.kind), *span, chunk.tight, chunk.summary)
        self._connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._connection.execute("INSERT INTO bodies VALUES (?, ?, ?)", (self._next_id, *body))
        self._next_id += 1

    def finish(self, batch: int) -> None:
        """A file that was built is whole, and on the disk."""
        self._begin()
        self._connection.execute("UPDATE state SET batch = ?", (batch,))
        self.commit()
        self._connection.close()
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def fold(self) -> None:
        """Bring the write-ahead log into the file; nothing lies beside it then."""
        self.commit()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA journal_mode = DELETE")

    def replace(self, tag: int, old: Sequence[Chunk], new: Sequence[tuple[Series, bytes]]) -> None:
        """Put chunks of the same samples, in tight form, in the place of others of this tag that follow each other.

        Args:
            tag: The tag.
            old: The chunks that go.
            new: Not more chunks, each with its body.
        """
        self._begin()
        ids, batch = [chunk.id for chunk in old], max(chunk.batch for chunk in old)
        marks = ",".join("?" * len(ids))
        self._connection.execute(f"DELETE FROM chunks WHERE tag = ? AND id IN ({marks})", (tag, *ids))
        self._connection.execute(f"DELETE FROM bodies WHERE id IN ({marks})", ids)
        # The numbers keep the order of arrival, which is that of equal times.
        for number, (series, body) in zip(sorted(ids), new, strict=False):
            self._insert(number, batch, tag, series, body, tight=True)

    def _insert(self, number: int, batch: int, tag: int, series: Series, body: bytes, *, tight: bool) -> None:
        span = (int(series.times[0]), int(series.times[-1]), len(series))
        row = (tag, number, batch, int(series.kind), *span, tight, summary_of(series))
        self._connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._connection.execute("INSERT INTO bodies VALUES (?, ?, ?)", (number, zlib.crc32(body), body))

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """End the slice; a power cut may still undo it as a whole."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def roll_back(self) -> None:
        """Undo the slice."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def sync(self, batch: int) -> None:
        """Commit; all that was committed so far outlives a power cut."""
        self.commit()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("UPDATE state SET batch = ?", (batch,))
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def checkpoint(self) -> None:
        """Bring what was committed from the write-ahead log into the file, as far as no backup reads it."""
        self._connection.execute("PRAGMA busy_timeout = 0")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.execute("PRAGMA busy_timeout = 5000")

    def forget_after(self, batch: int) -> None:
        """Remove what batches after this one brought: they were not finished."""
        self.roll_back()
        self._begin()
        self._connection.execute("DELETE FROM bodies WHERE id IN (SELECT id FROM chunks WHERE batch > ?)", (batch,))
        self._connection.execute("DELETE FROM chunks WHERE batch > ?", (batch,))
        self.commit()

    # --- reading -----------------------------------------------------------------------------------------------------

    def chunks(self, tag: int, sealed: int, start_ns: int | None = None, end_ns: int | None = None) -> list[Chunk]:
        """A tag's chunks in the order of arrival; with a span those that may hold samples of it.

        Args:
            tag: The tag.
            sealed: The last batch that is there.
            start_ns: From this time on.
            end_ns: Before this time.
        """
        sql, given = _WHOLE, [tag, sealed]
        if start_ns is not None and end_ns is not None:
            sql, given = f"{sql} AND last >= ? AND first < ?", [*given, start_ns, end_ns]
        rows = self._connection.execute(f"{sql} ORDER BY id", given)
        return [
            Chunk(number, ValueType(kind), first, last, count, bool(tight), batch, summary)
            for number, kind, first, last, count, tight, batch, summary in rows
        ]

    def load(self, chunk: Chunk) -> Series:
        """A chunk's samples.

        Raises:
            DamagedError: It is not what was written.
        """
        crc, body = self.body(chunk)
        if zlib.crc32(body) != crc:
            raise DamagedError(f"the samples of chunk {chunk.id} are not those that were written")
        series = decode_chunk(body)
        if len(series) != chunk.count:
            raise DamagedError(f"chunk {chunk.id} has {len(series)} samples, not {chunk.count}")
        return series

    def body(self, chunk: Chunk) -> tuple[int, bytes]:
        """A chunk's check sum and bytes, as they are."""
        found: tuple[int, bytes] | None = self._connection.execute(
            "SELECT crc, body FROM bodies WHERE id = ?", (chunk.id,)
        ).fetchone()
        return (1, b"") if found is None else found  # a check sum that no bytes have: it stays damaged

    def tags(self) -> list[int]:
        """The tags with chunks, rising."""
        return [row[0] for row in self._connection.execute("SELECT DISTINCT tag FROM chunks ORDER BY tag")]

    def check(self) -> str:
        """SQLite's own look at the file; "" if it is sound."""
        found: str = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return "" if found == "ok" else found


def _refuse_other_layout(connection: sqlite3.Connection, path: Path) -> None:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found != LAYOUT:
        raise ConfigError("a day of history has another layout", file=str(path), value=str(found), expected=str(LAYOUT))
