"""The history store: what arrived, in the catalog; what was sealed, in its days. It has one owner."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

from tagwerk.actors.historian import migration
from tagwerk.actors.historian.catalog import Catalog, Day, DayState
from tagwerk.actors.historian.damages import Damages
from tagwerk.actors.historian.days import Days, sync_directory
from tagwerk.actors.historian.hot import DAY_NS, Hot
from tagwerk.actors.historian.interface import CatalogParts, DayParts
from tagwerk.actors.historian.logic.series import Series, empty
from tagwerk.actors.historian.sealing import (
    MERGE_CHUNKS,
    check_day,
    finish_day,
    finish_in_place,
    forget_unfinished,
    merge_small,
    seal,
)
from tagwerk.runtime.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tagwerk.actors.historian.logic.arrived import Arrived
    from tagwerk.protocols.samples import ValueType
    from tagwerk.runtime.outbox import EventBox

CATALOG: Final = "catalog.db"
NEW_CATALOG: Final = "catalog.new"
DAYS: Final = "days"

SEAL_ROWS: Final = 1 << 20
"""Hot samples at which they are sealed: 26 MB of memory, and as much on the disk."""

SEAL_COMMITS: Final = 20_000
"""Hot commits at which they are sealed: hours of one a second and shard; after a restart they are read in a second."""

SEAL_S: Final = 3_600.0
"""Age at which what is hot is sealed."""

CHECK_S: Final = 3_600.0
"""So often one of the past days is read whole, to see whether it is sound."""

PACE_NS: Final = 8_000_000
"""Work after a commit while more waits to be sealed than should; double that when it is twice as much."""

FIRST_DAY: Final = -(1 << 31)
OVER_NS: Final = 3_600 * 1_000_000_000
"""A day is put in order so long after its end."""


C = TypeVar("C", bound=CatalogParts)
D = TypeVar("D", bound=DayParts)


class ChunkStore(Generic[C, D]):
    """All that is kept: a catalog, and days with chunks.

    Args:
        catalog: The catalog; it is closed with the store.
        days: The days; they are closed with the store.

    Attributes:
        readings: How many readings go on in steps: meanwhile nothing is put in order, and nothing dropped.
        newest: Gives what is held back of a tag, which is part of its past and not stored yet.
    """

    def __init__(self, catalog: C, days: D) -> None:
        self.catalog = catalog
        self.days = days
        self.hot = Hot()
        self.readings = 0
        self.newest: Callable[[int, ValueType], Series] = lambda _, kind: empty(kind)
        self._arrived: list[tuple[int, Arrived]] = []
        self._sealing: Generator[None] | None = None
        self._ordering: Generator[None] | None = None
        self._ordered_day: int | None = None
        self._hot_commits = 0
        self._hot_since_ns: int | None = None
        self._loose: dict[int, int] = {}
        self._checked_day = FIRST_DAY
        self._next_check_ns: int | None = None
        self._damages = Damages()
        self._recover()

    def _recover(self) -> None:
        for day in list(self.catalog.days.values()):
            if day.state is DayState.DROPPED:
                self._drop(day.day)
            elif day.rows and not self.days.has(day.day):
                self.note_damage(day.day, f"the file is gone, with {day.rows} samples")
                self._drop(day.day)
        self.days.discard_builds()
        forget_unfinished(self.catalog, self.days)
        for seq, samples in self.catalog.hot():
            self.hot.add(seq, samples)
            self._hot_commits += 1

    @property
    def rows(self) -> int:
        """Samples stored now."""
        return self.catalog.rows

    def close(self) -> None:
        """Close all files. What was not committed is gone; what is half sealed is done again."""
        for job in (self._sealing, self._ordering):
            if job is not None:
                job.close()
        self.days.close()
        self.catalog.close()

    # --- taking ------------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All of it or nothing; synced when it is left without an error."""
        self._arrived.clear()
        with self.catalog.transaction():
            yield
        for seq, samples in self._arrived:
            self.hot.add(seq, samples)
            self._hot_commits += 1
        self._arrived.clear()

    def append(self, samples: Arrived) -> None:
        """Add samples, in a transaction."""
        if len(samples):
            self._arrived.append((self.catalog.append(samples), samples))

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def work(self, now_ns: int, mono_ns: Callable[[], int], budget_ns: int) -> bool:
        """Do what is due, for about so long.

        Args:
            now_ns: The time, ns since 1970: which days are over.
            mono_ns: Gives the monotonic time in ns.
            budget_ns: How long; a step takes a few ms.

        Returns:
            Whether more is due.

        Raises:
            sqlite3.OperationalError: No room, as a rule. It can be called again.
        """
        end_ns = mono_ns() + budget_ns
        try:
            while self._step(now_ns, mono_ns()):
                if mono_ns() >= end_ns:
                    self.days.commit()
                    return True
            self.days.commit()
        except BaseException:
            self._sealing = self._ordering = None
            self.days.roll_back()
            raise
        return False

    def keep_pace(self, now_ns: int, mono_ns: Callable[[], int]) -> None:
        """Work after a commit, if samples come faster than they are sealed otherwise. See `work`."""
        if self.hot.rows > SEAL_ROWS:
            self.work(now_ns, mono_ns, PACE_NS * (self.hot.rows // SEAL_ROWS))

    def _step(self, now_ns: int, mono_ns: int) -> bool:
        """One step of what is most urgent; False if nothing is due."""
        if self._sealing is None and self._seal_due(mono_ns):
            self._begin_sealing()
        if self._sealing is not None:
            self._sealing = _advance(self._sealing)
            return True
        if self.readings:
            return False
        if self._ordering is None:
            self._begin_ordering(now_ns)
        if self._ordering is None:
            self._begin_check(mono_ns)
        if self._ordering is not None:
            self._ordering = _advance(self._ordering)
            return True
        return False

    def _seal_due(self, mono_ns: int) -> bool:
        if not self.hot.rows:
            self._hot_since_ns = None
            return False
        if self._hot_since_ns is None:
            self._hot_since_ns = mono_ns
        old = mono_ns - self._hot_since_ns >= SEAL_S * 1e9
        return old or self.hot.rows >= SEAL_ROWS or self._hot_commits >= SEAL_COMMITS

    def _begin_sealing(self) -> None:
        self._hot_since_ns = None
        self._hot_commits = 0
        self._sealing = self._seal()

    def _seal(self) -> Generator[None]:
        yield from seal(self.catalog, self.days, self.hot)
        for day in self.catalog.days.values():
            if day.batch == self.catalog.batch:
                self._loose[day.day] = self._loose.get(day.day, 0) + 1

    def _begin_ordering(self, now_ns: int) -> None:
        for known in self.catalog.days.values():
            over = (known.day + 1) * DAY_NS + OVER_NS <= now_ns
            if known.state is not DayState.OPEN:
                continue
            if over or self._loose.get(known.day, 0) >= MERGE_CHUNKS:
                self._loose.pop(known.day, None)
                self._ordered_day = known.day
                self._ordering = self._finish(known.day) if over else merge_small(self.catalog, self.days, known.day)
                return

    def _finish(self, day: int) -> Generator[None]:
        """Put a day in order that is over."""
        return finish_in_place(self.catalog, self.days, day)

    def _begin_check(self, mono_ns: int) -> None:
        if self._next_check_ns is None:
            self._next_check_ns = mono_ns + int(CHECK_S * 1e9)
        frozen = [day.day for day in self.catalog.days.values() if day.state is DayState.FROZEN]
        if mono_ns < self._next_check_ns or not frozen:
            return
        self._next_check_ns = None
        self._checked_day = min((day for day in frozen if day > self._checked_day), default=min(frozen))
        self._ordered_day = self._checked_day
        self._ordering = check_day(self.catalog, self.days, self._checked_day, self.note_damage)

    def note_damage(self, day: int, reason: str) -> None:
        """Samples of a day cannot be read."""
        self._damages.note(day, reason)

    def new_damages(self) -> list[tuple[str, str]]:
        """The days that were found damaged since this was last asked: (date, reason)."""
        return self._damages.new()

    def seal_all(self) -> None:
        """Seal what is hot, at once."""
        if self._sealing is not None:
            for _ in self._sealing:
                pass
        for _ in self._seal():
            pass
        self._sealing = None
        self.days.commit()

    def oldest_day(self) -> Day | None:
        """The day that would be dropped first; None if there is none that may be."""
        if self._sealing is not None or self.readings:  # it may write there, they may look there
            return None
        return self.catalog.days[min(self.catalog.days)] if self.catalog.days else None

    def drop(self, day: int) -> int:
        """Remove a day with all its samples; gives how many. Not in a transaction, not while it may be written to."""
        if self._ordered_day == day:
            self._ordering = self._ordered_day = None
        rows = self.catalog.days[day].rows
        self._drop(day)
        return rows

    def _drop(self, day: int) -> None:
        known = self.catalog.days[day]
        with self.catalog.transaction():
            self.catalog.set_day(Day(day, DayState.DROPPED, known.batch, known.rows))
        self.days.remove(day)
        with self.catalog.transaction():
            self.catalog.remove_day(day)


@final
class Store(ChunkStore[Catalog, Days]):
    """All that is kept, in one directory.

    Args:
        directory: It is made if it is not there.
        catalog: The catalog's name in it.

    Raises:
        ConfigError: A file was written by a version with another layout, or is no database.
    """

    def __init__(self, directory: Path, catalog: str = CATALOG) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        super().__init__(Catalog(directory / catalog), Days(directory / DAYS))
        self.connection = self.catalog.connection
        self._outbox: Outbox | None = None

    @property
    def outbox(self) -> EventBox:
        """What is owed to the log of events; `put` is part of the open transaction."""
        if self._outbox is None:
            self._outbox = Outbox(self.connection)
        return self._outbox

    def _finish(self, day: int) -> Generator[None]:
        return finish_day(self.catalog, self.days, day)


def open_history(directory: Path) -> Store:
    """The store in a directory; one of layout 1 becomes one of this layout, and stays beside it.

    Raises:
        ConfigError: A file was written by a version with another layout, or is no database.
    """
    old, kept = directory / migration.ROWS, directory / migration.KEPT
    if old.exists() and not (directory / CATALOG).exists():
        migration.begin_again(directory, NEW_CATALOG, DAYS)
        _migrate(old, directory)
        (directory / NEW_CATALOG).replace(directory / CATALOG)
        sync_directory(directory)
    if old.exists():
        old.replace(kept)
        sync_directory(directory)
    return Store(directory)


def _migrate(old: Path, directory: Path) -> None:
    rows = migration.open_rows(old)
    try:
        new = Store(directory, NEW_CATALOG)
        try:
            for samples in migration.slices(rows):
                with new.transaction():
                    new.append(samples)
                if new.hot.rows >= SEAL_ROWS:
                    new.seal_all()
            new.seal_all()
            Outbox(new.connection)
            with new.transaction():
                migration.copy_tables(rows, new.connection)
        finally:
            new.close()
    finally:
        rows.close()


def _advance(job: Generator[None]) -> Generator[None] | None:
    """Do the next step; None if there are no more."""
    try:
        next(job)
    except StopIteration:
        return None
    return job
