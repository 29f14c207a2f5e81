"""What is known of a chunk without opening it: enough for trends and buckets over years, if none of it is Bad."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.historian.logic.series import NUMBERS, Series
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NS_PER_S: Final = 1_000_000_000

SUMMARY: Final = np.dtype(
    [
        ("first", "<i8"),  # times
        ("last", "<i8"),
        ("count", "<i8"),
        ("usable", "<i8"),  # how many tell a value; fewer than all: what follows is zero
        ("low_at", "<i8"),
        ("high_at", "<i8"),
        ("low", "<i8"),  # bits of a double, or an integer
        ("high", "<i8"),
        ("first_value", "<i8"),
        ("last_value", "<i8"),
        ("area", "<f8"),  # value x seconds, each value held until the next, from the first to the last
        ("rises", "<f8"),  # sum of the steps upwards
        ("falls", "<i8"),  # how many steps downwards
        ("fall_sum", "<f8"),  # their sum, negative
        ("fall_after", "<f8"),  # sum of the values after them: a counter that began again
    ]
)
"""One chunk, 120 bytes; numbers little endian."""


_PACK: Final = struct.Struct("<10q2dq2d").pack
_GLANCE: Final = struct.Struct("<16x2q48xd32x").unpack


def summary_of(series: Series) -> bytes:
    """Sum up a chunk.

    Args:
        series: Its samples, at least one.
    """
    times, count = series.times, len(series)
    usable = int(np.count_nonzero(series.usable))
    head = (int(times[0]), int(times[-1]), count, usable)
    if series.kind not in NUMBERS or usable < count:
        return _PACK(*head, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0.0, 0.0)
    values = series.values
    numbers = values if values.dtype == np.float64 else values.astype(np.int64)
    lowest, highest = int(numbers.argmin()), int(numbers.argmax())
    bits = bits_of(numbers)
    ends = (int(bits[lowest]), int(bits[highest]), int(bits[0]), int(bits[-1]))
    return _PACK(*head, int(times[lowest]), int(times[highest]), *ends, *_sums(times, numbers.astype(np.float64)))


def _sums(times: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[float, float, int, float, float]:
    """Area, rises, falls, fall_sum and fall_after of `SUMMARY`."""
    if not np.isfinite(values).all():
        return np.nan, np.nan, 0, np.nan, np.nan  # infinity has no area; minimum and maximum tell of it
    with np.errstate(over="ignore", invalid="ignore"):  # what has no area is opened
        return _finite_sums(times, values)


def _finite_sums(times: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[float, float, int, float, float]:
    area = float(np.dot(values[:-1], (times[1:] - times[:-1]).astype(np.float64))) / NS_PER_S
    steps = values[1:] - values[:-1]
    down = steps < 0
    falls = int(np.count_nonzero(down))
    if not falls:
        return area, float(steps.sum()), 0, 0.0, 0.0
    fall_sum = float(steps[down].sum())
    return area, float(steps.sum()) - fall_sum, falls, fall_sum, float(values[1:][down].sum())


def bits_of(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers as they stand in a summary."""
    return numbers.view(np.int64) if numbers.dtype == np.float64 else numbers.astype(np.int64)


def numbers_of(bits: NDArray[np.int64], kind: ValueType) -> NDArray[Any]:
    """Numbers of a summary: float64 for a float tag, int64 for the others."""
    column = np.ascontiguousarray(bits)
    return column.view(np.float64) if kind is ValueType.FLOAT else column


def read_summaries(rows: Sequence[bytes]) -> NDArray[Any]:
    """Summaries as one structured array, see `SUMMARY`."""
    return np.frombuffer(b"".join(rows), SUMMARY)


def is_transparent(summary: bytes) -> bool:
    """True if the chunk need not be opened: each of its samples tells a finite value."""
    count, usable, area = _GLANCE(summary)
    return bool(usable == count and area - area == 0.0)
