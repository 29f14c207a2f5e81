"""What is lost or stale: its last value stays visible, and its quality says so from the moment of the loss."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import ValueType, encode, make
from tagwerk.runtime.durable import LOSS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tagwerk.actors.cvt.actor import Cvt
    from tagwerk.actors.cvt.logic.writers import Writer


class LossDesk:
    """Takes writers and tags for lost.

    Args:
        shard: Whose they are; its table and feed stand.
    """

    def __init__(self, shard: Cvt) -> None:
        self._shard = shard
        self._dead = np.zeros(1, np.bool_)
        self._dead_as_of = -1
        limits = shard.table.tags.stale_after_s
        self._stale_rows = np.flatnonzero(~np.isnan(limits))
        self._stale_ns = limits[self._stale_rows] * 1e9

    def lose(self, writer: Writer, clean: bool) -> None:
        """A writer is gone: what it feeds is Bad, or usable still if it said goodbye."""
        shard = self._shard
        now_ns, steady_ns = shard.clock.now_ns(), shard.steady.now_ns()
        shard.writers.gone(writer, steady_ns)
        level = logging.INFO if clean else logging.WARNING
        shard.log.log(level, "writer %s %s", writer.name, "said goodbye" if clean else "is lost")
        rows = shard.table.owned_by(writer.index)
        code = q.UNCERTAIN_NO_COMMUNICATION if clean else q.BAD_NO_COMMUNICATION
        holds = shard.table.tags.hold_s[rows]
        for hold_s in np.unique(holds).tolist():
            mine = rows[holds == hold_s]
            if hold_s == 0 or clean:
                self._degrade(mine, code, now_ns, writer)
            else:
                shard.after(hold_s, partial(self._held_long_enough, writer, mine, code, steady_ns, now_ns))
        if not len(rows):
            shard.recorder.append(LOSS, writer.name, 0, encode([]))

    def _held_long_enough(
        self, writer: Writer, rows: NDArray[np.intp], code: int, lost_ns: int, lost_wall_ns: int
    ) -> None:
        if not writer.alive and writer.lost_ns == lost_ns:
            self._degrade(rows[self._shard.table.owner[rows] == writer.index], code, lost_wall_ns, writer)

    def _degrade(self, rows: NDArray[np.intp], code: int, time_ns: int, writer: Writer | None) -> None:
        if not len(rows):
            return
        shard = self._shard
        now_ns = shard.steady.now_ns()
        batch = make(ValueType.QUALITY, shard.table.handles[rows], None, time_ns, code)
        shard.table.lose(batch, rows, now_ns)
        shard.feed.add(batch, rows, now_ns)
        shard.recorder.batches(LOSS, writer.name if writer is not None else "", [batch])

    def dead(self) -> NDArray[np.bool_]:
        """Who lost or gave up its tags, bool (writers,)."""
        writers = self._shard.writers
        if self._dead_as_of != writers.changes:
            dead = np.zeros(writers.size, np.bool_)
            for writer in writers.by_name.values():
                dead[writer.index] = not writer.alive
            self._dead = dead
            self._dead_as_of = writers.changes
        return self._dead

    def look(self) -> None:
        """Once a second: forget who is gone for a day, and say of tags that nobody heard of that they are stale."""
        shard = self._shard
        steady_ns = shard.steady.now_ns()
        for writer in shard.writers.forget(steady_ns):
            shard.table.disown(writer.index)
        rows = self._stale_rows
        good = q.good_mask(shard.table.quality[rows])
        stale = good & (steady_ns - shard.table.heard[rows] > self._stale_ns)
        self._degrade(rows[stale], q.UNCERTAIN_LAST_USABLE, shard.clock.now_ns(), None)
