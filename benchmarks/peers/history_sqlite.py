"""Rows in SQLite: `sqlite3` with executemany, and sqlite-utils with insert_all, each as its documentation says.

A table clustered by tag and time, WAL, synced at each commit.
"""

from __future__ import annotations

import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

import history_work as work
import numpy as np
import speak
from sqlite_utils import Database

TABLE = """CREATE TABLE samples (tag INTEGER, time INTEGER, value REAL, quality INTEGER,
    PRIMARY KEY (tag, time)) WITHOUT ROWID"""
NAMES = ("tag", "time", "value", "quality")


def main() -> None:
    """Measure."""
    sizes = speak.sizes()
    connection = opened("utils.db")
    made = list(work.pages(max(1, sizes["pages"] // 5)))
    begin = time.perf_counter()
    for page in made:
        by_utils(connection, page)
    rate = sum(map(len, made)) / (time.perf_counter() - begin)
    connection.close()
    # The table is the same, so its size and its answers are.
    speak.tell([*store("SQLite rows", sizes), speak.row(work.RATE, "sqlite-utils", rate, "samples/s")])


def opened(name: str) -> sqlite3.Connection:
    """A new file."""
    connection = sqlite3.connect(name, isolation_level=None)
    connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {TABLE}")
    return connection


def columns(page: work.Page) -> list[list[Any]]:
    """A page as lists."""
    return [column.tolist() for column in (page.tags, page.times, page.values, page.quality)]


def by_rows(connection: sqlite3.Connection, page: work.Page) -> None:
    """One transaction."""
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?)", zip(*columns(page), strict=True))
    connection.execute("COMMIT")


def by_utils(connection: sqlite3.Connection, page: work.Page) -> None:
    """One transaction, too."""
    rows = (dict(zip(NAMES, row, strict=True)) for row in zip(*columns(page), strict=True))
    with connection:
        Database(connection)["samples"].insert_all(rows, batch_size=len(page))


def store(what: str, sizes: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure the rows."""
    path = Path("rows.db")
    connection = opened(path.name)

    def size_bytes() -> int:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.stat().st_size

    def raw(start_ns: int, end_ns: int) -> int:
        asked = "SELECT time, value, quality FROM samples WHERE tag = ? AND time >= ? AND time < ? ORDER BY time"
        found = connection.execute(asked, (work.ASKED, start_ns, end_ns)).fetchall()
        times, *_ = (np.array(column) for column in zip(*found, strict=True))
        return len(times)

    def trend(start_ns: int, end_ns: int) -> int:
        asked = "SELECT (time - ?) / ?, min(value), max(value) FROM samples WHERE tag = ? GROUP BY 1"
        stretch = (end_ns - start_ns) // work.STRETCHES
        return 2 * len(connection.execute(asked, (start_ns, stretch, work.ASKED)).fetchall())

    take = partial(by_rows, connection)
    found = work.measure(what, sizes, take, work.nothing, work.nothing, size_bytes, raw, trend)
    connection.close()
    return found


if __name__ == "__main__":
    main()
