"""How often each actor was restarted and given up, in `data/node-main.db`: what outlives the node."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, final

_log = logging.getLogger(__name__)
_TIMEOUT_S = 0.2  # nobody else writes; a backup may read


class Count(NamedTuple):
    """Since the plant's first start."""

    restarts: int = 0
    fatals: int = 0
    on_trial: bool = False  # it was given up, and has not run for a whole period since


@final
class Counts:
    """The file of counts. It is open only while it is read or written, so that no fork inherits a connection.

    Args:
        path: The SQLite file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, Count]:
        """Give all counts; none if the file cannot be read, which is logged: it must not keep the plant down."""
        try:
            with closing(self._open()) as database:
                self._prepare(database)
                rows = database.execute("SELECT actor, restarts, fatals, on_trial FROM count").fetchall()
        except sqlite3.Error:
            _log.exception("%s cannot be read: restarts and fatals count from 0 again", self._path)
            return {}
        return {actor: Count(restarts, fatals, bool(on_trial)) for actor, restarts, fatals, on_trial in rows}

    def save(self, counts: Mapping[str, Count]) -> bool:
        """Write these counts. Give whether it worked; if not, it is logged, and to be tried again."""
        rows = [(actor, *count) for actor, count in counts.items()]
        try:
            with closing(self._open()) as database, database:
                self._prepare(database)
                database.executemany("INSERT OR REPLACE INTO count VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            _log.error("%s cannot be written: %s", self._path, error)
            return False
        return True

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_TIMEOUT_S)

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute("CREATE TABLE IF NOT EXISTS count (actor TEXT PRIMARY KEY, restarts INT, fatals INT)")
        if "on_trial" not in [name for _, name, *_ in database.execute("PRAGMA table_info(count)")]:
            database.execute("ALTER TABLE count ADD COLUMN on_trial INT NOT NULL DEFAULT 0")
