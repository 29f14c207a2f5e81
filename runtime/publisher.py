"""All numbered links of one writer: a batch goes to the shards of its tags, with its neighbours."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols.errors import WindowFull
from tagwerk.runtime.writer_link import ALIVE_S, WINDOW, Ticket, WriterLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tagwerk.protocols.samples import Samples
    from tagwerk.runtime.directory import Directory
    from tagwerk.runtime.reactor import Reactor, Timer

ROUTES: Final = 256
"""Columns of tags whose way is remembered."""
HURRY_S: Final = 0.05
"""How often a writer whose batches wait asks whether it is still known."""


class Publisher:
    """All numbered links of one writer.

    Args:
        writer: Our name at the shards.
        reactor: Where ports and timers live.
        directory: Knows where the shards are.
        shard_of: uint32 handles (n,) to shard numbers (n,); raises Refused for an unknown handle.
        shards: How many shards there are.
        incarnation: Grows with each life of this writer.
        named: The shards remember our numbers for good.
    """

    def __init__(
        self,
        writer: str,
        reactor: Reactor,
        directory: Directory,
        shard_of: Callable[[NDArray[np.uint32]], NDArray[np.integer[Any]]],
        shards: int,
        *,
        incarnation: int,
        named: bool,
    ) -> None:
        self._writer = writer
        self._reactor = reactor
        self._directory = directory
        self._shard_of = shard_of
        self._shards = shards
        self._incarnation = incarnation
        self._named = named
        self._links: dict[int, WriterLink] = {}
        self._routes: dict[int, tuple[NDArray[np.uint32], WriterLink]] = {}
        """By the identity of a column of tags that cannot be changed: it, and where all of it goes."""
        self._session = secrets.randbits(62) + 1
        self.on_refused: Callable[[int, str], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.on_reborn: Callable[[], None] | None = None
        """A shard had taken us for lost: what we own looks lost there until it is published again."""
        self._was_full = False
        self._ticker = reactor.every(ALIVE_S, self._tick)
        self._hurry: Timer | None = None
        reactor.at_turn_end(self.flush)

    @property
    def links(self) -> dict[int, WriterLink]:
        """The links by shard number, as far as they were needed."""
        return self._links

    @property
    def pending(self) -> int:
        """Frames that are not acknowledged yet."""
        return sum(link.waiting for link in self._links.values())

    @property
    def window_full(self) -> bool:
        """True if some shard takes no further batch now."""
        return not all(link.room_for(0) for link in self._links.values())

    def open_all(self) -> None:
        """Open the links to all shards now, not at the first publish."""
        for shard in range(self._shards):
            self._link(shard)

    @property
    def opened(self) -> bool:
        """True if every link that was asked for is open."""
        return all(link.opened for link in self._links.values())

    def begin_session(self) -> None:
        """A birth: the first sample of each of our tags is then current, whatever its time.

        What still waits for its acknowledgement is sent again under the new session, before anything newer.
        """
        self._session = secrets.randbits(62) + 1
        for link in self._links.values():
            link.open(self._session)
        self._reactor.touched()

    def publish(self, samples: Samples, ticket: Ticket | None = None, *, backfill: bool = False) -> None:
        """Send a batch to the shards of its tags, at the end of this turn of the reactor, with its neighbours.

        Raises:
            WindowFull: Some shard's window cannot take it; nothing of it was sent.
            Refused: A handle is unknown; nothing of it was sent.
        """
        parts = [(link, part, part.size) for link, part in self._parts(samples)]
        for link, _, size in parts:
            if link.refusal is not None:
                raise link.refusal
            if not link.room_for(size):
                self._was_full = True
                msg = f"{link.shard}: {len(link.window)} of {WINDOW} batches wait for their acknowledgement"
                raise WindowFull(msg)
        for link, part, size in parts:
            link.gather(part, size, ticket, backfill=backfill)
        if parts and self._hurry is None:  # of an empty batch nothing will come that ends it
            self._hurry = self._reactor.every(HURRY_S, self._look_after)
        self._reactor.touched()

    def flush(self) -> None:
        """Send what was published since the last flush, and what the sockets did not take before."""
        for link in self._links.values():
            link.flush()

    def _parts(self, samples: Samples) -> list[tuple[WriterLink, Samples]]:
        if not len(samples):
            return []
        known = self._routes.get(id(samples.tags))
        if known is not None and known[0] is samples.tags:
            return [(known[1], samples)]
        shards = self._shard_of(samples.tags)
        first = int(shards[0])
        if (shards == first).all():
            link = self._link(first)
            if not samples.tags.flags.writeable:  # what may be changed has to be looked at each time
                if len(self._routes) >= ROUTES:
                    self._routes.clear()
                self._routes[id(samples.tags)] = (samples.tags, link)
            return [(link, samples)]
        present = np.unique(shards)
        return [(self._link(int(shard)), samples.select(shards == shard)) for shard in present]

    def _link(self, shard: int) -> WriterLink:
        link = self._links.get(shard)
        if link is None:
            name = f"cvt/{shard}"
            port = self._reactor.transport.dealer(self._directory.socket(name, "in"), secrets.token_bytes(8))
            link = WriterLink(self._writer, name, port, self._incarnation, named=self._named)
            link.on_refused = self._refused
            link.on_change = self._changed
            link.on_reborn = self._reborn
            self._links[shard] = link
            self._reactor.add(port, link.readable)
            link.open(self._session)
            for delay_s in (0.001, 0.005, 0.02, 0.05, 0.1, 0.2):  # a connection takes a moment: knock again soon
                self._reactor.after(delay_s, self._knock(link))
        return link

    @staticmethod
    def _knock(link: WriterLink) -> Callable[[], None]:
        return lambda: None if link.opened else link.tick()

    def _refused(self, handle: int, code: str) -> None:
        if self.on_refused is not None:
            self.on_refused(handle, code)

    def _reborn(self) -> None:
        if self.on_reborn is not None:
            self.on_reborn()

    def _changed(self) -> None:
        if self._hurry is not None and not self.pending:
            self._hurry.cancel()
            self._hurry = None
        if self._was_full and not self.window_full:
            self._was_full = False
            if self.on_room is not None:
                self.on_room()

    def _look_after(self) -> None:
        """While something waits: a shard that was restarted is found soon, not at the next sign of life."""
        for link in self._links.values():
            if link.waiting:
                link.nudge()

    def _tick(self) -> None:
        for link in self._links.values():
            link.tick()

    def goodbye(self) -> None:
        """A clean end on all links."""
        for link in self._links.values():
            link.goodbye()

    def close(self) -> None:
        """Stop the timer; the ports go with their transport."""
        self._ticker.cancel()
