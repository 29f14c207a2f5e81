"""A feed that a bad wire carries: frames are dropped, late, doubled and out of order, by a seed."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from tagwerk.protocols.samples import Samples
from tagwerk.runtime.transport import Subscriber
from tagwerk.runtime.transport_memory import MemoryPort, MemoryTransport


class RoughLine(deque[list[bytes]]):
    """What stands between a feed and its watcher.

    Args:
        rng: Decides what happens to each frame.
        fault: The part of the frames that something happens to.
    """

    def __init__(self, rng: random.Random, fault: float) -> None:
        super().__init__()
        self._rng = rng
        self.fault = fault
        self._late: list[tuple[int, list[bytes]]] = []
        self._came = 0
        self.done: Counter[str] = Counter()
        """What happened, and how often."""

    def append(self, frame: list[bytes]) -> None:
        """A frame goes in; what comes out, and when, is another matter."""
        self._came += 1
        rng = self._rng
        pick = rng.random()
        if pick >= self.fault:
            super().append(frame)
        else:
            how = ("drop", "delay", "double", "swap", "burst")[int(pick / self.fault * 5)]
            self.done[how] += 1
            if how in ("delay", "double"):
                self._late.append((self._came + rng.randrange(1, 60), frame))
            if how == "double":
                super().append(frame)
            elif how == "swap":
                self.insert(rng.randrange(len(self) + 1), frame)
            elif how == "burst":  # all that is under way is lost, as when a connection ends
                self.clear()
        due = [late for at, late in self._late if at <= self._came]
        self._late = [(at, late) for at, late in self._late if at > self._came]
        for late in due:
            super().append(late)


class RoughTransport(MemoryTransport):
    """A transport whose subscribers hear through a `RoughLine`."""

    rng: random.Random
    fault: float

    def subscriber(self, address: str) -> Subscriber:
        """See `Transport.subscriber`."""
        port = super().subscriber(address)
        cast("MemoryPort", port).inbox = RoughLine(self.rng, self.fault)
        return port


@dataclass
class Oracle:
    """Watches a watcher: each sample's value is its number in the order of the shard, on the tag (number % tags).

    A number that is missing before the one that came is a gap that nobody saw.
    """

    handles: Sequence[int]
    taken: Callable[[], int]
    """How many samples the shard has taken."""
    first: int = -1
    next: int = -1
    samples: int = 0
    snapshots: int = 0
    skipped: int = 0
    undetected: list[str] = field(default_factory=list[str])

    def batch(self, batch: Samples) -> None:
        """What the watcher is given."""
        numbers = [int(value) for value in batch.values]
        if batch.snapshot:
            self._snapshot(batch, numbers)
            return
        for number, handle in zip(numbers, batch.tags.tolist(), strict=True):
            self.samples += 1
            if number != self.next:
                self.undetected.append(f"{number} instead of {self.next}")
            if handle != self.handles[number % len(self.handles)]:
                self.undetected.append(f"{number} on the tag {handle}")
            self.next = number + 1

    def _snapshot(self, batch: Samples, numbers: list[int]) -> None:
        newest = max(numbers)
        count = len(self.handles)
        expected = {self.handles[n % count]: n for n in range(newest - count + 1, newest + 1)}
        if dict(zip(batch.tags.tolist(), numbers, strict=True)) != expected:
            self.undetected.append(f"a snapshot that never was: {numbers}")
        if batch.complete != (self.snapshots == 0):
            self.undetected.append(f"snapshot {self.snapshots} says complete={batch.complete}")
        if newest + 1 < self.next or newest >= self.taken():
            self.undetected.append(f"a snapshot at {newest}, after {self.next}, of {self.taken()}")
        if self.snapshots:
            self.skipped += max(0, newest + 1 - self.next)
        else:
            self.first = newest + 1
        self.snapshots += 1
        self.next = newest + 1
