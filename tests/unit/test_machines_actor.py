"""A machine as an actor, with a real shard and a link that keeps leases, on the in-memory transport."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tagwerk.actors.cvt.actor import Cvt
from tagwerk.actors.machines.actor import MachineActor
from tagwerk.actors.opcua.logic.leases import LeaseTable
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.machines import GetMachine, MachineState, SendEvent, SetParameter
from tagwerk.protocols.message import Done, Message, Refusal
from tagwerk.protocols.plantwide import OutboxPage, ReadOutbox
from tagwerk.protocols.samples import TYPE_NAMES, Value, ValueType, make
from tagwerk.protocols.tags import (
    DropLease,
    HoldLease,
    ReadTags,
    SetOutput,
    TagDef,
    TagState,
    TagStates,
    TagWritten,
    WriteUnknown,
)
from tagwerk.runtime import definitions
from tagwerk.runtime.actor import Actor, Later, Outcome, Sender
from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.home import RESTORED, Home
from tagwerk.runtime.page import Page, PeerState
from tagwerk.runtime.plantfile import parse
from tagwerk.runtime.process import Identity
from tagwerk.runtime.transport_memory import MemoryNet, MemoryTransport

NAMES = ["cvt/0", "opcua/plc", "machine/tank", "client/0", "events/0"]
NOW_NS = 1_700_000_000_000_000_000
LEVEL, VALVE, SPEED, NOTE, FILLS = 1, 2, 3, 4, 5
PLANT = """
[opcua.plc]
url = "opc.tcp://127.0.0.1:1"
[machine.tank]
class = "tank_under_test:Tank"
interval_s = 0.5
"""
TAGS = [
    TagDef(LEVEL, "tank.level", "float", 0, unit="percent", source="opcua/plc"),
    TagDef(VALVE, "tank.valve", "bool", 0, source="opcua/plc", node="v", writable=True),
    TagDef(SPEED, "pump.speed", "float", 0, unit="1/second", source="opcua/plc", node="s", writable=True),
    TagDef(NOTE, "tank.note", "str", 0, writable=True),
    TagDef(FILLS, "tank.fills", "int", 0, source="machine/tank"),
]
CODE = '''
from statemachine import State
from tagwerk import Input, Machine, Output, Parameter

class Tank(Machine):
    """Fills until it is full."""
    keep = ("failed",)
    failed = ""
    level = Input("tank.level", unit="percent", required=True)
    valve = Output("tank.valve", safe=False)
    speed = Output("pump.speed", unit="1/minute", safe=60.0)
    note = Output("tank.note", safe="keep")
    fills = Output(type="int")
    full_at = Parameter(80.0, unit="percent", low=0.0, high=100.0)
    idle = State(initial=True)
    filling = State()
    fill = idle.to(filling)
    stop = filling.to(idle)
    _full = filling.to(idle)

    def on_enter_idle(self):
        self.fills = 0 if self.fills is None else self.fills + 1

    def on_enter_filling(self):
        self.valve = True
        self.speed = 120.0
        self.note = "filling"

    def on_exit_filling(self):
        self.valve = False

    def cycle(self, now_ns):
        if self.level > 150.0:
            raise RuntimeError("the level cannot be")
        if self.state == "filling" and self.level >= self.full_at:
            self._full()

    def on_write_failed(self, output, error):
        self.failed = f"{output}: {type(error).__name__}"
'''


class Link(Actor):
    """A device of three nodes behind a link that keeps leases."""

    def on_start(self) -> None:
        self.leases = LeaseTable()
        self.device: dict[int, Value] = {LEVEL: 10.0, VALVE: False, SPEED: 0.0}
        self.writes: list[tuple[int, Value]] = []
        self.safe: list[int] = []
        self.answer: Message | None = None
        self.every(0.1, self.look)
        self.publish(*self.device)

    def publish(self, *handles: int) -> None:
        for handle in handles:
            tag = self.definitions.find(handle)
            assert tag is not None
            kind = TYPE_NAMES[tag.type]
            self.publisher().publish(make(kind, [handle], [self.device[handle]], self.clock.now_ns()))

    def lose(self, code: int = q.BAD_NO_COMMUNICATION) -> None:
        self.publisher().publish(make(ValueType.QUALITY, [LEVEL], None, self.clock.now_ns(), code))

    def look(self) -> None:
        self.leases.lapse(self.clock.mono_ns())
        self.write_safe()

    def write_safe(self) -> None:
        for handle, value in self.leases.due.items():
            self.device[handle] = value
            self.safe.append(handle)
            self.leases.written(handle)
            self.publish(handle)

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        now_ns = self.clock.mono_ns()
        try:
            if isinstance(message, HoldLease):
                self.leases.hold(message.lease, message.handles, message.safe, message.lease_s, now_ns)
                return Done()
            if isinstance(message, DropLease):
                self.leases.drop(message.lease, write_safe=message.write_safe)
                self.write_safe()
                return None
            if isinstance(message, SetOutput):
                self.leases.check_write(message.handle, message.lease, now_ns)
                return self.write(message)
        except Refused as refused:
            return Refusal(refused.code, refused.message)
        return super().on_message(message, sender)

    def write(self, message: SetOutput) -> Message:
        if self.answer is not None:
            return self.answer
        self.device[message.handle] = message.value
        self.writes.append((message.handle, message.value))
        self.publish(message.handle)
        return TagWritten(message.handle, message.value, 0, self.clock.now_ns())


class Rig:
    """The actors of a plant, turned by hand."""

    def __init__(self, tmp_path: Path, plant: str = PLANT, code: str = CODE) -> None:
        self.code = tmp_path / "code"
        self.code.mkdir()
        (self.code / "tank_under_test.py").write_text(code)
        self.home = Home(tmp_path / "home").create()
        self.net = MemoryNet()
        self.clock = ManualClock(NOW_NS, 10**12)
        self.page = Page.create(tmp_path / "node.page", NAMES, Identity.own())
        self.plant = parse(plant, tmp_path / "plant.toml")
        definitions.store(self.home, definitions.DefinitionTable(1, TAGS))
        self.running: dict[str, Actor] = {}
        self.incarnation = 0
        self.start("client/0", Actor)
        self.start("cvt/0", Cvt)
        self.link: Link = self.start("opcua/plc", Link)
        self.turn(1.0)

    def start(self, name: str, cls: Any) -> Any:
        self.incarnation += 1
        slot = self.page.slot(name)
        slot.attach(pid=self.incarnation, incarnation=self.incarnation, mono_ns=1)
        self.say(name, PeerState.RUNNING)
        context = ActorContext(name, self.home, self.plant, self.incarnation, slot, self.page, self.clock, self.code)
        actor = self.running[name] = cls(context, MemoryTransport(self.net))
        if actor.takes_samples:
            actor._open()
        actor.on_start()
        slot.write_state(PeerState.RUNNING)
        return actor

    def machine(self) -> MachineActor:
        machine: MachineActor = self.start("machine/tank", MachineActor)
        return machine

    def say(self, name: str, state: PeerState) -> None:
        self.page.slot(name).write_node(
            state=state, pid=self.incarnation, start_ticks=1, since_mono_ns=1, restarts=0, fatal_count=0, fatal=False,
            retry_at_mono_ns=0, hang_after_ns=0, reason="",
        )  # fmt: skip

    def kill(self, name: str) -> None:
        actor = self.running.pop(name)
        actor._transport.close()
        if isinstance(actor, MachineActor):
            actor._stage._store.close()
        elif isinstance(actor, Cvt):
            actor.journal.close()
            actor._outbox_db.close()
        self.say(name, PeerState.BACKOFF)

    def stop(self, name: str) -> None:
        self.running[name].on_stop()
        self.turn()
        self.running.pop(name)._transport.close()
        self.say(name, PeerState.STOPPED)

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(max(1, round(seconds / 0.1))):
            self.clock.advance(0.1 if seconds else 0.0)
            for _ in range(12):
                for actor in list(self.running.values()):
                    mailbox = actor.actor_inbox
                    mailbox.reactor.step(0)
                    while (envelope := mailbox.take()) is not None:
                        actor.on_receive(envelope.message)
                    mailbox.flush()

    def ask(self, message: Message, to: str = "machine/tank") -> Outcome:
        answers: list[Outcome] = []
        self.running["client/0"].ask_until(to, message, answers.append)
        self.turn(0.2)
        assert len(answers) == 1
        return answers[0]

    def state(self) -> MachineState:
        state = self.ask(GetMachine())
        assert isinstance(state, MachineState)
        return state

    def send(self, event: str) -> Outcome:
        return self.ask(SendEvent(event, "ada", "host", "because"))

    def level(self, value: float) -> None:
        self.link.device[LEVEL] = value
        self.link.publish(LEVEL)
        self.turn(0.6)

    def up(self) -> MachineActor:
        """A machine that runs."""
        machine = self.machine()
        self.turn(2.0)  # until its watch is in step, or the change is a part of the snapshot
        self.level(11.0)
        self.turn(2.0)
        assert self.state().running, self.state().reason
        return machine

    def tag(self, handle: int) -> TagState:
        states = self.ask(ReadTags((handle,)), "cvt/0")
        assert isinstance(states, TagStates)
        return states.states[0]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    (tmp_path / "rt").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "rt"))
    path = list(sys.path)
    rig = Rig(tmp_path)
    yield rig
    for name in list(rig.running):
        rig.kill(name)
    sys.path[:] = path
    sys.modules.pop("tank_under_test", None)


def test_it_runs_when_its_inputs_are_fresh_and_its_lease_is_held(rig: Rig) -> None:
    rig.machine()
    rig.turn(2.0)
    state = rig.state()
    assert (state.state, state.running) == ("idle", False)
    assert state.reason == "waiting for inputs: tank.level is not confirmed yet"
    assert not rig.link.leases.leases
    rig.level(12.0)
    rig.turn(2.0)
    state = rig.state()
    assert (state.running, state.reason, state.events) == (True, "", ("fill",))
    assert state.cycles > 0
    assert (state.name, state.interval_s, state.lease_s) == ("tank", 0.5, 2.0)
    assert rig.link.leases.leases[0].safe == (False, 1.0)
    assert rig.link.writes == []


def test_a_source_that_lives_but_does_not_change_is_enough(rig: Rig) -> None:
    rig.machine()
    rig.turn(8.0)
    assert rig.state().running


@pytest.mark.parametrize("by_s", [3_600, -3_600])
def test_a_wall_clock_that_is_set_stops_no_cycle_and_ends_no_lease(rig: Rig, by_s: int) -> None:
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    written, cycles = list(rig.link.writes), rig.state().cycles
    rig.clock._now_ns += by_s * 10**9
    for level in (12.0, 13.0, 14.0):
        rig.level(level)
        rig.turn(1.0)
        state = rig.state()
        assert (state.running, state.state, state.reason) == (True, "filling", "")
        assert rig.tag(LEVEL).value == level
    assert rig.state().cycles >= cycles + 8
    assert rig.link.writes == written
    assert rig.link.leases.leases[0].name == "machine/tank"


def test_outputs_are_written_once_in_the_tags_unit(rig: Rig) -> None:
    rig.up()
    state = rig.send("fill")
    assert isinstance(state, MachineState)
    assert (state.state, state.events) == ("filling", ("stop",))
    rig.turn(3.0)
    assert rig.link.writes == [(VALVE, True), (SPEED, 2.0)]
    assert rig.tag(NOTE).value == "filling"
    rig.level(90.0)
    rig.turn(1.0)
    assert rig.link.writes[2:] == [(VALVE, False)]
    assert rig.tag(FILLS).value == 1


def test_variables_show_values_in_their_units(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    shown = {row.name: (row.role, row.tag, row.unit, row.value, row.quality) for row in rig.state().variables}
    assert shown == {
        "level": ("input", "tank.level", "percent", 11.0, 0),
        "valve": ("output", "tank.valve", "", True, 0),
        "speed": ("output", "pump.speed", "1/minute", 120.0, 0),
        "note": ("output", "tank.note", "", "filling", 0),
        "fills": ("output", "tank.fills", "", 0, 0),
        "full_at": ("parameter", "", "percent", 80.0, 0),
    }


def test_what_is_not_allowed_is_refused(rig: Rig) -> None:
    rig.up()
    refused = rig.send("stop")
    assert isinstance(refused, Refused)
    assert (refused.code, refused.message) == ("NotActive", "'stop' is not allowed in state idle; allowed: fill")
    assert refused.tag.startswith("machine/")
    refused = rig.ask(SetParameter("full_at", 101.0, "ada"))
    assert isinstance(refused, Refused)
    assert refused.code == "OutOfRange"


def test_a_killed_machine_leaves_safe_outputs_and_waits_for_an_operator(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    rig.kill("machine/tank")
    rig.turn(2.5)
    assert rig.link.safe == [VALVE, SPEED]
    del rig.link.writes[:]
    rig.machine()
    rig.turn(8.0)
    state = rig.state()
    assert (state.state, state.running, state.events) == ("filling", False, ("resume", "reset"))
    assert "waiting for an operator" in state.reason
    assert (rig.link.writes, rig.link.leases.leases) == ([], ())
    rig.send("resume")
    rig.turn(3.0)
    assert rig.state().running
    assert rig.link.writes == [(VALVE, True), (SPEED, 2.0)]


def test_reset_after_a_restart_is_the_first_state(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    rig.kill("machine/tank")
    rig.machine()
    rig.turn(6.0)
    del rig.link.writes[:]
    rig.send("reset")
    rig.turn(3.0)
    assert (rig.state().state, rig.state().running) == ("idle", True)
    assert (rig.link.writes, rig.link.device[VALVE], rig.link.device[SPEED]) == ([], False, 1.0)


@pytest.fixture
def resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rig: Rig) -> Rig:
    rig.plant = parse(PLANT + 'after_restart = "resume"\nlease_s = 10.0\n', tmp_path / "plant.toml")
    return rig


def test_nothing_is_written_because_of_a_restart(resuming: Rig) -> None:
    rig = resuming
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    writes = list(rig.link.writes)
    rig.kill("machine/tank")
    rig.up()
    rig.turn(3.0)
    assert (rig.state().state, rig.state().running) == ("filling", True)
    assert (rig.link.writes, rig.link.safe) == (writes, [])


def test_a_restored_machine_waits_for_an_operator_whatever_it_does_after_a_restart(resuming: Rig) -> None:
    rig = resuming
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    rig.kill("machine/tank")
    mark = rig.home.actor_data("machine/tank") / RESTORED
    mark.touch()
    for _ in range(2):  # until somebody has looked
        rig.machine()
        rig.turn(3.0)
        state = rig.state()
        assert (state.state, state.running, state.events) == ("filling", False, ("resume", "reset"))
        rig.kill("machine/tank")
    rig.machine()
    rig.send("resume")
    assert not mark.exists()
    rig.kill("machine/tank")
    rig.up()
    rig.turn(3.0)
    assert rig.state().running


def test_a_lost_input_pauses_and_its_return_goes_on(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    rig.link.lose()
    rig.turn(1.0)
    state = rig.state()
    assert (state.state, state.running) == ("filling", False)
    assert state.reason == "waiting for inputs: tank.level is BadNoCommunication"
    rig.turn(2.5)
    assert rig.link.safe == [VALVE, SPEED]
    del rig.link.writes[:]
    rig.level(20.0)
    rig.turn(3.0)
    assert rig.state().running
    assert rig.link.writes == [(VALVE, True), (SPEED, 2.0)]


def test_a_short_loss_writes_nothing(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    del rig.link.writes[:]
    rig.link.lose()
    rig.turn(0.6)
    rig.level(20.0)
    rig.turn(2.0)
    assert rig.state().running
    assert (rig.link.writes, rig.link.safe) == ([], [])


def test_another_holder_keeps_it_waiting(rig: Rig) -> None:
    rig.link.leases.hold("attach/x", [VALVE], [None], 100.0, rig.clock.mono_ns())
    rig.machine()
    rig.turn(1.0)
    rig.level(20.0)
    rig.turn(2.0)
    state = rig.state()
    assert not state.running
    assert state.reason == "waiting for the lease on outputs: opcua/plc: Conflict: lease 'attach/x' holds this output"


@pytest.mark.parametrize(
    ("answer", "error"), [(Refusal("ReadOnly", "locked"), "Refused"), (WriteUnknown("who knows"), "Unknown")]
)
def test_a_failed_write_is_shown_told_and_not_repeated(rig: Rig, answer: Message, error: str) -> None:
    machine = rig.up()
    rig.link.answer = answer
    rig.send("fill")
    rig.turn(2.0)
    state = rig.state()
    assert state.running
    assert "write of valve to tank.valve: " in state.reason
    rig.link.answer = None
    rig.turn(3.0)
    assert rig.link.writes == []
    assert machine._stage.machine.failed.endswith(error)  # type: ignore[attr-defined]
    rig.send("stop")
    rig.turn(2.0)
    assert rig.link.writes == [(VALVE, False)]
    assert "valve" not in rig.state().reason


def test_a_clean_stop_leaves_safe_outputs_at_once(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    rig.stop("machine/tank")
    rig.turn()
    assert rig.link.safe == [VALVE, SPEED]
    assert rig.tag(FILLS).quality == q.UNCERTAIN_NO_COMMUNICATION


def test_an_exception_in_a_cycle_is_the_end_of_the_process(rig: Rig) -> None:
    rig.up()
    with pytest.raises(RuntimeError, match="the level cannot be"):
        rig.level(200.0)


def test_a_parameter_counts_from_the_next_cycle_on_and_survives(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.ask(SetParameter("full_at", 5.0, "ada", reason="small batch"))
    rig.turn(1.0)
    assert rig.state().state == "idle"
    rig.kill("machine/tank")
    rig.machine()
    rig.turn(0.5)
    assert {row.name: row.value for row in rig.state().variables}["full_at"] == 5.0


def test_who_did_what_is_owed_to_the_log_of_events(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.send("nonsense")
    rig.ask(SetParameter("full_at", 5.0, "bob"))
    page = rig.ask(ReadOutbox(0))
    assert isinstance(page, OutboxPage)
    assert [(event.kind, event.user, event.target, event.after) for _, event in page.events] == [
        ("machine.send", "ada", "machine/tank", "fill: filling"),
        ("machine.set", "bob", "machine/tank", "full_at: 5.0"),
    ]


def test_missed_cycles_are_counted(rig: Rig) -> None:
    rig.up()
    before = rig.state().overruns
    rig.clock.advance(1.7)
    rig.turn(0.1)
    assert rig.state().overruns - before in (2, 3)


def test_a_restarted_shard_is_followed_again(rig: Rig) -> None:
    rig.up()
    rig.send("fill")
    rig.turn(1.0)
    del rig.link.writes[:]
    rig.kill("cvt/0")
    rig.turn(1.0)
    rig.start("cvt/0", Cvt)
    rig.turn(3.0)
    rig.level(90.0)
    rig.turn(6.0)
    assert (rig.state().state, rig.state().running) == ("idle", True)
    assert rig.link.writes[-1] == (VALVE, False)
