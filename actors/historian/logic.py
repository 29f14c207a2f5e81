"""What of a journal goes to history, how a tag's rows become frames again, and when a disk is too full. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.samples import TYPE_NAMES, Samples, Value, ValueType, decode, encode, make, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tagwerk.protocols.tags import PositionMark, TagDef

Row = tuple[int, int, Value, int]
"""A stored sample of one tag: time, number in the store, value (None: only the quality changed), quality."""

HOLDS_SAMPLES: Final = frozenset({0, 2, 3})
"""Kinds of journal records with samples: published, loss of a writer, late or backfilled. A birth (1) has none."""

_UNKNOWN: Final = 255
_UNLOGGED: Final = 254
_HYSTERESIS_PCT: Final = 1.0


class Journaled(Protocol):
    """A record of a shard's journal, as far as history looks at it."""

    @property
    def n(self) -> int:
        """Its number."""
        ...

    @property
    def kind(self) -> int:
        """What it is, see `HOLDS_SAMPLES`."""
        ...

    @property
    def incarnation(self) -> int:
        """Who wrote it."""
        ...

    @property
    def received_ns(self) -> int:
        """When the shard took it."""
        ...

    @property
    def frame(self) -> bytes:
        """A samples frame."""
        ...


def is_new(record: Journaled, journal: int, taken: PositionMark | None) -> bool:
    """False if the record was committed before: a page may come again after a death on either side.

    A number alone repeats when a power cut took a journal's tail, so the incarnation that wrote it comes first.
    """
    if taken is None or taken.journal != journal:
        return True
    return (record.incarnation, record.n) > (taken.incarnation, taken.n)


class TagTable:
    """Which tags are logged, and of which type they are, for whole columns of handles at once.

    Args:
        tags: The definitions.
    """

    def __init__(self, tags: Iterable[TagDef]) -> None:
        known = {tag.handle: int(TYPE_NAMES[tag.type]) if tag.log else _UNLOGGED for tag in tags}
        # The last place stands for all handles that are not known.
        self._kinds: NDArray[np.uint8] = np.full(max(known, default=0) + 2, _UNKNOWN, np.uint8)
        if known:
            self._kinds[list(known)] = list(known.values())

    def wanted(self, batch: Samples) -> NDArray[np.bool_]:
        """Which samples go to history.

        Not those of tags with `log = false`, and not those of a wrong type, which the shard has refused. A handle
        without a definition is kept: it is of a tag newer than this table, and it was acknowledged.

        Returns:
            bool (n,).
        """
        kinds = self._kinds[np.minimum(batch.tags, len(self._kinds) - 1)]
        if batch.kind is ValueType.QUALITY:
            logged: NDArray[np.bool_] = kinds != _UNLOGGED
            return logged
        fits: NDArray[np.bool_] = (kinds == batch.kind) | (kinds == _UNKNOWN)
        return fits | (kinds == ValueType.FLOAT) if batch.kind is ValueType.INT else fits


@dataclass(slots=True)
class Columns:
    """Samples as the store takes them: plain lists, one entry a sample, in the order of the journal."""

    tags: list[int] = field(default_factory=list[int])
    times: list[int] = field(default_factory=list[int])
    values: list[Value] = field(default_factory=list[Value])
    quality: list[int] = field(default_factory=list[int])
    received: list[int] = field(default_factory=list[int])

    def __len__(self) -> int:
        return len(self.tags)

    def add(self, batch: Samples, received_ns: int) -> None:
        """Append a batch, column by column."""
        values, quality = batch.values, batch.quality
        if batch.kind is ValueType.FLOAT:
            values, quality = _without_nan(values, quality)
        plain: list[Value] = [None] * len(batch) if values is None else list(values)
        self.tags += batch.tags.tolist()
        self.times += batch.times.tolist()
        self.values += plain if batch.kind is ValueType.STR or values is None else values.tolist()
        self.quality += quality.tolist()
        self.received += [received_ns] * len(batch)


def _without_nan(values: NDArray[Any], quality: NDArray[np.uint32]) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """NaN is no value but a Bad quality; SQLite would store it as NULL with a quality that says Good."""
    nan = np.isnan(values)
    if not nan.any():
        return values, quality
    without = values.astype(object)
    without[nan] = None
    return without, np.where(nan & (quality < q.BAD), np.uint32(q.BAD), quality)


def gather(records: Sequence[Journaled], table: TagTable) -> tuple[Columns, list[tuple[Journaled, str]]]:
    """The samples of journal records, and the records that cannot be read, each with the reason."""
    columns = Columns()
    broken: list[tuple[Journaled, str]] = []
    for record in records:
        if record.kind not in HOLDS_SAMPLES:
            continue
        try:
            batches = decode(record.frame)
        except RemoteProtocolError as error:
            broken.append((record, str(error)))
            continue
        for batch in batches:
            wanted = table.wanted(batch)
            columns.add(batch if wanted.all() else batch.select(wanted), record.received_ns)
    return columns, broken


def frames_of(handle: int, kind: ValueType, rows: Sequence[Row]) -> tuple[bytes, ...]:
    """Rows of one tag to samples frames, in the same order; a run of rows without a value is a quality-only batch."""
    if not rows:
        return ()
    times, _, values, quality = zip(*rows, strict=True)
    empty = np.fromiter((value is None for value in values), np.bool_, len(rows))
    edges = [0, *(np.flatnonzero(empty[1:] != empty[:-1]) + 1).tolist(), len(rows)]
    groups: list[list[Samples]] = []
    for first, end in pairwise(edges):
        run = ValueType.QUALITY if empty[first] else kind
        column = None if empty[first] else _column(kind, values[first:end])
        tags = np.full(end - first, handle, "<u4")
        batch = make(run, tags, column, np.array(times[first:end], "<i8"), np.array(quality[first:end], "<u4"))
        if groups and run is ValueType.QUALITY:
            groups[-1].append(batch)  # a frame is values, then quality-only: so the order in it is that of time
        else:
            groups.append([batch])
    return tuple(encode(piece) for piece in chain.from_iterable(split(group) for group in groups))


def _column(kind: ValueType, values: Sequence[Value]) -> Any:
    if kind is ValueType.STR:
        return values
    dtype = {ValueType.FLOAT: "<f8", ValueType.INT: "<i8", ValueType.BOOL: "?"}[kind]
    return np.array(values, dtype)


class DiskLevel(Enum):
    """How full the file system of the store is."""

    ROOM = "room"
    WARN = "warn"
    """Above `disk_warn_pct`."""
    STOP = "stop"
    """Above `disk_stop_pct`: nothing more is taken from the journals, which keep what is acknowledged."""


def disk_level(now: DiskLevel, used_pct: float, warn_pct: float, stop_pct: float) -> DiskLevel:
    """The level after `used_pct` was seen. A level is left 1 % below where it is entered, so that it does not flap."""

    def at_least(limit_pct: float, held: bool) -> bool:
        return used_pct > (limit_pct - _HYSTERESIS_PCT if held else limit_pct)

    if at_least(stop_pct, now is DiskLevel.STOP):
        return DiskLevel.STOP
    return DiskLevel.WARN if at_least(warn_pct, now is not DiskLevel.ROOM) else DiskLevel.ROOM
