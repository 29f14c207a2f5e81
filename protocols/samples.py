"""Samples: everything that is measured, as columns. A frame is a list of batches, one type each.

On the wire (`docs/wire.md`): `[1, [[kind, tags, values, times, quality], ...]]` in msgpack. Columns are little-endian
bins, read without a loop; `quality` nil means that all are Good; `values` is nil in a quality-only batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import numpy as np

from tagwerk.protocols import quality as q
from tagwerk.protocols.codec import MAX_FRAME_BYTES, VERSION, pack, unpack
from tagwerk.protocols.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

Value = float | int | bool | str | None

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ValueType(IntEnum):
    """The type of a batch's values, as on the wire."""

    QUALITY = 0
    """No values: the last ones stay, their time and quality change."""
    FLOAT = 1
    INT = 2
    BOOL = 3
    STR = 4


TYPE_NAMES: Final = {"float": ValueType.FLOAT, "int": ValueType.INT, "bool": ValueType.BOOL, "str": ValueType.STR}
DTYPES: Final[dict[ValueType, np.dtype[Any]]] = {
    ValueType.FLOAT: np.dtype("<f8"),
    ValueType.INT: np.dtype("<i8"),
    ValueType.BOOL: np.dtype("?"),
}
MAX_TEXT_BYTES: Final = 64_000
"""Longest text of one sample, in UTF-8: with its other columns it still fits into a frame."""

BUDGET_BYTES: Final = MAX_FRAME_BYTES - 1_024
"""What the batches of one frame may take together, `Samples.size` each."""
ROW_BYTES: Final = 24
"""A numeric sample on the wire: 4 handle, 8 value, 8 time, 4 quality."""


class Catalog(Protocol):
    """Gives names and units to handles."""

    def name_of(self, handle: int) -> str:
        """The tag's name."""
        ...

    def unit_of(self, handle: int) -> str:
        """The tag's engineering unit, or ""."""
        ...


@dataclass(frozen=True, slots=True)
class TagValue:
    """One value of one tag.

    Args:
        tag: Its name.
        value: In `unit`; None while there is none.
        unit: The engineering unit, or "".
        quality: OPC UA StatusCode.
        time_ns: Source time, UTC, ns since 1970.
        received_ns: When the shard took it, UTC, ns since 1970; 0 if not told.
    """

    tag: str
    value: Value
    unit: str
    quality: int
    time_ns: int
    received_ns: int = 0

    @property
    def good(self) -> bool:
        """True if the quality is Good."""
        return q.is_good(self.quality)

    @property
    def time(self) -> datetime:
        """The source time, UTC, cut to microseconds."""
        return _EPOCH + timedelta(microseconds=self.time_ns // 1_000)


class Samples(msgspec.Struct, frozen=True, eq=False):
    """A batch of samples in columns, one type a batch.

    Args:
        kind: The type of the values.
        tags: Handles, uint32 (n,).
        values: float64, int64 or bool (n,), a list of n str, or None in a quality-only batch.
        times: Source times, int64 (n,), UTC, ns since 1970.
        quality: StatusCodes, uint32 (n,).
        catalog: Gives names and units, where the batch came through a client.
        snapshot: True if this is the state at the start of a watch or after a resynchronisation.
        complete: False if changes were skipped before this batch (the watch resynchronised).
        received_ns: When the shard took the batch, UTC, ns; 0 if not told.
    """

    kind: ValueType
    tags: NDArray[np.uint32]
    values: Any
    times: NDArray[np.int64]
    quality: NDArray[np.uint32]
    catalog: Catalog | None = None
    snapshot: bool = False
    complete: bool = True
    received_ns: int = 0

    def __len__(self) -> int:
        return len(self.tags)

    def __repr__(self) -> str:
        columns = f"tags={self.tags!r}, values={self.values!r}, times={self.times!r}, quality={self.quality!r}"
        return f"Samples({self.kind!r}, {columns}, snapshot={self.snapshot}, complete={self.complete})"

    @property
    def size(self) -> int:
        """Bytes that it takes in a frame, at most."""
        if self.kind is ValueType.STR:
            texts: list[str] = self.values
            return 64 + 16 * len(self) + sum(len(text.encode()) + 5 for text in texts)
        return 64 + ROW_BYTES * len(self)

    @property
    def names(self) -> list[str]:
        """The tags' names, one a sample.

        Raises:
            LookupError: The batch carries no catalog.
        """
        catalog = self._catalog()
        return [catalog.name_of(int(handle)) for handle in self.tags]

    def rows(self) -> Iterator[TagValue]:
        """One `TagValue` a sample, in order. For people and scripts; the data path uses the columns."""
        catalog = self._catalog()
        values: Iterable[Value] = [None] * len(self) if self.values is None else _plain(self.values)
        columns = zip(self.tags.tolist(), values, self.times.tolist(), self.quality.tolist(), strict=True)
        for handle, value, time_ns, quality in columns:
            yield TagValue(catalog.name_of(handle), value, catalog.unit_of(handle), quality, time_ns, self.received_ns)

    def select(self, rows: NDArray[Any]) -> Samples:
        """The rows that a boolean mask or an index array picks, as a batch of its own."""
        values: Any
        if isinstance(self.values, list):
            picked = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
            strings: list[str] = self.values
            values = [strings[i] for i in picked.tolist()]
        else:
            values = None if self.values is None else self.values[rows]
        return Samples(
            self.kind, self.tags[rows], values, self.times[rows], self.quality[rows],
            self.catalog, self.snapshot, self.complete, self.received_ns,
        )  # fmt: skip

    def at(self, time_ns: int) -> Samples:
        """The same batch, measured at another time (UTC, ns since 1970)."""
        return Samples(
            self.kind, self.tags, self.values, _stamps(time_ns, len(self.tags)), self.quality,
            self.catalog, self.snapshot, self.complete, self.received_ns,
        )  # fmt: skip

    def _catalog(self) -> Catalog:
        if self.catalog is None:
            msg = "this batch carries handles only: names come with batches from attach()"
            raise LookupError(msg)
        return self.catalog


def _stamps(time_ns: int, count: int) -> NDArray[np.int64]:
    return np.array((time_ns,), "<i8") if count == 1 else np.full(count, time_ns, "<i8")


def _plain(values: Any) -> Sequence[Value]:
    return values if isinstance(values, list) else values.tolist()


def make(
    kind: ValueType,
    tags: Any,
    values: Any,
    times: Any,
    quality: Any = None,
) -> Samples:
    """A batch from anything numpy takes.

    Args:
        kind: The type of the values.
        tags: Handles, (n,).
        values: (n,) of the type; None in a quality-only batch.
        times: ns since 1970, (n,) or one for all.
        quality: StatusCodes, (n,), one for all, or None for Good.

    Raises:
        ValueError: Columns of different lengths, or values that are not of the type.
    """
    handles = np.asarray(tags, "<u4").reshape(-1)
    count = len(handles)
    column: Any
    if kind is ValueType.QUALITY:
        column = None
    elif kind is ValueType.STR:
        column = list(values)
        if not all(type(text) is str for text in column):
            msg = "values of a str batch must be str"
            raise ValueError(msg)
        if not all(map(text_fits, column)):
            msg = f"a text is longer than {MAX_TEXT_BYTES} bytes"
            raise ValueError(msg)
    else:
        column = _numeric(kind, values)
    stamps = _filled(times, count, "<i8")
    codes = q.all_good(count) if quality is None else _filled(quality, count, "<u4")
    if column is not None and len(column) != count:
        msg = f"{count} tags but {len(column)} values"
        raise ValueError(msg)
    return Samples(kind, handles, column, stamps, codes)


def _filled(given: Any, count: int, dtype: str) -> NDArray[Any]:
    """One for all, or one each."""
    if isinstance(given, int):
        return np.full(count, given, dtype)
    column = np.asarray(given, dtype)
    return column if column.shape == (count,) else np.broadcast_to(column, (count,))


def text_fits(text: str) -> bool:
    """True if this text fits into one sample."""
    return len(text) * 4 <= MAX_TEXT_BYTES or len(text.encode()) <= MAX_TEXT_BYTES


def _numeric(kind: ValueType, values: Any) -> NDArray[Any]:
    given = np.asarray(values).reshape(-1)
    accepted = {ValueType.FLOAT: "fiu", ValueType.INT: "iu", ValueType.BOOL: "b"}[kind]
    if len(given) and given.dtype.kind not in accepted:
        msg = f"values of a {kind.name.lower()} batch are {given.dtype}"
        raise ValueError(msg)
    if given.dtype.kind == "u" and given.dtype.itemsize == 8 and (given > np.iinfo(np.int64).max).any():
        msg = "an int value is above 2^63 - 1"
        raise ValueError(msg)
    return given.astype(DTYPES[kind], copy=False)


def concatenate(batches: Sequence[Samples]) -> Samples:
    """Batches of one type as one, in order; the rest is the first one's.

    Args:
        batches: At least one, all of the same `kind`.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    values: Any = None
    if first.kind is ValueType.STR:
        values = [text for batch in batches for text in batch.values]
    elif first.kind is not ValueType.QUALITY:
        values = np.concatenate([batch.values for batch in batches])
    return msgspec.structs.replace(
        first,
        tags=np.concatenate([batch.tags for batch in batches]),
        values=values,
        times=np.concatenate([batch.times for batch in batches]),
        quality=np.concatenate([batch.quality for batch in batches]),
    )


def join(batches: list[Samples]) -> list[Samples]:
    """The same samples in the same order; neighbours of one type become one batch."""
    if len(batches) == 1:
        return batches
    joined: list[Samples] = []
    start = 0
    for end in range(1, len(batches) + 1):
        if end == len(batches) or batches[end].kind is not batches[start].kind:
            joined.append(concatenate(batches[start:end]))
            start = end
    return joined


def encode(batches: Sequence[Samples]) -> bytes:
    """Batches to one frame. No loop over samples.

    Raises:
        ValueError: The frame would be larger than `MAX_FRAME_BYTES`: use `split` first.
    """
    rows = [
        [
            int(batch.kind),
            batch.tags.tobytes(),
            batch.values if batch.values is None or isinstance(batch.values, list) else batch.values.tobytes(),
            batch.times.tobytes(),
            None if q.is_all_good(batch.quality) else batch.quality.tobytes(),
        ]
        for batch in batches
    ]
    frame = pack([VERSION, rows])
    if len(frame) > MAX_FRAME_BYTES:
        msg = f"frame of {len(frame)} bytes, at most {MAX_FRAME_BYTES} go on the wire"
        raise ValueError(msg)
    return frame


def decode(frame: bytes | memoryview, received_ns: int = 0, catalog: Catalog | None = None) -> list[Samples]:
    """A frame to batches; the numeric columns are views of `frame`. No loop over samples.

    Args:
        frame: As it came.
        received_ns: See `Samples`.
        catalog: See `Samples`.

    Raises:
        RemoteProtocolError: Anything but a correct frame.
    """
    if len(frame) <= MAX_FRAME_BYTES:
        try:
            whole = _FRAME.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            whole = _NO_FRAME  # what is wrong is told below
        if whole.version == VERSION:
            return [
                _batch(row.kind, row.tags, row.values, row.times, row.quality, received_ns, catalog)
                for row in whole.rows
            ]
    value = unpack(frame, max_bytes=MAX_FRAME_BYTES, max_depth=None)
    if (
        type(value) is not list
        or len(value) < 2
        or type(value[0]) is not int
        or value[0] != VERSION
        or type(value[1]) is not list
    ):
        msg = "samples frame is not [1, [batch, ...]]"
        raise RemoteProtocolError(msg)
    return [_batch(*_five(row), received_ns, catalog) for row in value[1]]


def _five(row: Any) -> tuple[Any, Any, Any, Any, Any]:
    if type(row) is not list or len(row) != 5:
        msg = "a batch is [kind, tags, values, times, quality]"
        raise RemoteProtocolError(msg)
    code, tags, values, times, quality = row
    return code, tags, values, times, quality


class FrameRow(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A batch as it stands in a frame; the columns are parts of it."""

    kind: int
    tags: memoryview
    values: list[str] | memoryview | None
    times: memoryview
    quality: memoryview | None


class _Frame(msgspec.Struct, array_like=True, gc=False):
    """A frame; what a newer peer adds behind is left alone, as by `decode`."""

    version: int
    rows: list[FrameRow]


_FRAME: Final = msgspec.msgpack.Decoder(_Frame)
_NO_FRAME: Final = _Frame(0, [])


def frame_rows(frame: bytes | memoryview) -> list[FrameRow]:
    """The batches of a frame that was checked before, undecoded.

    Raises:
        RemoteProtocolError: It is none.
    """
    try:
        return _FRAME.decode(frame).rows
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"malformed frame: {error}"
        raise RemoteProtocolError(msg) from error


_KINDS: Final = {int(kind): kind for kind in ValueType}
_BOOL, _STR, _QUALITY = ValueType.BOOL, ValueType.STR, ValueType.QUALITY  # a look into an enum takes its time


def _batch(
    code: Any, tags: Any, values: Any, times: Any, quality: Any, received_ns: int, catalog: Catalog | None
) -> Samples:
    try:
        if type(code) is not int:  # True and 1.0 would find the key 1, and not be read again from a journal
            raise TypeError(f"kind {code!r:.40}")
        kind = _KINDS[code]
        handles = np.frombuffer(tags, "<u4")
        stamps = np.frombuffer(times, "<i8")
        codes = q.all_good(len(handles)) if quality is None else np.frombuffer(quality, "<u4")
        column: Any = values
        if kind in DTYPES:
            column = _bools(values) if kind is _BOOL else np.frombuffer(values, DTYPES[kind])
        elif kind is _STR and not _texts(values):
            msg = f"values of a str batch are not texts of at most {MAX_TEXT_BYTES} bytes"
            raise RemoteProtocolError(msg)
        elif kind is _QUALITY and values is not None:
            msg = "a quality-only batch has values"
            raise RemoteProtocolError(msg)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        msg = f"malformed batch: {error}"
        raise RemoteProtocolError(msg) from error
    count = len(handles)
    if len(stamps) != count or len(codes) != count or (column is not None and len(column) != count):
        msg = "columns of a batch differ in length"
        raise RemoteProtocolError(msg)
    return Samples(kind, handles, column, stamps, codes, catalog, received_ns=received_ns)


def _texts(values: Any) -> bool:
    return type(values) is list and all(type(text) is str and text_fits(text) for text in values)


def _bools(values: Any) -> NDArray[np.bool_]:
    raw = np.frombuffer(values, "<u1")
    if len(raw) and int(raw.max()) > 1:
        msg = "a bool is neither 0 nor 1"
        raise RemoteProtocolError(msg)
    return raw.view(np.bool_)


def split(batches: Iterable[Samples]) -> Iterator[list[Samples]]:
    """Batches grouped so that each group encodes into one frame.

    Raises:
        ValueError: One string alone is larger than a frame.
    """
    budget = BUDGET_BYTES
    group: list[Samples] = []
    used = 0
    for batch in batches:
        for piece in _pieces(batch, budget):
            size = piece.size
            if group and used + size > budget:
                yield group
                group, used = [], 0
            group.append(piece)
            used += size
    if group:
        yield group


def _pieces(batch: Samples, budget: int) -> Iterator[Samples]:
    if batch.size <= budget:
        yield batch
        return
    if batch.kind is not ValueType.STR:  # rows of one size: cut into views, without a copy
        most = (budget - 64) // ROW_BYTES
        for start in range(0, len(batch), most):
            part = slice(start, start + most)
            values = None if batch.values is None else batch.values[part]
            yield msgspec.structs.replace(
                batch, tags=batch.tags[part], values=values, times=batch.times[part], quality=batch.quality[part]
            )
        return
    if len(batch) == 1:
        msg = f"one string of {batch.size} bytes does not fit into a frame of {budget}"
        raise ValueError(msg)
    middle = len(batch) // 2
    rows = np.arange(len(batch))
    yield from _pieces(batch.select(rows[:middle]), budget)
    yield from _pieces(batch.select(rows[middle:]), budget)
