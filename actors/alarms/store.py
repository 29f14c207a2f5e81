"""Where alarms are kept: one SQLite file, one transaction for positions, states, occurrences and owed events."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from sqlite_utils import Database

from tagwerk.actors.alarms.logic.book import AlarmState
from tagwerk.actors.alarms.logic.states import Core, Phase
from tagwerk.protocols.alarms import GetOccurrences, Occurrence
from tagwerk.protocols.names import NAME_LIMIT, is_glob
from tagwerk.protocols.tags import PositionMark
from tagwerk.runtime.journal_side import Side
from tagwerk.runtime.outbox import Outbox
from tagwerk.runtime.store import open_store, transaction

if TYPE_CHECKING:
    from pathlib import Path

    from tagwerk.protocols.plantwide import Event

FORMAT: Final = 1
"""Layout of the file, in its `user_version`."""
OCCURRENCES_LIMIT: Final = 1_000_000
"""Occurrences kept; at a start the oldest beyond it are dropped."""
TIDY_PAGES: Final = 1_000
"""Pages of 4 KB, about, in SQLite's log before they are moved into the file, beside the thread that commits."""
WAL_PAGES: Final = 16_000
"""So many, if that does not keep up, and the next commit moves them, whoever waits for it."""
PAGE_LIMIT: Final = 10_000
"""Occurrences in one answer."""

_NS_LIMIT: Final = (1 << 63) - 1
_STATE: Final = tuple(field.name for field in fields(AlarmState))
_OCCURRENCE: Final = Occurrence.__struct_fields__
_JSON: Final = frozenset({"value", "since_value"})  # keeps true, 1 and 1.0 apart


@dataclass(frozen=True, slots=True)
class Key:
    """The place of an alarm in the columns; `fresh` if it is new or watches another tag than before."""

    key: int
    fresh: bool


class AlarmStore:
    """The alarms' file. Everything that `commit` was given survives the death of the process and a power cut.

    Args:
        path: The file; it is made if it is not there.

    Raises:
        ConfigError: The file is of another layout.
    """

    def __init__(self, path: Path) -> None:
        self._connection = open_store(path, "the store of alarms", _SCHEMA, FORMAT)
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        self._db = Database(self._connection)
        self._path = path
        self._side = Side()
        self._pages = 0
        self._drop_oldest()
        self.outbox = Outbox(self._connection)

    def close(self) -> None:
        """Close the file; what was not committed is gone."""
        self._side.close()
        self._connection.close()

    def keys(self, tags_by_alarm: Mapping[str, str]) -> dict[str, Key]:
        """Give each alarm its place, a new one where it has none. A place is never used again for another alarm.

        Args:
            tags_by_alarm: The tag that each alarm watches.
        """
        known = {name: (key, tag) for key, name, tag in self._rows("SELECT key, name, tag FROM alarms")}
        changed = [(name, tag) for name, tag in tags_by_alarm.items() if known.get(name, (0, None))[1] != tag]
        if changed:  # a start without news writes nothing: it must do on a full disk
            with transaction(self._connection):
                self._connection.executemany(
                    "INSERT INTO alarms (name, tag) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET tag = excluded.tag",
                    changed,
                )
        fresh = {name for name, _ in changed}
        rows = self._rows("SELECT key, name FROM alarms")
        return {name: Key(key, name in fresh) for key, name in rows if name in tags_by_alarm}

    def size(self) -> int:
        """Give a number above all keys."""
        return (self._rows("SELECT max(key) FROM alarms")[0][0] or 0) + 1

    def states(self) -> dict[str, AlarmState]:
        """Give all alarm states, also of alarms that are not in the plant file any more."""
        return {row["name"]: _state(row) for row in self._db.query("SELECT * FROM states")}

    def blocks(self) -> dict[int, bytes]:
        """Give the blocks of last values."""
        return dict(self._rows("SELECT block, columns FROM last_values"))

    def positions(self) -> dict[str, PositionMark]:
        """Give the place in each shard's journal up to which all is in here."""
        rows = self._rows("SELECT shard, journal, incarnation, n FROM positions")
        return {shard: PositionMark(int(journal), incarnation, n) for shard, journal, incarnation, n in rows}

    def occurrences(self, asked: GetOccurrences) -> tuple[Occurrence, ...]:
        """Give the occurrences that match, at most `PAGE_LIMIT`, oldest first."""
        given: dict[str, Any] = {
            "name": asked.name.replace("[", "[[]")[:NAME_LIMIT] if is_glob(asked.name) else asked.name,
            "start": -_NS_LIMIT if asked.start_ns is None else _clamp(asked.start_ns),
            "end": _NS_LIMIT if asked.end_ns is None else _clamp(asked.end_ns),
            "limit": max(1, min(asked.limit, PAGE_LIMIT)),
        }
        where = "raised_ns >= :start AND raised_ns < :end"
        if asked.name:
            where += f" AND name {'GLOB' if is_glob(asked.name) else '='} :name"
        where += " AND cleared_ns IS NULL" * asked.open + " AND acked_ns IS NULL" * asked.unacked
        if asked.beyond is not None:
            given.update(raised=_clamp(asked.beyond[0]), last=asked.beyond[1], occurrence=asked.beyond[2])
            sign = ">" if asked.oldest_first else "<"
            where += (
                f" AND (raised_ns, name, id) {sign}"
                " (:raised, :last, (SELECT coalesce(max(id), 0) FROM occurrences WHERE occurrence = :occurrence))"
            )
        # Of what began at one time, not what was read first: that depends on which shard answers first.
        order = "raised_ns, name, id" if asked.oldest_first else "raised_ns DESC, name DESC, id DESC"
        found = self._connection.execute(
            f"SELECT {', '.join(_OCCURRENCE)} FROM occurrences WHERE {where} ORDER BY {order} LIMIT :limit", given
        ).fetchall()
        return tuple(_occurrence(row) for row in (found if asked.oldest_first else reversed(found)))

    def commit(
        self,
        positions: Mapping[str, PositionMark],
        states: Mapping[str, AlarmState],
        occurrences: Sequence[Occurrence],
        blocks: Iterable[tuple[int, bytes]],
        events: Sequence[Event] = (),
    ) -> None:
        """Store all of it, synced, or nothing.

        Raises:
            sqlite3.Error: Nothing was stored; a full disk, as a rule.
        """
        connection = self._connection
        with transaction(connection):
            connection.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                [(shard, str(at.journal), at.incarnation, at.n) for shard, at in positions.items()],
            )
            connection.executemany(
                f"INSERT OR REPLACE INTO states VALUES (?{', ?' * len(_STATE)})",
                [(name, *_state_row(state)) for name, state in states.items()],
            )
            connection.executemany(_UPSERT, [_occurrence_row(occurrence) for occurrence in occurrences])
            last_values = list(blocks)
            connection.executemany("INSERT OR REPLACE INTO last_values VALUES (?, ?)", last_values)
            for event in events:
                self.outbox.put(event)
        self._pages += len(last_values) + len(states) + len(occurrences)

    def tidy(self) -> None:
        """Begin to move what is in SQLite's log into the file, if there is enough of it.

        Not part of `commit`: it would begin just when somebody waits to hear of what was committed.
        """
        if self._pages >= TIDY_PAGES and self._side.done():
            self._pages = 0
            self._side.start(_tidy, self._path)

    def _drop_oldest(self) -> None:
        first, last = self._rows("SELECT min(id), max(id) FROM occurrences")[0]
        if first is not None and first <= last - OCCURRENCES_LIMIT:
            with transaction(self._connection):
                self._connection.execute("DELETE FROM occurrences WHERE id <= ?", (last - OCCURRENCES_LIMIT,))

    def _rows(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, arguments).fetchall()


_SCHEMA: Final = f"""
CREATE TABLE alarms (key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, tag TEXT NOT NULL);
CREATE TABLE positions (shard TEXT PRIMARY KEY, journal TEXT NOT NULL, incarnation INTEGER NOT NULL,
    n INTEGER NOT NULL);
CREATE TABLE states (name TEXT PRIMARY KEY, {", ".join(_STATE)});
CREATE TABLE last_values (block INTEGER PRIMARY KEY, columns BLOB NOT NULL);
CREATE TABLE occurrences (id INTEGER PRIMARY KEY AUTOINCREMENT, occurrence TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    raised_ns INTEGER NOT NULL, cleared_ns INTEGER, acked_ns INTEGER, acked_by TEXT NOT NULL, comment TEXT NOT NULL,
    value TEXT NOT NULL, late INTEGER NOT NULL);
CREATE INDEX occurrences_by_time ON occurrences (raised_ns, name, id);
CREATE INDEX occurrences_by_name ON occurrences (name, raised_ns, id);
"""
_UPSERT: Final = (
    f"INSERT INTO occurrences ({', '.join(_OCCURRENCE)}) VALUES (?{', ?' * (len(_OCCURRENCE) - 1)})"
    " ON CONFLICT (occurrence) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in _OCCURRENCE if column != "occurrence")
)


def _tidy(path: Path) -> None:
    """Move what is in the log into the file."""
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.OperationalError):  # no room: a commit tells
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _clamp(number: int) -> int:
    """What came from outside may not fit into SQLite's integer."""
    return max(-_NS_LIMIT, min(number, _NS_LIMIT))


def _state_row(state: AlarmState) -> list[Any]:
    row: dict[str, Any] = {name: getattr(state, name) for name in _STATE}
    row.update({name: json.dumps(row[name]) for name in _JSON})
    row.update(core=state.core.name, phase=state.phase.name)
    return list(row.values())


def _state(row: Mapping[str, Any]) -> AlarmState:
    columns: dict[str, Any] = {name: row[name] for name in _STATE}
    columns.update({name: json.loads(columns[name]) for name in _JSON})
    columns.update({name: bool(columns[name]) for name in ("late", "found_in_replay")})
    columns.update(core=Core[columns["core"]], phase=Phase[columns["phase"]])
    return AlarmState(**columns)


def _occurrence_row(occurrence: Occurrence) -> list[Any]:
    columns: dict[str, Any] = {name: getattr(occurrence, name) for name in _OCCURRENCE}
    columns["value"] = json.dumps(occurrence.value)
    return list(columns.values())


def _occurrence(row: Sequence[Any]) -> Occurrence:
    columns: dict[str, Any] = dict(zip(_OCCURRENCE, row, strict=True))
    columns.update(value=json.loads(columns["value"]), late=bool(columns["late"]))
    return Occurrence(**columns)
