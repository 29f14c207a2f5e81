"""What is asked of the historian: a span, page by page, so that a year costs no memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from tagwerk.protocols import history as h
from tagwerk.protocols.samples import TagValue, decode
from tagwerk.runtime.cli import output, times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tagwerk.protocols.samples import Value
    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.attach import Plant
    from tagwerk.runtime.cli.progress import Progress

BEHIND = "warning: the historian is behind, the newest samples may be missing"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which samples: `start_ns <= time < end_ns`, the first or the newest `limit` of them (0: all)."""

    start_ns: int
    end_ns: int
    limit: int = 0
    newest: bool = False
    bounds: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Samples of one tag, oldest first.

    Args:
        tag: Its definition.
        values: float64, int64 or bool (n,), a list of n texts, or None: only the quality changed.
        times: int64 (n,), ns since 1970.
        quality: StatusCodes, uint32 (n,).
    """

    tag: TagDef
    values: Any
    times: NDArray[np.int64]
    quality: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.times)

    def rows(self) -> Iterator[TagValue]:
        """One object a sample; without a value it is None."""
        found: list[Value] = [None] * len(self)
        if self.values is not None:
            found = self.values if isinstance(self.values, list) else self.values.tolist()
        for value, time_ns, code in zip(found, self.times.tolist(), self.quality.tolist(), strict=True):
            yield TagValue(self.tag.name, value, self.tag.unit, code, time_ns)


def span(start: str | None, end: str | None, last: str | None, limit: int | None, bounds: bool, now_ns: int) -> Wanted:
    """Read which samples are meant.

    Raises:
        typer.BadParameter: A time is none, the span is empty, or it is said twice.
    """
    if last is not None and (start is not None or end is not None):
        raise typer.BadParameter("--last is a span of its own; leave out --from and --to")
    start_ns, end_ns = 0, times.END_OF_TIME_NS
    if last is not None:
        start_ns = now_ns - times.duration_ns(last)
    if start is not None:
        start_ns = times.moment_ns(start, now_ns)
    if end is not None:
        end_ns = times.moment_ns(end, now_ns)
    if end_ns <= start_ns:
        raise typer.BadParameter(f"the span is empty: --from {start} is not before --to {end}")
    return Wanted(start_ns, end_ns, limit or 0, newest=limit is not None and start is None, bounds=bounds)


def columns_of(
    plant: Plant, tags: Sequence[TagDef], wanted: Wanted, progress: Progress, now_ns: int
) -> Iterator[Column]:
    """The samples of some tags, one tag after the other.

    Args:
        plant: Whom to ask.
        tags: Which.
        wanted: Which samples of each.
        progress: Is told how far it is.
        now_ns: Up to when there may be samples.

    Raises:
        Unavailable: The historian does not answer.
    """
    done, warned = 0, False
    for number, tag in enumerate(tags):
        first_ns = wanted.start_ns or None
        for page in _pages(plant, tag, wanted):
            if page.behind and not warned:
                warned = True
                output.note(BEHIND)
            for column in _columns(tag, page):
                yield column
                done += len(column)
                first_ns = int(column.times[0]) if first_ns is None else first_ns
                length_ns = max(1, min(wanted.end_ns, now_ns) - first_ns)
                progress.show(done, (number + (int(column.times[-1]) - first_ns) / length_ns) / len(tags))


def _pages(plant: Plant, tag: TagDef, wanted: Wanted) -> Iterator[h.HistoryPage]:
    after, skip, left = 0, 0, wanted.limit
    while True:
        span = (wanted.start_ns, wanted.end_ns)
        question = h.GetHistory(tag.handle, *span, left, after, wanted.bounds, wanted.newest, skip)
        page = plant.query("historian/0", question, h.HistoryPage)
        yield page
        left -= sum(len(column) for column in _columns(tag, page)) if wanted.limit else 0
        if page.next_after is None or (wanted.limit and left <= 0):
            return
        after, skip = page.next_after, page.skip


def _columns(tag: TagDef, page: h.HistoryPage) -> Iterator[Column]:
    for frame in page.frames:
        for batch in decode(frame):
            if len(batch):
                yield Column(tag, batch.values, batch.times, batch.quality)


def trend_of(plant: Plant, tag: TagDef, span_ns: tuple[int, int], points: int) -> Column:
    """A tag's course in about so many samples, with the one before the span; NaN where there is no value.

    Args:
        plant: Whom to ask.
        tag: A tag of numbers.
        span_ns: From, and before.
        points: How many.

    Raises:
        Unavailable: The historian does not answer.
    """
    page = plant.query("historian/0", h.GetTrend(tag.handle, *span_ns, points, True), h.HistoryPage)
    if page.behind:
        output.note(BEHIND)
    found = list(_columns(tag, page))
    values = [np.full(len(one), np.nan) if one.values is None else one.values.astype(np.float64) for one in found]
    return Column(
        tag,
        np.concatenate([np.empty(0), *values]),
        np.concatenate([np.empty(0, np.int64), *(one.times for one in found)]),
        np.concatenate([np.empty(0, np.uint32), *(one.quality for one in found)]),
    )
