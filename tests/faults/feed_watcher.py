"""A watcher in a process of its own, that can tell its state at a position: run as a script.

    python feed_watcher.py HOME TAGS GLOB...

Each line on stdin is an incarnation and a position; the answer is a line of JSON: "jumped" if the watcher has gone past
it by a snapshot, else the "state" at it. An empty line asks only for what it has seen so far.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from tagwerk.protocols.samples import Samples, ValueType
from tagwerk.runtime.clock import SystemClock
from tagwerk.runtime.control import Peers
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.directory import Directory
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page
from tagwerk.runtime.reactor import Reactor
from tagwerk.runtime.transport import ZmqTransport
from tagwerk.runtime.watcher import Watch

SHARD = "cvt/0"
STATES_LIMIT = 2_000
LOOK_S = 0.005


class State:
    """The values of tags 1 to n, their times and their quality."""

    def __init__(self, tags: int) -> None:
        self.values = np.zeros(tags + 1, "<f8")
        self.times = np.zeros(tags + 1, "<i8")
        self.quality = np.zeros(tags + 1, "<u4")

    def apply(self, batches: Iterable[Samples]) -> None:
        """Take what came."""
        for batch in batches:
            if batch.kind is not ValueType.QUALITY:
                self.values[batch.tags] = batch.values
            self.times[batch.tags] = batch.times
            self.quality[batch.tags] = batch.quality

    def bytes(self) -> bytes:
        """All of it, byte for byte."""
        return self.values.tobytes() + self.times.tobytes() + self.quality.tobytes()


class Watcher:
    """Keeps the states of the last positions."""

    def __init__(self, home: Home, tags: int, globs: list[str]) -> None:
        clock = SystemClock()
        page = Page.open(home.file("node/main", "page"))
        self.reactor = Reactor(ZmqTransport(), clock)
        directory = Directory(page, home.socket)
        peers = Peers("attach/watcher", self.reactor, directory, DeadLetterBox())
        self._state = State(tags)
        self._states: deque[tuple[tuple[int, int], bytes]] = deque(maxlen=STATES_LIMIT)
        self._lagged_ns = 0
        self._stale = 0
        self._at = (0, -1)
        watch = Watch(globs, [SHARD], self.reactor, directory, peers, self._batch, self._staleness)
        self._watch = watch.shards[SHARD]

    def _batch(self, batch: Samples) -> None:
        at = (self._watch.incarnation, self._watch.position)
        if at != self._at:
            if batch.snapshot:
                self._states.clear()  # of what was between, nothing is known
            elif self._at[1] >= 0:
                self._states.append((self._at, self._state.bytes()))
            self._at = at
        self._state.apply([batch])
        if not batch.snapshot:
            self._lagged_ns = max(self._lagged_ns, time.time_ns() - batch.received_ns)

    def _staleness(self, shard: str, stale: bool) -> None:
        self._stale += stale

    def answer(self, line: str) -> None:
        """Answer one question, now or when the position has come."""
        seen = {"resyncs": self._watch.resyncs, "stale": self._stale, "lag_ms": self._lagged_ns / 1e6}
        if not line:
            self._lagged_ns = 0
            say(seen)
            return
        incarnation, position = map(int, line.split())
        watch = self._watch
        if not watch.synced or (watch.incarnation, watch.position) < (incarnation, position):
            self.reactor.after(LOOK_S, partial(self.answer, line))
            return
        known = [*self._states, (self._at, self._state.bytes())]
        before = [state for (life, at), state in known if life == incarnation and at <= position]
        say({"jumped": not before, "state": before[-1].hex() if before else ""})


def say(answer: Mapping[str, object]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Watch until stdin ends."""
    watcher = Watcher(Home(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3:])
    reactor = watcher.reactor
    running = True

    def stop() -> None:
        nonlocal running
        running = False

    def read() -> None:
        for line in sys.stdin:
            reactor.post(partial(watcher.answer, line.strip()))
        reactor.post(stop)

    threading.Thread(target=read, daemon=True).start()
    while running:
        reactor.step(100_000_000)


if __name__ == "__main__":
    main()
