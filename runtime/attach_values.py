"""What a client makes of values: units, times, answers to writes, batches of history."""

from __future__ import annotations

import difflib
import math
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from tagwerk.protocols.errors import NotJournaled, NotSent, Refused, RefusedCode, Unknown
from tagwerk.protocols.samples import TYPE_NAMES, Samples, TagValue, ValueType, concatenate, make
from tagwerk.protocols.tags import TagDef, TagWritten, WriteNotSent, WriteUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from numpy.typing import NDArray

    from tagwerk.protocols.message import Message
    from tagwerk.protocols.tag_rows import TagRows


def written(tag: TagDef, reply: Message) -> TagValue:
    """The value read back by a write, or its failure.

    Raises:
        NotSent: Certainly not done.
        Unknown: Nobody knows.
        NotJournaled: It is done and current, and history does not have it.
    """
    if isinstance(reply, TagWritten):
        if reply.not_journaled:
            raise NotJournaled(f"{tag.name} is written, but the journal is full: history does not have it")
        return TagValue(tag.name, reply.value, tag.unit, reply.quality, reply.time_ns, reply.time_ns)
    if isinstance(reply, WriteNotSent):
        raise NotSent(f"{tag.name}: {reply.message}")
    if isinstance(reply, WriteUnknown):
        raise Unknown(f"{tag.name}: {reply.message}")
    raise Unknown(f"{tag.name}: {type(reply).__name__} is no answer to a write")


def in_unit(tag: TagDef, value: float | int | bool | str, unit: str | None) -> float | int | bool | str:
    """A value given in `unit`, in the tag's engineering unit.

    Raises:
        Refused: The unit does not fit the tag.
    """
    if unit is None or unit == tag.unit:
        return value
    if isinstance(value, (bool, str)) or not tag.unit:
        raise Refused(RefusedCode.WRONG_TYPE, f"{tag.name} has no unit; {unit!r} cannot be converted", tag.name)
    from tagwerk.runtime import units  # pint is slow to import, and most scripts never convert

    try:
        return units.convert(float(value), unit, tag.unit)
    except Refused as error:
        raise Refused(error.code, f"{tag.name} is in {tag.unit}: {error.message}", tag.name) from error


def batch_of(tags: TagRows, rows: NDArray[np.intp], values: Any, times: Any, quality: Any) -> Samples:
    """A batch of these tags' type; None among values of floats is NaN.

    Args:
        tags: All that there are.
        rows: Which of them, intp (n,).
        values: (n,) of the tags' type.
        times: UTC, ns since 1970, (n,) or one for all.
        quality: StatusCodes, (n,) or one for all; None: Good.

    Raises:
        Refused: The tags are of different types, or the values of another one.
    """
    types = np.unique(tags.types[rows]).tolist()
    first = tags.names[int(rows[0])] if len(rows) else ""
    if len(types) > 1:
        known = ", ".join(sorted(name for name, kind in TYPE_NAMES.items() if kind in types))
        raise Refused(RefusedCode.WRONG_TYPE, f"the tags are of different types ({known}): one batch a type", first)
    kind = ValueType(types[0]) if types else ValueType.FLOAT
    given = [math.nan if value is None else value for value in values] if _has_none(kind, values) else values
    try:
        batch = make(kind, tags.handles[rows], given, times, quality)
        batch.tags.flags.writeable = False  # so that it need not be looked up again when it is published again
        return batch
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(RefusedCode.WRONG_TYPE, f"{first}: {error}") from error


def _has_none(kind: ValueType, values: Any) -> bool:
    return kind is ValueType.FLOAT and not isinstance(values, np.ndarray) and any(value is None for value in values)


def as_ns(moment: datetime | int) -> int:
    """A moment as UTC ns since 1970.

    Raises:
        Refused: A datetime without a time zone.
    """
    if isinstance(moment, int):
        return moment
    if moment.tzinfo is None:
        raise Refused(RefusedCode.BAD_VALUE, f"{moment} has no time zone: give an aware datetime, or UTC ns")
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + moment.microsecond * 1_000


def joined(tag: TagDef, batches: list[Samples]) -> Samples:
    """One batch of the tag's type. Quality-only samples among them keep their place, with NaN, 0 or "" as value."""
    kind = TYPE_NAMES[tag.type]
    filled = [batch if batch.kind is kind else _filled(kind, batch) for batch in batches if len(batch)]
    return concatenate(filled) if filled else make(kind, [], [] if kind is ValueType.STR else np.zeros(0), 0)


def _filled(kind: ValueType, batch: Samples) -> Samples:
    count = len(batch)
    values: Any = np.full(count, np.nan) if kind is ValueType.FLOAT else [""] * count
    if kind in (ValueType.INT, ValueType.BOOL):
        values = np.zeros(count, "<i8" if kind is ValueType.INT else "?")
    return replace(batch, kind=kind, values=values)


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that looks most like this one, or ""."""
    near = difflib.get_close_matches(name, islice(names, 20_000), 1)
    return near[0] if near else ""
