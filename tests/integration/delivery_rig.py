"""A shard, an actor and clients of a plant in one thread, turned by hand, on the in-memory twin or on ZeroMQ."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagwerk.actors.cvt.actor import Cvt
from tagwerk.protocols.frames import Kind, read_header
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.samples import Samples, ValueType, decode, make
from tagwerk.protocols.tags import TagDef, TagState
from tagwerk.runtime import definitions
from tagwerk.runtime.actor import Actor, Later, Outcome, Sender
from tagwerk.runtime.clock import ManualClock, SystemClock
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.control import Peers
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.directory import Directory
from tagwerk.runtime.durable import HISTORY_ONLY, LOSS, SAMPLES
from tagwerk.runtime.home import Home
from tagwerk.runtime.journal import Disk
from tagwerk.runtime.page import Page, PeerState
from tagwerk.runtime.plantfile import parse
from tagwerk.runtime.process import Identity
from tagwerk.runtime.publisher import Publisher
from tagwerk.runtime.reactor import Reactor
from tagwerk.runtime.transport import Port, Transport, ZmqTransport
from tagwerk.runtime.transport_memory import MemoryNet, MemoryTransport
from tagwerk.runtime.watcher import ShardWatch, Watch
from tagwerk.runtime.writer_link import Batch, Ticket, WriterLink

NAMES = ["cvt/0", "echo/0", "client/0"]
NOW_NS = 1_700_000_000_000_000_000
SHARD = "cvt/0"
TEMP, LEVEL, HELD, COUNT, NOTE, FED = 1, 2, 3, 4, 5, 6
TAGS = [
    TagDef(TEMP, "hall.temp", "float", 0, unit="degC"),
    TagDef(LEVEL, "hall.level", "float", 0),
    TagDef(HELD, "hall.held", "float", 0, hold_s=2.0),
    TagDef(COUNT, "hall.count", "int", 0),
    TagDef(NOTE, "hall.note", "str", 0, writable=True),
    TagDef(FED, "plc.fed", "float", 0, source="opcua/plc"),
]


class ShiftedClock:
    """The clock of this host, which a test may put forward, or set."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self._shift_ns = 0
        self._step_ns = 0

    def now_ns(self) -> int:
        return self._system.now_ns() + self._shift_ns + self._step_ns

    def mono_ns(self) -> int:
        return self._system.mono_ns() + self._shift_ns

    def advance(self, seconds: float) -> None:
        self._shift_ns += round(seconds * 1e9)

    def step_wall(self, seconds: float) -> None:
        self._step_ns += round(seconds * 1e9)


class Say(Message, frozen=True):
    """Say it back; after `refuse` with a refusal, after `later` when told."""

    text: str
    how: str = ""


class Said(Message, frozen=True):
    """It was said."""

    text: str


class Echo(Actor):
    """Says what it hears, and notes it."""

    def __init__(self, context: ActorContext, transport: Transport | None = None) -> None:
        super().__init__(context, transport)
        self.heard: list[str] = []
        self.waiting: list[Later] = []
        self.flushes = 0

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        if not isinstance(message, Say):
            return super().on_message(message, sender)
        self.heard.append(message.text)
        if message.how == "refuse":
            return Refusal("BadValue", "not that", "hall.temp")
        if message.how == "later":
            self.waiting.append(Later())
            return self.waiting[-1]
        return Said(message.text)

    def on_flush(self) -> None:
        self.flushes += 1


class Killed(Exception):  # noqa: N818  it is an event
    """Raised in the middle of something, where a kill -9 is to hit."""


class FullDisk(Disk):
    """A disk that may be full."""

    full = False

    def write(self, descriptor: int, parts: Sequence[Any], offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, parts, offset)


class LossyPort:
    """A port that swallows what `lose` picks, as a broken connection does."""

    def __init__(self, port: Port, lose: Callable[[Sequence[Any]], bool]) -> None:
        self._port = port
        self.lose = lose
        self.lost = 0

    def send(self, frames: Sequence[Any]) -> bool:
        if self.lose(frames):
            self.lost += 1
            return True
        return self._port.send(frames)

    def recv(self) -> list[bytes] | None:
        return self._port.recv()

    def close(self) -> None:
        self._port.close()


class Client:
    """An attached process: control lane, publisher and watches on a reactor of its own."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        self.name = name
        self.transport = rig.transport()
        self.reactor = Reactor(self.transport, rig.clock)
        self.directory = Directory(rig.page, rig.home.socket)
        self.dead_letters = DeadLetterBox()
        self.peers = Peers(name, self.reactor, self.directory, self.dead_letters)
        self.outcomes: list[Outcome] = []
        self.refused: list[tuple[int, str]] = []
        self.batches: list[Samples] = []
        self.stale: list[bool] = []

    def ask(self, message: Message, to: str = "echo/0", timeout_s: float = 5.0) -> None:
        self.peers.ask(to, message, self.outcomes.append, timeout_s)

    def publisher(self, writer: str, *, named: bool = True, incarnation: int = 1) -> Publisher:
        table = definitions.load(self.rig.home)
        publisher = Publisher(
            writer, self.reactor, self.directory, table.shard_of, 1, incarnation=incarnation, named=named
        )
        publisher.on_refused = lambda handle, code: self.refused.append((handle, code))
        publisher.open_all()
        return publisher

    def watch(self, *globs: str) -> ShardWatch:
        watch = Watch(
            globs, [SHARD], self.reactor, self.directory, self.peers, self.batches.append,
            lambda _, stale: self.stale.append(stale),
        )  # fmt: skip
        return watch.shards[SHARD]

    def seen(self, handle: int) -> list[tuple[Any, int]]:
        """(value, quality) of each sample of a tag that the watches gave; None where only the quality came."""
        found: list[tuple[Any, int]] = []
        for batch in self.batches:
            for row, tag in enumerate(batch.tags.tolist()):
                if tag == handle:
                    found.append((None if batch.values is None else batch.values[row], int(batch.quality[row])))
        return found

    def await_kind(self, kind: Kind, peer: str = "echo/0") -> None:
        """Until a frame of this kind has come from a peer; all that came is taken in before a deadline is looked at."""
        link = self.peers._links[peer]
        come: list[list[bytes]] = []
        end = time.monotonic() + 10.0
        while not any(read_header(frames[0]).kind == kind for frames in come):
            assert time.monotonic() < end, f"no {kind.name} came"
            frames = link.port.recv()
            if frames is None:
                time.sleep(0.001)
            else:
                come.append(frames)
        for frames in come:
            self.peers._receive(link, frames)

    def kill(self) -> None:
        self.transport.close()
        self.rig.clients.remove(self)


@dataclass
class Logged:
    """A sample in the journal."""

    kind: int
    writer: str
    value: Any
    time_ns: int
    quality: int


TURN_S = 1e-6


class Rig:
    """The plant. `zmq`: on real sockets, with a clock that runs; otherwise time stands still between turns."""

    def __init__(self, tmp_path: Path, *, zmq: bool, tags: Sequence[TagDef] = TAGS) -> None:
        self.zmq = zmq
        self.home = Home(tmp_path / "home").create()
        self.net = MemoryNet()
        self.clock = ShiftedClock() if zmq else ManualClock(NOW_NS, 10**12)
        self.page = Page.create(tmp_path / "node.page", NAMES, Identity.own())
        self.plant = parse("", tmp_path / "plant.toml")
        definitions.store(self.home, definitions.DefinitionTable(1, tags))
        self.actors: dict[str, Actor] = {}
        self.clients: list[Client] = []
        self.incarnation = 0
        self.code = tmp_path
        self.disk = FullDisk()
        self.still: set[str] = set()
        """Actors that are stopped, as by SIGSTOP."""

    def transport(self) -> Transport:
        return ZmqTransport() if self.zmq else MemoryTransport(self.net)

    def start(self, name: str, cls: Any) -> Any:
        self.incarnation += 1
        slot = self.page.slot(name)
        slot.attach(pid=self.incarnation, incarnation=self.incarnation, mono_ns=1)
        self.say(name, PeerState.RUNNING)
        context = ActorContext(name, self.home, self.plant, self.incarnation, slot, self.page, self.clock, self.code)
        actor = cls(context, self.transport())
        if isinstance(actor, Cvt):
            actor.journal._disk = self.disk
        actor._open()
        actor.on_start()
        slot.write_state(PeerState.RUNNING)
        self.actors[name] = actor
        return actor

    def shard(self) -> Cvt:
        shard: Cvt = self.start(SHARD, Cvt)
        return shard

    def echo(self) -> Echo:
        echo: Echo = self.start("echo/0", Echo)
        return echo

    def client(self, name: str = "attach/test") -> Client:
        client = Client(self, name)
        self.clients.append(client)
        return client

    def say(self, name: str, state: PeerState) -> None:
        self.page.slot(name).write_node(
            state=state, pid=self.incarnation, start_ticks=1, since_mono_ns=1, restarts=0, fatal_count=0, fatal=False,
            retry_at_mono_ns=0, hang_after_ns=0, reason="",
        )  # fmt: skip

    def kill(self, name: str = SHARD) -> None:
        """Without a word, as by kill -9; what is written stays written."""
        actor = self.actors.pop(name)
        actor._transport.close()
        if isinstance(actor, Cvt):
            actor.journal._tail.close()
            actor.journal._shelf.close()
            actor.memory.close()
            actor._outbox_db.close()
        self.say(name, PeerState.BACKOFF)

    # --- turning -----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Every actor and client serves what is there. No turn takes no time at all."""
        if isinstance(self.clock, ManualClock):
            self.clock.advance(TURN_S)
        for name, actor in list(self.actors.items()):
            if name in self.still:
                continue
            mailbox = actor.actor_inbox
            mailbox.reactor.step(0)
            try:
                while (envelope := mailbox.take()) is not None:
                    actor.on_receive(envelope.message)
                mailbox.flush()
            except Killed:
                self.kill(name)
        for client in list(self.clients):
            client.reactor.step(0)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        steps = max(1, round(seconds / 0.05))
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            for _ in range(4):
                self.turn()
                if self.zmq:
                    time.sleep(0.0005)  # libzmq's own thread carries the frames

    def until(self, condition: Callable[[], Any], seconds: float = 6.0) -> None:
        """Turn until it is so; fails if that takes more than `seconds`."""
        end_ns = self.clock.mono_ns() + round(seconds * 1e9)
        while not condition():
            assert self.clock.mono_ns() < end_ns, "it did not come to pass"
            self.turn()
            if self.zmq:
                time.sleep(0.0005)
            else:
                self.clock.advance(0.002)

    def close(self) -> None:
        for client in list(self.clients):
            client.kill()
        for name in list(self.actors):
            self.kill(name)
        self.page.close()
        for left in (self.home.root / "run").resolve().glob("*"):
            left.unlink()
        assert self.home.remove_run()

    # --- looking -----------------------------------------------------------------------------------------------------

    @property
    def cvt(self) -> Cvt:
        shard = self.actors[SHARD]
        assert isinstance(shard, Cvt)
        return shard

    def state(self, handle: int) -> TagState:
        table = self.cvt.table
        row = table.row(handle)
        assert row is not None
        return TagState(
            handle, table.value(row), int(table.quality[row]), int(table.times[row]), int(table.received[row])
        )

    def logged(self, handle: int) -> list[Logged]:
        """All that the journal says of a tag, in order."""
        found: list[Logged] = []
        for record in self.cvt.journal.replay(0):
            if record.kind not in (SAMPLES, LOSS, HISTORY_ONLY):
                continue
            for batch in decode(record.frame):
                for row in (batch.tags == handle).nonzero()[0].tolist():
                    value = None if batch.values is None else batch.values[row]
                    found.append(
                        Logged(record.kind, record.writer, value, int(batch.times[row]), int(batch.quality[row]))
                    )
        return found

    def values(self, handle: int) -> list[Any]:
        """The values of a tag in the journal, in order."""
        return [one.value for one in self.logged(handle) if one.value is not None]

    def publish(
        self, publisher: Publisher, handle: int, *values: float, at_ns: int | None = None, backfill: bool = False
    ) -> Ticket:
        """One frame of this tag's values; the returned ticket tells what became of it."""
        ticket = Ticket()
        now_ns = self.clock.now_ns() if at_ns is None else at_ns
        publisher.publish(make(ValueType.FLOAT, [handle] * len(values), values, now_ns), ticket, backfill=backfill)
        ticket.close()
        publisher.flush()  # what is published after it is a frame of its own
        return ticket

    def settle(self, publisher: Publisher, handle: int, *values: float, at_ns: int | None = None) -> Ticket:
        """As `publish`, and wait for the acknowledgement."""
        ticket = self.publish(publisher, handle, *values, at_ns=at_ns)
        self.until(lambda: done(ticket))
        return ticket


def push_raw(publisher: Publisher, frame: bytes, *tickets: Ticket) -> None:
    """These bytes as the next frame, a row of it for each ticket."""
    for ticket in tickets:
        ticket.add()
        ticket.close()
    link_of(publisher).window.push(Batch(frame, False, tuple(enumerate(tickets, 1))))


def done(ticket: Ticket) -> bool:
    """All frames of it are acknowledged."""
    return ticket._closed and ticket._out == 0


def link_of(publisher: Publisher) -> WriterLink:
    """The link to the one shard."""
    return publisher.links[0]
