"""The history store: rows in SQLite, together with the place in each shard's journal up to which they are complete.

Samples arrive in the order of time, but are asked for by tag. So they are appended to `recent`, which costs one page
for 60 rows, and moved in bulk to `samples`, which is clustered by tag and time. Written at once into `samples`, each
row would dirty a page of 4 KB: 1,770 to 3,600 bytes written a row with 10,000 tags, against 480 this way (measured).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final, final

from sqlite_utils import Database

from tagwerk.actors.historian.logic import Columns
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.tags import PositionMark

LAYOUT: Final = 1
RECENT_ROWS: Final = 1 << 18
"""Rows in `recent` at which they are moved. A query scans `recent` once: about 30 ms when it is full."""

SLICE_ROWS: Final = 1 << 15
"""Rows moved in one transaction, 0.1 to 0.3 s; a tag is not cut, so a single busy one makes a longer slice."""

_SCHEMA: Final = """
CREATE TABLE samples (tag INTEGER NOT NULL, time INTEGER NOT NULL, seq INTEGER NOT NULL, value ANY,
    quality INTEGER NOT NULL, received INTEGER NOT NULL, PRIMARY KEY (tag, time, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE recent (seq INTEGER PRIMARY KEY, tag INTEGER NOT NULL, time INTEGER NOT NULL, value ANY,
    quality INTEGER NOT NULL, received INTEGER NOT NULL) STRICT;
CREATE TABLE positions (shard TEXT PRIMARY KEY, journal TEXT NOT NULL, incarnation INTEGER NOT NULL,
    n INTEGER NOT NULL) STRICT;
CREATE TABLE counts (one INTEGER PRIMARY KEY CHECK (one = 1), next_seq INTEGER NOT NULL, deleted INTEGER NOT NULL,
    recent INTEGER NOT NULL) STRICT;
CREATE TABLE set_aside (shard TEXT NOT NULL, journal TEXT NOT NULL, incarnation INTEGER NOT NULL, n INTEGER NOT NULL,
    reason TEXT NOT NULL, frame BLOB NOT NULL) STRICT;
INSERT INTO counts VALUES (1, 1, 0, 0);
"""
_INSERT: Final = "INSERT INTO recent (seq, tag, time, value, quality, received) VALUES (?, ?, ?, ?, ?, ?)"


@final
class Store:
    """Rows and positions; each change is one synced transaction.

    Args:
        path: The database file; made if it is not there.

    Raises:
        ConfigError: The file was written by a version with another layout, or is no database.
    """

    def __init__(self, path: Path) -> None:
        # Our own BEGIN and COMMIT: rows, position and event stand or fall together.
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.path = path
        try:
            self.db = Database(self.connection)
            self._prepare()
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise ConfigError(f"the history store is not usable: {error}", file=str(path)) from error
        self._load_counts()

    def _prepare(self) -> None:
        layout = int(self.db.execute("PRAGMA user_version").fetchone()[0])
        if layout not in (0, LAYOUT):
            message = "the history store has another layout"
            raise ConfigError(message, file=str(self.path), value=str(layout), expected=str(LAYOUT))
        self.db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or it has no effect
        self.db.execute("PRAGMA journal_mode = WAL")
        # The shard lets go of its journal on our word, so a commit must outlive a power cut.
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("PRAGMA cache_size = -65536")
        if layout == 0:
            self.connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {LAYOUT}; COMMIT;")

    def _load_counts(self) -> None:
        row: tuple[int, int, int] = self.connection.execute("SELECT next_seq, deleted, recent FROM counts").fetchone()
        self._next_seq, self._deleted, self._recent = row

    @property
    def rows(self) -> int:
        """Rows stored now."""
        return self._next_seq - 1 - self._deleted

    @property
    def recent_rows(self) -> int:
        """Rows that wait in `recent`."""
        return self._recent

    def close(self) -> None:
        """Close the file. What was not committed is gone."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All of it or nothing; synced when it is left without an error."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            counts = (self._next_seq, self._deleted, self._recent)
            self.connection.execute("UPDATE counts SET next_seq = ?, deleted = ?, recent = ?", counts)
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self._load_counts()
            raise

    # --- inside a transaction ----------------------------------------------------------------------------------------

    def append(self, columns: Columns) -> None:
        """Add samples; their order is kept among equal times."""
        rows = zip(
            count(self._next_seq), columns.tags, columns.times, columns.values, columns.quality, columns.received,
            strict=False,
        )  # fmt: skip
        # count() is endless, so strict zip is not possible; the columns themselves are of one length.
        self.connection.executemany(_INSERT, rows)
        self._next_seq += len(columns)
        self._recent += len(columns)

    def set_position(self, shard: str, position: PositionMark) -> None:
        """Say up to where a shard's journal is in the store."""
        # The journal's id is a random 64-bit number: more than SQLite's signed integer holds.
        row = (shard, str(position.journal), position.incarnation, position.n)
        self.connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", row)

    def set_aside(self, shard: str, place: PositionMark, reason: str, frame: bytes) -> None:
        """Keep the frame of a record that cannot be read."""
        row = (shard, str(place.journal), place.incarnation, place.n, reason, frame)
        self.connection.execute("INSERT INTO set_aside VALUES (?, ?, ?, ?, ?, ?)", row)

    def move(self, after_tag: int, last_tag: int) -> None:
        """Move the recent rows of tags with `after_tag < tag <= last_tag`."""
        span = (after_tag, last_tag)
        self.connection.execute(
            "INSERT INTO samples SELECT tag, time, seq, value, quality, received FROM recent"
            " WHERE tag > ? AND tag <= ? ORDER BY tag, time, seq",
            span,
        )
        self._recent -= self.connection.execute("DELETE FROM recent WHERE tag > ? AND tag <= ?", span).rowcount

    def delete_before(self, tag: int, before_ns: int, limit: int) -> int:
        """Delete the oldest moved rows of a tag, at most `limit`.

        Returns:
            How many.
        """
        edge = self.connection.execute(
            "SELECT time, seq FROM samples WHERE tag = ? AND time < ? ORDER BY time, seq LIMIT 1 OFFSET ?",
            (tag, before_ns, limit),
        ).fetchone()
        if edge is None:
            cursor = self.connection.execute("DELETE FROM samples WHERE tag = ? AND time < ?", (tag, before_ns))
        else:
            cursor = self.connection.execute("DELETE FROM samples WHERE tag = ? AND (time, seq) < (?, ?)", (tag, *edge))
        self._deleted += cursor.rowcount
        return cursor.rowcount

    # --- questions ---------------------------------------------------------------------------------------------------

    def slices(self, rows: int = SLICE_ROWS) -> list[int]:
        """Cut the recent rows into slices of about so many, by tag; gives the last tag of each."""
        edges: list[int] = []
        tag = in_slice = 0
        for tag, of_tag in self.connection.execute("SELECT tag, count(*) FROM recent GROUP BY tag ORDER BY tag"):
            in_slice += of_tag
            if in_slice >= rows:
                edges.append(tag)
                in_slice = 0
        return [*edges, tag] if in_slice else edges

    def position(self, shard: str) -> PositionMark | None:
        """Up to where a shard's journal is in the store; None if nothing of it is."""
        row = self.connection.execute(
            "SELECT journal, incarnation, n FROM positions WHERE shard = ?", (shard,)
        ).fetchone()
        return None if row is None else PositionMark(int(row[0]), row[1], row[2])

    def positions(self) -> tuple[tuple[str, int], ...]:
        """The number in each shard's journal up to which it is in the store."""
        return tuple((row["shard"], row["n"]) for row in self.db.query("SELECT shard, n FROM positions ORDER BY shard"))

    def next_old(self, after_tag: int, before_ns: int, tags: int) -> tuple[int | None, int]:
        """Find a tag behind `after_tag` that has moved rows before a time, looking at so many tags.

        Returns:
            (the tag, or None; the last tag looked at, -1 if there are no more).
        """
        tag = after_tag
        for _ in range(tags):
            row = self.connection.execute("SELECT min(tag) FROM samples WHERE tag > ?", (tag,)).fetchone()
            if row[0] is None:
                return None, -1
            tag = int(row[0])
            oldest = self.connection.execute("SELECT min(time) FROM samples WHERE tag = ?", (tag,)).fetchone()[0]
            if oldest < before_ns:
                return tag, tag
        return None, tag
