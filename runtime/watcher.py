"""The feed lane, the watcher's half: register, subscribe, snapshot, apply what is newer; a gap is seen and filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from msgspec.structs import replace

from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.frames import BELL_TOPIC, FeedHeader, canonical_globs, read_header, view_topic
from tagwerk.protocols.samples import Samples, ValueType, decode
from tagwerk.protocols.tags import GetSnapshot, OpenView, ViewOpened, ViewSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from tagwerk.protocols.samples import Catalog
    from tagwerk.runtime.control import Outcome, Peers
    from tagwerk.runtime.directory import Directory
    from tagwerk.runtime.reactor import Reactor

VIEW_LEASE_S: Final = 15.0
BEAT_TIMEOUT_S: Final = 3.0
RETRY_S: Final = 0.05
AT_ONCE: Final = 200
"""Frames taken in one turn: then others have theirs."""
PENDING_LIMIT: Final = 1_000
"""Frames kept while a snapshot is on its way; more, and it is asked for again."""
LOOK_S: Final = 0.5
"""How often it is looked whether the shard still speaks, and is the same; a successor speaks up by itself."""
FIRST_FRAME_S: Final = 1.5
"""A shard beats once a second: a subscription that brought nothing for so long does not work."""


class ShardWatch:
    """One view of one shard.

    Args:
        shard: Its actor name.
        globs: Canonical.
        reactor: Where the port lives.
        directory: Knows whether the shard was restarted.
        peers: For the questions to it.
        on_samples: Called with each batch, the snapshot's first.
        on_stale: Called with True when the shard falls silent, False when it is back in step.
        catalog: Of the batches.
    """

    def __init__(
        self,
        shard: str,
        globs: tuple[str, ...],
        reactor: Reactor,
        directory: Directory,
        peers: Peers,
        on_samples: Callable[[Samples], None],
        on_stale: Callable[[str, bool], None],
        catalog: Catalog | None = None,
    ) -> None:
        self.shard = shard
        self._catalog = catalog
        self.topic = view_topic(globs)
        self._globs = globs
        self._reactor = reactor
        self._directory = directory
        self._peers = peers
        self._on_samples = on_samples
        self._on_stale = on_stale
        self._port = reactor.transport.subscriber(directory.socket(shard, "feed"))
        self._port.subscribe(self.topic)
        reactor.add(self._port, self._readable)
        self.incarnation = 0
        self.position = -1
        self.synced = False
        self.stale = False
        self.resyncs = 0
        self._ever = False
        self._asking = False
        self._attempt = 0
        self._pending: list[tuple[FeedHeader, bytes]] = []
        self._held: ViewSnapshot | None = None
        self._heard_ns = reactor.clock.mono_ns()
        self._handles: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._closed = False
        self._timers = [reactor.every(LOOK_S, self._look), reactor.every(VIEW_LEASE_S / 3, self._renew)]
        self._register()

    def close(self) -> None:
        """Stop watching. The view ends with its lease."""
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        self._reactor.remove(self._port)

    # --- getting in step ---------------------------------------------------------------------------------------------

    def _register(self) -> None:
        self._attempt += 1
        attempt = self._attempt
        self.synced = False
        self._asking = True
        self._held = None

        def answered(outcome: Outcome) -> None:
            if self._closed or attempt != self._attempt:
                return
            if isinstance(outcome, ViewOpened):
                self.incarnation = outcome.incarnation
                # The greeting may be here before the answer: what is of this life of the shard stays.
                self._pending = [one for one in self._pending if one[0].incarnation == outcome.incarnation]
                self._asking = False
                self._snapshot()
            else:
                self._reactor.after(RETRY_S, lambda: self._retry(attempt))

        self._peers.ask(self.shard, OpenView(self._globs, VIEW_LEASE_S), answered, 2.0)

    def _retry(self, attempt: int) -> None:
        if not self._closed and attempt == self._attempt:
            self._register()

    def _snapshot(self) -> None:
        attempt = self._attempt

        def answered(outcome: Outcome) -> None:
            if self._closed or attempt != self._attempt:
                return
            if isinstance(outcome, ViewSnapshot) and outcome.incarnation == self.incarnation:
                self._apply_snapshot(outcome)
            else:
                self._reactor.after(RETRY_S, lambda: self._retry(attempt))

        self._peers.ask(self.shard, GetSnapshot(self.topic), answered, 5.0)

    def _apply_snapshot(self, snapshot: ViewSnapshot) -> None:
        # A frame on our topic proves that the subscription works: without one, frames after the snapshot might be
        # missed unseen. The shard sends one as soon as it sees us; wait for it.
        if not self._pending:
            self._held = snapshot
            self._reactor.after(FIRST_FRAME_S, self._again_if_unsynced(self._attempt))
            return
        if self._pending[0][0].after > snapshot.position:
            self._register()  # frames between the snapshot and the first one heard are missing
            return
        batches = [batch for frame in snapshot.frames for batch in decode(frame, snapshot.received_ns, self._catalog)]
        self.position = snapshot.position
        self.synced = True
        self._heard()
        handles = [batch.tags for batch in batches]
        self._handles = np.unique(np.concatenate(handles)) if handles else np.zeros(0, np.uint32)
        complete = not self._ever
        self._ever = True
        for batch in batches:
            self._on_samples(replace(batch, snapshot=True, complete=complete))
        if not batches:
            empty = Samples(
                ValueType.QUALITY, np.zeros(0, "<u4"), None, np.zeros(0, "<i8"), np.zeros(0, "<u4"),
                self._catalog, True, complete, snapshot.received_ns,
            )  # fmt: skip
            self._on_samples(empty)
        pending, self._pending = self._pending, []
        for header, body in pending:
            self._frame(header, body)

    def _again_if_unsynced(self, attempt: int) -> Callable[[], None]:
        def again() -> None:
            if not self.synced:
                self._retry(attempt)

        return again

    # --- in step -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            frames = None if self._closed else self._port.recv()
            if frames is None:
                return
            try:
                if len(frames) != 3 or frames[0] != self.topic:
                    raise RemoteProtocolError("a feed message is [topic, header, samples frame]")
                header = read_header(frames[1])
                if not isinstance(header, FeedHeader):
                    raise RemoteProtocolError("not a feed header")
                self._frame(header, frames[2])
            except RemoteProtocolError as error:  # it moved no position: if it hid a change, the next frame shows a gap
                self._peers.bury(self.shard, "feed", f"nonsense: {error}", sum(map(len, frames)))

    def _frame(self, header: FeedHeader, body: bytes) -> None:
        if self._asking:  # which incarnation answers is not known yet
            self._keep(header, body)
            return
        if header.incarnation != self.incarnation:
            if header.incarnation > self.incarnation:
                self.resync()
            else:
                self._peers.bury(self.shard, "feed", "old: it is of an earlier incarnation", len(body))
            return
        if not self.synced:
            self._keep(header, body)
            snapshot, self._held = self._held, None
            if snapshot is not None:
                self._apply_snapshot(snapshot)
            return
        if header.upto <= self.position and not (header.beat and header.upto == self.position):
            return  # the snapshot had it
        if header.after > self.position or self.stale:
            # Also after silence: whoever was told that the view is stale gets its true state again.
            self.resync()
            return
        batches = decode(body, header.received_ns, self._catalog) if body else []
        self._heard()
        self.position = header.upto
        for batch in batches:
            self._on_samples(batch)

    def _keep(self, header: FeedHeader, body: bytes) -> None:
        if len(self._pending) >= PENDING_LIMIT:
            self._pending.clear()  # a snapshot that is older than what is kept is asked for again
        self._pending.append((header, body))

    def _heard(self) -> None:
        self._heard_ns = self._reactor.clock.mono_ns()
        if self.stale and self.synced:
            self.stale = False
            self._on_stale(self.shard, False)

    def resync(self) -> None:
        """Start again from a snapshot; the next batches say that they are not complete."""
        self.resyncs += 1
        self._pending.clear()
        self._register()

    def _renew(self) -> None:
        if self.synced:
            self._peers.ask(self.shard, OpenView(self._globs, VIEW_LEASE_S), self._renewed, 2.0)

    def _renewed(self, outcome: Outcome) -> None:
        changed = isinstance(outcome, ViewOpened) and outcome.incarnation != self.incarnation
        if changed and not self._closed and not self._asking:
            self.resync()

    def _look(self) -> None:
        seen = self._directory.peer(self.shard)
        if self.synced and seen is not None and seen.up and seen.incarnation != self.incarnation:
            self.resync()
        silent_ns = self._reactor.clock.mono_ns() - self._heard_ns
        if not self.stale and silent_ns > BEAT_TIMEOUT_S * 1e9:
            self.stale = True
            self._on_stale(self.shard, True)

    @property
    def handles(self) -> NDArray[np.uint32]:
        """The handles of the view, as of the last snapshot, uint32 (n,)."""
        return self._handles


class Watch:
    """One view over all shards. See `Actor.watch`.

    Args:
        globs: Tag names or globs; a tag in any of them is in the view.
        shards: The shards' actor names.
        reactor: Where ports live.
        directory: Knows the shards.
        peers: For questions to them.
        on_samples: Called with each batch; `snapshot` is set on those of a shard's snapshot.
        on_stale: Called with (shard, True) after 3 s without a sign of life, and (shard, False) when back in step.
        catalog: Gives names and units to the batches.
    """

    def __init__(
        self,
        globs: Iterable[str],
        shards: Sequence[str],
        reactor: Reactor,
        directory: Directory,
        peers: Peers,
        on_samples: Callable[[Samples], None],
        on_stale: Callable[[str, bool], None] | None = None,
        catalog: Catalog | None = None,
    ) -> None:
        def stale(shard: str, is_stale: bool) -> None:
            if on_stale is not None:
                on_stale(shard, is_stale)

        canonical = canonical_globs(globs)
        self.shards = {
            shard: ShardWatch(shard, canonical, reactor, directory, peers, on_samples, stale, catalog)
            for shard in shards
        }

    @property
    def synced(self) -> bool:
        """True if every shard's snapshot has been applied."""
        return all(watch.synced for watch in self.shards.values())

    def close(self) -> None:
        """Stop watching."""
        for watch in self.shards.values():
            watch.close()


class Bell:
    """A shard's bell: calls `on_ring` when there is something new in its journal.

    Args:
        shard: Its actor name.
        reactor: Where the port lives.
        directory: Knows where the shard is.
        on_ring: What to do.
    """

    def __init__(self, shard: str, reactor: Reactor, directory: Directory, on_ring: Callable[[], None]) -> None:
        self._port: Any = reactor.transport.subscriber(directory.socket(shard, "feed"))
        self._port.subscribe(BELL_TOPIC)
        self._on_ring = on_ring
        reactor.add(self._port, self._readable)

    def _readable(self) -> None:
        rang = False
        for _ in range(AT_ONCE):
            if self._port.recv() is None:
                break
            rang = True
        if rang:
            self._on_ring()
