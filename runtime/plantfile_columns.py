"""The tags of a plant file in columns: a million of them take a few dozen bytes each, in buffers that forks share."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from tagwerk.protocols.tag_names import NameColumn, TagNames, sorted_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tagwerk.runtime.plantfile_models import TagConfig

_NOBODY: Final = ""  # the name of a pattern: it is that of many tags


class Texts:
    """A column of texts in one buffer; rows without one cost nothing. It grows at its end."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._rows = array("I")
        self._ends = array("Q")

    def add(self, row: int, text: str) -> None:
        """Put a text into a row past the last that has one."""
        # Half a surrogate pair, which only tables from elsewhere can hold, comes back as it was.
        self._data += text.encode(errors="surrogatepass")
        self._rows.append(row)
        self._ends.append(len(self._data))

    def __getitem__(self, row: int) -> str:
        if not self._rows:
            return ""
        place = bisect_left(self._rows, row)
        if place == len(self._rows) or self._rows[place] != row:
            return ""
        start = self._ends[place - 1] if place else 0
        return self._data[start : self._ends[place]].decode(errors="surrogatepass")

    def filled(self) -> NDArray[np.uint32]:
        """Give the rows that have one, uint32 (m,)."""
        return np.array(self._rows, np.uint32)


class TagColumns(Mapping[str, "TagConfig"]):
    """Tags by their names, in the order of the file. A `TagConfig` is made when somebody asks for it.

    Each tag is a name, a node, a description, and the number of its pattern: a `TagConfig` of all its other fields,
    which many tags have in common.
    """

    def __init__(self) -> None:
        self.patterns: list[TagConfig] = []
        self._numbers = array("I")  # of the patterns
        self._nodes = Texts()
        self._descriptions = Texts()
        self.added: dict[str, int] = {}
        self._pattern_of: dict[tuple[type, TagConfig], int] = {}
        self._names: list[str] | NameColumn = []
        self._order: TagNames | None = None  # once they are sealed, and somebody asked
        self._last = -1  # the row that was asked for: who wants all of them wants them in order

    # --- being read --------------------------------------------------------------------------------------------------

    def add(self, tag: TagConfig) -> int:
        """Add a tag; gives the number of its pattern."""
        pattern = replace(tag, name=_NOBODY, node="", description="")
        # True equals 1: a default has its type beside it.
        key = (type(pattern.default), pattern)
        number = self._pattern_of.setdefault(key, len(self.patterns))
        if number == len(self.patterns):
            self.patterns.append(pattern)
        self.add_like(number, tag.name, tag.node, tag.description)
        return number

    def add_like(self, number: int, name: str, node: str, description: str) -> None:
        """Add a tag of this pattern."""
        assert isinstance(self._names, list)
        row = self.added[name] = len(self._names)
        self._names.append(name)
        self._numbers.append(number)
        if node:
            self._nodes.add(row, node)
        if description:
            self._descriptions.add(row, description)

    def seal(self) -> None:
        """Let go of what is needed only while tags are added. Their names are sound: there is no line break in them."""
        self._names = NameColumn.of(self._names)
        self.added = {}
        self._pattern_of = {}

    # --- columns -----------------------------------------------------------------------------------------------------

    def node(self, row: int) -> str:
        """The NodeId of a tag, or ""."""
        return self._nodes[row]

    def description(self, row: int) -> str:
        """What a tag is, in words."""
        return self._descriptions[row]

    @property
    def numbers(self) -> NDArray[np.uint32]:
        """The number of each tag's pattern, uint32 (n,)."""
        return np.array(self._numbers, np.uint32)

    def with_node(self) -> NDArray[np.bool_]:
        """Tell which tags have a node, bool (n,)."""
        mask = np.zeros(len(self), np.bool_)
        mask[self._nodes.filled()] = True
        return mask

    def which(self, test: Callable[[TagConfig], bool]) -> NDArray[np.bool_]:
        """Tell of which tags the pattern passes a test, bool (n,)."""
        return np.array([test(pattern) for pattern in self.patterns], np.bool_)[self.numbers]

    def at(self, row: int, name: str = "") -> TagConfig:
        """Give the tag of a row; its name, if it is known, need not be looked up."""
        pattern = self.patterns[self._numbers[row]]
        name = name or self.name(row)
        return replace(pattern, name=name, node=self._nodes[row], description=self._descriptions[row])

    def name(self, row: int) -> str:
        """Give the name of a row."""
        return self._names[row]

    def row_of(self, name: str) -> int | None:
        """Give the row of a name, or None."""
        if isinstance(self._names, list):
            return self.added.get(name)
        row = self._last + 1
        if row >= len(self) or self._names[row] != name:
            if self._order is None:
                self._order = TagNames(self._names, sorted_rows(self._names))
            row = self._order.find(name)
        self._last = row
        return None if row < 0 else row

    # --- the mapping -------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> TagConfig:
        row = self.row_of(name)
        if row is None:
            raise KeyError(name)
        return self.at(row, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.row_of(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._numbers)
