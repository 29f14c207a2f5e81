"""The store of chunks in a database. What only differs from files: how a day that is over is put in order, and goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from tagwerk.actors.historian.catalog import Day, DayState
from tagwerk.actors.historian.postgres.catalog import Catalog
from tagwerk.actors.historian.postgres.chunk_table import Days
from tagwerk.actors.historian.store import ChunkStore

if TYPE_CHECKING:
    from collections.abc import Generator

    from tagwerk.actors.historian.postgres.outbox import Outbox


@final
class PostgresChunks(ChunkStore[Catalog, Days]):
    """All that is kept, as chunks.

    A file is removed at once, rows are not: a day that is dropped is out of sight with one commit, and its rows go in
    steps, before anything new is sealed.

    Args:
        catalog: The catalog; it is closed with the store.
        outbox: What is owed to the log of events.
    """

    def __init__(self, catalog: Catalog, outbox: Outbox) -> None:
        self.outbox = outbox
        super().__init__(catalog, Days(catalog.session))

    def oldest_day(self) -> Day | None:
        """The day that would be dropped first; None if there is none that may be."""
        if self._sealing is not None or self.readings:
            return None
        there = [day for day in self.catalog.days.values() if day.state is not DayState.DROPPED]
        return min(there, key=lambda day: day.day, default=None)

    def _drop(self, day: int) -> None:
        known = self.catalog.days[day]
        with self.catalog.transaction():
            self.catalog.rows -= known.rows
            self.catalog.set_day(Day(day, DayState.DROPPED, known.batch, 0))

    def _step(self, now_ns: int, mono_ns: int) -> bool:
        return (self._sealing is None and self._sweep()) or super()._step(now_ns, mono_ns)

    def _seal(self) -> Generator[None]:
        while self._sweep():  # late samples would bring the day back, with all that is left of it
            yield
        yield from super()._seal()

    def _sweep(self) -> bool:
        """Remove some rows of a day that was dropped; False if there is none."""
        day = next((day.day for day in self.catalog.days.values() if day.state is DayState.DROPPED), None)
        if day is None:
            return False
        if not self.days.remove_some(day):
            with self.catalog.transaction():
                self.catalog.remove_day(day)
        return True
