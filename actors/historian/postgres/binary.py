"""Rows as PostgreSQL's binary COPY takes them: https://www.postgresql.org/docs/15/sql-copy.html, "Binary Format".

Rows of columns without NULL of changing place are one numpy array: nothing is done row by row.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TAIL: Final = b"\xff\xff"

_NULL: Final = -1
_LENGTH: Final = struct.Struct(">i").pack
_COUNT: Final = struct.Struct(">h").pack


def fixed_rows(columns: Sequence[NDArray[Any] | None]) -> bytes:
    """Rows of numbers.

    Args:
        columns: Big-endian arrays (n,), at least one; None: NULL in every row.
    """
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for place, column in enumerate(columns):
        fields.append((f"length{place}", ">i4"))
        if column is not None:
            fields.append((f"value{place}", column.dtype.str))
    count = next(len(column) for column in columns if column is not None)
    rows = np.empty(count, np.dtype(fields))
    rows["fields"] = len(columns)
    for place, column in enumerate(columns):
        rows[f"length{place}"] = _NULL if column is None else column.dtype.itemsize
        if column is not None:
            rows[f"value{place}"] = column
    return rows.tobytes()


def row(cells: Sequence[bytes | None]) -> bytes:
    """One row of cells in the form of their types."""
    parts = [_COUNT(len(cells))]
    for cell in cells:
        parts += [_LENGTH(_NULL)] if cell is None else [_LENGTH(len(cell)), cell]
    return b"".join(parts)
