"""Samples that are imported: checked as what comes from outside, and told apart from those that history has already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.historian.logic.arrived import Arrived
from tagwerk.actors.historian.logic.series import Series, joined
from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import ValueType, text_fits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tagwerk.protocols.history import ImportSamples

IMPORT_ROWS: Final = 1 << 16
"""Samples in one message."""

_MARK: Final = np.uint32(q.BACKFILLED)
_WHAT: Final = np.uint32(q.CODE_MASK)
_LENGTH: Final = "columns of an import differ in length"


def arrived_of(asked: ImportSamples) -> Arrived:
    """The samples of a message, sorted by tag and time, marked as backfilled.

    Raises:
        ValueError: The columns are wrong.
    """
    types = ("<u4", "<i8", "<i8", "<u4", "u1")
    columns = (asked.tags, asked.times, asked.bits, asked.quality, asked.kinds)
    tags, times, bits, codes, kinds = (
        np.frombuffer(column, dtype) for column, dtype in zip(columns, types, strict=True)
    )
    if not len(tags) == len(times) == len(bits) == len(codes) == len(kinds) <= IMPORT_ROWS:
        raise ValueError(_LENGTH + f", or are more than {IMPORT_ROWS} samples")
    if len(kinds) and int(kinds.max()) > max(ValueType):
        raise ValueError(f"no type of values has the number {int(kinds.max())}")
    texts = bits[kinds == ValueType.STR]
    if len(texts) and not 0 <= int(texts.min()) <= int(texts.max()) < len(asked.texts):
        raise ValueError("a text is missing")
    if not all(map(text_fits, asked.texts)):
        raise ValueError("a text is too long")
    order = np.lexsort((times, tags))  # stable: equal times stay as they are
    bits = np.where(kinds == ValueType.BOOL, bits != 0, np.where(kinds == ValueType.QUALITY, 0, bits)).astype(np.int64)
    marked = codes | _MARK
    given = Arrived(tags, times, bits, marked, kinds, list(asked.texts)).take(order)
    nan = (given.kinds == ValueType.FLOAT) & np.isnan(given.bits.view(np.float64))
    if nan.any():
        raise ValueError("NaN is no value")
    return given


def are_new(have: Sequence[Series], given: Series) -> NDArray[np.bool_]:
    """Which samples history does not have: none is equal in time, value and name of the quality.

    Args:
        have: Samples of the same tag, each piece in the order of time.
        given: What may be new, in the order of time. Of samples that are equal among themselves, the first is.

    Returns:
        bool (n,).
    """
    near = joined([at_times(piece, given.times) for piece in have], given.kind)
    places: dict[str, int] = {}
    if _all_differ(near) and _all_differ(given):  # nothing has to be sorted
        return _differ(near, given, places)
    columns = [_columns(piece, places) for piece in (near, given)]
    times, bits, codes, valued = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((valued, codes, bits, times))
    first = np.ones(len(order), np.bool_)
    for column in (times, bits, codes, valued):
        ranked = column[order]
        if column is times:
            first[1:] = ranked[1:] != ranked[:-1]
        else:
            first[1:] |= ranked[1:] != ranked[:-1]
    new = np.zeros(len(order), np.bool_)
    new[order[first]] = True  # stable: of equal ones, what is there already comes first
    return new[len(order) - len(given) :]


def _all_differ(series: Series) -> bool:
    return bool((series.times[1:] > series.times[:-1]).all())


def _differ(have: Series, given: Series, places: dict[str, int]) -> NDArray[np.bool_]:
    """Where `given` is other than `have`; no time is twice in one of them, and all of `have` are in `given`."""
    rows = np.searchsorted(given.times, have.times)
    pairs = zip(_columns(have, places), _columns(given.take(rows), places), strict=True)
    same = np.logical_and.reduce([mine == theirs for mine, theirs in pairs])
    new = np.ones(len(given), np.bool_)
    new[rows[same]] = False
    return new


def at_times(series: Series, times: NDArray[np.int64]) -> Series:
    """The samples whose times are among these.

    Args:
        series: Samples in the order of time.
        times: int64 (n,), at least one, never falling.
    """
    near = series.between(int(times[0]), int(times[-1]) + 1)
    return near.take(times[np.searchsorted(times, near.times)] == near.times)


def _columns(series: Series, places: dict[str, int]) -> tuple[NDArray[Any], ...]:
    values = series.values
    if series.kind is ValueType.FLOAT:
        bits = np.ascontiguousarray(values).view(np.int64)
    elif series.kind is ValueType.STR:
        bits = np.array([places.setdefault(text, len(places)) for text in values.tolist()], np.int64)
    else:
        bits = values.astype(np.int64)
    return series.times, np.where(series.valued, bits, 0), series.quality & _WHAT, series.valued
