"""The hot path: batches compared with all limits at once. Finds the rare samples that turn an alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from tagwerk.protocols.quality import BAD, BAD_WAITING_FOR_INITIAL_DATA
from tagwerk.protocols.samples import Samples, ValueType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tagwerk.actors.alarms.logic.definition import AlarmDef

BLOCK: Final = 256
"""Last values are stored in blocks of so many alarms: writing one costs 3 KB, and not a row an alarm."""
_BLOCK_BITS: Final = 8
_VALUE_BYTES: Final = 8 * BLOCK


class Step(NamedTuple):
    """A sample that the tables must see.

    `beyond` tells what it turned the condition to, or is None if it only ends a time of Bad quality while a delay runs.
    """

    key: int
    beyond: bool | None
    time_ns: int
    value: float


class Lookup:
    """From tag handles to the alarms that watch them.

    Args:
        watched: (handle, key) of each alarm.
    """

    __slots__ = ("_count", "_first", "_last", "_members", "_only")

    def __init__(self, watched: Sequence[tuple[int, int]]) -> None:
        handles = np.array([handle for handle, _ in watched], np.int64)
        order = np.argsort(handles, kind="stable")
        # One more than the highest handle: all that are unknown are looked up there, and find nothing.
        self._last = int(handles.max()) + 1 if len(handles) else 0
        self._count = np.bincount(handles, minlength=self._last + 1).astype(np.int32)
        self._first = (np.cumsum(self._count) - self._count).astype(np.int32)
        self._members = np.array([key for _, key in watched], np.intp)[order]
        self._only: NDArray[np.intp] | None = None
        if (self._count <= 1).all():  # one alarm a tag, the common plant: three times as fast
            self._only = np.full(self._last + 1, -1, np.intp)
            self._only[handles] = self._members[self._first[handles]]

    def find(self, tags: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Give (row, key) pairs, rows rising: one for each alarm of each sample.

        Args:
            tags: Handles, uint32 (n,).
        """
        places = np.minimum(tags, self._last)
        if self._only is not None:
            only = self._only[places]
            found = np.flatnonzero(only >= 0)
            return found, only[found]
        count = self._count[places]
        rows = np.repeat(np.arange(len(tags)), count)
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        return rows, self._members[self._first[places][rows] + nth]


class Columns:
    """Limits, last values and conditions of all alarms, as arrays indexed by the alarm's key.

    Values are compared as float64; an int beyond 2^53 is rounded for it.

    Args:
        definitions: All alarms that are watched.
        size: More than the highest key ever given.
    """

    def __init__(self, definitions: Iterable[AlarmDef], size: int) -> None:
        defined = list(definitions)
        size = -(-max(size, 1) // BLOCK) * BLOCK
        self.beyond = np.zeros(size, np.bool_)
        self.pending = np.zeros(size, np.bool_)
        self.value = np.full(size, np.nan)
        self.quality = np.full(size, BAD_WAITING_FOR_INITIAL_DATA, np.uint32)
        self._sign, self._on, self._off = np.ones(size), np.full(size, np.inf), np.full(size, np.inf)
        self._mark = np.zeros(size, np.bool_)
        self._dirty = np.zeros(size >> _BLOCK_BITS, np.bool_)
        for alarm in defined:
            self._sign[alarm.key], self._on[alarm.key], self._off[alarm.key] = alarm.comparison()
        flags = [alarm for alarm in defined if alarm.kind is ValueType.BOOL]
        numbers = [alarm for alarm in defined if alarm.kind is not ValueType.BOOL]
        every = Lookup([(alarm.handle, alarm.key) for alarm in defined])
        numeric = Lookup([(alarm.handle, alarm.key) for alarm in numbers])
        self._lookups = {
            ValueType.QUALITY: every,
            ValueType.FLOAT: numeric,
            ValueType.INT: numeric,
            ValueType.BOOL: Lookup([(alarm.handle, alarm.key) for alarm in flags]),
        }

    def take(self, batch: Samples) -> list[Step]:
        """Compare a batch, keep its last values, and give the samples that turn an alarm, in order."""
        lookup = self._lookups.get(batch.kind)
        if lookup is None:  # texts have no limits
            return []
        rows, keys = lookup.find(batch.tags)
        if not len(rows):
            return []
        values = self.value[keys] if batch.values is None else batch.values[rows].astype(np.float64)
        return self.compare(keys, values, batch.times[rows], batch.quality[rows])

    def compare(
        self,
        keys: NDArray[np.intp],
        values: NDArray[np.float64],
        times: NDArray[np.int64],
        quality: NDArray[np.uint32],
    ) -> list[Step]:
        """The same for samples whose alarms are known.

        Args:
            keys: The alarms, (n,); one may appear many times, and each time counts.
            values: In the tag's unit, (n,); NaN where there is none.
            times: Source times, ns, (n,).
            quality: StatusCodes, (n,).
        """
        numbers = ~np.isnan(values)
        if not numbers.all():
            quality = np.where(numbers | (quality >= BAD), quality, np.uint32(BAD))
        usable = quality < BAD
        beyond = self.beyond[keys]
        limits = np.where(beyond, self._off[keys], self._on[keys])
        turned = usable & ((values * self._sign[keys] > limits) != beyond)
        # A delay that runs must learn of the end of Bad quality.
        touched = turned | (self.pending[keys] & ~(usable & (self.quality[keys] < BAD)))
        # An alarm none of whose samples differs from its state at the start never leaves that state in this batch,
        # so this one comparison is exact, however often a tag appears.
        steps = self._steps(keys, values, times, usable, touched) if touched.any() else []
        # With a key that appears twice the last position wins: numpy assigns in order.
        self.value[keys[numbers]] = values[numbers]
        self.quality[keys] = quality
        self._dirty[keys >> _BLOCK_BITS] = True
        return steps

    def forget(self, keys: NDArray[np.intp]) -> None:
        """Drop the last values of these alarms: nobody knows what they are now. Their states stay."""
        self.value[keys] = np.nan
        self.quality[keys] = BAD_WAITING_FOR_INITIAL_DATA
        self._dirty[keys >> _BLOCK_BITS] = True

    def take_blocks(self) -> Iterator[tuple[int, bytes]]:
        """Give (number, bytes) of each block of last values that has changed since the last call."""
        changed = np.flatnonzero(self._dirty)
        self._dirty[changed] = False
        for block in changed.tolist():
            span = slice(block * BLOCK, (block + 1) * BLOCK)
            yield block, self.value[span].tobytes() + self.quality[span].tobytes()

    def load_block(self, block: int, stored: bytes) -> None:
        """Put back what `take_blocks` gave; a block of alarms that are not known any more is skipped."""
        span = slice(block * BLOCK, (block + 1) * BLOCK)
        if span.stop <= len(self.value):
            self.value[span] = np.frombuffer(stored[:_VALUE_BYTES], np.float64)
            self.quality[span] = np.frombuffer(stored[_VALUE_BYTES:], np.uint32)

    def _steps(
        self,
        keys: NDArray[np.intp],
        values: NDArray[np.float64],
        times: NDArray[np.int64],
        usable: NDArray[np.bool_],
        touched: NDArray[np.bool_],
    ) -> list[Step]:
        """All samples of the touched alarms, alarm by alarm in their order: a trigger with hysteresis, as columns."""
        marked = keys[touched]
        self._mark[marked] = True
        rows = np.flatnonzero(self._mark[keys])
        self._mark[marked] = False
        rows = rows[np.argsort(keys[rows], kind="stable")]
        key, good = keys[rows], usable[rows]
        level = values[rows] * self._sign[key]
        first = np.ones(len(rows), np.bool_)
        first[1:] = key[1:] != key[:-1]

        above, below = good & (level > self._on[key]), good & ~(level > self._off[key])
        places = np.arange(len(rows))
        # Between the two limits, and while Bad, the last sample that was outside of them decides.
        decided = np.maximum.accumulate(np.where(above | below, places, -1))
        begin = np.maximum.accumulate(np.where(first, places, 0))
        at_start = self.beyond[key]
        state = np.where(decided >= begin, above[np.maximum(decided, 0)], at_start)

        turned = state != _before(state, first, at_start)
        was_bad = _before(~good, first, self.quality[key] >= BAD)
        picked = np.flatnonzero(turned | (good & was_bad))
        picked = picked[np.argsort(rows[picked])]
        chosen = rows[picked]
        return [
            Step(int(k), bool(s) if t else None, int(ns), float(v))
            for k, s, t, ns, v in zip(
                key[picked], state[picked], turned[picked], times[chosen], values[chosen], strict=True
            )
        ]


def _before(each: NDArray[np.bool_], first: NDArray[np.bool_], start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give what stands one place before, and `start` where an alarm's first sample is."""
    before = np.empty_like(each)
    before[1:] = each[:-1]
    return np.where(first, start, before)
