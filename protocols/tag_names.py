"""Many names in one buffer, found by globs: what that costs grows with what is found, not with all there are."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, overload

import numpy as np

from tagwerk.protocols.names import compile_globs

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVERYTHING: Final = "*"
_MARK: Final = re.compile(r"[*?]")
_AFTER_ALL: Final = "\U0010ffff"
_LINE_BREAK: Final = ord("\n")
_UINT32_BYTES: Final = 4
_MANY: Final = 8  # of so many names who looks at more than one decodes all of them in one go


class NameColumn(Sequence[str]):
    """Names as they lie in a file: no object a name. Where each begins is looked up when the first is asked for.

    Args:
        data: A line each, UTF-8.
        count: How many there are.
        picked: Which of them, in which order, intp (m,); None: all.
    """

    def __init__(self, data: memoryview, count: int, picked: NDArray[np.intp] | None = None) -> None:
        self._data = data
        self._count = count
        self._picked = picked

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Give names, none of which holds a line break, as a column."""
        return cls(memoryview("\n".join(names).encode()), len(names))

    @cached_property
    def _places(self) -> tuple[memoryview, memoryview]:
        """Where each begins (uint32, or uint64 where that is too small) and its bytes (uint16)."""
        breaks = np.flatnonzero(np.frombuffer(self._data, np.uint8) == _LINE_BREAK)
        ends = np.append(breaks, self._data.nbytes)
        starts = np.concatenate(([0], breaks + 1))
        if len(ends) != max(1, self._count):
            raise ValueError(f"{len(ends)} names beside columns of {self._count} rows")
        if self._picked is not None:
            starts, ends = starts[self._picked], ends[self._picked]
        kind = np.uint32 if self._data.nbytes <= np.iinfo(np.uint32).max else np.uint64
        return starts.astype(kind).data, (ends - starts).astype(np.uint16).data

    @property
    def data(self) -> memoryview:
        """All names of which these are a part, as they lie in the file."""
        return self._data

    def __len__(self) -> int:
        return self._count if self._picked is None else len(self._picked)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        starts, sizes = self._places
        start = starts[row]  # which refuses a row that there is not
        return str(self._data[start : start + sizes[row]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        """All of them, decoded in one go."""
        if not self._count:
            return iter(())
        names = str(self._data, "utf-8").split("\n")
        return iter(names) if self._picked is None else map(names.__getitem__, self._picked.tolist())


def sorted_rows(names: Iterable[str]) -> NDArray[np.uint32]:
    """Give the rows in the order of their names, uint32 (n,)."""
    given = list(names)
    return np.array(sorted(range(len(given)), key=given.__getitem__), np.uint32)


class TagNames:
    """Names that are sorted.

    Args:
        names: In the order of their rows.
        order: Their rows in the order of the names, uint32 (n,).
    """

    def __init__(self, names: Sequence[str], order: NDArray[np.integer[Any]]) -> None:
        self._names = names
        self._order = order
        # A view gives plain ints, several times faster than numpy. Of bytes, because columns of a file are not aligned.
        octets = np.ascontiguousarray(order).view(np.uint8).data
        self._sorted = octets.cast("I") if order.itemsize == _UINT32_BYTES else octets.cast("q")

    def find(self, name: str) -> int:
        """Give the row of a name, or -1."""
        place = bisect_left(self._sorted, name, key=self._names.__getitem__)
        if place == len(self._sorted) or self._names[row := self._sorted[place]] != name:
            return -1
        return row

    def mask(self, globs: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which names match any of the globs, bool (n,).

        Raises:
            Refused: A glob is malformed.
        """
        compile_globs(globs)  # all of them are looked at before one is used
        if EVERYTHING in globs:
            return np.full(len(self._order), True)
        found = np.zeros(len(self._order), np.bool_)
        for glob in dict.fromkeys(globs):
            found[self._rows(glob)] = True
        return found

    def _rows(self, glob: str) -> NDArray[np.integer[Any]]:
        names, order = self._names, self._order
        prefix = _MARK.split(glob, maxsplit=1)[0]
        start = bisect_left(self._sorted, prefix, key=names.__getitem__)
        end = bisect_left(self._sorted, prefix + _AFTER_ALL, start, key=names.__getitem__)
        begin_so = order[start:end]
        if glob == prefix + EVERYTHING:
            return begin_so
        matches = compile_globs([glob])
        if len(begin_so) * _MANY > len(names):
            names = list(names)
        return np.array([row for row in begin_so.tolist() if matches(names[row])], np.intp)
