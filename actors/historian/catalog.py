"""The catalog of history: what arrived in the last moments, the places in the journals, and which days there are.

Samples and the place up to which they are complete are one synced transaction. Samples leave the catalog when they lie
in the files of their days; the number of the last commit that does, and of the last batch that is valid there, are one
transaction too. So a sample is in exactly one of the two, whoever dies when.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

from sqlite_utils import Database

from tagwerk.actors.historian.logic.arrived import Arrived, from_bytes, to_bytes
from tagwerk.protocols.tags import PositionMark
from tagwerk.runtime.store import open_store, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYOUT: Final = 3
"""1 was the store with a row a sample; 2 had no table `thinning`."""

DELETE_RECORDS: Final = 1_000
"""Records of commits deleted at once, if they are small."""

_THINNING: Final = """
CREATE TABLE thinning (seq INTEGER PRIMARY KEY, states BLOB NOT NULL) STRICT;
"""
_STEPS: Final = MappingProxyType({2: _THINNING})
_SCHEMA: Final = f"""
{_THINNING}
CREATE TABLE hot (seq INTEGER PRIMARY KEY, rows INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE TABLE days (day INTEGER PRIMARY KEY, state INTEGER NOT NULL, batch INTEGER NOT NULL, rows INTEGER NOT NULL)
    STRICT;
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), last_seq INTEGER NOT NULL, sealed_seq INTEGER NOT NULL,
    batch INTEGER NOT NULL, rows INTEGER NOT NULL) STRICT;
CREATE TABLE positions (shard TEXT PRIMARY KEY, journal TEXT NOT NULL, incarnation INTEGER NOT NULL,
    n INTEGER NOT NULL) STRICT;
CREATE TABLE set_aside (shard TEXT NOT NULL, journal TEXT NOT NULL, incarnation INTEGER NOT NULL, n INTEGER NOT NULL,
    reason TEXT NOT NULL, frame BLOB NOT NULL) STRICT;
INSERT INTO state VALUES (1, 0, 0, 0, 0);
"""


def last_within(found: Iterable[tuple[int, int]], limit_bytes: int) -> int | None:
    """The last of the records (number, bytes) that together have no more than so many bytes; the first in any case."""
    last, size = None, 0
    for seq, length in found:
        if last is not None and size + length > limit_bytes:
            break
        last, size = seq, size + length
    return last


class DayState(IntEnum):
    """What may be done with a day's file."""

    OPEN = 0
    """It is written to, or was not yet put in order."""
    FROZEN = 1
    """Put in order, one file, only read."""
    DROPPED = 2
    """Being removed."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day's file: `batch` is the last one that may have written to it."""

    day: int
    state: DayState
    batch: int
    rows: int


@final
class Catalog:
    """The catalog's file.

    Args:
        path: It is made if it is not there.

    Raises:
        ConfigError: It was written by a version with another layout, or is no database.

    Attributes:
        days: The days that have a file, by number.
        last_seq: Number of the last commit with samples.
        sealed_seq: Up to this one they lie in the days' files.
        batch: The last batch that is valid in the days' files.
        rows: Samples stored now.
    """

    def __init__(self, path: Path) -> None:
        self.connection = open_store(path, "the catalog of history", _SCHEMA, LAYOUT, steps=_STEPS)
        self.db = Database(self.connection)
        self.days: dict[int, Day] = {}
        self.last_seq = self.sealed_seq = self.batch = self.rows = 0
        self._load()

    def _load(self) -> None:
        state: tuple[int, int, int, int] = self.connection.execute(
            "SELECT last_seq, sealed_seq, batch, rows FROM state"
        ).fetchone()
        self.last_seq, self.sealed_seq, self.batch, self.rows = state
        found = self.connection.execute("SELECT day, state, batch, rows FROM days ORDER BY day")
        self.days = {day: Day(day, DayState(code), batch, rows) for day, code, batch, rows in found}

    def close(self) -> None:
        """Close the file. What was not committed is gone."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All of it or nothing; synced when it is left without an error."""
        known = (self.last_seq, self.sealed_seq, self.batch, self.rows)
        done = False
        try:
            with transaction(self.connection):
                yield
                state = (self.last_seq, self.sealed_seq, self.batch, self.rows)
                if state != known:
                    self.connection.execute("UPDATE state SET last_seq = ?, sealed_seq = ?, batch = ?, rows = ?", state)
            done = True
        finally:
            if not done:
                self._load()

    # --- inside a transaction ----------------------------------------------------------------------------------------

    def append(self, samples: Arrived) -> int:
        """Add samples as one record; gives its number."""
        self.last_seq += 1
        self.rows += len(samples)
        row = (self.last_seq, len(samples), to_bytes(samples))
        self.connection.execute("INSERT INTO hot VALUES (?, ?, ?)", row)
        return self.last_seq

    def set_position(self, shard: str, position: PositionMark) -> None:
        """Say up to where a shard's journal is in the store."""
        # The journal's id is a random 64-bit number: more than SQLite's signed integer holds.
        row = (shard, str(position.journal), position.incarnation, position.n)
        self.connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", row)

    def set_aside(self, shard: str, place: PositionMark, reason: str, frame: bytes) -> None:
        """Keep the frame of a record that cannot be read."""
        row = (shard, str(place.journal), place.incarnation, place.n, reason, frame)
        self.connection.execute("INSERT INTO set_aside VALUES (?, ?, ?, ?, ?, ?)", row)

    def keep_thinning(self, states: bytes, *, whole: bool) -> None:
        """Keep what the rules of thinning know of some tags, or of all of them in the place of what was kept."""
        if whole:
            self.connection.execute("DELETE FROM thinning")
        self.connection.execute("INSERT INTO thinning (states) VALUES (?)", (states,))

    def set_day(self, day: Day) -> None:
        """Say what is known of a day's file."""
        self.days[day.day] = day
        row = (day.day, int(day.state), day.batch, day.rows)
        self.connection.execute("INSERT OR REPLACE INTO days VALUES (?, ?, ?, ?)", row)

    def remove_day(self, day: int) -> None:
        """The day's file is gone."""
        self.rows -= self.days.pop(day).rows
        self.connection.execute("DELETE FROM days WHERE day = ?", (day,))

    def delete_sealed(self, limit_bytes: int) -> bool:
        """Delete records that lie in the days' files, at least one; False if there are no more."""
        found = self.connection.execute(
            "SELECT seq, length(record) FROM hot WHERE seq <= ? ORDER BY seq LIMIT ?", (self.sealed_seq, DELETE_RECORDS)
        )
        last = last_within(found, limit_bytes)
        if last is not None:
            self.connection.execute("DELETE FROM hot WHERE seq <= ?", (last,))
        return last is not None

    # --- questions ---------------------------------------------------------------------------------------------------

    def hot(self) -> Iterator[tuple[int, Arrived]]:
        """What does not lie in the days' files yet, by number of the commit.

        Raises:
            RemoteProtocolError: A newer version has written it.
        """
        found = self.connection.execute("SELECT seq, record FROM hot WHERE seq > ? ORDER BY seq", (self.sealed_seq,))
        for seq, record in found:
            yield seq, from_bytes(record)

    def thinning(self) -> Iterator[bytes]:
        """What was given to `keep_thinning`, oldest first."""
        found = self.connection.execute("SELECT states FROM thinning ORDER BY seq")
        return (bytes(states) for (states,) in found)

    def position(self, shard: str) -> PositionMark | None:
        """Up to where a shard's journal is in the store; None if nothing of it is."""
        row = self.connection.execute(
            "SELECT journal, incarnation, n FROM positions WHERE shard = ?", (shard,)
        ).fetchone()
        return None if row is None else PositionMark(int(row[0]), row[1], row[2])

    def positions(self) -> tuple[tuple[str, int], ...]:
        """The number in each shard's journal up to which it is in the store."""
        return tuple((row["shard"], row["n"]) for row in self.db.query("SELECT shard, n FROM positions ORDER BY shard"))
