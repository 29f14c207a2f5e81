"""From the store with a row a sample (layout 1, `history.db`) to this one.

The old file is only read, and stays, under another name. Everything is made beside it, and the catalog gets its name
last. So a migration that was interrupted is begun again.
"""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.historian.logic.arrived import Arrived
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROW_LAYOUT: Final = 1
ROWS: Final = "history.db"
KEPT: Final = "history-layout-1.db"
SLICE_ROWS: Final = 1 << 16

# `seq` is the order of arrival, over both tables.
_SAMPLES: Final = """
SELECT tag, time, seq, value, quality, typeof(value) FROM samples UNION ALL
SELECT tag, time, seq, value, quality, typeof(value) FROM recent ORDER BY 1, 2, 3
"""
_KINDS: Final = {"real": ValueType.FLOAT, "integer": ValueType.INT, "text": ValueType.STR, "null": ValueType.QUALITY}


def open_rows(path: Path) -> sqlite3.Connection:
    """The old store, to be read.

    Raises:
        ConfigError: It is of another layout, or no database.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ConfigError(f"the history store cannot be read: {error}", file=str(path)) from error
    if found != ROW_LAYOUT:
        connection.close()
        raise ConfigError(
            "the history store has another layout", file=str(path), value=str(found), expected=str(ROW_LAYOUT)
        )
    return connection


def slices(rows: sqlite3.Connection) -> Iterator[Arrived]:
    """All samples, by tag and time; those of equal time in the order in which they came."""
    cursor = rows.execute(_SAMPLES)
    while found := cursor.fetchmany(SLICE_ROWS):
        yield _arrived(found)


def _arrived(rows: list[tuple[int, int, int, Any, int, str]]) -> Arrived:
    tags, times, _, values, quality, types = zip(*rows, strict=True)
    kinds = np.array([_KINDS[name] for name in types], np.uint8)
    bits = np.zeros(len(rows), np.int64)
    texts: list[str] = []
    for kind in np.unique(kinds).tolist():
        places = np.flatnonzero(kinds == kind)
        some = [values[place] for place in places.tolist()]
        if kind == ValueType.FLOAT:
            bits[places] = np.array(some, np.float64).view(np.int64)
        elif kind == ValueType.INT:
            bits[places] = some
        elif kind == ValueType.STR:
            texts = some
            bits[places] = np.arange(len(some))
    return Arrived(
        np.array(tags, np.uint32), np.array(times, np.int64), bits, np.array(quality, np.uint32), kinds, texts
    )


def copy_tables(rows: sqlite3.Connection, catalog: sqlite3.Connection) -> None:
    """Take over the places in the journals, what was set aside, and what is owed to the log of events."""
    there = {name for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in ("positions", "set_aside", "outbox", "outbox_box"):
        for row in rows.execute(f"SELECT * FROM {table}") if table in there else ():
            marks = ",".join("?" * len(row))
            catalog.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)
    if "sqlite_sequence" in there:  # the numbers of an outbox never come again, even when it is empty
        last = rows.execute("SELECT name, seq FROM sqlite_sequence WHERE name = 'outbox'").fetchall()
        catalog.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
        catalog.executemany("INSERT INTO sqlite_sequence VALUES (?, ?)", last)


def begin_again(directory: Path, catalog: str, days: str) -> None:
    """Remove what an interrupted migration has made."""
    for suffix in ("", "-wal", "-shm"):
        (directory / f"{catalog}{suffix}").unlink(missing_ok=True)
    if (directory / days).exists():
        shutil.rmtree(directory / days)
