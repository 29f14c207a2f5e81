"""The hot part of history, as it lies in memory: what arrived in the last moments, in runs that are sorted by tag.

The same samples lie in the catalog, one record a commit; from there they come back after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

import numpy as np

from tagwerk.actors.historian.logic.arrived import (
    Arrived,
    by_tag,
    concatenate,
    nothing,
    tag_starts,
    without_unused_texts,
)
from tagwerk.actors.historian.logic.series import Series, joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tagwerk.protocols.samples import ValueType

RUN_ROWS: Final = 1 << 16
"""Samples at which a run is closed and sorted, 3 ms."""

TAIL_PIECES: Final = 256
"""Commits that lie unsorted before they are put together."""

DAY_NS: Final = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Samples of whole commits, sorted by tag; those of one tag as they came.

    Args:
        samples: The samples.
        tags: The different handles, rising, uint32 (k,).
        starts: Where each begins in `samples`, and the end, int64 (k + 1,).
        last_seq: Number of the last commit in it.
        days: Days since 1970 in which samples lie.
    """

    samples: Arrived
    tags: NDArray[np.uint32]
    starts: NDArray[np.int64]
    last_seq: int
    days: tuple[int, ...]

    def rows(self, first_tag: int, end_tag: int) -> slice:
        """Where the tags with `first_tag <= tag < end_tag` lie."""
        first, end = np.searchsorted(self.tags, (first_tag, end_tag))
        return slice(int(self.starts[first]), int(self.starts[end]))


def make_run(samples: Arrived, last_seq: int) -> Run:
    """Sort samples of whole commits."""
    ordered = samples.take(by_tag(samples.tags))
    tags, starts = tag_starts(ordered.tags)
    return Run(ordered, tags, starts, last_seq, days_of(samples.times))


def days_of(times: NDArray[np.int64]) -> tuple[int, ...]:
    """The days since 1970 in which these times lie, rising."""
    if not len(times):
        return ()
    first, last = int(times.min()) // DAY_NS, int(times.max()) // DAY_NS
    return (first,) if first == last else tuple(np.unique(times // DAY_NS).tolist())


@final
class Hot:
    """Runs and the unsorted end, oldest first."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.rows = 0
        self._end: list[Arrived] = []
        self._end_rows = 0
        self._last_seq = 0

    def add(self, seq: int, samples: Arrived) -> None:
        """Take what was committed.

        Args:
            seq: Number of the commit; it rises.
            samples: What came.
        """
        self._last_seq = seq
        self._end.append(samples)
        self._end_rows += len(samples)
        self.rows += len(samples)
        if self._end_rows >= RUN_ROWS:
            self.close_run()
        elif len(self._end) > TAIL_PIECES:
            self._end = [concatenate(self._end)]

    def close_run(self) -> None:
        """Make a run of the unsorted end."""
        if self._end:
            self.runs.append(make_run(concatenate(self._end), self._last_seq))
            self._end, self._end_rows = [], 0

    def drop(self, count: int) -> None:
        """Forget the oldest runs: they lie elsewhere now."""
        self.rows -= sum(len(run.samples) for run in self.runs[:count])
        del self.runs[:count]

    def series(self, tag: int, kind: ValueType) -> Series:
        """All samples of a tag, in the order of time."""
        pieces = [run.samples.series(run.rows(tag, tag + 1), kind) for run in self.runs]
        for piece in self._end:
            rows = np.flatnonzero(piece.tags == tag)
            if len(rows):
                pieces.append(piece.series(rows, kind))
        return joined(pieces, kind)


def tag_slices(runs: Sequence[Run], limit_rows: int) -> Iterator[tuple[Arrived, NDArray[np.uint32], NDArray[np.int64]]]:
    """Go through runs by tag, about so many samples at a time; a tag is not cut.

    Yields:
        (samples sorted by tag, their different handles, where each begins and the end).
    """
    tags, counts = _counts(runs)
    first = 0
    while first < len(tags):
        end = first + max(1, int(np.searchsorted(np.cumsum(counts[first:]), limit_rows, side="right")))
        span = (int(tags[first]), int(tags[end - 1]) + 1)
        pieces = [run.samples.take(rows) for run in runs if (rows := run.rows(*span)).stop > rows.start]
        together = concatenate([without_unused_texts(piece) if piece.texts else piece for piece in pieces])
        ordered = together if end - first == 1 else together.take(by_tag(together.tags))
        yield ordered, *tag_starts(ordered.tags)
        first = end


def _counts(runs: Sequence[Run]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The different handles of all runs, rising, and how many samples each has."""
    if not runs:
        return nothing().tags, np.empty(0, np.int64)
    tags, which = np.unique(np.concatenate([run.tags for run in runs]), return_inverse=True)
    counts = np.zeros(len(tags), np.int64)
    np.add.at(counts, which, np.concatenate([np.diff(run.starts) for run in runs]))
    return tags, counts
