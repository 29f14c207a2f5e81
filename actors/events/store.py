"""The store of events: each exactly once, with the outbox and number it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from sqlite_utils import Database

from tagwerk.protocols.names import NAME_LIMIT, is_glob
from tagwerk.protocols.plantwide import Event, GetEvents, OutboxPage
from tagwerk.runtime.store import open_store, transaction

LAYOUT: Final = 1
EVENTS_LIMIT: Final = 5_000
"""Events in one answer, whatever is asked for."""

KINDS_LIMIT: Final = 100
"""Kinds in one question."""

NODE: Final = "node"
"""The source of what is read from gauge pages; its "boxes" are the actors, its numbers their counts of FATAL."""

CLOCK: Final = "clock"
"""The source of what is read from the host's clocks; its "box" is the boot."""

_NS_LIMIT: Final = (1 << 63) - 1
_SCHEMA: Final = """
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, user TEXT NOT NULL,
    host TEXT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
    reason TEXT NOT NULL, source TEXT NOT NULL, box TEXT NOT NULL, seq INTEGER NOT NULL,
    UNIQUE (source, box, seq)) STRICT;
CREATE INDEX events_time ON events (time_ns);
CREATE INDEX events_target ON events (target);
CREATE TABLE fetched (source TEXT PRIMARY KEY, box TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
"""
_INSERT: Final = (
    "INSERT OR IGNORE INTO events (time_ns, user, host, kind, target, before, after, reason, source, box, seq)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Up to which number of which outbox a source's events are in the store."""

    box: str = ""
    seq: int = 0


@final
class Store:
    """Events and how far each outbox was fetched; each change is one synced transaction.

    Args:
        path: The database file; made if it is not there.

    Raises:
        ConfigError: The file was written by a version with another layout, or is no database.
    """

    def __init__(self, path: Path) -> None:
        self.connection = open_store(path, "the store of events", _SCHEMA, LAYOUT)
        self.db = Database(self.connection)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def fetched(self, source: str) -> Fetched:
        """How far a source's outbox was fetched."""
        row = self.connection.execute("SELECT box, seq FROM fetched WHERE source = ?", (source,)).fetchone()
        return Fetched() if row is None else Fetched(*row)

    def take(self, source: str, page: OutboxPage) -> Fetched:
        """Commit a page of a source's outbox; one that came before changes nothing.

        Returns:
            How far the outbox is fetched now.
        """
        was = self.fetched(source)
        last = max((seq for seq, _ in page.events), default=0)
        now = Fetched(page.box, max(last, was.seq if page.box == was.box else 0))
        if now == was:
            return was
        with transaction(self.connection):
            self.connection.executemany(_INSERT, [_row(event, source, page.box, seq) for seq, event in page.events])
            self.connection.execute("INSERT OR REPLACE INTO fetched VALUES (?, ?, ?)", (source, now.box, now.seq))
        return now

    def last_count(self, actor: str) -> int:
        """The highest count of FATAL that is in the store for an actor."""
        row = self.connection.execute(
            "SELECT max(seq) FROM events WHERE source = ? AND box = ?", (NODE, actor)
        ).fetchone()
        return int(row[0] or 0)

    def take_fatal(self, actor: str, events: Sequence[tuple[int, Event]]) -> None:
        """Commit events of an actor that became FATAL, each with its count; a count that is there changes nothing."""
        with transaction(self.connection):
            self.connection.executemany(_INSERT, [_row(event, NODE, actor, seq) for seq, event in events])

    def clock(self, boot: str) -> int | None:
        """How far the wall clock was ahead of the monotonic one when it was looked at last in this boot, ns."""
        known = self.fetched(CLOCK)
        return known.seq if known.box == boot else None

    def take_clock(self, boot: str, offset_ns: int, event: Event | None = None) -> None:
        """Commit how far it is ahead now, with the event of its step."""
        with transaction(self.connection):
            if event is not None:
                self.connection.execute(_INSERT, _row(event, CLOCK, boot, event.time_ns))
            self.connection.execute("INSERT OR REPLACE INTO fetched VALUES (?, ?, ?)", (CLOCK, boot, offset_ns))

    def find(self, asked: GetEvents) -> tuple[tuple[int, Event], ...]:
        """Events that match, oldest first, each with its number in this store."""
        newest = asked.after_id <= 0 and not asked.oldest_first
        given: dict[str, int | str] = {
            "after": _clamp(asked.after_id),
            "before": _clamp(asked.before_id) if asked.before_id > 0 else _NS_LIMIT,
            "start": -_NS_LIMIT if asked.start_ns is None else _clamp(asked.start_ns),
            "end": _NS_LIMIT if asked.end_ns is None else _clamp(asked.end_ns),
            "user": asked.user,
            "limit": max(1, min(asked.limit, EVENTS_LIMIT)),
        }
        where = "id > :after AND id < :before AND time_ns >= :start AND time_ns < :end"
        where += _like("target", [asked.target] if asked.target else [], given)
        where += _like("kind", asked.kinds[:KINDS_LIMIT], given) + (" AND user = :user" * bool(asked.user))
        order = "DESC" if newest else "ASC"
        found = self.db.query(f"SELECT * FROM events WHERE {where} ORDER BY id {order} LIMIT :limit", given)
        rows = [(int(row["id"]), Event(*(row[name] for name in Event.__struct_fields__))) for row in found]
        return tuple(reversed(rows)) if newest else tuple(rows)


def _like(column: str, patterns: Sequence[str], given: dict[str, int | str]) -> str:
    """The condition that a column is one of these names or globs, whose parameters are put into `given`."""
    parts: list[str] = []
    for number, pattern in enumerate(patterns):
        name = f"{column}{number}"
        given[name] = pattern[:NAME_LIMIT].replace("[", "[[]") if is_glob(pattern) else pattern
        parts.append(f"{column} {'GLOB' if is_glob(pattern) else '='} :{name}")
    return f" AND ({' OR '.join(parts)})" if parts else ""


def _row(event: Event, source: str, box: str, seq: int) -> tuple[object, ...]:
    fields = (event.time_ns, event.user, event.host, event.kind, event.target, event.before, event.after, event.reason)
    return (*fields, source, box, seq)


def _clamp(number: int) -> int:
    """What came from outside may not fit into SQLite's integer."""
    return max(-_NS_LIMIT, min(number, _NS_LIMIT))
