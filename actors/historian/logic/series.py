"""The samples of one tag as columns, oldest first; those of equal time in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Samples, ValueType, encode, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COLUMN_TYPES: Final[dict[ValueType, np.dtype[Any]]] = {
    ValueType.QUALITY: np.dtype("<i8"),
    ValueType.FLOAT: np.dtype("<f8"),
    ValueType.INT: np.dtype("<i8"),
    ValueType.BOOL: np.dtype("?"),
    ValueType.STR: np.dtype(object),
}
"""How values are held; a column of nothing but changes of quality has zeros."""

NUMBERS: Final = frozenset({ValueType.FLOAT, ValueType.INT, ValueType.BOOL})


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Samples of one tag.

    Args:
        kind: The type of the values; `QUALITY` if there is none.
        times: int64 (n,), ns since 1970, never falling.
        values: (n,) as in `COLUMN_TYPES`; anything where `valued` is False.
        quality: StatusCodes, uint32 (n,).
        valued: bool (n,). False: only the quality changed, nothing was measured.
    """

    kind: ValueType
    times: NDArray[np.int64]
    values: NDArray[Any]
    quality: NDArray[np.uint32]
    valued: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which samples tell the value that holds from then on: it was measured, and is not Bad. bool (n,)."""
        return self.valued & (self.quality < q.BAD)

    def take(self, rows: Any) -> Series:
        """The samples that a slice, a mask or an index array picks."""
        return Series(self.kind, self.times[rows], self.values[rows], self.quality[rows], self.valued[rows])

    def between(self, start_ns: int, end_ns: int) -> Series:
        """Those with `start_ns <= time < end_ns`."""
        first, end = np.searchsorted(self.times, (start_ns, end_ns))
        return self if first == 0 and end == len(self) else self.take(slice(first, max(first, end)))


def empty(kind: ValueType) -> Series:
    """No samples."""
    none = np.empty(0, COLUMN_TYPES[kind])
    return Series(kind, np.empty(0, np.int64), none, np.empty(0, np.uint32), np.empty(0, np.bool_))


def as_kind(series: Series, kind: ValueType) -> Series:
    """The same samples with values of another type; values that cannot be of it are left out as Bad."""
    if series.kind is kind or kind is ValueType.QUALITY:
        return series
    if series.kind in NUMBERS and kind in NUMBERS:
        return Series(kind, series.times, series.values.astype(COLUMN_TYPES[kind]), series.quality, series.valued)
    values = np.full(len(series), "" if kind is ValueType.STR else 0, COLUMN_TYPES[kind])
    quality = np.where(series.valued, np.uint32(q.BAD_TYPE_MISMATCH), series.quality)
    return Series(kind, series.times, values, quality, np.zeros(len(series), np.bool_))


def joined(pieces: Sequence[Series], kind: ValueType) -> Series:
    """Pieces in the order in which they came, as one series of `kind` in the order of time."""
    filled = [as_kind(piece, kind) for piece in pieces if len(piece)]
    if not filled:
        return empty(kind)
    if len(filled) == 1:
        return in_order(filled[0])
    return in_order(
        Series(
            kind,
            np.concatenate([piece.times for piece in filled]),
            np.concatenate([piece.values for piece in filled]),
            np.concatenate([piece.quality for piece in filled]),
            np.concatenate([piece.valued for piece in filled]),
        )
    )


def in_order(series: Series) -> Series:
    """The samples in the order of time; equal times stay as they are."""
    times = series.times
    if len(times) < 2 or bool((times[1:] >= times[:-1]).all()):
        return series
    return series.take(times.argsort(kind="stable"))


_WIDER: Final = (ValueType.FLOAT, ValueType.INT, ValueType.BOOL, ValueType.STR)


def common_kind(kinds: Sequence[ValueType]) -> ValueType:
    """The type that samples of one tag have together; a change of quality has none of its own."""
    return next((kind for kind in _WIDER if kind in kinds), ValueType.QUALITY)


def frames_of(handle: int, series: Series) -> tuple[bytes, ...]:
    """A tag's samples as frames, in the same order; a run without values is a quality-only batch.

    Args:
        handle: The tag.
        series: Its samples.
    """
    if not len(series):
        return ()
    valued = series.valued
    edges = [0, *(np.flatnonzero(valued[1:] != valued[:-1]) + 1).tolist(), len(series)]
    groups: list[list[Samples]] = []
    for first, end in pairwise(edges):
        batch = _batch(handle, series.take(slice(first, end)), bool(valued[first]))
        if groups and batch.kind is ValueType.QUALITY:
            groups[-1].append(batch)  # a frame is values, then quality-only: so the order in it is that of time
        else:
            groups.append([batch])
    return tuple(encode(piece) for group in groups for piece in split(group))


def _batch(handle: int, run: Series, valued: bool) -> Samples:
    tags = np.full(len(run), handle, "<u4")
    if not valued:
        return Samples(ValueType.QUALITY, tags, None, run.times, run.quality)
    values: Any = run.values.tolist() if run.kind is ValueType.STR else run.values
    return Samples(run.kind, tags, values, run.times, run.quality)
