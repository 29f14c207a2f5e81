"""Trends and tables from a store. Chunks are opened only where their summary does not say enough.

Both are generators that stop every few milliseconds, so that the line is served while a question over years is
answered. Nothing may be put in order between their steps, see `Past`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.historian.logic import nodes as n
from tagwerk.actors.historian.logic import table as t
from tagwerk.actors.historian.logic import trend
from tagwerk.actors.historian.logic.series import COLUMN_TYPES, Series, empty, joined
from tagwerk.actors.historian.logic.summary import is_transparent, read_summaries
from tagwerk.actors.historian.past import FIRST_NS, LAST_NS, Past
from tagwerk.protocols.history import TableColumn
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from tagwerk.actors.historian.past import Part

PARTS_A_STEP: Final = 64
"""Parts looked at in one step: at most 5 ms, if all are opened."""

NODES_LIMIT: Final = 1 << 17
"""Nodes after which the buckets that are complete are computed: 11 MB."""

_FEW: Final = 8
"""A chunk of fewer samples is opened: its summary would be no shorter."""


def trend_of(past: Past, kind: ValueType, start_ns: int, end_ns: int, points: int) -> Generator[None, None, Series]:
    """A tag's course in about so many samples, see `thinned`.

    Args:
        past: The tag's past.
        kind: The type of its values, numbers.
        start_ns: From this time on.
        end_ns: Before this time.
        points: How many samples.
    """
    first, last = past.first(start_ns, end_ns), past.last(start_ns, end_ns)
    if not len(first):
        return first
    span_ns = int(last.times[0]) - int(first.times[0]) + 1
    stretch_ns = span_ns // points
    pieces: list[Series] = []
    summaries: list[bytes] = []
    for number, part in enumerate(past.parts(start_ns, end_ns)):
        if number % PARTS_A_STEP == PARTS_A_STEP - 1:
            yield
        chunk = part.single
        inside = chunk is not None and start_ns <= chunk.first and chunk.last < end_ns
        if chunk is not None and inside and chunk.last - chunk.first <= stretch_ns and _need_not_open(part):
            summaries.append(chunk.summary)
            continue
        if summaries:
            pieces.append(trend.of_summaries(read_summaries(summaries), kind))
            summaries = []
        piece = past.load(part).between(start_ns, end_ns)
        if len(piece):
            share = (int(piece.times[-1]) - int(piece.times[0])) / span_ns
            pieces.append(trend.thinned(piece, int(trend.SPARE * points * share) + trend.LEAST_POINTS))
    if summaries:
        pieces.append(trend.of_summaries(read_summaries(summaries), kind))
    return trend.thinned(joined(pieces, kind), points)


def table_of(
    past: Past, kind: ValueType, grid: t.Grid, names: Sequence[str], wrap: float | None
) -> Generator[None, None, tuple[TableColumn, ...]]:
    """A tag in buckets.

    Args:
        past: The tag's past.
        kind: The type of its values, numbers.
        grid: The buckets, at least one.
        names: Which columns: of `COLUMNS`, or `delta`.
        wrap: See `delta`.
    """
    start_ns, end_ns = grid.start_ns, grid.start_ns + grid.step_ns * grid.rows
    collected: dict[str, list[t.Column]] = {name: [] for name in names}
    pieces = [n.of_series(past.last(FIRST_NS, start_ns))]
    if "delta" in names:  # a counter goes on behind a gap
        pieces.insert(0, n.of_series(past.last(FIRST_NS, start_ns, usable=True)))
    done = held = 0

    def compute(upto: int) -> None:
        nonlocal pieces, done, held
        together = n.in_a_row(pieces)
        some = t.Grid(start_ns + done * grid.step_ns, grid.step_ns, upto - done)
        for name in names:
            collected[name].append(
                t.delta(together, some, wrap) if name == "delta" else t.COLUMNS[name](together, some)
            )
        pieces = [n.needed_from(together, start_ns + upto * grid.step_ns)]
        done, held = upto, 0

    for number, part in enumerate(past.parts(start_ns, end_ns)):
        if number % PARTS_A_STEP == PARTS_A_STEP - 1:
            yield
        piece = _nodes(past, part, kind, grid)
        if len(piece):
            pieces.append(piece)
            held += len(piece)
            complete = (int(piece.times[-1]) - start_ns) // grid.step_ns
            if held > NODES_LIMIT and complete > done:
                compute(complete)
                yield
    if "interpolated" in names:
        pieces.append(n.of_series(past.first(end_ns, LAST_NS)))
    compute(grid.rows)
    return tuple(_column(name, collected[name], kind) for name in names)


def _nodes(past: Past, part: Part, kind: ValueType, grid: t.Grid) -> n.Nodes:
    chunk = part.single
    end_ns = grid.start_ns + grid.step_ns * grid.rows
    if chunk is not None and grid.start_ns <= chunk.first and chunk.last < end_ns and _need_not_open(part):
        first, last = ((time_ns - grid.start_ns) // grid.step_ns for time_ns in (chunk.first, chunk.last))
        if first == last:
            return n.of_summaries(read_summaries([chunk.summary]), kind)
    return n.of_series(past.load(part).between(grid.start_ns, end_ns))


def _need_not_open(part: Part) -> bool:
    chunk = part.single
    return chunk is not None and chunk.count >= _FEW and is_transparent(chunk.summary)


def texts_of(past: Past, grid: t.Grid, names: Sequence[str]) -> Generator[None, None, tuple[TableColumn, ...]]:
    """A tag of texts in buckets.

    Args:
        past: The tag's past.
        grid: The buckets, at least one.
        names: Of `value` and `count`.
    """
    start_ns, end_ns = grid.start_ns, grid.start_ns + grid.step_ns * grid.rows
    pieces = [past.last(FIRST_NS, start_ns)]
    for part in past.parts(start_ns, end_ns):
        pieces.append(past.load(part).between(start_ns, end_ns))
        yield
    series = joined([empty(ValueType.STR), *pieces], ValueType.STR)
    usable = series.usable
    made: list[TableColumn] = []
    for name in names:
        if name == "count":
            sums = np.concatenate([[0], np.cumsum(usable)])
            counts = np.diff(sums[np.searchsorted(series.times, grid.edges)])
            made.append(_column(name, [(counts, np.ones(grid.rows, np.bool_))], ValueType.STR))
        else:
            place = np.searchsorted(series.times, grid.edges[:-1], side="right") - 1
            there = (place >= 0) & (usable[place] if len(series) else False)
            texts = tuple(str(series.values[row]) if known else "" for row, known in zip(place, there, strict=True))
            made.append(TableColumn(name, int(ValueType.STR), b"", np.asarray(there).tobytes(), texts))
    return tuple(made)


def _column(name: str, pieces: Sequence[t.Column], kind: ValueType) -> TableColumn:
    values: Any = np.concatenate([values for values, _ in pieces])
    there = np.concatenate([there for _, there in pieces])
    as_tag = name in ("value", "min", "max", "interpolated")
    of = kind if as_tag else ValueType.INT if name == "count" else ValueType.FLOAT
    return TableColumn(name, int(of), values.astype(COLUMN_TYPES[of]).tobytes(), there.tobytes())
