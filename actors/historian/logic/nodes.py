"""What a tag's samples and the summaries of its chunks have in common: nodes, on which buckets are computed.

A node is a moment from which a value holds until the next node. A sample is a node. A chunk that is not opened is two:
one at its first sample, which stands for all of them, and one at its last.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.historian.logic.series import Series
from tagwerk.actors.historian.logic.summary import NS_PER_S, numbers_of
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Columns (n,), oldest first.

    Args:
        times: int64, ns since 1970.
        values: float64 or int64: what holds from here.
        usable: bool. False: from here on nothing is known.
        counts: int64. Usable samples it stands for.
        lows: The least value of those.
        highs: The greatest.
        areas: float64. Value x seconds up to the next node; NaN: its value times the distance.
        rises: float64. Sum of the steps upwards that lie inside what it stands for.
        falls: int64. Steps downwards inside.
        fall_sums: float64. Their sum.
        fall_afters: float64. Sum of the values after them.
    """

    times: NDArray[np.int64]
    values: NDArray[Any]
    usable: NDArray[np.bool_]
    counts: NDArray[np.int64]
    lows: NDArray[Any]
    highs: NDArray[Any]
    areas: NDArray[np.float64]
    rises: NDArray[np.float64]
    falls: NDArray[np.int64]
    fall_sums: NDArray[np.float64]
    fall_afters: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)


_NAMES: Final = tuple(field.name for field in fields(Nodes))


def of_series(series: Series) -> Nodes:
    """Samples of numbers as nodes."""
    values = series.values if series.kind is ValueType.FLOAT else series.values.astype(np.int64)
    count, usable = len(series), series.usable
    if series.kind is ValueType.FLOAT:
        usable = usable & np.isfinite(values)
    nothing, none = np.zeros(count), np.zeros(count, np.int64)
    return Nodes(
        series.times, values, usable, usable.astype(np.int64), values, values, np.full(count, np.nan),
        nothing, none, nothing, nothing,
    )  # fmt: skip


def of_summaries(summaries: NDArray[Any], kind: ValueType) -> Nodes:
    """Chunks that are not opened as nodes, two each.

    Args:
        summaries: See `SUMMARY`; of chunks without overlap, in the order of time, all of them `is_transparent`.
        kind: The type of the tag.
    """

    def pair(first: Any, last: Any) -> NDArray[Any]:
        return np.stack([first, last], axis=1).reshape(-1)

    none = np.zeros(len(summaries), np.int64)
    numbers = {name: numbers_of(summaries[name], kind) for name in ("low", "high", "first_value", "last_value")}
    return Nodes(
        times=pair(summaries["first"], summaries["last"]),
        values=pair(numbers["first_value"], numbers["last_value"]),
        usable=np.ones(2 * len(summaries), np.bool_),
        counts=pair(summaries["count"], none),
        lows=pair(numbers["low"], numbers["last_value"]),
        highs=pair(numbers["high"], numbers["last_value"]),
        areas=pair(summaries["area"], np.full(len(summaries), np.nan)),
        rises=pair(none, summaries["rises"]),
        falls=pair(none, summaries["falls"]),
        fall_sums=pair(none, summaries["fall_sum"]),
        fall_afters=pair(none, summaries["fall_after"]),
    )


def in_a_row(pieces: Sequence[Nodes]) -> Nodes:
    """Pieces, at least one, one after the other; each begins where or after the one before ends."""
    return Nodes(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in _NAMES})


def needed_from(nodes: Nodes, edge_ns: int) -> Nodes:
    """The nodes that buckets from this time on need.

    A step belongs to its later end, so the last one before stays, and the last usable one before it.
    """
    before = int(np.searchsorted(nodes.times, edge_ns))
    usable = np.flatnonzero(nodes.usable[:before])[-1:]
    rows = np.unique(np.concatenate([usable, np.arange(max(0, before - 1), len(nodes))]))
    return Nodes(**{name: getattr(nodes, name)[rows] for name in _NAMES})


def areas_between(nodes: Nodes, edges: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Value x seconds, and the seconds in which a value was known, between each edge and the next.

    Each stretch is summed by itself: beside a sum over all of them a small one would be lost.

    Args:
        nodes: The nodes; no edge lies inside a chunk that was not opened.
        edges: Times, rising, int64 (k + 1,).

    Returns:
        float64 (k,) each.
    """
    order = np.concatenate([edges, nodes.times]).argsort(kind="stable")  # an edge before the nodes of its time
    place = np.searchsorted(nodes.times, edges) - 1
    before = np.maximum(place, 0)
    held_at = nodes.values[before] if len(nodes) else np.zeros(len(edges))
    known_at = (place >= 0) & (nodes.usable[before] if len(nodes) else False)
    times = np.concatenate([edges, nodes.times])[order]
    known = np.concatenate([known_at, nodes.usable])[order]
    held = np.where(known, np.concatenate([held_at, nodes.values])[order], 0).astype(np.float64)
    given = np.concatenate([np.full(len(edges), np.nan), nodes.areas])[order]
    seconds = np.append(np.diff(times) / NS_PER_S, 0.0)
    at_edge = np.flatnonzero(order < len(edges))
    with np.errstate(over="ignore", invalid="ignore"):  # values near the end of doubles have no area
        area = np.where(np.isnan(given), held * seconds, given)
        return np.add.reduceat(area, at_edge)[:-1], np.add.reduceat(known * seconds, at_edge)[:-1]
