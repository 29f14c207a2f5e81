"""The days of history as plain rows, a sample each: a table a day, under one that is partitioned.

Rows can be read with SQL. They take about a hundred times the bytes of chunks, and have no summaries: a long question
reads all of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from psycopg import sql

from tagwerk.actors.historian.catalog import Day, DayState
from tagwerk.actors.historian.damages import Damages
from tagwerk.actors.historian.day_file import Chunk
from tagwerk.actors.historian.days import day_name
from tagwerk.actors.historian.hot import DAY_NS, Hot
from tagwerk.actors.historian.logic.arrived import Arrived
from tagwerk.actors.historian.logic.series import Series, empty
from tagwerk.actors.historian.logic.summary import SUMMARY
from tagwerk.actors.historian.postgres.binary import HEAD, TAIL, fixed_rows, row
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from tagwerk.actors.historian.postgres.catalog import Catalog
    from tagwerk.actors.historian.postgres.outbox import Outbox
    from tagwerk.actors.historian.postgres.session import Session

SPAN_NS: Final = 3_600 * 1_000_000_000
"""So much of a tag is read at once."""

_TIMES: Final = (-(1 << 63), (1 << 63) - 1)
_COPY: Final = "COPY samples (tag, time, seq, kind, quality, number, whole, words) FROM STDIN (FORMAT BINARY)"
_OPAQUE: Final = np.array([(0,) * 2 + (1,) + (0,) * 12], SUMMARY).tobytes()
"""The summary of what has none: it must be opened."""

# A column of bytes each, in order: rows one by one would take a hundred times as long to make arrays of.
_COLUMNS: Final = """
SELECT string_agg(int8send(time), ''), string_agg(int2send(kind), ''), string_agg(int8send(quality), ''),
    string_agg(float8send(coalesce(number, 0)), ''), string_agg(int8send(coalesce(whole, 0)), ''),
    string_agg(int4send(coalesce(length(words), 0)), ''), string_agg(words, '')
FROM (SELECT * FROM samples WHERE tag = %s AND time >= %s AND time <= %s AND seq <= %s
    ORDER BY time, seq) AS ordered
"""


@final
class RowDays:
    """All days of a plant.

    Args:
        session: The connection; it is closed with the catalog.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def file(self, day: int, *, frozen: bool = False) -> DayRows:
        """A day."""
        del frozen
        return DayRows(self.session, day)

    def make(self, day: int) -> None:
        """Make the table of a day, in a transaction. It locks nobody out who reads the others."""
        name = sql.Identifier(f"samples_{day_name(day)}")
        first, end = max(day * DAY_NS, _TIMES[0]), (day + 1) * DAY_NS
        bound = sql.Literal(end) if end <= _TIMES[1] else sql.SQL("MAXVALUE")
        self.session.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (LIKE samples INCLUDING ALL)").format(name))
        self.session.execute(
            sql.SQL("ALTER TABLE samples ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                name, sql.Literal(first), bound
            )
        )

    def remove(self, day: int) -> None:
        """Remove a day's table."""
        self.session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(f"samples_{day_name(day)}")))


@final
class DayRows:
    """The rows of one day, as if they lay in chunks of an hour.

    Args:
        session: The connection.
        day: Which.
    """

    def __init__(self, session: Session, day: int) -> None:
        self._session = session
        self._day = day

    def chunks(self, tag: int, sealed: int, start_ns: int | None = None, end_ns: int | None = None) -> list[Chunk]:
        """The hours of a tag in which samples lie; with a span those samples only.

        Args:
            tag: The tag.
            sealed: The number of the last sample that is there.
            start_ns: From this time on.
            end_ns: Before this time.
        """
        first = max(self._day * DAY_NS, _TIMES[0] if start_ns is None else start_ns)
        last = min((self._day + 1) * DAY_NS, _TIMES[1] if end_ns is None else end_ns) - 1
        hours = self._session.rows(
            "SELECT min(time), max(time), count(*) FROM samples WHERE tag = %s AND time >= %s AND time <= %s"
            " AND seq <= %s GROUP BY time / %s ORDER BY 1",
            (tag, first, last, sealed, SPAN_NS),
        )
        return [
            Chunk(tag, ValueType.QUALITY, first, last, count, tight=True, batch=sealed, summary=_OPAQUE)
            for first, last, count in hours
        ]

    def load(self, chunk: Chunk) -> Series:
        """The samples of an hour."""
        [found] = self._session.rows(_COLUMNS, (chunk.id, chunk.first, chunk.last, chunk.batch))
        if found[0] is None:  # removed meanwhile
            return empty(ValueType.QUALITY)
        kinds = np.frombuffer(found[1], ">i2").astype(np.uint8)
        numbers = np.frombuffer(found[3], ">f8").astype(np.float64).view(np.int64)
        bits = np.where(kinds == ValueType.FLOAT, numbers, np.frombuffer(found[4], ">i8"))
        texts = _texts(kinds, np.frombuffer(found[5], ">i4"), found[6] or b"")
        bits[kinds == ValueType.STR] = np.arange(len(texts))
        times = np.frombuffer(found[0], ">i8").astype(np.int64)
        quality = np.frombuffer(found[2], ">i8").astype(np.uint32)
        tags = np.full(len(times), chunk.id, np.uint32)
        return Arrived(tags, times, bits, quality, kinds, texts).series(slice(None))


def _texts(kinds: NDArray[np.uint8], lengths: NDArray[np.int32], together: bytes) -> list[str]:
    ends = np.cumsum(lengths[kinds == ValueType.STR]).tolist()
    return [together[first:end].decode() for first, end in pairwise([0, *ends])]


def _copy_pieces(samples: Arrived, first_seq: int) -> Iterator[bytes]:
    """Samples as COPY takes them: those of each type together, for where the NULLs are is the same then."""
    yield HEAD
    seq = np.arange(first_seq, first_seq + len(samples), dtype=">i8")
    for code in np.unique(samples.kinds).tolist():
        rows = np.flatnonzero(samples.kinds == code)
        of = samples.take(rows)
        known = (of.tags.astype(">i8"), of.times.astype(">i8"), seq[rows], of.kinds.astype(">i2"))
        columns = (*known, of.quality.astype(">i8"))
        if code == ValueType.STR:
            yield from _text_rows(columns, [samples.texts[place] for place in of.bits.tolist()])
        elif code == ValueType.FLOAT:
            yield fixed_rows((*columns, of.bits.view(np.float64).astype(">f8"), None, None))
        else:
            whole = None if code == ValueType.QUALITY else of.bits.astype(">i8")
            yield fixed_rows((*columns, None, whole, None))
    yield TAIL


def _text_rows(columns: Sequence[NDArray[Any]], texts: Sequence[str]) -> Iterator[bytes]:
    cells = zip(*(column.view(f"V{column.dtype.itemsize}").tolist() for column in columns), strict=True)
    for fixed, text in zip(cells, texts, strict=True):
        yield row((*fixed, None, None, text.encode()))


@final
class RowStore:
    """All that is kept, as rows.

    Args:
        catalog: The catalog; it is closed with the store.
        outbox: What is owed to the log of events.

    Attributes:
        readings: See `HistoryStore`.
        newest: See `HistoryStore`.
        hot: Nothing: rows lie in their days at once.
    """

    def __init__(self, catalog: Catalog, outbox: Outbox) -> None:
        self.catalog = catalog
        self.outbox = outbox
        self.days = RowDays(catalog.session)
        self.hot = Hot()
        self.readings = 0
        self.newest: Callable[[int, ValueType], Series] = lambda _, kind: empty(kind)
        self._damages = Damages()

    @property
    def rows(self) -> int:
        """Samples stored now."""
        return self.catalog.rows

    def transaction(self) -> AbstractContextManager[None]:
        """All of it or nothing; synced when it is left without an error."""
        return self.catalog.transaction()

    def append(self, samples: Arrived) -> None:
        """Add samples, in a transaction."""
        if not len(samples):
            return
        days, counts = np.unique(samples.times // DAY_NS, return_counts=True)
        for day, count in zip(days.tolist(), counts.tolist(), strict=True):
            known = self.catalog.days.get(day)
            if known is None:
                self.days.make(day)
            self.catalog.set_day(Day(day, DayState.FROZEN, 0, count + (known.rows if known is not None else 0)))
        self.days.session.copy(_COPY, _copy_pieces(samples, self.catalog.last_seq + 1))
        self.catalog.last_seq += len(samples)
        self.catalog.batch = self.catalog.last_seq  # who looks back from now sees up to here
        self.catalog.rows += len(samples)

    def work(self, now_ns: int, mono_ns: Callable[[], int], budget_ns: int) -> bool:
        """Nothing is ever due."""
        del now_ns, mono_ns, budget_ns
        return False

    def keep_pace(self, now_ns: int, mono_ns: Callable[[], int]) -> None:
        """Nothing is ever due."""

    def note_damage(self, day: int, reason: str) -> None:
        """Samples of a day cannot be read."""
        self._damages.note(day, reason)

    def new_damages(self) -> list[tuple[str, str]]:
        """The days that were found damaged since this was last asked: (date, reason)."""
        return self._damages.new()

    def oldest_day(self) -> Day | None:
        """The day that would be dropped first; None if there is none that may be."""
        return self.catalog.days[min(self.catalog.days)] if self.catalog.days and not self.readings else None

    def drop(self, day: int) -> int:
        """Remove a day with all its samples; gives how many."""
        known = self.catalog.days[day]
        self._remove(day)
        return known.rows

    def _remove(self, day: int) -> None:
        with self.catalog.transaction():
            self.days.remove(day)
            self.catalog.remove_day(day)

    def close(self) -> None:
        """Close the connection. What was not committed is gone."""
        self.catalog.close()
