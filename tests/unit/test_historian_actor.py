"""The historian and the log of events as actors, on the in-memory transport, with a shard that says what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from full_disk import FullDisk, use_full_disk

from tagwerk.actors.events.actor import Events
from tagwerk.actors.historian import actor as historian_actor
from tagwerk.actors.historian.actor import Historian
from tagwerk.protocols.codec import pack
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.history import GetHistorianState, GetHistory, HistorianState, HistoryPage
from tagwerk.protocols.message import Message
from tagwerk.protocols.plantwide import EventList, GetEvents
from tagwerk.protocols.samples import ValueType, decode, encode, make
from tagwerk.protocols.tags import JournalPage, JournalTaken, PositionMark, ReadJournal, TagDef
from tagwerk.runtime import definitions, levels
from tagwerk.runtime.actor import Actor, Later, Outcome, Sender
from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.durable import Aside, DurableReader, JournalRecord
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page, PeerState
from tagwerk.runtime.plantfile import parse
from tagwerk.runtime.process import Identity
from tagwerk.runtime.transport_memory import MemoryNet, MemoryTransport

NAMES = ["cvt/0", "historian/0", "events/0", "client/0", "alarms/0"]
PLANT = '[plant]\nname = "test"\n'
NOW_NS = 1_700_000_000_000_000_000


class Shard(Actor):
    """Gives what stands in `records`, at most two records a page."""

    records: list[tuple[int, bytes]]
    taken: list[PositionMark]
    journal = 7
    silent = False
    hole: tuple[int, int] | None = None

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        if isinstance(message, JournalTaken):
            self.taken.append(message.position)
            return None
        if isinstance(message, ReadJournal) and message.taken is not None:
            self.taken.append(message.taken)
        if isinstance(message, ReadJournal) and not self.silent:
            after = message.after.n if message.after is not None and message.after.journal == self.journal else 0
            rest = [(n, body) for n, body in self.records if n > after]
            size = 1 if message.limit_bytes == 1 else 2
            page = rest[:size]
            last = page[-1][0] if page else after
            hole, self.hole = self.hole, None
            bodies = tuple(body for _, body in page)
            return JournalPage(PositionMark(self.journal, 1, last), bodies, len(rest) <= size, 0, hole)
        return Later() if isinstance(message, ReadJournal) else super().on_message(message, sender)

    def journaled(self, frame: bytes) -> None:
        n = len(self.records) + 1
        self.records.append((n, pack([n, 0, 0, 1, "w", n, NOW_NS, frame])))


class Rig:
    """Some actors of one plant, turned by hand."""

    def __init__(self, tmp_path: Path, plant: str = PLANT) -> None:
        self.home = Home(tmp_path / "home").create()
        self.net = MemoryNet()
        self.clock = ManualClock(NOW_NS, 10**9)
        self.page = Page.create(tmp_path / "node.page", NAMES, Identity.own())
        self.plant = parse(plant, tmp_path / "plant.toml")
        tags = [
            TagDef(1, "a.x", "float", 0),
            TagDef(2, "a.y", "int", 0, log_deadband=5.0),
            TagDef(3, "a.z", "str", 0, log=False),
        ]
        definitions.store(self.home, definitions.DefinitionTable(1, tags))
        self.running: dict[str, Actor] = {}
        self.incarnation = 0

    def start(self, name: str, cls: Any) -> Any:
        self.incarnation += 1
        slot = self.page.slot(name)
        slot.attach(pid=self.incarnation, incarnation=self.incarnation, mono_ns=1)
        self.say(name, PeerState.RUNNING, pid=self.incarnation)
        context = ActorContext(
            name, self.home, self.plant, self.incarnation, slot, self.page, self.clock, self.home.root
        )
        actor = self.running[name] = cls(context, MemoryTransport(self.net))
        if isinstance(actor, Shard):
            actor.records, actor.taken = [], []
        actor.on_start()
        slot.write_state(PeerState.RUNNING)
        self.turn()
        return actor

    def say(self, name: str, state: PeerState, *, pid: int = 0, count: int = 0, reason: str = "") -> None:
        self.page.slot(name).write_node(
            state=state, pid=pid, start_ticks=1, since_mono_ns=1, restarts=0, fatal_count=count,
            fatal=state is PeerState.FATAL, retry_at_mono_ns=0, hang_after_ns=0, reason=reason,
        )  # fmt: skip

    def kill(self, name: str) -> None:
        actor = self.running.pop(name)
        actor._transport.close()
        if isinstance(actor, (Historian, Events)):
            actor._store.close()
        self.say(name, PeerState.BACKOFF)

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(max(1, round(seconds / 0.1))):
            self.clock.advance(0.1 if seconds else 0.0)
            for _ in range(60):
                for actor in list(self.running.values()):
                    mailbox = actor.actor_inbox
                    mailbox.reactor.step(0)
                    while (envelope := mailbox.take()) is not None:
                        actor.on_receive(envelope.message)
                    mailbox.flush()

    def ask(self, to: str, message: Message, seconds: float = 0.5) -> Outcome:
        answers: list[Outcome] = []
        self.running["client/0"].ask_until(to, message, answers.append, timeout_s=5.0)
        self.turn(seconds)
        assert len(answers) == 1
        return answers[0]

    def values(self, handle: int = 1) -> list[Any]:
        page = self.ask("historian/0", GetHistory(handle, 0, 2**62))
        assert isinstance(page, HistoryPage)
        assert not page.behind
        return [value for frame in page.frames for batch in decode(frame) for value in list(batch.values)]

    def events(self) -> list[tuple[str, str, str]]:
        found = self.ask("events/0", GetEvents())
        assert isinstance(found, EventList)
        return [(event.kind, event.target, event.after) for _, event in found.events]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    (tmp_path / "rt").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "rt"))
    monkeypatch.setattr(historian_actor, "used_pct", lambda _path: 10.0)
    rig = Rig(tmp_path)
    rig.start("client/0", Actor)
    yield rig
    for name in list(rig.running):
        rig.kill(name)


def floats(*values: float) -> bytes:
    return encode([make(ValueType.FLOAT, [1] * len(values), list(values), NOW_NS)])


def test_what_was_acknowledged_before_a_question_is_in_the_answer(rig: Rig) -> None:
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    for n in range(5):
        shard.journaled(floats(n, n + 0.5))  # no bell rings
    assert rig.values() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    rig.turn(1.1)  # the next question tells
    assert shard.taken[-1] == PositionMark(7, 1, 5)
    assert rig.ask("historian/0", GetHistorianState()) == HistorianState(10, (("cvt/0", 5),))


def test_a_killed_historian_goes_on_where_it_committed(rig: Rig) -> None:
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    assert rig.values() == [1.0]
    rig.kill("historian/0")
    shard.journaled(floats(2.0))
    rig.start("historian/0", Historian)
    assert rig.values() == [1.0, 2.0]
    rig.kill("cvt/0")
    again: Shard = rig.start("cvt/0", Shard)
    again.records = shard.records  # the same journal
    again.journaled(floats(3.0))
    assert rig.values() == [1.0, 2.0, 3.0]


def test_a_rule_leaves_out_the_same_however_often_the_historian_dies(rig: Rig) -> None:
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    for number, value in enumerate([10, 12, 14, 16, 15, 11, 12]):
        shard.journaled(encode([make(ValueType.INT, [2], [value], NOW_NS + number)]))
        assert rig.values(2)[-1] == value  # held back or not
        rig.kill("historian/0")
        rig.start("historian/0", Historian)
    assert rig.values(2) == [10, 16, 11, 12]
    state = rig.ask("historian/0", GetHistorianState())
    assert isinstance(state, HistorianState)
    assert state.rows == 3


def test_without_the_shard_the_answer_says_that_it_is_behind(rig: Rig) -> None:
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    assert rig.values() == [1.0]
    shard.silent = True
    page = rig.ask("historian/0", GetHistory(1, 0, 2**62), seconds=2.5)
    assert isinstance(page, HistoryPage)
    assert page.behind
    assert len(page.frames) == 1


def test_questions_about_nothing_are_refused(rig: Rig) -> None:
    rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    unknown = rig.ask("historian/0", GetHistory(99, 0, 1))
    assert isinstance(unknown, Refused)
    assert unknown.code == "UnknownTag"
    assert isinstance(rig.ask("historian/0", GetHistory(1, 0, 1, limit=-1)), Refused)


def test_a_hole_and_a_broken_record_become_one_event_each(rig: Rig) -> None:
    rig.start("events/0", Events)
    shard: Shard = rig.start("cvt/0", Shard)
    shard.hole = (3, 9)
    shard.journaled(b"\xc1")
    shard.journaled(floats(1.0))
    rig.start("historian/0", Historian)
    assert rig.values() == [1.0]
    want = [("record_set_aside", "cvt/0", "1"), ("hole", "cvt/0", "9")]
    rig.turn(1.0)
    assert rig.events() == want
    for name, cls in (("historian/0", Historian), ("events/0", Events)):
        rig.kill(name)
        rig.start(name, cls)
    rig.turn(11.0)
    assert rig.events() == want


def test_the_event_of_a_hole_names_both_journals(rig: Rig) -> None:
    rig.start("events/0", Events)
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    assert rig.values() == [1.0]
    shard.journal, shard.hole = 9, (1, 1)
    shard.records.clear()
    shard.journaled(floats(2.0))
    assert rig.values() == [1.0, 2.0]
    rig.turn(1.0)
    found = rig.ask("events/0", GetEvents())
    assert isinstance(found, EventList)
    (event,) = [event for _, event in found.events]
    assert (event.kind, event.before, event.after) == ("hole", "1", "1")
    assert f"journal {9:016x} in the place of {7:016x}" in event.reason


def test_a_record_that_kills_twice_is_set_aside_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    poison = floats(666.0)
    take = Historian.take

    def take_or_die(
        historian: Historian, shard: str, page: JournalPage, records: list[JournalRecord], aside: list[Aside]
    ) -> None:
        if any(record.frame == poison for record in records):
            raise ZeroDivisionError("poison")
        take(historian, shard, page, records, aside)

    monkeypatch.setattr(Historian, "take", take_or_die)
    rig.start("events/0", Events)
    shard: Shard = rig.start("cvt/0", Shard)
    shard.journaled(floats(1.0))
    shard.journaled(poison)
    shard.journaled(floats(2.0))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            rig.start("historian/0", Historian)
        rig.kill("historian/0")
    rig.start("historian/0", Historian)
    assert rig.values() == [1.0, 2.0]
    rig.turn(1.0)
    assert rig.events() == [("record_set_aside", "cvt/0", "2")]


@pytest.mark.parametrize("body", [b"\xc1", pack([2, 0]), pack([2, 0, 0, 1, "w", 2, NOW_NS, "no bytes"])])
def test_what_is_no_record_is_set_aside_at_once(rig: Rig, body: bytes) -> None:
    rig.start("events/0", Events)
    shard: Shard = rig.start("cvt/0", Shard)
    shard.journaled(floats(1.0))
    shard.records.append((2, body))
    shard.journaled(floats(2.0))
    rig.start("historian/0", Historian)
    assert rig.values() == [1.0, 2.0]
    rig.turn(1.0)
    assert rig.events() == [("record_set_aside", "cvt/0", "2")]


def test_a_commit_without_room_is_done_again_and_nothing_twice(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    use_full_disk(monkeypatch)
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    assert rig.values() == [1.0]
    historian = rig.running["historian/0"]
    FullDisk.full = True
    shard.journaled(floats(2.0))
    rig.turn(5.0)
    page = rig.ask("historian/0", GetHistory(1, 0, 2**62), seconds=2.5)
    assert isinstance(page, HistoryPage)
    assert page.behind
    assert len(page.frames) == 1
    assert shard.taken[-1].n == 1
    shard.journaled(floats(3.0))
    FullDisk.full = False
    rig.turn(2.0)
    assert rig.values() == [1.0, 2.0, 3.0]
    assert shard.taken[-1].n == 3
    assert rig.running["historian/0"] is historian


def test_a_kill_between_commit_and_taken_doubles_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    shard: Shard = rig.start("cvt/0", Shard)
    monkeypatch.setattr(DurableReader, "taken", lambda *_: None)  # as far as it comes before the kill
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0, 2.0))
    assert rig.values() == [1.0, 2.0]
    assert shard.taken == []
    rig.kill("historian/0")
    monkeypatch.undo()
    monkeypatch.setattr(historian_actor, "used_pct", lambda _path: 10.0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(rig.home.run.resolve().parent))
    rig.start("historian/0", Historian)
    shard.journaled(floats(3.0))
    assert rig.values() == [1.0, 2.0, 3.0]
    rig.turn(1.1)  # the next question tells
    assert shard.taken[-1].n == 2


def test_a_page_that_is_dropped_while_the_disk_is_full_ends_no_reading(rig: Rig) -> None:
    shard: Shard = rig.start("cvt/0", Shard)
    historian = rig.start("historian/0", Historian)
    rig.turn(1.5)
    shard.journaled(floats(1.0))
    reader = historian._readers["cvt/0"]
    reader.catch_up(lambda: None)
    reader.restart(reader.after)  # the store came back; the page is under way
    historian._disk._used_pct = lambda: 99.0
    historian._look_at_disk()
    rig.turn(1.5)
    historian._disk._used_pct = lambda: 50.0
    historian._look_at_disk()
    rig.turn(2.5)
    assert rig.values() == [1.0]


def test_what_was_taken_by_a_store_is_not_told_once_another_one_is_there(rig: Rig) -> None:
    shard: Shard = rig.start("cvt/0", Shard)
    historian = rig.start("historian/0", Historian)
    rig.turn(1.5)
    reader, told = historian._readers["cvt/0"], len(shard.taken)
    reader.taken(PositionMark(7, 1, 50))
    reader.restart(None)
    rig.turn(2.5)
    assert shard.taken[told:] == []


def test_a_full_disk_stops_the_taking_and_keeps_answering(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.start("events/0", Events)
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    assert rig.values() == [1.0]
    historian = rig.running["historian/0"]
    assert isinstance(historian, Historian)
    historian._disk._used_pct = lambda: 99.0
    rig.turn(11.0)
    shard.journaled(floats(2.0))
    page = rig.ask("historian/0", GetHistory(1, 0, 2**62), seconds=2.5)
    assert isinstance(page, HistoryPage)
    assert page.behind
    assert shard.taken[-1].n == 1
    slot = rig.page.slot("historian/0")
    assert slot.read().counters[levels.DISK_COUNTER] == levels.DISK_STOP
    historian._disk._used_pct = lambda: 50.0
    rig.turn(12.0)
    assert slot.read().counters[levels.DISK_COUNTER] == levels.DISK_ROOM
    assert rig.values() == [1.0, 2.0]
    assert rig.events() == [("history_disk", "historian/0", "stop"), ("history_disk", "historian/0", "room")]


def test_each_fatal_is_one_event_whoever_dies(rig: Rig) -> None:
    rig.start("events/0", Events)
    rig.say("alarms/0", PeerState.FATAL, count=1, reason="no space")
    rig.turn(2.0)
    rig.kill("events/0")
    rig.start("events/0", Events)
    rig.turn(2.0)
    assert rig.events() == [("fatal", "alarms/0", "no space")]


def test_an_event_is_fetched_after_an_outage_of_its_actor(rig: Rig) -> None:
    rig.start("events/0", Events)
    shard: Shard = rig.start("cvt/0", Shard)
    shard.hole = (1, 2)
    rig.start("historian/0", Historian)
    rig.turn(0.5)
    rig.kill("historian/0")
    rig.start("historian/0", Historian)
    rig.turn(11.0)
    assert rig.events() == [("hole", "cvt/0", "2")]
    historian = rig.running["historian/0"]
    assert historian.outbox is not None
    assert historian.outbox.pending == 0


def test_the_messages_grew_at_their_end() -> None:
    assert msgspec.convert(["HistoryPage", [], None], HistoryPage) == HistoryPage((), None, False)
