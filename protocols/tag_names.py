"""Many names, found by globs: what a glob costs grows with what it finds, not with all the names there are."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols.names import compile_globs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

EVERYTHING: Final = "*"
_MARK: Final = re.compile(r"[*?]")
_AFTER_ALL: Final = "\U0010ffff"


def sorted_rows(names: Sequence[str]) -> NDArray[np.uint32]:
    """Give the rows in the order of their names, uint32 (n,)."""
    return np.array(sorted(range(len(names)), key=names.__getitem__), np.uint32)


class TagNames:
    """Names that are sorted.

    Args:
        names: Gives them, in the order of their rows; called when they are needed.
        order: Their rows in the order of the names, uint32 (n,).
    """

    def __init__(self, names: Callable[[], Sequence[str]], order: NDArray[np.uint32]) -> None:
        self._names = names
        self._order = order

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
        names, order = self._names(), self._order
        prefix = _MARK.split(glob, maxsplit=1)[0]
        start = bisect_left(order, prefix, key=names.__getitem__)
        end = bisect_left(order, prefix + _AFTER_ALL, start, key=names.__getitem__)
        begin_so = order[start:end]
        if glob == prefix + EVERYTHING:
            return begin_so
        matches = compile_globs([glob])
        return np.array([row for row in begin_so.tolist() if matches(names[row])], np.intp)
