"""Who looks at which rows: what a change costs grows with those who get it, not with all the views there are.

Rows that the same views look at are of one class. A batch touches few classes, or has as many receivers as it touches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    from tagwerk.actors.cvt.logic.views import View

LOOSE: Final = 1_000
"""Classes that may be left over from views that ended, before they are made anew."""


class Audience:
    """The views of a table.

    Args:
        rows: How many rows the table has.
        loose: See `LOOSE`.
    """

    def __init__(self, rows: int, loose: int = LOOSE) -> None:
        self._loose = loose
        self._class_of = np.zeros(rows, np.int32)
        self._begin()

    def _begin(self) -> None:
        self._class_of[:] = 0
        self._sizes = [len(self._class_of)]
        self._members: list[list[View]] = [[]]

    def add(self, view: View) -> None:
        """This view begins. A class of which it has only some rows is split."""
        if not len(view.rows):
            return
        classes, place, counts = np.unique(self._class_of[view.rows], return_inverse=True, return_counts=True)
        after = classes.astype(np.int32)
        for at, (number, count) in enumerate(zip(classes.tolist(), counts.tolist(), strict=True)):
            if count == self._sizes[number]:
                self._members[number].append(view)
                continue
            after[at] = len(self._members)
            self._sizes[number] -= count
            self._sizes.append(count)
            self._members.append([*self._members[number], view])
        self._class_of[view.rows] = after[place]

    def drop(self, gone: Collection[View], rest: Iterable[View]) -> None:
        """These views ended; the others are still there."""
        left = list(rest)
        if len(self._members) > self._loose + 4 * len(left):
            self._begin()
            for view in left:
                self.add(view)
            return
        ended = {id(view) for view in gone}
        for number, members in enumerate(self._members):
            self._members[number] = [view for view in members if id(view) not in ended]

    def of(self, rows: NDArray[np.intp]) -> Iterable[View]:
        """The views that look at any of these rows, each once."""
        if len(self._members) == 1:
            return self._members[0]
        if len(rows) == 1:
            return self._members[self._class_of[rows[0]]]
        touched = np.flatnonzero(np.bincount(self._class_of[rows])).tolist()
        if len(touched) == 1:
            return self._members[touched[0]]
        return {id(view): view for number in touched for view in self._members[number]}.values()
