"""The ingest lane, the shard's half: writers, their numbers, acknowledgements after the commit."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from tagwerk.actors.cvt.logic.writers import WRITERS_LIMIT, Writer, Writers, may_take_over
from tagwerk.protocols.codec import pack
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.frames import Kind, OpenHeader, PublishHeader, pack_header, read_link_header
from tagwerk.protocols.link import Arrival
from tagwerk.protocols.names import actor_name_problem
from tagwerk.protocols.plantwide import DeadLetter
from tagwerk.protocols.samples import Samples, decode, encode
from tagwerk.runtime.durable import BIRTH
from tagwerk.runtime.transport import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tagwerk.runtime.clock import Clock
    from tagwerk.runtime.dead_letters import DeadLetterBox
    from tagwerk.runtime.transport import Port

NAME_LIMIT: Final = 100
NOTHING: Final = encode([])
LOOK_NS: Final = 20_000_000
"""How often an opening makes the shard look for the dead: sooner nobody's successor is there."""
REFUSED_AT_ONCE: Final = 1_000
"""An acknowledgement that lists so many refused samples is ended at the next batch."""


@dataclass(slots=True)
class _Ack:
    """What a writer is told after the commit."""

    writer: Writer
    identity: bytes
    session: int
    number: int
    taken: list[int] = field(default_factory=list[int])
    refused: list[tuple[int, int, int, str]] = field(default_factory=list[tuple[int, int, int, str]])

    def frames(self) -> Iterator[list[bytes]]:
        """Cumulative acknowledgements; what was refused stands in the one that first covers its batch."""
        missing = list(self.writer.live_only)
        rest: list[tuple[int, int, int, str]] = []
        for one in self.refused:
            if len(rest) >= REFUSED_AT_ONCE and one[0] != rest[-1][0]:
                yield [self.identity, pack_header(Kind.ACK, self.session, rest[-1][0], rest, missing)]
                rest = []
            rest.append(one)
        yield [self.identity, pack_header(Kind.ACK, self.session, self.number, rest, missing)]


@dataclass(frozen=True, slots=True)
class _Opening:
    """The answer to an opening; it tells again what could not be stored: the acknowledgement may have been lost."""

    writer: Writer
    identity: bytes
    session: int
    next_number: int
    born: bool

    def frames(self) -> list[bytes]:
        """To be made after the commit."""
        missing = list(self.writer.live_only)
        return [self.identity, pack_header(Kind.OPENED, self.session, self.next_number, self.born, missing)]


class Take(Protocol):
    """Applies the batches of one frame and appends them to the journal."""

    def __call__(
        self, writer: Writer, number: int, batches: list[Samples], frame: bytes, backfill: bool
    ) -> list[tuple[int, int, str]]:
        """Returns what was refused, as (row, handle, code)."""
        ...


class IngestDesk:
    """Takes frames from writers, in order, each once.

    Args:
        shard: Our name.
        port: The bound ingest router.
        clock: For leases.
        writers: Who writes here.
        take: Applies the batches of one frame and appends them to the journal; returns what was refused, as
            (row, handle, code).
        journal: Appends a record that carries no samples: (kind, writer, sequence, frame).
        lose: A writer is gone: (writer, clean).
        dead_letters: Where nonsense goes.
    """

    def __init__(
        self,
        shard: str,
        port: Port,
        clock: Clock,
        writers: Writers,
        take: Take,
        journal: Callable[[int, str, int, bytes], None],
        lose: Callable[[Writer, bool], None],
        dead_letters: DeadLetterBox,
    ) -> None:
        self._shard = shard
        self._port = port
        self._clock = clock
        self._writers = writers
        self._take = take
        self._journal = journal
        self._lose = lose
        self._dead = dead_letters
        self._answers: list[list[bytes] | _Ack | _Opening] = []
        self._acks: dict[str, _Ack] = {}
        self._looked_ns = 0

    def receive(self, frames: list[bytes]) -> None:
        """One message of a writer. Nonsense is counted and dropped; it never ends the shard."""
        try:
            if len(frames) not in (2, 3):
                msg = f"an ingest message has 2 or 3 parts, not {len(frames)}"
                raise RemoteProtocolError(msg)
            self._receive(frames[0], read_link_header(frames[1]), frames[2] if len(frames) == 3 else b"")
        except RemoteProtocolError as error:
            self._bury(f"nonsense: {error}", sum(map(len, frames)))

    def _receive(self, identity: bytes, header: Any, body: bytes) -> None:
        if isinstance(header, OpenHeader):
            self._open(identity, header)
            return
        writer = self._writers.by_identity.get(identity)
        if writer is None or header.session != writer.session:
            self._answers.append([identity, pack_header(Kind.REOPEN, header.session)])
            return
        writer.heard_ns = self._clock.mono_ns()
        if isinstance(header, PublishHeader):
            self._publish(writer, header, body)
        elif header.kind == Kind.GOODBYE:
            self._lose(writer, True)
        elif header.kind != Kind.ALIVE:
            msg = f"kind {header.kind} does not come from a writer"
            raise RemoteProtocolError(msg)

    def _open(self, identity: bytes, header: OpenHeader) -> None:
        problem = _writer_problem(header.writer)
        if problem is not None:
            self._refuse(identity, header, "BadValue", problem)
            return
        name = header.writer
        if len(self._writers.by_name) >= WRITERS_LIMIT and name not in self._writers.by_name:
            self._refuse(identity, header, "NotPermitted", f"{self._shard} remembers {WRITERS_LIMIT} writers already")
            return
        self._look_for_dead()
        writer = self._writers.get(name, named=header.named)
        same_connection = writer.identity == identity
        reachable = not same_connection and self._reaches(writer)
        if not same_connection and not may_take_over(writer, header.session, header.incarnation, reachable=reachable):
            self._refuse(identity, header, "Conflict", f"another process publishes as {name!r} and is alive")
            return
        if writer.incarnation != header.incarnation:
            writer.live_only.clear()  # what an earlier life sent is asked for by nobody
        elif writer.name in self._acks or writer.live_only:
            # Before the opening, also of a new session: what that acknowledges is not looked up any more.
            self._ack(writer, writer.counter.last)
            pending = self._acks.pop(writer.name)
            pending.identity, pending.session = identity, header.session
            self._answers.append(pending)
        born = writer.session != header.session or not writer.alive
        if born:
            self._writers.born(writer, header.session, header.incarnation)
            self._journal(BIRTH, name, 0, pack([header.session, header.incarnation, header.named]))
        self._writers.connect(writer, identity, self._clock.mono_ns())
        self._answers.append(_Opening(writer, identity, header.session, writer.counter.last + 1, born))

    def _look_for_dead(self) -> None:
        """Who comes may be the successor of one that was killed, and must not find its tags taken.

        Not at each of many openings: who died before the last look was found by it.
        """
        mono_ns = self._clock.mono_ns()
        if mono_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = mono_ns
            self._lose_unreachable()

    def _lose_unreachable(self) -> None:
        for writer in list(self._writers.by_identity.values()):
            if not self._reaches(writer):
                self._lose(writer, False)

    def _refuse(self, identity: bytes, header: OpenHeader, code: str, why: str) -> None:
        self._answers.append([identity, pack_header(Kind.REFUSED, header.session, code, why)])

    def _publish(self, writer: Writer, header: PublishHeader, body: bytes) -> None:
        arrival = writer.counter.judge(header.number)
        if arrival is Arrival.AGAIN:
            self._ack(writer, writer.counter.last)
            return
        if arrival is Arrival.AHEAD:
            if not writer.asked_back:  # once: all that was sent behind the missing one is ahead, too
                writer.asked_back = True
                number = writer.counter.last + 1
                self._answers.append([writer.identity, pack_header(Kind.EXPECTED, writer.session, number)])
            return
        writer.asked_back = False
        refused = self._taken(writer, header, body)
        writer.counter.take(header.number)
        ack = self._ack(writer, header.number)
        ack.taken.append(header.number)
        ack.refused.extend((header.number, *one) for one in refused)

    def _taken(self, writer: Writer, header: PublishHeader, body: bytes) -> list[tuple[int, int, str]]:
        try:
            return self._take(writer, header.number, decode(body), body, header.backfill)
        except RemoteProtocolError as error:
            why = f"{writer.name} sent nonsense: {error}"
        except Exception as error:  # poison: it would come again for ever, so it must not end the shard
            why = f"{writer.name} sent what cannot be taken: {error!r}"
            logging.getLogger(self._shard).exception("batch %d of %s", header.number, writer.name)
        # A permanent refusal uses the number up: the writer would send the same bytes for ever.
        self._bury(why, len(body))
        self._take(writer, header.number, [], NOTHING, False)
        return [(-1, 0, "BadValue")]

    def _ack(self, writer: Writer, number: int) -> _Ack:
        ack = self._acks.get(writer.name)
        if ack is None or ack.session != writer.session:
            ack = self._acks[writer.name] = _Ack(writer, writer.identity, writer.session, number)
        ack.number = number
        return ack

    def flush(self, *, journaled: bool) -> None:
        """After the commit: openings, then one cumulative acknowledgement a writer."""
        if not self._answers and not self._acks:
            return
        answers, self._answers = [*self._answers, *self._acks.values()], []
        self._acks = {}
        for answer in answers:
            if isinstance(answer, _Ack):
                if not journaled:
                    answer.writer.live_only.extend(answer.taken)
                for frames in answer.frames():
                    self._send(frames)
            elif isinstance(answer, _Opening):
                self._send(answer.frames())
            else:
                self._send(answer)

    def _send(self, frames: list[bytes]) -> None:
        with suppress(Unreachable):  # the beat finds out, and says so
            self._port.send(frames)  # one that is not taken is asked for again by the writer

    def beat(self) -> None:
        """Once a second: who does not answer, or cannot be reached, is lost."""
        self._lose_unreachable()
        for writer in self._writers.silent(self._clock.mono_ns()):
            self._lose(writer, False)

    def _reaches(self, writer: Writer) -> bool:
        if not writer.identity:
            return False
        try:
            self._port.send([writer.identity, pack_header(Kind.BEAT, writer.session)])
        except Unreachable:
            return False
        return True

    def _bury(self, reason: str, size: int) -> None:
        self._dead.put(DeadLetter(self._clock.now_ns(), "?", self._shard, "ingest", reason, size))


def _writer_problem(name: str) -> str | None:
    if len(name) > NAME_LIMIT:
        return f"a writer's name has at most {NAME_LIMIT} letters"
    return actor_name_problem(name if "/" in name else f"writer/{name}")
