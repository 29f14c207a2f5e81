"""The deadband of history, for columns: which samples differ enough from the last that did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def passed_by_band(
    values: NDArray[np.float64],
    times: NDArray[np.int64],
    first: NDArray[np.bool_],
    must: NDArray[np.bool_],
    band: NDArray[np.float64],
    interval: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which samples are passed: the first of each tag, and then each that the one passed before it does not stand for.

    From each sample on a search by doubling steps finds the next that must be passed, for all samples at once; then
    the ones that a walk from the first ones comes by are found in as few rounds. No loop over samples, tags, or time.

    Args:
        values: float64 (n,), sorted by tag, in the order in which they came.
        times: int64 (n,), ns; rising within a tag, but where `must` begins anew.
        first: Which are the first of their tag, bool (n,).
        must: Which are passed whatever their value, bool (n,).
        band: A difference that is below it is none, float64 (n,).
        interval: Longest time between two that are passed, ns, as far as some come; 0: none. int64 (n,).

    Returns:
        bool (n,).
    """
    count = len(values)
    stops = first | must
    high, low = np.where(stops, np.inf, values), np.where(stops, -np.inf, values)
    longest = int(np.diff(np.append(np.flatnonzero(first), count)).max(initial=1))
    levels = [(high, low)]
    while 1 << len(levels) < longest:
        high, low = levels[-1]
        half = 1 << (len(levels) - 1)
        levels.append((np.maximum(high[:-half], high[half:]), np.minimum(low[:-half], low[half:])))
    after = _search(levels, values, times, band, interval)
    # The time has run over: the last one within it, if there is one, and not the one that comes too late.
    over = np.zeros(count, np.bool_)
    there = after < count
    target = np.minimum(after, count - 1)
    over[there] = (
        (interval > 0) & ~first[target] & (times[target] - times > interval) & (after - 1 > np.arange(count))
    )[there]
    after = np.where(over, after - 1, after)
    return _walked(after, first)


def _search(
    levels: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    values: NDArray[np.float64],
    times: NDArray[np.int64],
    band: NDArray[np.float64],
    interval: NDArray[np.int64],
) -> NDArray[np.intp]:
    """From each sample on: the next that differs from it enough, is a stop, or comes after the time; n if none does."""
    count = len(values)
    place = np.arange(1, count + 1)
    limit = np.where(interval > 0, interval, np.iinfo(np.int64).max)
    for level in range(len(levels) - 1, -1, -1):
        high, low = levels[level]
        step = 1 << level
        rows = np.flatnonzero(place + step <= count)
        at = place[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            near = (high[at] - values[rows] < band[rows]) & (values[rows] - low[at] < band[rows])
        near &= times[at + step - 1] - times[rows] < limit[rows]
        place[rows] += np.where(near, step, 0)
    return place


def _walked(after: NDArray[np.intp], first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The places that a walk from the first ones comes by, a step being from a place to the one in `after`."""
    count = len(after)
    ends = np.append(np.flatnonzero(first)[1:], count)
    end = np.repeat(ends, np.diff(np.append(np.flatnonzero(first), count)))
    step = np.append(np.where(after < end, after, count), count)  # nobody walks over to the next tag
    passed = np.append(first, False)
    while (step[:-1] < count).any():
        passed[step[passed]] = True
        step = step[step]
    passed[count] = False
    return passed[:-1]
