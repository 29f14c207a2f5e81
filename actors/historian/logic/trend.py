"""A tag's course in few points: its shape by MinMaxLTTB, the extremes of each stretch besides, and every gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from tsdownsample import MinMaxLTTBDownsampler

from tagwerk.actors.historian.logic.series import COLUMN_TYPES, Series
from tagwerk.actors.historian.logic.summary import numbers_of
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_POINTS: Final = 16
SPARE: Final = 4
"""Candidates for one point, as in MinMaxLTTB (arXiv 2305.00332, 4.1)."""


def of_summaries(summaries: NDArray[Any], kind: ValueType) -> Series:
    """Chunks that are not opened as the first, least, greatest and last sample of each, each of them once."""
    names = (("first", "first_value"), ("low_at", "low"), ("high_at", "high"), ("last", "last_value"))
    times = np.stack([summaries[at] for at, _ in names], axis=1)
    values = np.stack([numbers_of(summaries[name], kind) for _, name in names], axis=1)
    once = np.ones(times.shape, np.bool_)
    for place, others in ((1, (0, 3)), (2, (0, 3)), (3, (0,))):  # the ends stay: what is least may be the first one
        for other in others:
            once[:, place] &= (times[:, place] != times[:, other]) | (values[:, place] != values[:, other])
    once[:, 2] &= (times[:, 2] != times[:, 1]) | (values[:, 2] != values[:, 1])
    order = times.argsort(axis=1, kind="stable")
    times, values, new = (np.take_along_axis(column, order, axis=1).reshape(-1) for column in (times, values, once))
    count = int(np.count_nonzero(new))
    typed = values[new].astype(COLUMN_TYPES[kind])
    return Series(kind, times[new], typed, np.zeros(count, np.uint32), np.ones(count, np.bool_))


def thinned(series: Series, points: int) -> Series:
    """Few of many samples: about `points` usable ones, and for every gap its begin and end.

    The least and the greatest of each of `points` / 4 stretches of equal length are among them, and the ends.

    Args:
        series: Samples of numbers, oldest first.
        points: How many, at least `LEAST_POINTS`. If there are more gaps than a fourth of it, one a stretch is shown.
    """
    points = max(points, LEAST_POINTS)
    usable = series.usable
    good = np.flatnonzero(usable)
    picked = [_gaps(series.times, usable, points // 4)]
    if len(good) <= points:
        picked.append(good)
    else:
        picked += [good[rows] for rows in _shape(series.times[good], series.values[good].astype(np.float64), points)]
    return series.take(np.unique(np.concatenate(picked)))


def _shape(times: NDArray[np.int64], values: NDArray[np.float64], points: int) -> list[NDArray[np.int64]]:
    since = times - times[0]
    finite = np.where(np.isfinite(values), values, 0.0)  # infinity has no triangle; as an extreme it stays
    lttb: Any = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]
    shape: NDArray[np.int64] = lttb.downsample(since, finite, n_out=points // 2).astype(np.int64)
    ends = np.array([0, len(times) - 1])
    return [ends, shape, *_extremes(since, values, points // 4)]


def _extremes(since: NDArray[np.int64], values: NDArray[np.float64], stretches: int) -> list[NDArray[np.int64]]:
    """The first least and the first greatest of each of so many stretches of equal length."""
    span = int(since[-1]) + 1
    edges = np.array([span * number // stretches for number in range(stretches)])
    starts = np.unique(np.searchsorted(since, edges))
    starts = starts[starts < len(since)]
    stretch = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(since))))
    found: list[NDArray[np.int64]] = []
    for pick in (np.minimum, np.maximum):
        rows = np.flatnonzero(values == pick.reduceat(values, starts)[stretch])
        _, first = np.unique(stretch[rows], return_index=True)
        found.append(rows[first])
    return found


def _gaps(times: NDArray[np.int64], usable: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """The first sample of each bad stretch, the good ones beside it, and its last."""
    bad = ~usable
    if not bad.any():
        return np.empty(0, np.int64)
    begins = np.flatnonzero(bad & np.append(True, usable[:-1]))
    ends = np.flatnonzero(bad & np.append(usable[1:], True))
    if len(begins) > most:
        length = max(1, (int(times[-1]) - int(times[0])) // most + 1)
        _, first = np.unique((times[begins] - times[0]) // length, return_index=True)
        begins, ends = begins[first], ends[first]
    rows = np.concatenate([begins - 1, begins, ends, ends + 1])
    return rows[(rows >= 0) & (rows < len(times))]
