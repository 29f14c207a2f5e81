"""Shards, alarms, historian and events of one plant in one thread, on the in-memory twin, with a clock to set."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tagwerk.actors.alarms.actor import Alarms
from tagwerk.actors.cvt.actor import Cvt
from tagwerk.actors.events.actor import Events
from tagwerk.actors.historian.actor import Historian
from tagwerk.protocols.alarms import AlarmList, AlarmRow, GetAlarms, GetOccurrences, Occurrence, OccurrenceList
from tagwerk.protocols.history import GetHistory, HistoryPage
from tagwerk.protocols.message import Message
from tagwerk.protocols.plantwide import Event, EventList, GetEvents
from tagwerk.protocols.samples import ValueType, decode, make
from tagwerk.protocols.tags import ReadTags, TagDef, TagState, TagStates
from tagwerk.runtime import definitions
from tagwerk.runtime.actor import Actor, Outcome
from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page, PeerState
from tagwerk.runtime.plantfile import parse
from tagwerk.runtime.process import Identity
from tagwerk.runtime.publisher import Publisher
from tagwerk.runtime.transport_memory import MemoryNet, MemoryTransport
from tagwerk.runtime.writer_link import Ticket

NOW_NS = 1_700_000_000_000_000_000
S = 1_000_000_000
HOUR_S = 3_600.0
KINDS: dict[str, Any] = {"cvt": Cvt, "alarms": Alarms, "historian": Historian, "events": Events, "client": Actor}
ALL = ("cvt/0", "cvt/1", "alarms/0", "historian/0", "events/0")


class HostClock(ManualClock):
    """A host's clock that somebody may set."""

    def step(self, seconds: float) -> None:
        self._now_ns += round(seconds * S)


@contextmanager
def running(folder: Path, monkeypatch: pytest.MonkeyPatch, plant: str) -> Generator[Rig]:
    """All of it, up, on a disk that has room."""
    (folder / "rt").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "rt"))
    monkeypatch.setattr("tagwerk.actors.historian.actor.used_pct", lambda _path: 10.0)
    rig = Rig(folder, plant)
    rig.start(*ALL)
    yield rig
    rig.close()


class Rig:
    """The plant: a tag `sN.t` with the handle N + 1 in each shard N, and what the plant file says.

    Args:
        folder: Where it lives.
        plant: The plant file, without its shards.
        stale_after_s: Of both tags.
    """

    def __init__(self, folder: Path, plant: str = "", stale_after_s: float | None = None) -> None:
        self.home = Home(folder / "home").create()
        self.net = MemoryNet()
        self.clock = HostClock(NOW_NS, 10**12)
        self.page = Page.create(folder / "node.page", [*ALL, "client/0", "opcua/plc"], Identity.own())
        tags = "".join(f'[tag."s{number}.t"]\ntype = "float"\nunit = "degC"\n' for number in range(2))
        self.plant = parse(f"[plant]\nshards = 2\n{tags}{plant}", folder / "plant.toml")
        defined = [
            TagDef(number + 1, f"s{number}.t", "float", number, unit="degC", stale_after_s=stale_after_s)
            for number in range(2)
        ]
        definitions.store(self.home, definitions.DefinitionTable(1, defined))
        self.code = folder
        self.actors: dict[str, Actor] = {}
        self.publishers: list[Publisher] = []
        self.tickets: list[Ticket] = []
        self.incarnation = 0

    # --- actors ------------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        for name in names:
            self.incarnation += 1
            slot = self.page.slot(name)
            slot.attach(pid=self.incarnation, incarnation=self.incarnation, mono_ns=1)
            self.say(name, PeerState.RUNNING)
            context = ActorContext(
                name, self.home, self.plant, self.incarnation, slot, self.page, self.clock, self.code
            )
            actor = KINDS[name.partition("/")[0]](context, MemoryTransport(self.net))
            self.actors[name] = actor
            actor._open()
            actor.on_start()
            slot.write_state(PeerState.RUNNING)
            self.turn()

    def say(self, name: str, state: PeerState, *, count: int = 0) -> None:
        self.page.slot(name).write_node(
            state=state, pid=self.incarnation, start_ticks=1, since_mono_ns=1, restarts=0, fatal_count=count,
            fatal=state is PeerState.FATAL, retry_at_mono_ns=0, hang_after_ns=0, reason="",
        )  # fmt: skip

    def kill(self, *names: str) -> None:
        """Without a word, as by kill -9; what is written stays written."""
        for name in names:
            actor: Any = self.actors.pop(name)
            actor._transport.close()
            if isinstance(actor, Cvt):
                actor.journal._tail.close()
                actor.journal._shelf.close()
                actor._outbox_db.close()
            elif not name.startswith("client"):
                actor._store.close()
            self.say(name, PeerState.BACKOFF)

    def close_actors(self) -> None:
        self.kill(*list(self.actors))

    def close(self) -> None:
        self.close_actors()
        self.page.close()
        for left in (self.home.root / "run").resolve().glob("*"):
            left.unlink()
        assert self.home.remove_run()

    # --- time --------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        for _ in range(6):
            for actor in list(self.actors.values()):
                mailbox = actor.actor_inbox
                mailbox.reactor.step(0)
                while (envelope := mailbox.take()) is not None:
                    actor.on_receive(envelope.message)
                mailbox.flush()

    def run(self, seconds: float, step_s: float = 0.05) -> None:
        for _ in range(max(1, round(seconds / step_s))):
            self.clock.advance(step_s)
            self.turn()

    # --- a writer and its questions ----------------------------------------------------------------------------------

    def writer(self, name: str = "writer/w") -> Publisher:
        if "client/0" not in self.actors:
            self.start("client/0")
        client = self.actors["client/0"]
        table = definitions.load(self.home)
        publisher = Publisher(
            name.partition("/")[2], client.reactor, client.directory, table.shard_of, 2, incarnation=1, named=True
        )
        publisher.open_all()
        self.publishers.append(publisher)
        self.run(0.2)
        return publisher

    def publish(self, publisher: Publisher, shard: int, value: float, quality: int = 0) -> None:
        """A value measured now, by the wall clock of this host."""
        ticket = Ticket()
        batch = make(ValueType.FLOAT, [shard + 1], [value], self.clock.now_ns(), quality)
        publisher.publish(batch, ticket)
        ticket.close()
        publisher.flush()
        self.tickets.append(ticket)
        self.turn()

    def ask(self, to: str, message: Message) -> Outcome:
        if "client/0" not in self.actors:
            self.start("client/0")
        answers: list[Outcome] = []
        self.actors["client/0"].ask_until(to, message, answers.append, timeout_s=5.0)
        for _ in range(100):
            if answers:
                break
            self.run(0.05)
        assert len(answers) == 1
        return answers[0]

    def alarm(self, name: str) -> AlarmRow:
        found = self.ask("alarms/0", GetAlarms(names=(name,)))
        assert isinstance(found, AlarmList), found
        return found.alarms[0]

    def occurrences(self) -> tuple[Occurrence, ...]:
        found = self.ask("alarms/0", GetOccurrences())
        assert isinstance(found, OccurrenceList)
        return found.occurrences

    def events(self, kind: str = "") -> list[Event]:
        self.run(0.5)
        found = self.ask("events/0", GetEvents(limit=1_000))
        assert isinstance(found, EventList)
        return [event for _, event in found.events if not kind or event.kind == kind]

    def state(self, shard: int) -> TagState:
        found = self.ask(f"cvt/{shard}", ReadTags((shard + 1,)))
        assert isinstance(found, TagStates)
        return found.states[0]

    def history(self, shard: int, start_ns: int = 0, end_ns: int = 1 << 62) -> list[float]:
        page = self.ask("historian/0", GetHistory(shard + 1, start_ns, end_ns))
        assert isinstance(page, HistoryPage)
        assert not page.behind
        batches = [batch for frame in page.frames for batch in decode(frame) if batch.values is not None]
        return [float(value) for batch in batches for value in batch.values]
