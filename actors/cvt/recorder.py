"""What a flush brings into the journal, how a frame becomes records, and what could not be stored."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tagwerk.actors.cvt.hole import Hole
from tagwerk.protocols.errors import NotJournaled
from tagwerk.protocols.samples import encode, split
from tagwerk.runtime.durable import HISTORY_ONLY, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tagwerk.actors.cvt.store import Memory
    from tagwerk.protocols.samples import Samples
    from tagwerk.runtime.journal import Journal
    from tagwerk.runtime.steady import SteadyTime


class Recorder:
    """Appends records to a shard's journal and commits them, flush by flush.

    Args:
        shard: Our name.
        journal: Opened before the first flush.
        memory: Counts what a restart would have to apply.
        clock: Stamps what is received; never goes back.
        hole: Where the file of what could not be stored is kept.
    """

    def __init__(self, shard: str, journal: Journal, memory: Memory, clock: SteadyTime, hole: Path) -> None:
        self._log = logging.getLogger(shard)
        self._journal = journal
        self._memory = memory
        self._clock = clock
        self.hole = Hole(hole)
        self.journaled = True
        """False while the shard is live only."""
        self.journaled_ns = journal.received_ns
        """What was received later than this, and not after the hole, is in the table and not in the journal."""
        self._stored_ns = self.journaled_ns
        self._samples = 0
        self._first_ns = 0
        self._last_ns = 0
        self._promised_ns = 0

    def append(
        self, kind: int, writer: str, number: int, frame: bytes, samples: int = 0, now_ns: int | None = None
    ) -> None:
        """Add a record to this flush.

        Args:
            kind: One of `runtime.durable`.
            writer: Whose; "" for the shard's own.
            number: Of the writer's frame; 0: beside any frame; below 0: a part of it, the rest follows.
            frame: The samples.
            samples: How many there are in it.
            now_ns: When they came, if that was looked at already.
        """
        at_ns = max(self._promised_ns, self._clock.now_ns() if now_ns is None else now_ns)
        self._first_ns = self._first_ns or at_ns
        self._last_ns = at_ns
        self._samples += samples
        self._journal.append(kind, writer, number, at_ns, frame)
        self._memory.note(len(frame))

    def batches(self, kind: int, writer: str, batches: Iterable[Samples]) -> None:
        """Add batches that belong to no frame of a writer."""
        for group in split(batches):
            self.append(kind, writer, 0, encode(group), sum(map(len, group)))

    def frame(self, writer: str, number: int, late: list[Samples], current: list[Samples]) -> None:
        """Add what became of a writer's frame. A start that does not find its last record takes none of it."""
        parts = [(HISTORY_ONLY, group) for group in split(late)]
        parts += [(SAMPLES, group) for group in split(current)]
        for kind, group in parts[:-1]:
            self.append(kind, writer, -number, encode(group), sum(map(len, group)))
        kind, group = parts[-1] if parts else (SAMPLES, [])
        self.append(kind, writer, number, encode(group), sum(map(len, group)))

    def promise(self) -> int:
        """The time, ns, before which no later record will be."""
        self._promised_ns = max(self._promised_ns, self._first_ns or self._clock.now_ns())
        return self._promised_ns

    def commit(self) -> bool:
        """Journal what was appended.

        Returns:
            Whether something new is in the journal; `journaled` tells nothing new from no room.
        """
        if not self._first_ns:
            return False
        samples, first_ns, self._samples, self._first_ns = self._samples, self._first_ns, 0, 0
        try:
            self._journal.commit()
        except NotJournaled as error:
            if self.journaled:
                self._log.error("live only: %s", error)
                self.journaled_ns = self._stored_ns
            self.journaled = False
            self.hole.note(samples, first_ns, self._last_ns)
            return False
        if not self.journaled:
            self._log.warning("the journal has room again")
        self.journaled = True
        self._stored_ns = self._last_ns
        return True
