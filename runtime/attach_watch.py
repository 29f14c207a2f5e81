"""A watch, as a script sees it: batches as they come, and never more than it can hold."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, final

import numpy as np
from msgspec.structs import replace

from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Samples, ValueType, concatenate, make
from tagwerk.runtime.attach_engine import Engine, settle
from tagwerk.runtime.watcher import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from tagwerk.runtime.definitions import DefinitionTable

WAITING_LIMIT: Final = 1_000
"""Batches that wait for a script that does not look; past it the watch starts again from a snapshot."""


@final
class TagWatch:
    """Batches of a watch. An iterator that blocks; `close` ends it.

    Args:
        engine: The client's thread.
        table: Gives names and units.
        globs: What is watched.
        latest: Join what waits: the newest sample of each tag.
        on_close: Called once at the end.
    """

    def __init__(
        self,
        engine: Engine,
        table: DefinitionTable,
        globs: Sequence[str],
        *,
        latest: bool,
        on_close: Callable[[TagWatch], None],
    ) -> None:
        self._engine = engine
        self._table = table
        self._globs = tuple(globs)
        self._latest = latest
        self._on_close = on_close
        self._arrived = threading.Condition()
        self._waiting: deque[Samples] = deque()
        self._closed = False
        self._telling = False
        self._watch: Watch | None = None
        self._wake: Callable[[], object] | None = None
        engine.call(self._start).result(5)

    def _start(self, future: Future[None]) -> None:
        shards = [f"cvt/{number}" for number in np.unique(self._table.tags.shards).tolist()]
        engine = self._engine
        self._watch = Watch(
            self._globs, shards, engine.reactor, engine.directory, engine.peers, self._put, self._stale, self._table
        )  # fmt: skip
        settle(future, None)

    def _put(self, samples: Samples) -> None:
        if len(self._waiting) >= WAITING_LIMIT:
            with self._arrived:
                self._waiting.clear()
            if self._watch is not None:
                for shard in self._watch.shards.values():
                    shard.resync()
        else:
            self._waiting.append(samples)
        if not self._telling:  # once a turn: whoever is woken takes the time of this thread
            self._telling = True
            self._engine.reactor.soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        with self._arrived:
            self._arrived.notify_all()
        if self._wake is not None:
            self._wake()

    def _stale(self, shard: str, stale: bool) -> None:
        if stale and self._watch is not None:
            handles = self._watch.shards[shard].handles
            now_ns = self._engine.clock.now_ns()
            self._put(make(ValueType.QUALITY, handles, None, now_ns, q.UNCERTAIN_NO_COMMUNICATION))

    @property
    def in_step(self) -> bool:
        """True if the state of every shard was received."""
        return self._watch is not None and self._watch.synced

    @property
    def resyncs(self) -> int:
        """How often a gap was seen and filled."""
        return 0 if self._watch is None else sum(watch.resyncs for watch in self._watch.shards.values())

    def get(self, timeout_s: float | None = None) -> Samples | None:
        """The next batch; None if none came in time, or the watch was closed."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting or self._closed, timeout_s)
            if not self._waiting:
                return None
            first = self._waiting.popleft()
            if not self._latest or first.snapshot:
                return first
            run = [first]
            while self._waiting and self._waiting[0].kind is first.kind and not self._waiting[0].snapshot:
                run.append(self._waiting.popleft())
        return _newest(run)

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        batch = self.get(None)
        if batch is None:
            raise StopIteration
        return batch

    def on_arrival(self, call: Callable[[], object] | None) -> None:
        """Call this, in the client's thread, whenever something has come: for other event loops."""
        self._wake = call

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def close(self) -> None:
        """End the watch; an iteration over it ends."""
        with self._arrived:
            if self._closed:
                return
            self._closed = True
            self._waiting.clear()
            self._arrived.notify_all()
        self._on_close(self)
        if self._wake is not None:
            self._wake()
        if self._engine.alive:
            self._engine.call(self._end).result(5)

    def _end(self, future: Future[None]) -> None:
        if self._watch is not None:
            self._watch.close()
        settle(future, None)


def _newest(run: list[Samples]) -> Samples:
    """The last sample of each tag, in the order of their arrival."""
    batch = concatenate(run)
    last = len(batch) - 1 - np.unique(batch.tags[::-1], return_index=True)[1]
    newest = batch.select(np.sort(last))
    return replace(newest, received_ns=run[-1].received_ns)
