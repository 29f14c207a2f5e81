"""At the journal's cap or on a full disk: values stay live, and what history misses is told when there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tagwerk.actors.cvt.logic.table import NO_BIRTH
from tagwerk.protocols.plantwide import Event
from tagwerk.runtime.durable import LOSS, SAMPLES

if TYPE_CHECKING:
    from tagwerk.actors.cvt.actor import Cvt


class LiveOnly:
    """Commits a shard's flush, and keeps account of what could not be committed.

    Args:
        shard: Whose journal, feed and outbox stand.
    """

    def __init__(self, shard: Cvt) -> None:
        self._shard = shard

    def flush(self) -> bool:
        """Journal what this flush brought, and what is owed to the log of events.

        Returns:
            False while the shard is live only.
        """
        shard, recorder = self._shard, self._shard.recorder
        was_journaled = recorder.journaled
        committed = recorder.commit()
        if committed:
            shard.feed.ring()
        told = False
        if was_journaled and not recorder.journaled:
            self._event("journaled", "live only", "the journal is at its cap, or the disk is full")
        elif committed and recorder.hole.open and self._state_again():
            told = self._event("live only", "journaled", str(recorder.hole))
        if shard.commit_outbox() and told:
            recorder.hole.told()
        return recorder.journaled

    def _state_again(self) -> bool:
        """Journal what is still current of the hole: whoever reads the journal goes on from the truth."""
        shard, table, recorder = self._shard, self._shard.table, self._shard.recorder
        of_hole = (table.received > recorder.journaled_ns) & (table.received <= recorder.hole.end_ns)
        rows = np.flatnonzero(of_hole & (table.times > 0))
        lost = (
            table.born[rows] == NO_BIRTH
        )  # nobody measured that: the time is that of the loss, the value an older one
        for kind, some in ((SAMPLES, rows[~lost]), (LOSS, rows[lost])):
            owners = table.owner[some]
            for owner in np.unique(owners).tolist():
                at = some[owners == owner]
                batches = table.state(at) if kind == SAMPLES else [table.standing(at)]
                writer = shard.writers.by_index.get(owner) if kind == SAMPLES else None
                recorder.batches(kind, "" if writer is None else writer.name, batches)
        return recorder.commit() or not len(rows)

    def _event(self, before: str, after: str, why: str) -> bool:
        shard = self._shard
        return shard.audit(Event(shard.clock.now_ns(), "", "", "journal", shard.name, before, after, why))
