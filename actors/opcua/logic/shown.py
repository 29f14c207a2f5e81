"""What was published last of each item: to leave out what only repeats it, and to find what was never told."""

from __future__ import annotations

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tagwerk.protocols.samples import Samples, ValueType

STEP_NS: Final = 10_000_000_000
"""A shard takes a sample that is older than the current one by so much for a clock that was set back."""


@final
class Shown:
    """Columns by item number.

    Args:
        count: How many items there are.
    """

    def __init__(self, count: int) -> None:
        self._floats = np.zeros(count, np.float64)
        self._ints = np.zeros(count, np.int64)
        self._texts = np.full(count, "", object)
        self._quality = np.zeros(count, np.uint32)
        self._known = np.zeros(count, np.bool_)
        self.newest_ns: NDArray[np.int64] = np.zeros(count, np.int64)
        """The time of what a shard holds for current."""
        self.turns: NDArray[np.int64] = np.zeros(count, np.int64)
        """How often something came."""

    def forget(self) -> None:
        """Nothing is known of what is shown."""
        self._known[:] = False

    def same(self, numbers: NDArray[np.intp], batch: Samples) -> NDArray[np.bool_]:
        """Which rows have the value and the quality that are shown already, bool (n,)."""
        rows: NDArray[np.bool_] = self._known[numbers] & (self._quality[numbers] == batch.quality)
        if batch.kind is not ValueType.QUALITY and rows.any():
            rows &= np.asarray(self._column(batch.kind)[numbers] == _values(batch), np.bool_)
        return rows

    def put(self, numbers: NDArray[np.intp], batch: Samples) -> None:
        """These are shown now. An item that stands there twice: the last one."""
        if not len(numbers):
            return
        if batch.kind is not ValueType.QUALITY:
            self._column(batch.kind)[numbers] = _values(batch)
        self._known[numbers] = True
        self._quality[numbers] = batch.quality
        self.turns[numbers] += 1
        newest_ns = np.zeros_like(self.newest_ns)
        np.maximum.at(newest_ns, numbers, batch.times)
        stepped = self.newest_ns[numbers] - newest_ns[numbers] >= STEP_NS
        later_ns = np.maximum(self.newest_ns[numbers], newest_ns[numbers])
        self.newest_ns[numbers] = np.where(stepped, newest_ns[numbers], later_ns)

    def _column(self, kind: ValueType) -> NDArray[np.float64] | NDArray[np.int64] | NDArray[np.object_]:
        if kind is ValueType.FLOAT:
            return self._floats
        return self._texts if kind is ValueType.STR else self._ints


def _values(batch: Samples) -> NDArray[np.generic]:
    if isinstance(batch.values, list):
        return np.array(batch.values, object)
    return np.asarray(batch.values)
