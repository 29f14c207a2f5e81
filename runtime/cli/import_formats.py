"""The forms of files that are imported: CSV and Parquet, read in blocks that fit into memory."""

from __future__ import annotations

import csv
import io
import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.cli.import_file import Cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tagwerk.runtime.cli.import_file import Findings

BLOCK_ROWS: Final = 1 << 14
CELL_LIMIT: Final = 1 << 20
"""Characters in a cell: more than any text that a tag may have."""

NEEDED: Final = ("time", "tag", "value")
KNOWN: Final = (*NEEDED, "unit", "quality", "backfilled")


def cells_of(path: Path, findings: Findings) -> Iterator[Cells]:
    """A file's rows, block by block; lines of another form are told to `findings` and left out.

    Raises:
        ConfigError: It is none of the forms, or broken.
        OSError: It cannot be read.
    """
    ending = path.suffix.lower()
    if ending == ".csv":
        return _csv_cells(path, findings)
    if ending == ".parquet":
        return _parquet_cells(path)
    raise ConfigError("of this kind nothing can be imported", file=str(path), expected="FILE.csv or FILE.parquet")


def _check_head(path: Path, head: Sequence[str], *more: str) -> None:
    for name in NEEDED:
        if name not in head:
            raise ConfigError(
                f"there is no column {name!r}", file=str(path), line=1, value=",".join(head)[:200],
                expected="time,tag,value,unit,quality",
            )  # fmt: skip
    for name in head:
        if name not in (*KNOWN, *more) or head.count(name) > 1:
            wrong = "there is no use for the column" if head.count(name) == 1 else "there are two columns"
            raise ConfigError(f"{wrong} {name!r}", file=str(path), line=1, expected="time,tag,value,unit,quality")


# --- CSV -------------------------------------------------------------------------------------------------------------


def _csv_cells(path: Path, findings: Findings) -> Iterator[Cells]:
    size = max(1, path.stat().st_size)
    csv.field_size_limit(CELL_LIMIT)
    with path.open("rb") as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            head = next(reader, [])
            _check_head(path, head)
            last = reader.line_num
            while rows := list(itertools.islice(reader, BLOCK_ROWS)):
                lines, last = _lines(rows, last, reader.line_num), reader.line_num
                yield _csv_block(head, rows, lines, raw.tell() / size, findings)
        except csv.Error as error:
            raise ConfigError(f"no CSV: {error}", file=str(path), line=reader.line_num) from error
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"no UTF-8: {error.reason}", file=str(path), line=_line_without_utf8(path), expected="a file in UTF-8"
            ) from error


def _line_without_utf8(path: Path) -> int | None:
    """The first line that is none; the reader reads ahead, and does not know."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(CELL_LIMIT), b""), 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None


def _lines(rows: list[list[str]], before: int, last: int) -> Sequence[int]:
    """The line in which each row ends."""
    if last - before == len(rows):
        return range(before + 1, last + 1)
    # Texts with line ends in them, or empty lines at the end of the file.
    return list(itertools.accumulate((1 + sum(cell.count("\n") for cell in row) for row in rows), initial=before))[1:]


def _csv_block(head: list[str], rows: list[list[str]], lines: Sequence[int], share: float, findings: Findings) -> Cells:
    if {*map(len, rows)} != {len(head)}:
        for line, row in zip(lines, rows, strict=True):
            if row and len(row) != len(head):
                findings.add(line, f"{len(row)} cells; expected {len(head)}, as in line 1")
        kept = [(line, row) for line, row in zip(lines, rows, strict=True) if len(row) == len(head)]
        lines, rows = [line for line, _ in kept], [row for _, row in kept]
    columns = dict(zip(head, map(list, zip(*rows, strict=True)), strict=True)) if rows else {name: [] for name in head}
    return Cells(
        lines, columns["time"], columns["tag"], columns["value"], columns.get("unit"), columns.get("quality"), share
    )


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _parquet_cells(path: Path) -> Iterator[Cells]:
    from tagwerk.runtime.cli.history_parquet import TYPED, arrow

    pa, parquet = arrow()
    exact = tuple(name for name in TYPED.values() if name != "value")
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_head(path, schema.names, *exact)
            kind = schema.field("time").type
            if not pa.types.is_timestamp(kind) or kind.tz is None:
                raise ConfigError(
                    "the column 'time' holds no times with a zone", file=str(path), value=str(kind),
                    expected="timestamp[ns, tz=UTC]",
                )  # fmt: skip
            _check_values(pa, path, schema, ("value", *exact))
            done, total = 0, max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                first, done = done + 1, done + batch.num_rows
                yield _parquet_block(pa, batch, first, exact, done / total)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ConfigError(f"no Parquet file that can be read: {error}", file=str(path)) from error


def _check_values(pa: Any, path: Path, schema: Any, names: Sequence[str]) -> None:
    is_ = pa.types
    for name in names:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        kind = kind.value_type if is_.is_dictionary(kind) else kind
        tests = (is_.is_floating, is_.is_integer, is_.is_boolean, is_.is_string, is_.is_large_string, is_.is_null)
        if not any(test(kind) for test in tests):
            raise ConfigError(
                f"the column {name!r} holds nothing that a tag can be", file=str(path), value=str(kind)[:200],
                expected="double, int64, bool or string",
            )  # fmt: skip


def _parquet_block(pa: Any, batch: Any, first: int, exact: Sequence[str], share: float) -> Cells:
    def texts(name: str) -> list[str] | None:
        if name not in batch.schema.names:
            return None
        return [text or "" for text in batch.column(name).cast(pa.string()).to_pylist()]

    moments = batch.column("time").cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64())
    values: list[Any] = batch.column("value").to_pylist()
    for name in exact:
        if name in batch.schema.names:  # exact where `value` is a double or nothing
            mine = batch.column(name).to_pylist()
            values = [value if own is None else own for value, own in zip(values, mine, strict=True)]
    return Cells(
        range(first, first + batch.num_rows),
        moments.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64),
        texts("tag") or [],
        values,
        texts("unit"),
        texts("quality"),
        share,
    )
