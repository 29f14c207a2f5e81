"""DuckDB: INSERT ... SELECT from Arrow columns, a transaction a commit, without an index, as its guides recommend."""

from __future__ import annotations

from pathlib import Path

import duckdb
import history_work as work
import pyarrow as pa
import speak


def main() -> None:
    """Measure."""
    path = Path("history.duckdb").absolute()
    connection = duckdb.connect(str(path))
    connection.execute("CREATE TABLE samples (tag INTEGER, time BIGINT, value DOUBLE, quality UINTEGER)")

    def take(page: work.Page) -> None:
        arrow = pa.table({"tag": page.tags, "time": page.times, "value": page.values, "quality": page.quality})
        connection.register("page", arrow)
        connection.execute("INSERT INTO samples SELECT * FROM page")  # its own transaction, synced

    def finish() -> None:
        connection.execute("CHECKPOINT")

    def raw(start_ns: int, end_ns: int) -> int:
        asked = "SELECT time, value, quality FROM samples WHERE tag = ? AND time >= ? AND time < ? ORDER BY time"
        return len(connection.execute(asked, [work.ASKED, start_ns, end_ns]).fetchnumpy()["time"])

    def trend(start_ns: int, end_ns: int) -> int:
        asked = "SELECT (time - ?) // ? AS stretch, min(value), max(value) FROM samples WHERE tag = ? GROUP BY stretch"
        stretch = (end_ns - start_ns) // work.STRETCHES
        return 2 * len(connection.execute(asked, [start_ns, stretch, work.ASKED]).fetchall())

    sizes = speak.sizes()
    speak.tell(work.measure("DuckDB", sizes, take, finish, work.nothing, lambda: path.stat().st_size, raw, trend))


if __name__ == "__main__":
    main()
