"""The course of a tag for a picture: stretches in which each value holds until the next one, and what lies between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.quality import BAD, UNCERTAIN, name_of
from tagwerk.runtime.cli.history_read import trend_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.attach import Plant
    from tagwerk.runtime.cli.history_read import Column


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Values without a gap: times int64 (n,), ns since 1970, values float64 (n,); the last one holds to `end_ns`."""

    times: NDArray[np.int64]
    values: NDArray[np.float64]
    end_ns: int

    def steps(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The corners of the line that holds each value until the next."""
        times = np.append(np.repeat(self.times, 2)[1:], self.end_ns)
        return times, np.repeat(self.values, 2)


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a value was Bad or Uncertain, and what its quality was at the begin."""

    start_ns: int
    end_ns: int
    quality: str


@dataclass(frozen=True, slots=True)
class Trend:
    """A tag's course over a span."""

    tag: TagDef
    stretches: list[Stretch]
    bad: list[Span]
    uncertain: list[Span]


def trends_of(plant: Plant, tags: Sequence[TagDef], span_ns: tuple[int, int], points: int) -> list[Trend]:
    """The courses of some tags.

    Args:
        plant: Whom to ask.
        tags: Which.
        span_ns: From, and before; at most until now: nothing is held longer.
        points: About so many samples of each.

    Raises:
        Refused: A tag has texts as values, or none of them has a good value.
        Unavailable: The historian does not answer.
    """
    for tag in tags:
        if tag.type == "str":
            raise Refused(RefusedCode.WRONG_TYPE, f"{tag.name} holds texts, which cannot be plotted", tag.name)
    found = [trend(trend_of(plant, tag, span_ns, points), *span_ns) for tag in tags]
    if not any(one.stretches for one in found):
        raise Refused(RefusedCode.BAD_VALUE, "nothing to plot: there is no good value in this span", tags[0].name)
    return found


def trend(column: Column, start_ns: int, end_ns: int) -> Trend:
    """Samples to a course, cut to a span.

    Args:
        column: Samples of numbers, NaN where there is no value.
        start_ns: The begin; what was known before holds from here on.
        end_ns: The end.
    """
    times = np.maximum(column.times, start_ns)
    usable = np.isfinite(column.values) & (column.quality < BAD)
    uncertain = usable & (column.quality >= UNCERTAIN)
    stretches = [
        Stretch(times[first:last], column.values[first:last], end) for first, last, end in _runs(usable, times, end_ns)
    ]
    return Trend(
        column.tag,
        stretches,
        _spans(column, ~usable, times, end_ns),
        _spans(column, uncertain, times, end_ns),
    )


def _spans(column: Column, wanted: NDArray[np.bool_], times: NDArray[np.int64], end_ns: int) -> list[Span]:
    return [
        Span(int(times[first]), end, name_of(int(column.quality[first])))
        for first, _, end in _runs(wanted, times, end_ns)
        if end > int(times[first])
    ]


def _runs(wanted: NDArray[np.bool_], times: NDArray[np.int64], end_ns: int) -> list[tuple[int, int, int]]:
    """Runs of wanted samples: (first row, row behind the last, time at which the next one that is not begins)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False])).astype(np.int8)))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [
        (first, last, int(times[last]) if last < len(times) else max(end_ns, int(times[-1]))) for first, last in pairs
    ]
