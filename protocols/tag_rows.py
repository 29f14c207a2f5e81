"""Tag definitions in columns: what a shard needs of all of them at once, and the whole of each for whoever asks.

A process that comes back maps the file of `plant/0` and looks at columns; nothing is decoded that nobody asks for, and
all processes of a host share the pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

import msgspec
import numpy as np
from msgspec.structs import astuple

from tagwerk.protocols.samples import TYPE_NAMES
from tagwerk.protocols.tag_names import NameColumn, TagNames, sorted_rows
from tagwerk.protocols.tags import TagDef

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Fields: TypeAlias = dict[str, tuple[Any, ...]]
_ROW: Final = msgspec.msgpack.Decoder(TagDef)
_ENCODER: Final = msgspec.msgpack.Encoder()
_CHUNK: Final = 500  # so few that the collector finds none of them alive, and has no reason to look at all there is
_NOTHING: Final = tuple(
    np.empty(0, kind) for kind in ("<u4", "<u2", "u1", "u1", "<f8", "<f8", "<f8", "?", "<u4", "<u8")
)
_MANY: Final = 16  # who asks for one name in so many is given a dict of all of them
_REMEMBERED: Final = 1 << 16
THINNED: Final = 2
"""In the column `logged`: history leaves samples out by a rule."""


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """The columns as they lie in the file. `n` tags in the order of their handles; numbers are little endian.

    Args:
        handles: uint32 (n,), rising.
        shards: uint16 (n,).
        types: `ValueType`, uint8 (n,).
        logged: uint8 (n,): 0 not, 1 all samples, 2 thinned, see `TagDef.log_rule`.
        bands: Deadband in the tag's unit, float64 (n,).
        hold_s: float64 (n,).
        stale_after_s: float64 (n,), NaN: never.
        sources: Place in `source_names`, uint32 (n,).
        source_names: "" is the first.
        defaults: Places of the tags with a default, uint32 (m,).
        names: The names, a line each: UTF-8.
        by_name: Rows in the order of the names, uint32 (n,).
        ends: Where each of `rows` ends, uint64 (n,).
        rows: A `TagDef` each, msgpack.
    """

    handles: memoryview
    shards: memoryview
    types: memoryview
    logged: memoryview
    bands: memoryview
    hold_s: memoryview
    stale_after_s: memoryview
    sources: memoryview
    source_names: tuple[str, ...]
    defaults: memoryview
    names: memoryview
    by_name: memoryview
    ends: memoryview
    rows: memoryview


def pack_tags(tags: Iterable[TagDef]) -> Packed:
    """Put definitions into columns, some at a time: of a million tags, no more are looked at at once.

    Args:
        tags: In the order of their handles.
    """
    chunks: list[tuple[NDArray[Any], ...]] = []
    sources: dict[str, int] = {"": 0}
    names: list[str] = []
    rows = bytearray()
    left = iter(tags)
    while given := tuple(islice(left, _CHUNK)):
        encoded = [_ENCODER.encode(tag) for tag in given]
        rows += b"".join(encoded)
        fields: _Fields = dict(zip(TagDef.__struct_fields__, zip(*map(astuple, given), strict=True), strict=True))
        names += fields["name"]
        chunks.append((*_columns(given, fields, sources), np.fromiter(map(len, encoded), "<u8")))
    whole = [np.concatenate(parts) for parts in zip(_NOTHING, *chunks, strict=True)]
    handles, shards, types, logged, bands, hold_s, stale_after_s, places, defaults, sizes = whole
    return Packed(
        _bytes(handles),
        _bytes(shards),
        _bytes(types),
        _bytes(logged),
        _bytes(bands),
        _bytes(hold_s),
        _bytes(stale_after_s),
        _bytes(places),
        tuple(sources),
        _bytes(np.flatnonzero(defaults).astype("<u4")),
        memoryview("\n".join(names).encode()),
        _bytes(sorted_rows(names)),
        _bytes(np.cumsum(sizes, dtype="<u8")),
        memoryview(rows),
    )


def _columns(tags: Sequence[TagDef], fields: _Fields, sources: dict[str, int]) -> tuple[NDArray[Any], ...]:
    """What of each tag is the same size, as `Packed` has it; the last tells which have a default."""
    for source in dict.fromkeys(fields["source"]):
        sources.setdefault(source, len(sources))
    banded = fields["deadband_pct"].count(None) < len(tags)
    return (
        np.array(fields["handle"], "<u4"),
        np.array(fields["shard"], "<u2"),
        np.fromiter(map(TYPE_NAMES.__getitem__, fields["type"]), "u1"),
        _logged(tags, fields),
        np.array([_band(tag) for tag in tags] if banded else fields["deadband"], "<f8"),
        np.array(fields["hold_s"], "<f8"),
        np.array(fields["stale_after_s"], "<f8"),  # None becomes NaN
        np.fromiter(map(sources.__getitem__, fields["source"]), "<u4"),
        np.array([default is not None for default in fields["default"]], "?"),
    )


def _logged(tags: Sequence[TagDef], fields: _Fields) -> NDArray[np.uint8]:
    logged = np.array(fields["log"], "u1")
    if fields["log_deadband"].count(None) < len(tags) or fields["log_compression_dev"].count(None) < len(tags):
        logged[[tag.is_thinned for tag in tags]] = THINNED
    return logged


def _bytes(column: NDArray[Any]) -> memoryview:
    return memoryview(column.tobytes())


def _band(tag: TagDef) -> float:
    if tag.deadband_pct is not None and tag.low is not None and tag.high is not None:
        return max(tag.deadband, tag.deadband_pct / 100.0 * (tag.high - tag.low))
    return tag.deadband


def _small(column: NDArray[Any]) -> NDArray[Any]:
    """The same column; if all its rows are equal (as those of `hold_s` mostly are), no more than one is kept."""
    same = np.ascontiguousarray(column).view(f"u{column.itemsize}")  # bit by bit: NaN is no number's equal
    return np.broadcast_to(column[0], len(column)) if len(column) and (same == same[0]).all() else column


class TagRows(Sequence[TagDef]):
    """Some tags, in the order of their handles. A row is decoded when somebody looks at it.

    Args:
        packed: Columns of all tags.
        picked: Rows of these, intp (n,); None: all of them.

    Raises:
        ValueError: The columns do not fit each other.
    """

    def __init__(self, packed: Packed, picked: NDArray[np.intp] | None = None) -> None:
        self._packed = packed
        self._picked = picked
        self._made: dict[int, TagDef] = {}
        self._ends = np.frombuffer(packed.ends, "<u8")
        self.handles = self._column(packed.handles, "<u4")
        self.shards = self._column(packed.shards, "<u2")
        self.types = self._column(packed.types, "u1")
        self._logged = self._column(packed.logged, "u1")
        self.bands = self._column(packed.bands, "<f8")
        self.hold_s = self._column(packed.hold_s, "<f8")
        self.stale_after_s = self._column(packed.stale_after_s, "<f8")
        self.sources = self._column(packed.sources, "<u4")
        self.source_names = packed.source_names
        if len(packed.by_name) != 4 * len(self._ends):
            raise ValueError("the order of the names is not that of all of them")
        if len(self._ends) and int(self._ends[-1]) != packed.rows.nbytes:
            raise ValueError(f"{packed.rows.nbytes} bytes of rows, and the last one ends at {self._ends[-1]}")

    @classmethod
    def of(cls, tags: Iterable[TagDef]) -> TagRows:
        """Give definitions, in the order of their handles, as rows."""
        return cls(pack_tags(tags))

    def _column(self, data: memoryview, kind: str) -> NDArray[Any]:
        column = np.frombuffer(data, kind)
        if len(column) != len(self._ends):
            raise ValueError(f"a column of {len(column)} rows beside one of {len(self._ends)}")
        return column if self._picked is None else _small(column[self._picked])

    @property
    def packed(self) -> Packed:
        """The columns of all tags that this is a part of."""
        return self._packed

    @cached_property
    def logged(self) -> NDArray[np.bool_]:
        """Which go to history, bool (n,)."""
        return _small(self._logged != 0)

    @cached_property
    def thinned(self) -> NDArray[np.bool_]:
        """Of which history leaves samples out by a rule, bool (n,)."""
        return _small(self._logged == THINNED)

    @cached_property
    def names(self) -> NameColumn:
        """The names, in order; each is decoded when somebody asks."""
        return NameColumn(self._packed.names, len(self._ends), self._picked)

    @cached_property
    def _index(self) -> TagNames:
        order = np.frombuffer(self._packed.by_name, "<u4")
        if self._picked is not None:
            row_of = np.full(len(order), -1)
            row_of[self._picked] = np.arange(len(self))
            order = row_of[order]
            order = order[order >= 0]
        return TagNames(self.names, order)

    def digest(self) -> str:
        """Give the blake2b of all definitions, in hex: of their array in msgpack, 16 bytes."""
        count = len(self._ends)
        digest = hashlib.blake2b(_ENCODER.encode([None] * count)[: -count or None], digest_size=16)  # the array's head
        digest.update(self._packed.rows)
        return digest.hexdigest()

    def row_of(self, name: str) -> int:
        """Give the row of a name, or -1."""
        return self._index.find(name)

    def mask_of(self, globs: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which rows' names match any of the globs, bool (n,).

        Raises:
            Refused: A glob is malformed.
        """
        return self._index.mask(globs)

    @property
    def defaults(self) -> NDArray[np.intp]:
        """Which rows have a default, intp (m,)."""
        places = np.frombuffer(self._packed.defaults, "<u4").astype(np.intp)
        return places if self._picked is None else np.flatnonzero(np.isin(self._picked, places))

    def where(self, mask: NDArray[np.bool_]) -> TagRows:
        """Give some of all tags.

        Args:
            mask: bool (n,).
        """
        places = np.flatnonzero(mask)
        return TagRows(self._packed, places if self._picked is None else self._picked[places])

    def __len__(self) -> int:
        return len(self.handles)

    @overload
    def __getitem__(self, row: int) -> TagDef: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[TagDef, ...]: ...
    def __getitem__(self, row: int | slice) -> TagDef | tuple[TagDef, ...]:
        if isinstance(row, slice):
            return tuple(self._decoded(range(*row.indices(len(self)))))
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        made = self._made.get(row)
        if made is None:
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            (made,) = self._decoded(range(row, row + 1))
            self._made[row] = made
        return made

    def __iter__(self) -> Iterator[TagDef]:
        return self._decoded(range(len(self)))

    def _decoded(self, rows: range) -> Iterator[TagDef]:
        data = self._packed.rows
        for first in range(0, len(rows), _CHUNK):
            places = np.array(rows[first : first + _CHUNK])
            places = places if self._picked is None else self._picked[places]
            starts = np.where(places > 0, self._ends[places - 1], 0).tolist()
            for start, end in zip(starts, self._ends[places].tolist(), strict=True):
                yield _ROW.decode(data[start:end])


class ByName(Mapping[str, TagDef]):
    """Tags by their names. Found in the sorted names: no object a name, unless somebody asks for many at once.

    Args:
        tags: The rows.
    """

    def __init__(self, tags: TagRows) -> None:
        self._tags = tags
        self._row_of: dict[str, int] = {}  # what was asked for last; all of them from the first `rows_of` of many on

    def rows_of(self, names: Sequence[str]) -> NDArray[np.intp]:
        """Give the rows of many names, intp (n,), -1 where there is no such tag."""
        if len(names) * _MANY > len(self._tags) > len(self._row_of):
            self._row_of = {name: row for row, name in enumerate(self._tags.names)}
        return np.fromiter(map(self._row, names), np.intp, len(names))

    def _row(self, name: str) -> int:
        row = self._row_of.get(name, -1)
        if row < 0 and len(self._row_of) < len(self._tags):
            row = self._tags.row_of(name)
            if row >= 0:
                if len(self._row_of) >= _REMEMBERED:
                    self._row_of.clear()
                self._row_of[name] = row
        return row

    def __getitem__(self, name: str) -> TagDef:
        row = self._row(name)
        if row < 0:
            raise KeyError(name)
        return self._tags[row]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tags.names)

    def __len__(self) -> int:
        return len(self._tags)
