"""A machine on its bench: declarations, chart, and what survives a restart."""

import logging
from pathlib import Path
from typing import Any

import pytest
from statemachine import State

from tagwerk.actors.machines import Input, Machine, Output, Parameter
from tagwerk.actors.machines.declare import outputs_of
from tagwerk.actors.machines.machine import operator_events
from tagwerk.actors.machines.stage import Stage
from tagwerk.actors.machines.store import FILE, MachineStore
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import ConfigError, Refused, TagwerkError, Unknown
from tagwerk.protocols.plantwide import Event
from tagwerk.runtime.clock import ManualClock

S = 1_000_000_000


class Tank(Machine):
    """Fills until it is full."""

    keep = ("count", "notes")
    count = 0

    level = Input("tank.level", unit="percent", required=True)
    stop = Input("tank.stop")
    valve = Output("tank.valve", safe=False)
    speed = Output("pump.speed", unit="percent", safe=10)
    mode = Output("tank.mode", safe="keep")
    fills = Output(type="int")
    full_at = Parameter(80.0, unit="percent", low=0.0, high=100.0)
    batch = Parameter(3, low=1)
    name_plate = Parameter("A")

    idle = State(initial=True)
    filling = State()
    ended = State(final=True)

    fill = idle.to(filling, unless="stop")
    end = idle.to(ended)
    _full = filling.to(idle)

    def __init__(self) -> None:
        self.notes: list[str] = []
        super().__init__()

    def on_enter_filling(self) -> None:
        self.valve = True

    def on_exit_filling(self) -> None:
        self.valve = False
        self.count += 1

    def cycle(self, now_ns: int) -> None:
        self.fills = self.count
        if self.state == "filling" and self.level >= self.full_at:
            self.notes.append("full")
            self._full()

    def on_write_failed(self, output: str, error: TagwerkError) -> None:
        if self.state == "filling":
            self.notes.append(f"{output}: {error}")
            self._full()


class TestDeclarations:
    def test_a_machine_lives_without_a_plant(self) -> None:
        tank = Tank()
        assert (tank.state, tank.level, tank.valve, tank.full_at) == ("idle", None, None, 80.0)
        tank.bench.feed("level", 12.5)
        assert tank.level == 12.5
        tank.bench.feed("level", 12.5, q.BAD_NO_COMMUNICATION, 7)
        assert tank.level is None
        assert tank.quality_of("level") == q.BAD_NO_COMMUNICATION
        assert tank.time_of("level") == 7
        with pytest.raises(AttributeError, match="no input or output 'nothing'"):
            tank.quality_of("nothing")

    def test_the_class_shows_what_it_declares(self) -> None:
        assert Tank.level.tag == "tank.level"
        assert outputs_of(Tank)["valve"].safe is False
        assert Tank.full_at.high == 100.0

    def test_inputs_and_parameters_cannot_be_set(self) -> None:
        tank: Any = Tank()
        with pytest.raises(AttributeError, match="level is an input"):
            tank.level = 1.0
        with pytest.raises(AttributeError, match="full_at is a parameter"):
            tank.full_at = 1.0

    def test_names_of_machine_are_taken(self) -> None:
        with pytest.raises(TypeError, match=r"Bad\.log: the name is taken by Machine"):
            type("Bad", (Machine,), {"log": Input("a.b")})

    def test_a_published_output_has_its_type(self) -> None:
        tank = Tank()
        tank.fills = 3.0
        assert tank.fills == 3
        with pytest.raises(TypeError, match=r"fills takes int, not 2\.5"):
            tank.fills = 2.5
        tank.fills = None
        assert tank.fills is None

    def test_a_number_that_is_not_finite_is_no_value(self) -> None:
        tank = Tank()
        tank.speed = float("nan")
        assert tank.speed is None

    def test_an_output_shows_what_was_read_back_until_it_is_set(self) -> None:
        tank = Tank()
        assert tank.mode is None
        tank.speed = 40
        assert tank.speed == 40

    def test_safe_values_are_set_whatever_was_set_before(self) -> None:
        tank = Tank()
        tank.mode = "run"
        tank.to_safe()
        assert (tank.valve, tank.speed, tank.mode) == (False, 10, "run")
        assert tank.bench.forced == {"valve", "speed"}

    def test_own_events_are_not_for_operators(self) -> None:
        tank = Tank()
        assert operator_events(tank) == ("fill", "end")
        tank.send("fill")
        assert operator_events(tank) == ()

    def test_elapsed_time_begins_with_the_state(self) -> None:
        tank = Tank()
        tank.bench.advance(5.0)
        assert tank.elapsed_s == 5.0
        tank.send("fill")
        assert tank.elapsed_s == 0.0
        tank.bench.advance(2.0)
        assert (tank.elapsed_s, tank.cycle_s) == (2.0, 2.0)

    @pytest.mark.parametrize(
        ("parameter", "value", "code"),
        [
            (Tank.full_at, "80", "WrongType"),
            (Tank.full_at, True, "WrongType"),
            (Tank.full_at, 101.0, "OutOfRange"),
            (Tank.full_at, float("nan"), "BadValue"),
            (Tank.batch, 2.5, "WrongType"),
            (Tank.batch, 0, "OutOfRange"),
            (Tank.name_plate, 3, "WrongType"),
            (Tank.name_plate, "x" * 1001, "WrongType"),
        ],
    )
    def test_a_parameter_refuses_what_does_not_fit(self, parameter: Any, value: object, code: str) -> None:
        with pytest.raises(Refused) as refused:
            parameter.accept(value)
        assert refused.value.code == code

    def test_a_parameter_takes_what_fits(self) -> None:
        assert Tank.full_at.accept(7) == 7.0
        assert type(Tank.full_at.accept(7)) is float
        assert Tank.batch.accept(4.0) == 4


def event(kind: str = "machine.send") -> Event:
    return Event(1, "ada", "host", kind, "machine/tank", reason="because")


class Home:
    """A machine's directory and clock over several lives of its process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(100 * S, 50 * S)
        self.stages: list[Stage] = []

    def born(self, after_restart: str = "wait", boot: int = 1, kind: type[Machine] = Tank, **configured: Any) -> Stage:
        store = MachineStore(self.folder)
        stage = Stage(kind, configured, {"valve": "bool"}, store, self.clock, boot, logging.getLogger("tank"))
        stage.start(after_restart)
        self.stages.append(stage)
        return stage

    def events(self, stage: Stage) -> list[tuple[str, str, str, str]]:
        page = stage._store.outbox.page(0, 100)
        return [(found.kind, found.user, found.before, found.after) for _, found in page.events]


@pytest.fixture
def home(tmp_path: Path) -> Any:
    home = Home(tmp_path)
    yield home
    for stage in home.stages:
        stage._store.close()


def fill(home: Home, stage: Stage, level: float) -> None:
    stage.bench.feed("level", level)
    home.clock.advance(1.0)
    stage.set_time()
    stage.cycle(1.0)


class TestOwnDoing:
    def test_what_an_operator_could_have_done_is_told_and_its_work_is_not(self, home: Home) -> None:
        class Careful(Tank):
            def cycle(self, now_ns: int) -> None:
                if self.state == "idle" and self.level > 99.0:
                    self.end()
                super().cycle(now_ns)

        stage = home.born(kind=Careful)
        stage.send("fill", event())
        fill(home, stage, 90.0)
        assert stage.machine.state == "idle"
        assert [one[0] for one in home.events(stage)] == ["machine.send"]
        fill(home, stage, 100.0)
        assert home.events(stage)[1:] == [("machine.self", "tank", "idle", "end: ended")]
        fill(home, stage, 100.0)
        assert len(home.events(stage)) == 2


class TestRestart:
    def test_the_first_start_waits_for_nobody(self, home: Home) -> None:
        stage = home.born()
        assert (stage.wait, stage.events()) == ("", ("fill", "end"))

    def test_after_a_restart_an_operator_decides(self, home: Home) -> None:
        first = home.born()
        first.send("fill", event())
        second = home.born()
        assert second.machine.state == "filling"
        assert second.wait == "waiting for an operator after a restart in state filling: resume or reset"
        assert second.events() == ("resume", "reset")
        with pytest.raises(
            Refused, match="'fill' is not allowed while it waits for an operator; allowed: resume, reset"
        ):
            second.send("fill", event())
        second.send("resume", event())
        assert (second.wait, second.machine.state, second.bench.wanted["valve"]) == ("", "filling", True)

    def test_reset_is_the_first_state_with_safe_outputs(self, home: Home) -> None:
        first = home.born()
        first.bench.feed("level", 10.0)
        fill(home, first, 10.0)
        first.send("fill", event())
        second = home.born()
        second.send("reset", event())
        assert second.machine.state == "idle"
        assert second.bench.wanted == {"valve": False, "speed": 10, "fills": None}
        assert second.events() == ("fill", "end")

    def test_resume_goes_on_with_kept_attributes_and_time_in_state(self, home: Home) -> None:
        first = home.born("resume")
        for _ in range(2):
            first.send("fill", event())
            fill(home, first, 90.0)
        first.send("fill", event())
        home.clock.advance(30.0)
        second = home.born("resume")
        machine = second.machine
        assert isinstance(machine, Tank)
        assert second.wait == ""
        assert (machine.state, machine.count, machine.notes, machine.elapsed_s) == (
            "filling",
            2,
            ["full", "full"],
            30.0,
        )

    def test_after_a_new_boot_the_wall_clock_tells_the_time_in_state(self, home: Home) -> None:
        home.born("resume").send("fill", event())
        home.clock = ManualClock(160 * S, 3 * S)
        assert home.born("resume", boot=2).machine.elapsed_s == 60.0

    def test_a_state_that_is_gone_asks_for_a_reset(self, home: Home) -> None:
        home.born().send("fill", event())

        class Other(Machine):
            waiting = State(initial=True)
            over = State()
            go = waiting.to(over)

        stage = home.born("resume", kind=Other)
        assert stage.machine.state == "waiting"
        assert "filling, which its class has no more" in stage.wait
        assert stage.events() == ("reset",)

    def test_an_ended_machine_can_be_reset(self, home: Home) -> None:
        stage = home.born()
        stage.send("end", event())
        assert stage.events() == ("reset",)
        stage.send("reset", event())
        assert stage.machine.state == "idle"

    def test_a_store_that_cannot_be_read_is_an_error_of_configuration(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_bytes(b"not a database" * 1000)
        with pytest.raises(ConfigError, match="cannot be read"):
            MachineStore(tmp_path)


class TestEvents:
    def test_an_event_that_is_not_allowed_names_those_that_are(self, home: Home) -> None:
        stage = home.born()
        with pytest.raises(Refused, match="'stop' is not allowed in state idle; allowed: fill, end") as refused:
            stage.send("stop", event())
        assert refused.value.code == "NotActive"
        with pytest.raises(Refused, match="'_full' is not allowed"):
            stage.send("_full", event())

    def test_a_guard_refuses(self, home: Home) -> None:
        stage = home.born()
        stage.bench.feed("stop", True)
        with pytest.raises(Refused, match="'fill' is not allowed in state idle now: its condition does not hold"):
            stage.send("fill", event())
        assert home.events(stage) == []

    def test_who_did_it_is_recorded_with_it(self, home: Home) -> None:
        stage = home.born()
        stage.send("fill", event())
        stage.set_parameter("full_at", 70, event("machine.set"))
        assert home.events(stage) == [
            ("machine.send", "ada", "idle", "fill: filling"),
            ("machine.set", "ada", "full_at: 80.0", "full_at: 70.0"),
        ]

    def test_a_failed_write_may_change_the_state(self, home: Home) -> None:
        stage = home.born()
        stage.send("fill", event())
        stage.write_failed("valve", Unknown("the link died"))
        assert stage.machine.state == "idle"
        assert home.born().machine.state == "idle"

    def test_an_exception_of_the_machine_is_not_hidden(self, home: Home) -> None:
        stage = home.born()
        stage.send("fill", event())
        with pytest.raises(TypeError):
            stage.cycle(1.0)  # the level is not known: None >= 80


class TestParameters:
    def test_the_plant_file_over_the_default_and_the_operator_over_both(self, home: Home) -> None:
        first = home.born(full_at=60.0)
        assert (first.bench.parameters["full_at"], first.bench.parameters["batch"]) == (60.0, 3)
        first.set_parameter("full_at", 55.0, event())
        assert home.born(full_at=60.0).bench.parameters["full_at"] == 55.0

    def test_what_does_not_exist_is_refused(self, home: Home) -> None:
        with pytest.raises(Refused, match="no parameter 'level'; there are: full_at, batch, name_plate"):
            home.born().set_parameter("level", 1.0, event())

    def test_what_is_refused_changes_nothing(self, home: Home) -> None:
        stage = home.born()
        with pytest.raises(Refused, match=r"full_at: 101 is outside 0\.\.100 percent"):
            stage.set_parameter("full_at", 101.0, event())
        assert stage.bench.parameters["full_at"] == 80.0
        assert home.born().bench.parameters["full_at"] == 80.0


class TestKeeping:
    def test_changes_between_transitions_are_stored_after_a_while(self, home: Home) -> None:
        first = home.born("resume")
        first.send("fill", event())
        machine = first.machine
        assert isinstance(machine, Tank)
        machine.notes.append("half")
        fill(home, first, 40.0)
        second = home.born("resume").machine
        assert isinstance(second, Tank)
        assert second.notes == []
        home.clock.advance(5.0)
        fill(home, first, 41.0)
        third = home.born("resume").machine
        assert isinstance(third, Tank)
        assert third.notes == ["half"]

    def test_what_cannot_be_kept_is_named(self, home: Home) -> None:
        stage = home.born()
        machine = stage.machine
        assert isinstance(machine, Tank)
        machine.notes.append(object())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="keep: notes is"):
            stage.save()
