"""Samples as rows: CSV, JSON, a table."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols.quality import BACKFILLED, is_backfilled, name_of
from tagwerk.runtime.cli import output, times, values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from numpy.typing import NDArray

    from tagwerk.protocols.samples import TagValue, Value
    from tagwerk.runtime.cli.history_read import Column

CSV_HEAD: Final = ("time", "tag", "value", "unit", "quality")
MARK: Final = "backfilled"


def write_csv(stream: TextIO, columns: Iterable[Column], *, marks: bool) -> None:
    """Write samples as CSV.

    Args:
        stream: Where to.
        columns: The samples.
        marks: Also whether each was backfilled, as the last column.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((*CSV_HEAD, MARK) if marks else CSV_HEAD)
    for column in columns:
        count = len(column)
        cells: list[Any] = [
            stamps(column.times),
            [column.tag.name] * count,
            _csv_values(column),
            [column.tag.unit] * count,
            qualities(column.quality),
        ]
        if marks:
            cells.append(np.where(column.quality & BACKFILLED, "true", "false").tolist())
        writer.writerows(zip(*cells, strict=True))


def stamps(moments: NDArray[np.int64]) -> list[str]:
    """Times as in JSON and CSV, see `times.rfc3339`."""
    # An isolated loop of numpy's own: a second for four million of them.
    return [text + "Z" for text in np.datetime_as_string(moments.astype("M8[ns]"), unit="ns").tolist()]


def qualities(codes: NDArray[np.uint32]) -> list[str]:
    """The names of StatusCodes."""
    present, which = np.unique(codes, return_inverse=True)
    names = [name_of(code) for code in present.tolist()]
    return [names[place] for place in which.tolist()]


def _csv_values(column: Column) -> list[Any]:
    if column.values is None:
        return [""] * len(column)
    found: list[Any] = column.values if isinstance(column.values, list) else column.values.tolist()
    return found if column.tag.type in ("int", "str") else [csv_value(value) for value in found]


def csv_value(value: Value) -> str:
    """Give a value for CSV: exact, `inf` and `-inf` among them, and empty where there is none."""
    if value is None or value != value:  # NaN
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def json_rows(columns: Iterable[Column]) -> Iterator[dict[str, Any]]:
    """Give the objects that JSON shows."""
    for column in columns:
        for row in column.rows():
            yield {**values.row_of(row), MARK: is_backfilled(row.quality)}


def show_table(columns: Iterable[Column], utc: bool) -> None:
    """Show a table."""
    cells = [_cells(row, utc) for column in columns for row in column.rows()]
    if not cells:
        output.note("nothing was recorded in this span")
    output.table(CSV_HEAD, cells, right=("value",))


def _cells(row: TagValue, utc: bool) -> tuple[str, ...]:
    quality = name_of(row.quality) + (f", {MARK}" if is_backfilled(row.quality) else "")
    return times.shown(row.time_ns, utc), row.tag, values.shown(row.value), row.unit, quality
