"""What a notification means: runs of values from a server to batches of samples. No loop over numeric values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import DTYPES, Samples, ValueType

OVERFLOW_BITS: Final = 0x0480
"""InfoType DataValue and the overflow bit: the server's queue dropped values (Part 4, 7.39.1)."""

BAD_OUT_OF_RANGE: Final = 0x803C_0000
BAD_ENCODING_LIMITS_EXCEEDED: Final = 0x8008_0000
STRING_LIMIT: Final = 16_000  # characters: 64,000 bytes at most, which fits into one frame
_ACCEPTED: Final = {ValueType.FLOAT: "fiu", ValueType.INT: "iu", ValueType.BOOL: "b", ValueType.STR: ""}
_INT_LIMIT: Final = 1 << 63


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Values of one wire type that came one after the other.

    Args:
        items: Item numbers, uint32 (n,).
        values: A numeric array (n,), a list of n values of any type, or None if there are no values.
        status: StatusCodes, uint32 (n,).
        source_ns: Source times, int64 (n,), ns since 1970; 0 where not given.
        server_ns: Server times, int64 (n,), ns since 1970; 0 where not given.
    """

    items: NDArray[np.uint32]
    values: NDArray[Any] | list[Any] | None
    status: NDArray[np.uint32]
    source_ns: NDArray[np.int64]
    server_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ItemColumns:
    """What is known of each item, by item number.

    Args:
        handles: Tag handles, uint32.
        kinds: `ValueType` of each tag, uint8.
    """

    handles: NDArray[np.uint32]
    kinds: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Translated:
    """The batches of a notification, one a type, values before quality-only; and what was seen in it.

    Args:
        batches: Ready to publish.
        overflows: How many values say that the server's queue dropped others before them.
        foreign: How many were of items that nobody asked for.
    """

    batches: list[Samples]
    overflows: int
    foreign: int


def translate(runs: Sequence[Run], columns: ItemColumns, time: str, received_ns: int) -> Translated:
    """Runs to batches.

    Args:
        runs: As they came.
        columns: The items' tags.
        time: Whose time is trusted: `source`, `server` or `received`. Where it was not given, the next one of these.
        received_ns: When the notification came, ns since 1970.
    """
    parts: dict[ValueType, list[_Part]] = {}
    overflows = foreign = 0
    for given in runs:
        known = given.items < len(columns.handles)
        run = given
        if not known.all():
            foreign += int(np.count_nonzero(~known))
            run = _rows(given, known)
        overflows += int(np.count_nonzero((run.status & OVERFLOW_BITS) == OVERFLOW_BITS))
        _sort(run, columns, _times(run, time, received_ns), parts)
    ordered = [kind for kind in ValueType if kind is not ValueType.QUALITY] + [ValueType.QUALITY]
    return Translated([_join(kind, parts[kind]) for kind in ordered if kind in parts], overflows, foreign)


_Part = tuple["NDArray[np.uint32]", Any, "NDArray[np.int64]", "NDArray[np.uint32]"]


def _times(run: Run, time: str, received_ns: int) -> NDArray[np.int64]:
    if time == "received":
        return np.full(len(run.items), received_ns, np.int64)
    server = np.where(run.server_ns > 0, run.server_ns, received_ns)
    return server if time == "server" else np.where(run.source_ns > 0, run.source_ns, server)


def _sort(run: Run, columns: ItemColumns, times: NDArray[np.int64], parts: dict[ValueType, list[_Part]]) -> None:
    """Put the rows of one run to the types of their tags."""
    handles = columns.handles[run.items]
    status = run.status & np.uint32(q.CODE_MASK)
    kinds = columns.kinds[run.items]
    if run.values is None:
        _without_value(handles, times, status, q.BAD, parts)
        return
    for code in np.unique(kinds).tolist():
        kind = ValueType(code)
        rows = np.flatnonzero(kinds == code)
        if isinstance(run.values, list):
            column, wrong = _checked([run.values[i] for i in rows.tolist()], kind)
        else:
            column, wrong = _fitting(run.values[rows], kind)
        right = wrong == 0
        if right.any():
            kept = rows[right]
            values: Any
            if isinstance(column, list):
                values = [value for value, ok in zip(column, right.tolist(), strict=True) if ok]
            else:
                values = column[right]
            parts.setdefault(kind, []).append((handles[kept], values, times[kept], status[kept]))
        if not right.all():
            left = rows[~right]
            _without_value(handles[left], times[left], status[left], wrong[~right], parts)


def _fitting(values: NDArray[Any], kind: ValueType) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """Numeric values as the tag's type, and for each the code of what is wrong with it, 0 if nothing is."""
    count = len(values)
    if values.dtype.kind not in _ACCEPTED[kind]:
        return values, np.full(count, q.BAD_TYPE_MISMATCH, np.uint32)
    wrong = np.zeros(count, np.uint32)
    if kind is ValueType.FLOAT and values.dtype.kind == "f":
        wrong[np.isnan(values)] = q.BAD
    elif kind is ValueType.INT and values.dtype == np.uint64:
        wrong[values >= _INT_LIMIT] = BAD_OUT_OF_RANGE
    return values.astype(DTYPES[kind], copy=False), wrong


_PYTHON: Final[dict[ValueType, tuple[type, ...]]] = {
    ValueType.FLOAT: (float, int),
    ValueType.INT: (int,),
    ValueType.BOOL: (bool,),
    ValueType.STR: (str,),
}


def _checked(values: list[Any], kind: ValueType) -> tuple[NDArray[Any] | list[Any], NDArray[np.uint32]]:
    """The same for values that came as Python objects: strings, and what is none of our types."""
    allowed = _PYTHON[kind]
    codes = [0 if type(value) in allowed else q.BAD if value is None else q.BAD_TYPE_MISMATCH for value in values]
    wrong = np.array(codes, np.uint32)
    if kind is ValueType.STR:
        wrong[[type(value) is str and len(value) > STRING_LIMIT for value in values]] = BAD_ENCODING_LIMITS_EXCEEDED
        return values, wrong
    plain = [value if code == 0 else 0 for value, code in zip(values, codes, strict=True)]
    if kind is ValueType.INT:
        big = np.array([not -_INT_LIMIT <= value < _INT_LIMIT for value in plain], bool)
        wrong[big] = BAD_OUT_OF_RANGE
        plain = [0 if out else value for value, out in zip(plain, big.tolist(), strict=True)]
    column = np.array(plain, DTYPES[kind])
    if kind is ValueType.FLOAT:
        wrong[np.isnan(column)] = q.BAD
    return column, wrong


def _without_value(
    handles: NDArray[np.uint32], times: NDArray[np.int64], status: NDArray[np.uint32], code: Any,
    parts: dict[ValueType, list[_Part]],
) -> None:  # fmt: skip
    """Rows that change the quality only. What the server calls Bad keeps its reason; the others get `code`."""
    bad = np.where(status >= q.BAD, status, code).astype(np.uint32)
    parts.setdefault(ValueType.QUALITY, []).append((handles, None, times, bad))


def _join(kind: ValueType, parts: list[_Part]) -> Samples:
    if len(parts) == 1:
        handles, values, times, status = parts[0]
        return Samples(kind, handles, values, times, status)
    values = None
    if kind is ValueType.STR:
        values = [text for part in parts for text in part[1]]
    elif kind is not ValueType.QUALITY:
        values = np.concatenate([part[1] for part in parts])
    return Samples(
        kind,
        np.concatenate([part[0] for part in parts]),
        values,
        np.concatenate([part[2] for part in parts]),
        np.concatenate([part[3] for part in parts]),
    )


def _rows(run: Run, known: NDArray[np.bool_]) -> Run:
    picked = np.flatnonzero(known)
    values: Any = run.values
    if isinstance(values, list):
        values = [values[i] for i in picked.tolist()]
    elif values is not None:
        values = values[picked]
    return Run(run.items[picked], values, run.status[picked], run.source_ns[picked], run.server_ns[picked])
