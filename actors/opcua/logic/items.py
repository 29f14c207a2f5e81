"""Which nodes a link wants, and which of them the server does not give (yet)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tagwerk.actors.opcua.logic.columns import ItemColumns
from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import TYPE_NAMES, Samples, ValueType, make
from tagwerk.protocols.tags import TagDef

CHUNK_ITEMS: Final = 500
"""Items in one call: many servers take no more (OperationLimits)."""


@final
class ItemTable:
    """The link's own list of what it wants, by item number. A server's answer never takes anything off it.

    Args:
        tags: The tags that this link feeds.
    """

    def __init__(self, tags: Iterable[TagDef]) -> None:
        # By type: then a notification holds long runs of one type, and a run is read without a loop.
        self.tags = tuple(sorted(tags, key=lambda tag: (tag.type, tag.handle)))
        self.columns = ItemColumns(
            np.array([tag.handle for tag in self.tags], np.uint32),
            np.array([TYPE_NAMES[tag.type] for tag in self.tags], np.uint8),
        )
        self.by_handle = {tag.handle: tag for tag in self.tags}
        self.number_of = {tag.handle: number for number, tag in enumerate(self.tags)}
        self._hold_s = np.array([tag.hold_s for tag in self.tags], float)
        self._rank = np.argsort(self.columns.handles)
        self._newest_ns = np.zeros(len(self.tags), np.int64)
        self._missing: set[int] = {number for number, tag in enumerate(self.tags) if tag.node}
        self._told: dict[int, int] = {}

    @property
    def missing(self) -> list[tuple[int, str]]:
        """Wanted and not watched: (item number, NodeId), in order."""
        return [(number, self.tags[number].node) for number in sorted(self._missing)]

    @property
    def watched(self) -> list[tuple[int, str]]:
        """Wanted and watched: (item number, NodeId), in order."""
        return [(n, tag.node) for n, tag in enumerate(self.tags) if tag.node and n not in self._missing]

    def forget_session(self) -> None:
        """The session is over: nothing is watched."""
        self._told.clear()
        self._missing = {number for number, tag in enumerate(self.tags) if tag.node}

    def answered(self, items: Sequence[tuple[int, str]], status: Sequence[int], now_ns: int) -> Samples | None:
        """The server's answer to `subscribe`.

        Returns:
            A quality-only batch for those that it refuses, and did not for the same reason before; or None.
        """
        refused: list[tuple[int, int]] = []
        for (number, _), code in zip(items, status, strict=True):
            if not q.is_bad(code):
                self._missing.discard(number)
                self._told.pop(number, None)
                continue
            self._missing.add(number)
            reason = code & q.CODE_MASK
            if self._told.get(number) != reason:
                self._told[number] = reason
                refused.append((number, reason))
        if not refused:
            return None
        numbers, codes = np.array(refused, np.int64).T
        return make(ValueType.QUALITY, self.columns.handles[numbers], None, now_ns, codes.astype(np.uint32))

    def seen(self, batch: Samples) -> None:
        """Keep the newest time of each tag: a loss must not look older than the last sample."""
        numbers = self._rank[np.searchsorted(self.columns.handles, batch.tags, sorter=self._rank)]
        np.maximum.at(self._newest_ns, numbers, batch.times)

    def holds_s(self) -> list[float]:
        """The different `hold_s` of the tags, ascending."""
        return sorted({float(hold_s) for hold_s in self._hold_s})

    def loss(self, hold_s: float, lost_ns: int) -> Samples:
        """The tags with this `hold_s` turn to BadNoCommunication, at the time of the loss.

        A time before the tag's own last sample would count as late and be history only, so it is never that.
        """
        numbers: NDArray[np.intp] = np.flatnonzero(self._hold_s == hold_s)
        times = np.maximum(self._newest_ns[numbers], lost_ns)
        return make(ValueType.QUALITY, self.columns.handles[numbers], None, times, q.BAD_NO_COMMUNICATION)
