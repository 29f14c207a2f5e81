"""Which nodes a link wants, and which of them the server does not give (yet)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tagwerk.actors.opcua.logic.columns import ItemColumns
from tagwerk.actors.opcua.logic.shown import Shown
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
        self._shown = Shown(len(self.tags))
        self._alive = np.zeros(len(self.tags), np.bool_)  # heard in this session
        self._lost = np.zeros(len(self.tags), np.bool_)  # marked so, and nothing came since
        self._dated = np.zeros(len(self.tags), np.bool_)  # since the birth a mark has the time of our own clock
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
        self._alive[:] = False
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
        self._dated[numbers] = True
        self._lost[numbers] = False
        handles = self.columns.handles[numbers]
        return self._marked(make(ValueType.QUALITY, handles, None, now_ns, codes.astype(np.uint32)))

    def born(self) -> None:
        """A birth was told: the next sample of each tag is current, whatever its time."""
        self._dated[:] = False

    def needs_birth(self, batch: Samples) -> bool:
        """Is there a tag in it whose mark has a time of our clock? The server's own time may well be an older one."""
        return bool(self._dated[self._numbers(batch)].any())

    def news(self, batch: Samples) -> Samples:
        """Take a batch from the server; what it only repeats, in value, time and quality, is left out."""
        numbers = self._numbers(batch)
        self._alive[numbers] = True
        self._lost[numbers] = False
        same = self._shown.same(numbers, batch) & (self._shown.newest_ns[numbers] == batch.times)
        if same.any():
            first = np.zeros(len(batch), np.bool_)
            first[np.unique(numbers, return_index=True)[1]] = True
            same &= first  # behind another sample of its tag it is none
            batch, numbers = batch.select(np.flatnonzero(~same)), numbers[~same]
        self._shown.put(numbers, batch)
        return batch

    def forget_shown(self) -> None:
        """The shards may have lost what they were told: nothing counts as repeated."""
        self._shown.forget()

    @property
    def turns(self) -> NDArray[np.int64]:
        """How often each item was told so far, int64 (items,). A copy."""
        return self._shown.turns.copy()

    def untold(self, batch: Samples, turns: NDArray[np.int64]) -> Samples:
        """What of a reading the subscription should have told, and has not.

        Args:
            batch: As it was read, a while ago.
            turns: `turns` from before it was read.
        """
        numbers = self._numbers(batch)
        silent = self._shown.turns[numbers] == turns[numbers]
        return batch.select(np.flatnonzero(silent & ~self._shown.same(numbers, batch)))

    def mistrust(self, batch: Samples) -> None:
        """The server does not tell of these tags: they have to be asked for anew."""
        self._missing |= set(self._numbers(batch).tolist())

    def holds_s(self) -> list[float]:
        """The different `hold_s` of the tags, ascending."""
        return sorted({float(hold_s) for hold_s in self._hold_s})

    def loss(self, hold_s: float, lost_ns: int) -> Samples:
        """The tags with this `hold_s` turn to BadNoCommunication, unless they do so already or live again.

        A time before the tag's own last sample would count as late and be history only, so it is never that.
        """
        numbers: NDArray[np.intp] = np.flatnonzero((self._hold_s == hold_s) & ~self._alive & ~self._lost)
        self._dated[numbers] = True
        self._lost[numbers] = True
        times = np.maximum(self._shown.newest_ns[numbers], lost_ns)
        return self._marked(
            make(ValueType.QUALITY, self.columns.handles[numbers], None, times, q.BAD_NO_COMMUNICATION)
        )  # fmt: skip

    def _marked(self, batch: Samples) -> Samples:
        self._shown.put(self._numbers(batch), batch)
        return batch

    def _numbers(self, batch: Samples) -> NDArray[np.intp]:
        numbers: NDArray[np.intp] = self._rank[np.searchsorted(self.columns.handles, batch.tags, sorter=self._rank)]
        return numbers
