"""Reading one tag's history in pages. Everything that was committed is seen, wherever its rows lie."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.logic import Row, frames_of
from tagwerk.protocols.history import GetHistory, HistoryPage
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    import sqlite3

PAGE_ROWS: Final = 1 << 16
"""Rows in a page: 1.6 MB of numbers."""

PAGE_TEXT_BYTES: Final = 2 << 20
"""Text in a page; reached within `_TEXT_ROWS` rows."""

TOKENS: Final = 4_096
"""Places of unfinished readings that are remembered."""

_TEXT_ROWS: Final = 64
_NUMBER_ROWS: Final = 8_192
_NS_LIMIT: Final = (1 << 63) - 1

Place = tuple[int, int]
"""(time, seq): the order of a tag's rows."""


def _union(what: str, condition: str) -> str:
    """Both tables as one. `MERGE (UNION ALL)` in the plan: the big one is read in the order of its key."""
    return " UNION ALL ".join(f"SELECT {what} FROM {table} WHERE tag = :tag AND {condition}" for table in _TABLES)


_TABLES: Final = ("samples", "recent")
_SPAN: Final = "time >= :start AND time < :end"
_PAGE: Final = (
    _union("time, seq, value, quality", f"{_SPAN} AND (time > :start OR seq > :seq)") + " ORDER BY 1, 2 LIMIT :limit"
)
_NEWEST: Final = _union("time, seq", _SPAN) + " ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET :skip"
_BEFORE: Final = _union("time, seq, value, quality", "time < :start") + " ORDER BY 1 DESC, 2 DESC LIMIT 1"
_BEHIND: Final = _union("time, seq, value, quality", "time >= :end") + " ORDER BY 1, 2 LIMIT 1"
_PLACE: Final = _union("time", f"{_SPAN} AND seq = :seq") + " LIMIT 1"


@dataclass(frozen=True, slots=True)
class _Span:
    tag: int
    start: int
    end: int


@final
class Reading:
    """Answers `GetHistory` from a store.

    A page's token is the number of its last row. Its time is remembered, so that the next page starts there at once;
    after a restart it is searched in the span.

    Args:
        connection: The store.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tokens: OrderedDict[int, int] = OrderedDict()

    def page(self, asked: GetHistory, kind: ValueType, *, behind: bool = False) -> HistoryPage:
        """One page of a tag's history.

        Args:
            asked: What is asked for.
            kind: The type of the tag.
            behind: Told in the page, see `HistoryPage`.
        """
        span = _Span(asked.handle, _clamp(asked.start_ns), _clamp(asked.end_ns))
        wanted = min(asked.limit, PAGE_ROWS) if asked.limit else PAGE_ROWS
        if asked.after:
            after = self._place(span, _clamp(asked.after))
        else:
            after = self._newest(span, asked.limit or PAGE_ROWS) if asked.newest else None
        rows, more = self._rows(span, after, wanted, kind)
        next_after = self._token(rows[-1]) if more else None
        if asked.bounds:
            first = [] if asked.after else self._connection.execute(_BEFORE, _named(span)).fetchall()
            last = [] if more else self._connection.execute(_BEHIND, _named(span)).fetchall()
            rows = [*first, *rows, *last]
        return HistoryPage(frames_of(asked.handle, kind, rows), next_after, behind)

    def _rows(self, span: _Span, after: Place | None, wanted: int, kind: ValueType) -> tuple[list[Row], bool]:
        start, seq = after if after is not None else (span.start, -1)
        given = {"tag": span.tag, "start": start, "end": span.end, "seq": seq, "limit": wanted + 1}
        cursor = self._connection.execute(_PAGE, given)
        chunk_rows = _TEXT_ROWS if kind is ValueType.STR else _NUMBER_ROWS
        rows: list[Row] = []
        text_bytes = 0
        while chunk := cursor.fetchmany(chunk_rows):
            rows += chunk
            if kind is ValueType.STR:
                text_bytes += sum(len(row[2].encode()) for row in chunk if row[2] is not None)
                if text_bytes > PAGE_TEXT_BYTES:
                    break
        cursor.close()
        if len(rows) > wanted:
            return rows[:wanted], True
        return rows, text_bytes > PAGE_TEXT_BYTES

    def _newest(self, span: _Span, limit: int) -> Place | None:
        """The place right before the last `limit` rows of the span."""
        skip = _clamp(limit) - 1
        row = self._connection.execute(_NEWEST, {**_named(span), "skip": skip}).fetchone()
        return None if row is None else (row[0], row[1] - 1)

    def _token(self, row: Row) -> int:
        self._tokens[row[1]] = row[0]
        self._tokens.move_to_end(row[1])
        if len(self._tokens) > TOKENS:
            self._tokens.popitem(last=False)
        return row[1]

    def _place(self, span: _Span, token: int) -> Place | None:
        """Where a token points; None if its row was deleted, and so all rows before it as well."""
        time_ns = self._tokens.get(token)
        if time_ns is None:
            row = self._connection.execute(_PLACE, {**_named(span), "seq": token}).fetchone()
            if row is None:
                return None
            time_ns = row[0]
        # A token of another question must not lead out of this one's span.
        return (time_ns, token) if time_ns >= span.start else None


def _named(span: _Span) -> dict[str, int]:
    return {"tag": span.tag, "start": span.start, "end": span.end}


def _clamp(number: int) -> int:
    """What came from outside may not fit into SQLite's integer."""
    return max(-_NS_LIMIT, min(number, _NS_LIMIT))
