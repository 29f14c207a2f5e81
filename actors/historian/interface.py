"""What a store of history offers, wherever it lies: what the historian and its answers ask of it.

`Store` keeps it in files, `postgres` in a database. Both hold chunks in days; what only one of them can is its own.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final, Protocol

from tagwerk.protocols.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tagwerk.actors.historian.catalog import Day
    from tagwerk.actors.historian.day_file import Chunk
    from tagwerk.actors.historian.hot import Hot
    from tagwerk.actors.historian.logic.arrived import Arrived
    from tagwerk.actors.historian.logic.series import Series
    from tagwerk.protocols.samples import ValueType
    from tagwerk.protocols.tags import PositionMark
    from tagwerk.runtime.outbox import EventBox


class StoreDown(Unavailable):
    """The store is not there now, or did not take something: nothing of it was stored, or nobody knows.

    Where the store has committed to in each journal tells what it has.
    """


TROUBLE: Final = (sqlite3.OperationalError, StoreDown)
"""A store without room, or not there: nothing was stored, and it is worth another try."""


class Places(Protocol):
    """The places in the journals, and which days there are. See `Catalog` for what each does."""

    days: dict[int, Day]
    batch: int

    def set_position(self, shard: str, position: PositionMark) -> None:
        """Say up to where a shard's journal is in the store, in a transaction."""
        ...

    def set_aside(self, shard: str, place: PositionMark, reason: str, frame: bytes) -> None:
        """Keep the frame of a record that cannot be read, in a transaction."""
        ...

    def keep_thinning(self, states: bytes, *, whole: bool) -> None:
        """Keep what the rules of thinning know of some tags, or of all of them in the place of what was kept."""
        ...

    def thinning(self) -> Iterator[bytes]:
        """What was given to `keep_thinning`, oldest first."""
        ...

    def position(self, shard: str) -> PositionMark | None:
        """Up to where a shard's journal is in the store; None if nothing of it is."""
        ...

    def positions(self) -> tuple[tuple[str, int], ...]:
        """The number in each shard's journal up to which it is in the store."""
        ...


class CatalogParts(Places, Protocol):
    """The same, and what is hot."""

    sealed_seq: int
    rows: int

    def close(self) -> None:
        """Let go of it."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All of it or nothing; it outlives a power cut when it is left without an error."""
        ...

    def append(self, samples: Arrived) -> int:
        """Add samples as one record; gives its number."""
        ...

    def set_day(self, day: Day) -> None:
        """Say what is known of a day."""
        ...

    def remove_day(self, day: int) -> None:
        """The day's samples are gone."""
        ...

    def delete_sealed(self, limit_bytes: int) -> bool:
        """Delete records that lie in the days, at least one; False if there are no more."""
        ...

    def hot(self) -> Iterator[tuple[int, Arrived]]:
        """What does not lie in the days yet, by number of the commit."""
        ...


class DayReads(Protocol):
    """One day, as it is read."""

    def chunks(self, tag: int, sealed: int, start_ns: int | None = None, end_ns: int | None = None) -> list[Chunk]:
        """A tag's chunks in the order of arrival; with a span those that may hold samples of it."""
        ...

    def load(self, chunk: Chunk) -> Series:
        """A chunk's samples."""
        ...


class DayChunks(DayReads, Protocol):
    """One day's chunks. See `DayFile` for what each does."""

    def add(self, batch: int, tag: int, series: Series) -> None:
        """Add a chunk; it is there after the next `commit` of the days."""
        ...

    def replace(self, tag: int, old: Sequence[Chunk], new: Sequence[tuple[Series, bytes]]) -> None:
        """Put chunks of the same samples, in tight form, in the place of others of this tag."""
        ...

    def sync(self, batch: int) -> None:
        """Commit; all that was committed so far outlives a power cut."""
        ...

    def checkpoint(self) -> None:
        """Tidy up behind `sync`."""
        ...

    def forget_after(self, batch: int) -> None:
        """Remove what batches after this one brought."""
        ...

    def tags(self) -> list[int]:
        """The tags with chunks, rising."""
        ...


class DaysToRead(Protocol):
    """The days in which history lies, as they are read."""

    def file(self, day: int, *, frozen: bool = False) -> DayReads:
        """A day, to be used before the next one is asked for."""
        ...


class DayParts(DaysToRead, Protocol):
    """The days in which chunks lie for good. See `Days` for what each does."""

    def file(self, day: int, *, frozen: bool = False) -> DayChunks:
        """A day, to be used before the next one is asked for."""
        ...

    def has(self, day: int) -> bool:
        """Whether the samples of a day that the catalog knows are there."""
        ...

    def discard_builds(self) -> None:
        """Remove what was not finished."""
        ...

    def commit(self) -> None:
        """End the slice."""
        ...

    def roll_back(self) -> None:
        """Undo the slice."""
        ...

    def remove(self, day: int) -> None:
        """Remove a day."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


class HistoryStore(Protocol):
    """A store as the historian uses it. Any call may raise `StoreDown`, or `sqlite3.OperationalError` of a full disk.

    Attributes:
        readings: How many readings go on in steps: meanwhile nothing is put in order, and nothing dropped.
        newest: Gives what is held back of a tag, which is part of its past and not stored yet.
    """

    readings: int
    newest: Callable[[int, ValueType], Series]

    @property
    def catalog(self) -> Places:
        """The catalog."""
        ...

    @property
    def days(self) -> DaysToRead:
        """The days."""
        ...

    @property
    def hot(self) -> Hot:
        """What arrived in the last moments."""
        ...

    @property
    def outbox(self) -> EventBox:
        """What is owed to the log of events; `put` is part of the open transaction."""
        ...

    @property
    def rows(self) -> int:
        """Samples stored now."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All of it or nothing; it outlives a power cut when it is left without an error."""
        ...

    def append(self, samples: Arrived) -> None:
        """Add samples, in a transaction."""
        ...

    def work(self, now_ns: int, mono_ns: Callable[[], int], budget_ns: int) -> bool:
        """Do what is due, for about so long; whether more is due."""
        ...

    def keep_pace(self, now_ns: int, mono_ns: Callable[[], int]) -> None:
        """Work after a commit, if samples come faster than they are sealed otherwise."""
        ...

    def note_damage(self, day: int, reason: str) -> None:
        """Samples of a day cannot be read."""
        ...

    def new_damages(self) -> list[tuple[str, str]]:
        """The days that were found damaged since this was last asked: (date, reason)."""
        ...

    def oldest_day(self) -> Day | None:
        """The day that would be dropped first; None if there is none that may be."""
        ...

    def drop(self, day: int) -> int:
        """Remove a day with all its samples; gives how many."""
        ...

    def close(self) -> None:
        """Let go of it. What was not committed is gone."""
        ...
