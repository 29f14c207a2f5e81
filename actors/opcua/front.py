"""What the tags of a link show: what is published of all that the server says, and what is when it says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np

from tagwerk.actors.opcua.device import Reading
from tagwerk.actors.opcua.logic.columns import Run, translate
from tagwerk.actors.opcua.logic.echoes import Echoes
from tagwerk.actors.opcua.logic.items import ItemTable
from tagwerk.protocols.samples import Samples
from tagwerk.runtime.clock import Clock


class Sink(Protocol):
    """Where samples go: the `Outflow`, or a list in a test."""

    def begin_session(self) -> None:
        """A birth: the next sample of each tag is current, whatever its time."""
        ...

    def publish(self, samples: Samples) -> None:
        """Take a batch."""
        ...


@dataclass(slots=True)
class LinkCounts:
    """What happened so far."""

    values: int = 0
    overflows: int = 0
    gaps: int = 0
    connects: int = 0


@final
class Front:
    """Between the server's words and the shards.

    Args:
        time: Whose time is trusted: `source`, `server` or `received`.
        items: The nodes that are wanted.
        sink: Where samples go.
        clock: Wall time, for what came without one.
        counts: Where values and overflows are counted.
    """

    def __init__(self, time: str, items: ItemTable, sink: Sink, clock: Clock, counts: LinkCounts) -> None:
        self._time = time
        self._items = items
        self._sink = sink
        self._clock = clock
        self._counts = counts
        self._marks: dict[float, asyncio.TimerHandle] = {}
        self.echoes = Echoes()

    def begin(self) -> None:
        """A birth."""
        self._sink.begin_session()
        self._items.born()

    def hear(self, runs: Sequence[Run], received_ns: int) -> None:
        """Publish what a notification says."""
        for batch in self._translated(runs, received_ns):
            self.publish(self.echoes.notified(batch))

    def read_back(self, number: int, reading: Reading) -> None:
        """Publish what was read after a write."""
        for batch in self.taken([number], [reading]):
            self.publish(self.echoes.read_back(batch))

    def taken(self, numbers: Sequence[int], readings: Sequence[Reading]) -> list[Samples]:
        """Readings of these items, as batches."""
        run = Run(
            np.array(numbers, np.uint32),
            [reading.value for reading in readings],
            np.array([reading.status for reading in readings], np.uint32),
            np.array([reading.source_ns for reading in readings], np.int64),
            np.array([reading.server_ns for reading in readings], np.int64),
        )
        return self._translated([run], self._clock.now_ns())

    def publish(self, batch: Samples) -> None:
        """Publish what is news in what the server says."""
        if not len(batch):
            return
        news = self._items.news(batch)
        if not len(news):
            return
        if self._items.needs_birth(news):
            self.begin()
        self._sink.publish(news)

    def mark(self, batch: Samples) -> None:
        """Publish a quality that this link itself has found."""
        self._sink.publish(batch)

    def down(self, since_ns: int) -> None:
        """All tags turn Bad with the time of the loss, each after its `hold_s`, unless data flows again before."""
        loop = asyncio.get_running_loop()
        for hold_s in self._items.holds_s():
            if hold_s not in self._marks:
                self._marks[hold_s] = loop.call_later(hold_s, self._mark_lost, hold_s, since_ns)

    def unmark(self) -> None:
        """Data flows."""
        for mark in self._marks.values():
            mark.cancel()
        self._marks.clear()

    def _mark_lost(self, hold_s: float, since_ns: int) -> None:
        del self._marks[hold_s]
        lost = self._items.loss(hold_s, since_ns)
        if len(lost):
            self.mark(lost)

    def _translated(self, runs: Sequence[Run], received_ns: int) -> list[Samples]:
        translated = translate(runs, self._items.columns, self._time, received_ns)
        self._counts.overflows += translated.overflows
        self._counts.values += sum(map(len, translated.batches))
        return translated.batches
