"""What a script publishes, in the order in which it does: handed to the numbered links as their windows allow."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

import numpy as np

from tagwerk.protocols.errors import NotJournaled, Refused, TagwerkError, Timeout, WindowFull
from tagwerk.runtime.attach_engine import Engine, fail, settle
from tagwerk.runtime.publisher import Publisher
from tagwerk.runtime.writer_link import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.protocols.samples import Samples
    from tagwerk.runtime.definitions import DefinitionTable

CHUNK_ROWS: Final = 50_000
"""Rows handed over at a time: a batch of any size goes through a bounded window."""

LINE_BYTES: Final = 128 << 20
"""What may wait for room in the window."""
_PUBLISH_BYTES: Final = 2_000  # of the publish itself, whatever is in it

RETRY_S: Final = 0.001
LOOK_S: Final = 0.05
"""How often deadlines are looked at."""
TELL_S: Final = 0.2
"""Several shards take a writer for lost at about the same time: it is told once."""

_REASONS: Final = {
    "UnknownTag": "its shard does not know it",
    "WrongType": "the values are of another type than the tag",
    "NotOwner": "another source owns it",
    "BadValue": "the batch was malformed",
}

_log = logging.getLogger("tagwerk.attach")


@dataclass(slots=True)
class _Publish:
    samples: Samples
    backfill: bool
    until_s: float
    future: Future[None]
    ticket: Ticket
    weight: int
    next_row: int = 0
    given_up: bool = field(default=False)

    def chunk(self) -> Samples:
        """What is to be handed over next."""
        if self.next_row == 0 and len(self.samples) <= CHUNK_ROWS:
            return self.samples
        return self.samples.select(np.arange(self.next_row, min(self.next_row + CHUNK_ROWS, len(self.samples))))


@final
class PublishQueue:
    """One writer's publishes. Everything but `put` runs in the client's thread.

    Args:
        engine: The client's thread.
        table: Knows the shards.
        writer: Our name there.
        named: The shards remember our numbers for good.
    """

    def __init__(self, engine: Engine, table: DefinitionTable, writer: str, *, named: bool) -> None:
        self._engine = engine
        self._table = table
        self._writer = writer
        self._named = named
        self._publisher: Publisher | None = None
        self._line: deque[_Publish] = deque()
        self._line_bytes = 0
        self._out: list[_Publish] = []
        self._retrying = False
        self._lost = False
        self.on_lost: Callable[[], object] | None = None
        """What the script does when it was taken for lost."""

    def put(self, samples: Samples, limit_s: float, *, backfill: bool) -> Future[None]:
        """Publish behind all that was put before. The future ends when it is acknowledged; see `Plant.publish`.

        Past `LINE_BYTES` that wait it is refused at once: whoever does not wait for a shard that is down fills memory.
        """
        until_s = time.monotonic() + limit_s

        def work(future: Future[None]) -> None:
            weight = _PUBLISH_BYTES + samples.size
            if self._line and self._line_bytes + weight > LINE_BYTES:
                fail(future, WindowFull(f"{len(self._line)} publishes wait already to be handed over"))
                return
            self._line_bytes += weight
            ticket = Ticket(lambda done: self._judge(done, future))
            self._line.append(_Publish(samples, backfill, until_s, future, ticket, weight))
            if not self._retrying:
                self._pump()

        return self._engine.call(work)

    def goodbye(self) -> None:
        """A clean end of what we own."""
        if self._publisher is not None:
            self._publisher.goodbye()

    def _judge(self, ticket: Ticket, future: Future[None]) -> None:
        """Say what became of a publish that was acknowledged."""
        if ticket.refused:
            handle, code = ticket.refused[0]
            name = self._table.name_of(handle)
            others = f" (and {len(ticket.refused) - 1} more samples)" if len(ticket.refused) > 1 else ""
            fail(future, Refused(code, f"{name} was not taken: {_REASONS.get(code, code)}{others}", name))
        elif ticket.not_journaled:
            why = "the values are current, but could not be stored: the journal is at its cap or the disk is full"
            fail(future, NotJournaled(why))
        else:
            settle(future, None)

    def _pump(self) -> None:
        self._retrying = False
        while self._line:
            head = self._line[0]
            try:
                if not self._hand_over(head):
                    self._retrying = True
                    self._engine.reactor.after(RETRY_S, self._pump)
                    return
            except TagwerkError as error:
                fail(head.future, error)
            self._line_bytes -= self._line.popleft().weight

    def _hand_over(self, head: _Publish) -> bool:
        """True if all of it was taken, or its time is over."""
        publisher = self._the_publisher()
        if head.next_row == 0:
            self._out.append(head)
        try:
            while not head.given_up:
                chunk = head.chunk()
                publisher.publish(chunk, head.ticket, backfill=head.backfill)
                head.next_row += len(chunk)
                if head.next_row >= len(head.samples):
                    head.ticket.close()
                    return True
        except WindowFull as error:
            if time.monotonic() < head.until_s:
                return False
            head.given_up = True
            fail(head.future, error)
        return True

    def _the_publisher(self) -> Publisher:
        if self._publisher is None:
            engine = self._engine
            shards = 1 + int(self._table.tags.shards.max(initial=0))
            # A later life of this writer has a higher number: the wall clock, because nothing of ours is on disk.
            life = engine.clock.now_ns() >> 10
            self._publisher = Publisher(
                self._writer, engine.reactor, engine.directory, self._table.shard_of, shards,
                incarnation=life, named=self._named,
            )  # fmt: skip
            self._publisher.on_reborn = self._reborn
            engine.reactor.every(LOOK_S, self._look)
        return self._publisher

    def _reborn(self) -> None:
        if not self._lost:
            self._lost = True
            self._engine.reactor.after(TELL_S, self._tell)

    def _tell(self) -> None:
        self._lost = False
        todo = "on_lost is called" if self.on_lost is not None else "publish it again (see Plant.on_lost)"
        _log.warning("%s was taken for lost, what it owns is Bad until it is published: %s", self._writer, todo)
        if self.on_lost is not None:  # in a thread of its own: a blocking call in this one would wait for itself
            threading.Thread(target=self.on_lost, name="tagwerk on_lost", daemon=True).start()

    def _look(self) -> None:
        """Whose time is over, is told; what was handed over is sent again all the same until it is taken."""
        now_s = time.monotonic()
        self._out = [one for one in self._out if not one.future.done()]
        for one in self._out:
            if now_s >= one.until_s:
                one.given_up = True
                fail(one.future, self._why_not())

    def _why_not(self) -> TagwerkError:
        if self._publisher is not None:
            for link in self._publisher.links.values():
                if link.refusal is not None:
                    return link.refusal
        return Timeout("sent, but not acknowledged in time; it is sent again until it is")
