"""Rows in PostgreSQL through binary COPY, psycopg's `write_row`, into a table with an index by tag and time."""

from __future__ import annotations

from typing import Any

import history_work as work
import numpy as np
import psycopg
import speak
from postgres_cluster import Cluster

TABLE = "CREATE TABLE samples (tag int, time bigint, value double precision, quality int, PRIMARY KEY (tag, time))"


def main() -> None:
    """Run a server, measure, end it."""
    cluster = Cluster()
    try:
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            connection.execute(TABLE)
            speak.tell(measure(connection))
    finally:
        cluster.close()


def measure(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Give all rows."""

    def take(page: work.Page) -> None:
        columns = (page.tags.tolist(), page.times.tolist(), page.values.tolist(), page.quality.tolist())
        with connection.cursor() as cursor, cursor.copy("COPY samples FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int8", "float8", "int4"])
            for row in zip(*columns, strict=True):
                copy.write_row(row)

    def settle() -> None:
        connection.execute("VACUUM ANALYZE samples")  # as autovacuum would, some time later

    def size_bytes() -> int:
        return int(connection.execute("SELECT pg_total_relation_size('samples')").fetchone()[0])  # type: ignore[index]

    def raw(start_ns: int, end_ns: int) -> int:
        asked = "SELECT time, value, quality FROM samples WHERE tag = %s AND time >= %s AND time < %s ORDER BY time"
        found = connection.execute(asked, (work.ASKED, start_ns, end_ns), binary=True).fetchall()
        times, *_ = (np.array(column) for column in zip(*found, strict=True))
        return len(times)

    def trend(start_ns: int, end_ns: int) -> int:
        asked = (
            "SELECT (time - %s) / %s AS stretch, min(value), max(value) FROM samples WHERE tag = %s GROUP BY stretch"
        )
        stretch = (end_ns - start_ns) // work.STRETCHES
        return 2 * len(connection.execute(asked, (start_ns, stretch, work.ASKED)).fetchall())

    return work.measure("PostgreSQL rows, COPY", speak.sizes(), take, work.nothing, settle, size_bytes, raw, trend)


if __name__ == "__main__":
    main()
