"""What a page of a journal brings to history: samples of many tags as columns, in the order of the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.historian.logic.series import COLUMN_TYPES, Series, common_kind, empty, in_order, joined
from tagwerk.protocols import quality as q
from tagwerk.protocols.codec import pack, unpack
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.samples import Samples, ValueType, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tagwerk.actors.historian.logic.intake import Journaled, TagTable

VERSION: Final = 1
HISTORY_ONLY: Final = 3
HOLDS_SAMPLES: Final = frozenset({0, 2, HISTORY_ONLY})
"""Kinds of journal records with samples: published, loss of a writer, late or backfilled. A birth (1) has none."""

_MAX_BYTES: Final = 1 << 30
_MAX_RADIX: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """Samples of many tags.

    Args:
        tags: Handles, uint32 (n,).
        times: int64 (n,), ns since 1970.
        bits: The values' 8 bytes as int64 (n,): a double's bits, an integer, 0 or 1, or a place in `texts`.
        quality: StatusCodes, uint32 (n,).
        kinds: `ValueType` of each, uint8 (n,); `QUALITY`: no value.
        texts: The values of text tags.
    """

    tags: NDArray[np.uint32]
    times: NDArray[np.int64]
    bits: NDArray[np.int64]
    quality: NDArray[np.uint32]
    kinds: NDArray[np.uint8]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.tags)

    def take(self, rows: Any) -> Arrived:
        """The samples that a slice, a mask or an index array picks; all texts stay."""
        return Arrived(
            self.tags[rows], self.times[rows], self.bits[rows], self.quality[rows], self.kinds[rows], self.texts
        )

    def series(self, rows: Any, kind: ValueType | None = None) -> Series:
        """The samples of one tag, in the order of time.

        Args:
            rows: Which ones; all of one tag.
            kind: The type of the values; None: what they are.
        """
        kinds = self.kinds[rows]
        if len(kinds) == 0:
            return empty(kind or ValueType.QUALITY)
        first = ValueType(int(kinds[0]))
        if bool((kinds == first).all()):
            found = in_order(self._of_kind(rows, first))
            return found if kind is None or kind is first else joined([found], kind)
        present = [ValueType(code) for code in np.unique(kinds).tolist()]
        values = kind if kind is not None else common_kind(present)
        order = np.arange(len(self))[rows]
        runs = np.split(order, np.flatnonzero(kinds[1:] != kinds[:-1]) + 1)
        return joined([self._of_kind(run, ValueType(int(self.kinds[run[0]]))) for run in runs], values)

    def _of_kind(self, rows: Any, kind: ValueType) -> Series:
        bits = self.bits[rows]
        values: NDArray[Any] = bits
        if kind is ValueType.FLOAT:
            values = bits.view(np.float64)
        elif kind is ValueType.BOOL:
            values = bits.astype(np.bool_)
        elif kind is ValueType.STR:
            values = np.empty(len(bits), object)
            values[:] = [self.texts[place] for place in bits.tolist()]
        valued = np.full(len(bits), kind is not ValueType.QUALITY, np.bool_)
        return Series(kind, self.times[rows], values, self.quality[rows], valued)


def nothing() -> Arrived:
    """No samples."""
    return concatenate([])


def concatenate(pieces: Sequence[Arrived]) -> Arrived:
    """Pieces as one, in order."""
    if len(pieces) == 1:
        return pieces[0]
    texts: list[str] = []
    bits: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for piece in pieces:
        bits.append(
            np.where(piece.kinds == ValueType.STR, piece.bits + len(texts), piece.bits) if texts else piece.bits
        )
        texts += piece.texts
    return Arrived(
        np.concatenate([np.empty(0, np.uint32), *(piece.tags for piece in pieces)]),
        np.concatenate([np.empty(0, np.int64), *(piece.times for piece in pieces)]),
        np.concatenate(bits),
        np.concatenate([np.empty(0, np.uint32), *(piece.quality for piece in pieces)]),
        np.concatenate([np.empty(0, np.uint8), *(piece.kinds for piece in pieces)]),
        texts,
    )


def without_unused_texts(arrived: Arrived) -> Arrived:
    """The same samples with only the texts that they use."""
    rows = np.flatnonzero(arrived.kinds == ValueType.STR)
    texts = [arrived.texts[place] for place in arrived.bits[rows].tolist()]
    bits = arrived.bits.copy()
    bits[rows] = np.arange(len(rows))
    return Arrived(arrived.tags, arrived.times, bits, arrived.quality, arrived.kinds, texts)


def gather(
    records: Sequence[Journaled], table: TagTable
) -> tuple[Arrived, NDArray[np.bool_], list[tuple[Journaled, str]]]:
    """The samples of journal records, which of them came late or as backfill, and the records that cannot be read.

    Returns:
        The samples, bool (n,), and (record, reason).
    """
    batches: list[Samples] = []
    late: list[bool] = []
    broken: list[tuple[Journaled, str]] = []
    for record in records:
        if record.kind not in HOLDS_SAMPLES:
            continue
        try:
            found = decode(record.frame)
        except RemoteProtocolError as error:
            broken.append((record, str(error)))
            continue
        batches += found
        late += [record.kind == HISTORY_ONLY] * len(found)
    arrived = of_batches(batches)
    wanted = table.logged(arrived.tags, arrived.kinds)
    came_late = np.repeat(np.array(late, np.bool_), [len(batch) for batch in batches])
    if wanted.all():
        return arrived, came_late, broken
    return without_unused_texts(arrived.take(wanted)), came_late[wanted], broken


def of_batches(batches: Sequence[Samples]) -> Arrived:
    """Batches as they come, in order."""
    if not batches:
        return nothing()
    texts: list[str] = []
    bits: list[NDArray[np.int64]] = []
    for batch in batches:
        if batch.kind is ValueType.STR:
            bits.append(np.arange(len(texts), len(texts) + len(batch)))
            texts += batch.values
        elif batch.kind is ValueType.QUALITY:
            bits.append(np.zeros(len(batch), np.int64))
        else:
            column = np.asarray(batch.values, COLUMN_TYPES[batch.kind])
            bits.append(column.view(np.int64) if batch.kind is ValueType.FLOAT else column.astype(np.int64))
    sizes = [len(batch) for batch in batches]
    kinds = np.repeat(np.array([int(batch.kind) for batch in batches], np.uint8), sizes)
    return _without_nan(
        Arrived(
            np.concatenate([batch.tags for batch in batches]),
            np.concatenate([batch.times for batch in batches]),
            np.concatenate(bits),
            np.concatenate([batch.quality for batch in batches]),
            kinds,
            texts,
        )
    )


def _without_nan(arrived: Arrived) -> Arrived:
    """NaN is no value but a Bad quality."""
    nan = (arrived.kinds == ValueType.FLOAT) & np.isnan(arrived.bits.view(np.float64))
    if not nan.any():
        return arrived
    quality = np.where(nan & (arrived.quality < q.BAD), np.uint32(q.BAD), arrived.quality)
    kinds = np.where(nan, np.uint8(ValueType.QUALITY), arrived.kinds)
    return Arrived(arrived.tags, arrived.times, np.where(nan, 0, arrived.bits), quality, kinds, arrived.texts)


def to_bytes(arrived: Arrived) -> bytes:
    """Samples as one record, for `from_bytes`."""
    columns = (arrived.tags, arrived.times, arrived.bits, arrived.quality, arrived.kinds)
    return pack([VERSION, *(column.tobytes() for column in columns), arrived.texts])


def from_bytes(record: bytes) -> Arrived:
    """A record to samples; the columns are views of it.

    Raises:
        RemoteProtocolError: It is none of this version.
    """
    version, *columns, texts = unpack(record, max_bytes=_MAX_BYTES)
    if version != VERSION or len(columns) != 5:
        msg = f"samples of version {version}, this is version {VERSION}"
        raise RemoteProtocolError(msg)
    types = ("<u4", "<i8", "<i8", "<u4", "u1")
    tags, times, bits, quality, kinds = map(np.frombuffer, columns, types)
    return Arrived(tags, times, bits, quality, kinds, texts)


def by_tag(tags: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The order that sorts handles and keeps equal ones as they are: a radix sort, as far as numpy has one."""
    if not len(tags):
        return np.empty(0, np.int64)
    low = tags.astype(np.uint16)
    order: NDArray[np.int64] = low.argsort(kind="stable")
    if int(tags.max()) >= _MAX_RADIX:
        high = (tags >> np.uint32(16)).astype(np.uint16)
        order = order[high[order].argsort(kind="stable")]
    return order


def tag_starts(tags: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Of sorted handles: the different ones, and where each begins, with the end behind the last."""
    if not len(tags):
        return np.empty(0, np.uint32), np.zeros(1, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(tags[1:] != tags[:-1]) + 1])
    return tags[starts], np.concatenate([starts, [len(tags)]])
