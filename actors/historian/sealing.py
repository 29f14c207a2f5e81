"""The work that history does beside taking and answering, in steps of a few milliseconds: generators.

Sealing brings what is hot into the files of its days; putting in order makes few tight chunks of many small ones. Both
may be left at any step for good: what is half done is not there, and is done again.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from tagwerk.actors.historian.catalog import Day, DayState
from tagwerk.actors.historian.chunks import CHUNK_ROWS, encode_chunk
from tagwerk.actors.historian.hot import DAY_NS, days_of, tag_slices
from tagwerk.actors.historian.logic.series import Series, common_kind, joined
from tagwerk.protocols.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from tagwerk.actors.historian.catalog import Catalog
    from tagwerk.actors.historian.day_file import Chunk
    from tagwerk.actors.historian.days import Days
    from tagwerk.actors.historian.hot import Hot
    from tagwerk.actors.historian.interface import CatalogParts, DayParts

SLICE_ROWS: Final = 1 << 15
"""Samples that are put together by tag in one step, 3 ms."""

DELETE_BYTES: Final = 1 << 20
"""Records of commits deleted in one step, 5 ms."""

MERGE_CHUNKS: Final = 8
"""So many small chunks of a tag are worth being merged while their day goes on."""

GROUP_ROWS: Final = 1 << 16
"""Samples that are put in order together. Chunks that overlap in time may be more, up to `OVERLAP_ROWS`."""

OVERLAP_ROWS: Final = 1 << 20
_SMALL: Final = CHUNK_ROWS // 2


def seal(catalog: CatalogParts, days: DayParts, hot: Hot) -> Generator[None]:
    """Bring all that is hot now into the files of its days.

    Raises:
        sqlite3.OperationalError: No room, as a rule; nothing is lost, it can be done again.
    """
    forget_unfinished(catalog, days)
    hot.close_run()
    runs = list(hot.runs)
    if not runs:
        return
    batch = catalog.batch + 1
    with catalog.transaction():
        for day in sorted({day for run in runs for day in run.days}):
            known = catalog.days.get(day)
            catalog.set_day(Day(day, DayState.OPEN, batch, 0 if known is None else known.rows))
    yield
    rows: dict[int, int] = {}
    for samples, tags, starts in tag_slices(runs, SLICE_ROWS):
        yield
        for number, tag in enumerate(tags.tolist()):
            for day, part in by_day(samples.series(slice(int(starts[number]), int(starts[number + 1])))):
                rows[day] = rows.get(day, 0) + len(part)
                for piece in cut(part):
                    days.file(day).add(batch, tag, piece)
                    yield
    for day in rows:
        days.file(day).sync(batch)
        yield
    with catalog.transaction():
        catalog.sealed_seq, catalog.batch = runs[-1].last_seq, batch
        for day, count in rows.items():
            catalog.set_day(Day(day, DayState.OPEN, batch, catalog.days[day].rows + count))
    hot.drop(len(runs))
    yield
    yield from _clean_up(catalog, days, list(rows))


def _clean_up(catalog: CatalogParts, days: DayParts, touched: Sequence[int]) -> Generator[None]:
    for day in touched:
        days.file(day).checkpoint()
        yield
    more = True
    while more:
        with catalog.transaction():
            more = catalog.delete_sealed(DELETE_BYTES)
        yield


def forget_unfinished(catalog: CatalogParts, days: DayParts) -> None:
    """Remove what a sealing that did not come to its end left in the files."""
    unfinished = [day for day in catalog.days.values() if day.batch > catalog.batch]
    for day in unfinished:
        days.file(day.day).forget_after(catalog.batch)
        days.file(day.day).sync(catalog.batch)
    if unfinished:
        with catalog.transaction():
            for day in unfinished:
                catalog.set_day(Day(day.day, day.state, catalog.batch, day.rows))


def merge_small(catalog: CatalogParts, days: DayParts, day: int) -> Generator[None]:
    """Make one chunk of many small ones of a tag, in a day that goes on.

    Args:
        catalog: The catalog.
        days: The files.
        day: Which day.

    Raises:
        sqlite3.OperationalError: No room, as a rule; nothing is lost, it can be done again.
    """
    for tag in days.file(day).tags():
        for group in groups(days.file(day).chunks(tag, catalog.batch)):
            rows = sum(chunk.count for chunk in group)
            if len(group) >= MERGE_CHUNKS or (len(group) > 1 and rows >= CHUNK_ROWS):
                made = yield from _made_anew(days, day, group)
                if made is not None:
                    days.file(day).replace(tag, group, made)
        yield
    days.file(day).sync(catalog.batch)
    yield
    days.file(day).checkpoint()


def finish_day(catalog: Catalog, days: Days, day: int) -> Generator[None]:
    """Write a day that is over anew, tag by tag and tight, and put that file in the place of the old one.

    Args:
        catalog: The catalog.
        days: The files.
        day: Which day.

    Raises:
        sqlite3.OperationalError: No room, as a rule; nothing is lost, it can be done again.
    """
    known = catalog.days[day]
    new = days.build(day)
    try:
        for tag in days.file(day).tags():
            for group in groups(days.file(day).chunks(tag, catalog.batch), over=True):
                tight = len(group) == 1 and group[0].tight
                made = None if tight else (yield from _made_anew(days, day, group))
                if made is None:
                    for chunk in group:
                        new.copy(tag, chunk, days.file(day).body(chunk))
                else:
                    new.put(tag, known.batch, made)
                yield
        new.finish(known.batch)
    finally:
        new.close()
    # Samples that came late have changed the day: what was written is not all.
    if catalog.days.get(day) == known and known.batch <= catalog.batch:
        days.replace(day)
        with catalog.transaction():
            catalog.set_day(Day(day, DayState.FROZEN, known.batch, known.rows))


def finish_in_place(catalog: CatalogParts, days: DayParts, day: int) -> Generator[None]:
    """Make all chunks of a day that is over tight, where they are: a database keeps its own room in order.

    Args:
        catalog: The catalog.
        days: The days.
        day: Which day.

    Raises:
        StoreDown: Nothing is lost, it can be done again.
    """
    known = catalog.days[day]
    for tag in days.file(day).tags():
        for group in groups(days.file(day).chunks(tag, catalog.batch), over=True):
            if len(group) == 1 and group[0].tight:
                continue
            made = yield from _made_anew(days, day, group)
            if made is not None:
                days.file(day).replace(tag, group, made)
            yield
    days.file(day).sync(catalog.batch)
    # Samples that came late have changed the day: what was made tight is not all.
    if catalog.days.get(day) == known and known.batch <= catalog.batch:
        with catalog.transaction():
            catalog.set_day(Day(day, DayState.FROZEN, known.batch, known.rows))


def check_day(catalog: CatalogParts, days: DayParts, day: int, damaged: Callable[[int, str], None]) -> Generator[None]:
    """Read all of a frozen day.

    Args:
        catalog: The catalog.
        days: The files.
        day: Which day.
        damaged: Called with the day and the reason, if there is something that cannot be read.
    """
    try:
        for tag in days.file(day, frozen=True).tags():
            for chunk in days.file(day, frozen=True).chunks(tag, catalog.batch):
                days.file(day, frozen=True).load(chunk)
                yield
    except (RemoteProtocolError, sqlite3.DatabaseError) as error:
        damaged(day, str(error))


def _made_anew(
    days: DayParts, day: int, group: Sequence[Chunk]
) -> Generator[None, None, list[tuple[Series, bytes]] | None]:
    """Tight chunks of the samples of others; None if one of those cannot be read: readers tell of it."""
    loaded: list[Series] = []
    for chunk in group:
        try:
            loaded.append(days.file(day).load(chunk))
        except RemoteProtocolError:
            return None
        if len(loaded) % MERGE_CHUNKS == 0:
            yield
    series = joined(loaded, common_kind([piece.kind for piece in loaded]))
    made: list[tuple[Series, bytes]] = []
    for piece in cut(series):
        yield
        made.append((piece, encode_chunk(piece, tight=True)))
    yield
    return made


def groups(chunks: Sequence[Chunk], *, over: bool = False) -> list[list[Chunk]]:
    """Cut a tag's chunks, given in the order of arrival, into neighbours to be made anew together.

    Args:
        chunks: All that the tag has in a day.
        over: The day is over: a chunk in its last form stands alone; while it goes on, any large one is left out.
    """
    if over and _overlap(chunks) and sum(chunk.count for chunk in chunks) <= OVERLAP_ROWS:
        return [list(chunks)]
    found: list[list[Chunk]] = []
    group: list[Chunk] = []
    rows = 0
    for chunk in chunks:
        done = chunk.count >= _SMALL and (chunk.tight or not over)
        if group and (done or rows + chunk.count > GROUP_ROWS):
            found.append(group)
            group, rows = [], 0
        if not done:
            group.append(chunk)
            rows += chunk.count
        elif over:
            found.append([chunk])
    return [*found, group] if group else found


def _overlap(chunks: Sequence[Chunk]) -> bool:
    spans = sorted((chunk.first, chunk.last) for chunk in chunks)
    return any(later[0] <= earlier[1] for earlier, later in pairwise(spans))


def by_day(series: Series) -> Iterator[tuple[int, Series]]:
    """A tag's samples in parts of one day each."""
    days = days_of(series.times)
    if len(days) == 1:
        yield days[0], series
        return
    for day in days:
        first, end = np.searchsorted(series.times // DAY_NS, (day, day + 1))
        yield day, series.take(slice(int(first), int(end)))


def cut(series: Series) -> Iterator[Series]:
    """Samples in pieces that fit into a chunk."""
    for start in range(0, len(series), CHUNK_ROWS):
        yield series if len(series) <= CHUNK_ROWS else series.take(slice(start, start + CHUNK_ROWS))
