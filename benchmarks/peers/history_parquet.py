"""Parquet through pyarrow: a synced file a commit; all of them made one a day, sorted by tag and time, zstd."""

from __future__ import annotations

import os
from pathlib import Path

import history_work as work
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import speak


def main() -> None:
    """Measure."""
    arrived, days = Path("arrived"), Path("days")
    for folder in (arrived, days):
        folder.mkdir()

    def take(page: work.Page) -> None:
        table = pa.table({"tag": page.tags, "time": page.times, "value": page.values, "quality": page.quality})
        path = arrived / f"{len(list(arrived.iterdir())):06}.parquet"
        with path.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())

    def finish() -> None:
        table = ds.dataset(arrived, format="parquet").to_table().sort_by([("tag", "ascending"), ("time", "ascending")])
        day = np.asarray(table["time"]) // work.DAY_NS
        for number in np.unique(day).tolist():
            path = days / f"{number}-{len(list(days.iterdir()))}.parquet"
            part = table.filter(pa.array(day == number))
            encoding = {"time": "DELTA_BINARY_PACKED", "tag": "DELTA_BINARY_PACKED", "quality": "DELTA_BINARY_PACKED"}
            with path.open("wb") as file:
                pq.write_table(
                    part, file, compression="zstd", row_group_size=1 << 17, use_dictionary=["value"],
                    column_encoding=encoding,
                )  # fmt: skip
                file.flush()
                os.fsync(file.fileno())
        for path in arrived.iterdir():
            path.unlink()

    def found(start_ns: int, end_ns: int) -> pa.Table:
        where = (pc.field("tag") == work.ASKED) & (pc.field("time") >= start_ns) & (pc.field("time") < end_ns)
        return ds.dataset(days, format="parquet").to_table(columns=["time", "value", "quality"], filter=where)

    def raw(start_ns: int, end_ns: int) -> int:
        table = found(start_ns, end_ns)
        columns = [np.asarray(table[name]) for name in ("time", "value", "quality")]
        return len(columns[0])

    def trend(start_ns: int, end_ns: int) -> int:
        table = found(start_ns, end_ns)
        stretch = (np.asarray(table["time"]) - start_ns) * work.STRETCHES // (end_ns - start_ns)
        values, order = np.asarray(table["value"]), np.argsort(stretch, kind="stable")
        starts = np.flatnonzero(np.diff(stretch[order], prepend=-1))
        return len(np.minimum.reduceat(values[order], starts)) + len(np.maximum.reduceat(values[order], starts))

    sizes = speak.sizes()
    speak.tell(
        work.measure("Parquet, zstd", sizes, take, finish, work.nothing, lambda: work.bytes_of(days), raw, trend)
    )


if __name__ == "__main__":
    main()
