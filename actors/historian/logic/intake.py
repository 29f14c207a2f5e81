"""What of a journal goes to history, and when a disk is too full. No I/O."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tagwerk.protocols.tag_rows import TagRows
    from tagwerk.protocols.tags import PositionMark

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
        """What it is, see `HOLDS_SAMPLES` of `arrived`."""
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

    def __init__(self, tags: TagRows) -> None:
        # The last place stands for all handles that are not known.
        self._kinds: NDArray[np.uint8] = np.full(int(tags.handles.max(initial=0)) + 2, _UNKNOWN, np.uint8)
        self._kinds[tags.handles] = np.where(tags.logged, tags.types, _UNLOGGED)

    def logged(self, tags: NDArray[np.uint32], types: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which samples go to history.

        Not those of tags with `log = false`, and not those of a wrong type, which the shard has refused. A handle
        without a definition is kept: it is of a tag newer than this table, and it was acknowledged.

        Args:
            tags: Handles, uint32 (n,).
            types: `ValueType` of each, uint8 (n,).

        Returns:
            bool (n,).
        """
        kinds = self._kinds[np.minimum(tags, len(self._kinds) - 1)]
        fits = (kinds == types) | (kinds == _UNKNOWN)
        fits |= (types == ValueType.INT) & (kinds == ValueType.FLOAT)
        fits |= (types == ValueType.QUALITY) & (kinds != _UNLOGGED)
        found: NDArray[np.bool_] = fits
        return found


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
