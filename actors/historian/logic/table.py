"""One tag in buckets of equal length: the value at the start of each, and what happened in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.historian.logic.nodes import Nodes, areas_between
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Column = tuple["NDArray[Any]", "NDArray[np.bool_]"]
"""Values, and where there is one."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets `[start_ns + i x step_ns, + step_ns)`.

    Args:
        start_ns: Where the first begins.
        step_ns: How long each is.
        rows: How many.
    """

    start_ns: int
    step_ns: int
    rows: int

    @property
    def edges(self) -> NDArray[np.int64]:
        """All starts, and the end of the last; int64 (rows + 1,)."""
        return self.start_ns + self.step_ns * np.arange(self.rows + 1, dtype=np.int64)


def value(nodes: Nodes, grid: Grid) -> Column:
    """The value that holds at the start of each bucket: the last one, as long as it was not followed by a Bad one."""
    place = np.searchsorted(nodes.times, grid.edges[:-1], side="right") - 1
    return _at(nodes, place)


def interpolated(nodes: Nodes, grid: Grid) -> Column:
    """The value on the straight line between its neighbours; where one of them is unknown, the last value.

    Args:
        nodes: Of a float tag; with the first node behind the buckets, if there is one.
        grid: The buckets.
    """
    edges = grid.edges[:-1]
    place = np.searchsorted(nodes.times, edges, side="right") - 1
    values, there = _at(nodes, place)
    if len(nodes) < 2:
        return values, there
    before, after = np.maximum(place, 0), np.minimum(place + 1, len(nodes) - 1)
    between = there & (after > place) & nodes.usable[after]
    length = np.maximum(nodes.times[after] - nodes.times[before], 1)
    part = (edges - nodes.times[before]) / length
    line = nodes.values[before] + (nodes.values[after] - nodes.values[before]) * part
    return np.where(between, line, values), there


def average(nodes: Nodes, grid: Grid) -> Column:
    """The mean over time, each value held until the next; what is not known does not count."""
    area, known_s = areas_between(nodes, grid.edges)
    there = known_s > 0
    return np.divide(area, known_s, out=np.zeros(grid.rows), where=there), there


def on_time(nodes: Nodes, grid: Grid) -> Column:
    """Seconds in which a bool was true."""
    area, known_s = areas_between(nodes, grid.edges)
    return area, known_s > 0


def known_time(nodes: Nodes, grid: Grid) -> Column:
    """Seconds in which a value was known."""
    _, known_s = areas_between(nodes, grid.edges)
    return known_s, np.ones(grid.rows, np.bool_)


def count(nodes: Nodes, grid: Grid) -> Column:
    """How many usable samples lie in each bucket."""
    return _sums(nodes, grid, nodes.counts).astype(np.int64), np.ones(grid.rows, np.bool_)


def least(nodes: Nodes, grid: Grid) -> Column:
    """The least value, the one that held at the start included."""
    return _extreme(nodes, grid, nodes.lows, np.minimum)


def greatest(nodes: Nodes, grid: Grid) -> Column:
    """The greatest value, the one that held at the start included."""
    return _extreme(nodes, grid, nodes.highs, np.maximum)


def delta(nodes: Nodes, grid: Grid, wrap: float | None = None) -> Column:
    """How much a counter went on.

    Args:
        nodes: The nodes.
        grid: The buckets.
        wrap: What the counter counts to before it is 0 again: a step downwards is a wrap. None: it was set to 0.
    """
    rows = np.flatnonzero(nodes.usable)
    values = nodes.values[rows]
    steps = np.zeros(len(rows))
    steps[1:] = (values[1:] - values[:-1]).astype(np.float64)
    inside = nodes.falls[rows] * (wrap or 0.0) + (nodes.fall_sums[rows] if wrap else nodes.fall_afters[rows])
    down = steps < 0
    # Between the two nodes of an unopened chunk lies no step of its own: its steps are those inside.
    opened = np.ones(len(rows), np.bool_)
    opened[1:] = np.isnan(nodes.areas[rows[:-1]])
    outer = np.where(down, steps + wrap if wrap else values, steps)
    amounts = np.zeros(len(nodes))
    amounts[rows] = np.where(opened, outer, nodes.rises[rows] + inside)
    there = _sums(nodes, grid, nodes.usable) > 0
    return _sums(nodes, grid, amounts), there | value(nodes, grid)[1]


COLUMNS: Final[dict[str, Callable[[Nodes, Grid], Column]]] = {
    "value": value,
    "interpolated": interpolated,
    "average": average,
    "min": least,
    "max": greatest,
    "count": count,
    "on_time": on_time,
    "known": known_time,
}
"""By name; `delta` takes one thing more."""

ONLY_OF: Final = {"interpolated": frozenset({ValueType.FLOAT}), "on_time": frozenset({ValueType.BOOL})}
"""Columns that not every tag has."""


def _at(nodes: Nodes, place: NDArray[np.int64]) -> Column:
    if not len(nodes):
        return np.zeros(len(place), nodes.values.dtype), np.zeros(len(place), np.bool_)
    held = np.maximum(place, 0)
    there = (place >= 0) & nodes.usable[held]
    return np.where(there, nodes.values[held], nodes.values.dtype.type(0)), there


def _sums(nodes: Nodes, grid: Grid, amounts: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = _by_bucket(nodes, grid, amounts.astype(np.float64), np.add, 0.0)
    return found


def _extreme(nodes: Nodes, grid: Grid, column: NDArray[Any], pick: np.ufunc) -> Column:
    worst = _worst(column.dtype, pick)
    inside = nodes.usable & (nodes.counts > 0)
    found = _by_bucket(nodes, grid, np.where(inside, column, worst), pick, worst)
    held, there = value(nodes, grid)
    found = np.where(there, pick(found, np.where(there, held, worst)), found)
    there = there | (_sums(nodes, grid, inside) > 0)
    return np.where(there, found, column.dtype.type(0)), there


def _by_bucket(nodes: Nodes, grid: Grid, column: NDArray[Any], fold: np.ufunc, nothing: Any) -> NDArray[Any]:
    """What a function makes of the nodes in each bucket; `nothing` of none."""
    found = np.full(grid.rows, nothing, column.dtype)
    places = np.searchsorted(nodes.times, grid.edges)
    first, end = places[:-1], places[1:]
    some = np.flatnonzero(end > first)
    if len(some):
        # One call for all: each stretch between two of these places is a bucket or lies between buckets.
        both = np.stack([first[some], end[some]], axis=1).reshape(-1)
        found[some] = fold.reduceat(np.append(column, np.array([nothing], column.dtype)), both)[::2]
    return found


def _worst(dtype: np.dtype[Any], pick: np.ufunc) -> Any:
    if dtype == np.float64:
        return np.inf if pick is np.minimum else -np.inf
    limits = np.iinfo(np.int64)
    return limits.max if pick is np.minimum else limits.min
