"""Rows of a tag file that say what a sound row before them said: of a long list most do, and are read at once."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from tagwerk.protocols.names import name_problem
from tagwerk.runtime.plantfile_syntax import node_id_problem

if TYPE_CHECKING:
    from tagwerk.runtime.plantfile_columns import TagColumns

_OF_ONE: Final = ("name", "node", "description")  # what tells tags apart; all other cells they have in common


class KnownRows:
    """Takes rows whose cells, but for name, node and description, were all found sound in a row before.

    Args:
        header: The columns of the file.
        tags: Where they are added.
    """

    def __init__(self, header: list[str], tags: TagColumns) -> None:
        self.header = header
        self._tags = tags
        self._numbers: dict[object, int] = {}  # of their patterns, by the cells
        self._width = len(header)
        self._name, self._node, self._description = (
            header.index(column) if column in header else None for column in _OF_ONE
        )
        own = {self._name, self._node, self._description}
        rest = [place for place in range(len(header)) if place not in own]
        # Much faster than a comprehension; of one column it gives the cell itself, of none it cannot be made.
        self._key = itemgetter(*rest) if rest else lambda _: ""

    def learn(self, cells: list[str], number: int) -> None:
        """Know rows with these cells from now on; they are of this pattern."""
        self._numbers[self._key(cells)] = number

    def take(self, cells: list[str]) -> bool:
        """Add the tag of a row. False if it has to be looked at closely: it is new, or wrong."""
        if len(cells) != self._width or self._name is None:
            return False
        number = self._numbers.get(self._key(cells))
        name = cells[self._name].strip()
        if number is None or name in self._tags.added or name_problem(name):
            return False
        node = "" if self._node is None else cells[self._node].strip()
        if node and node_id_problem(node):
            return False
        self._tags.add_like(number, name, node, "" if self._description is None else cells[self._description].strip())
        return True
