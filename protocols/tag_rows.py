"""Tag definitions in columns: what a shard needs of all of them at once, and the whole of each for whoever asks.

A process that comes back maps the file of `plant/0` and looks at columns; nothing is decoded that nobody asks for, and
all processes of a host share the pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, overload

import msgspec
import numpy as np

from tagwerk.protocols.samples import TYPE_NAMES
from tagwerk.protocols.tag_names import TagNames, sorted_rows
from tagwerk.protocols.tags import TagDef

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROW: Final = msgspec.msgpack.Decoder(TagDef)
_ENCODER: Final = msgspec.msgpack.Encoder()


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """The columns as they lie in the file. `n` tags in the order of their handles; numbers are little endian.

    Args:
        handles: uint32 (n,), rising.
        shards: uint16 (n,).
        types: `ValueType`, uint8 (n,).
        logged: uint8 (n,), 0 or 1.
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
    """Put definitions into columns.

    Args:
        tags: In the order of their handles.
    """
    given = list(tags)
    source_of = {name: place for place, name in enumerate(dict.fromkeys(["", *(tag.source for tag in given)]))}
    rows = [_ENCODER.encode(tag) for tag in given]
    names = [tag.name for tag in given]

    def column(values: Iterable[Any], kind: str) -> memoryview:
        return memoryview(np.array(list(values), kind).tobytes())

    return Packed(
        column((tag.handle for tag in given), "<u4"),
        column((tag.shard for tag in given), "<u2"),
        column((TYPE_NAMES[tag.type] for tag in given), "u1"),
        column((tag.log for tag in given), "u1"),
        column((_band(tag) for tag in given), "<f8"),
        column((tag.hold_s for tag in given), "<f8"),
        column((np.nan if tag.stale_after_s is None else tag.stale_after_s for tag in given), "<f8"),
        column((source_of[tag.source] for tag in given), "<u4"),
        tuple(source_of),
        column((place for place, tag in enumerate(given) if tag.default is not None), "<u4"),
        memoryview("\n".join(names).encode()),
        column(sorted_rows(names), "<u4"),
        column(accumulate(len(row) for row in rows), "<u8"),
        memoryview(b"".join(rows)),
    )


def _band(tag: TagDef) -> float:
    if tag.deadband_pct is not None and tag.low is not None and tag.high is not None:
        return max(tag.deadband, tag.deadband_pct / 100.0 * (tag.high - tag.low))
    return tag.deadband


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
        self.logged = self._column(packed.logged, "u1").astype(np.bool_)
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
        return column if self._picked is None else column[self._picked]

    @property
    def packed(self) -> Packed:
        """The columns of all tags that this is a part of."""
        return self._packed

    @cached_property
    def names(self) -> list[str]:
        """The names, in order; decoded when somebody asks."""
        names = bytes(self._packed.names).decode().split("\n") if len(self._ends) else []
        return names if self._picked is None else [names[place] for place in self._picked.tolist()]

    @cached_property
    def _index(self) -> TagNames:
        order = np.frombuffer(self._packed.by_name, "<u4")
        if self._picked is not None:
            row_of = np.full(len(order), -1)
            row_of[self._picked] = np.arange(len(self))
            order = row_of[order]
            order = order[order >= 0]
        return TagNames(lambda: self.names, order)

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
            return tuple(self._decode(place) for place in range(*row.indices(len(self))))
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        made = self._made.get(row)
        if made is None:
            made = self._made[row] = self._decode(row)
        return made

    def __iter__(self) -> Iterator[TagDef]:
        return (self._decode(row) for row in range(len(self)))

    def _decode(self, row: int) -> TagDef:
        place = row if self._picked is None else int(self._picked[row])
        start = int(self._ends[place - 1]) if place else 0
        return _ROW.decode(self._packed.rows[start : int(self._ends[place])])


class ByName(Mapping[str, TagDef]):
    """Tags by their names.

    Args:
        tags: The rows.
    """

    def __init__(self, tags: TagRows) -> None:
        self._tags = tags
        self._row_of = {name: row for row, name in enumerate(tags.names)}

    def __getitem__(self, name: str) -> TagDef:
        return self._tags[self._row_of[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row_of)

    def __len__(self) -> int:
        return len(self._row_of)
