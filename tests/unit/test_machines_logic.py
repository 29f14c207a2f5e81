"""When a machine runs, what it holds, what it writes: pure decisions over a hand-turned time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagwerk.actors.machines.logic import Gate, Grid, Leases, OutputPlan, Phase, WatchedTags, same
from tagwerk.protocols import quality as q

S = 1_000_000_000
TEMPERATURE, ESTOP, HEATER = 1, 2, 3


def tags() -> WatchedTags:
    return WatchedTags({TEMPERATURE: "mash.temperature", ESTOP: "estop"})


class TestGrid:
    def test_cycles_do_not_drift(self) -> None:
        grid = Grid(0, 1.0)
        assert grid.take(0) == 0
        assert grid.delay_s(400_000_000) == 0.6
        assert grid.take(1_003_000_000) == 0
        assert grid.delay_s(1_003_000_000) == pytest.approx(0.997)

    def test_what_was_missed_is_counted_and_skipped(self) -> None:
        grid = Grid(0, 1.0)
        grid.take(0)
        assert grid.take(4 * S + 1) == 3
        assert grid.delay_s(4 * S + 1) == pytest.approx(1.0)

    @given(st.lists(st.integers(0, 5 * S), min_size=1), st.integers(1, 3 * S))
    def test_every_cycle_is_run_or_missed_and_the_next_one_is_ahead(self, steps: list[int], interval_ns: int) -> None:
        grid, now_ns, cycles = Grid(0, interval_ns / S), 0, 0
        for step in steps:
            now_ns += round(grid.delay_s(now_ns) * S) + step
            cycles += 1 + grid.take(now_ns)
            assert 0 <= grid.delay_s(now_ns) <= interval_ns / S + 1e-9
        assert abs(cycles - (now_ns // interval_ns + 1)) <= 1


class TestInputs:
    def test_nothing_is_known_at_the_start(self) -> None:
        assert tags().missing(0, running=False) == [
            "mash.temperature is BadWaitingForInitialData",
            "estop is BadWaitingForInitialData",
        ]

    def test_a_change_after_the_start_counts_at_once(self) -> None:
        watched = tags()
        watched.see(TEMPERATURE, q.GOOD, 0, snapshot=False)
        watched.see(ESTOP, q.GOOD, 0, snapshot=False)
        assert watched.missing(0, running=False) == []

    def test_a_value_of_a_snapshot_counts_when_its_source_was_seen_alive(self) -> None:
        watched = WatchedTags({ESTOP: "estop"})
        watched.see(ESTOP, q.GOOD, 0, snapshot=True)
        assert watched.missing(3 * S, running=False) == ["estop is not confirmed yet"]
        assert watched.missing(4 * S, running=False) == []

    def test_a_source_that_dies_meanwhile_does_not_count(self) -> None:
        watched = WatchedTags({ESTOP: "estop"})
        watched.see(ESTOP, q.GOOD, 0, snapshot=True)
        watched.see(ESTOP, q.BAD_NO_COMMUNICATION, 2 * S, snapshot=False)
        watched.see(ESTOP, q.GOOD, 3 * S, snapshot=True)
        assert watched.missing(5 * S, running=False) == ["estop is not confirmed yet"]

    @pytest.mark.parametrize("code", [q.BAD_NO_COMMUNICATION, q.UNCERTAIN_NO_COMMUNICATION, q.UNCERTAIN_LAST_USABLE])
    def test_a_running_machine_misses_what_is_bad_or_has_no_source(self, code: int) -> None:
        watched = WatchedTags({ESTOP: "estop"})
        watched.see(ESTOP, code, 0, snapshot=False)
        assert watched.missing(0, running=True) == [f"estop is {q.name_of(code)}"]

    def test_a_running_machine_goes_on_with_an_inaccurate_sensor_but_does_not_start_with_it(self) -> None:
        watched = WatchedTags({ESTOP: "estop"})
        watched.see(ESTOP, q.UNCERTAIN_SENSOR, 0, snapshot=False)
        assert watched.missing(0, running=True) == []
        assert watched.missing(9 * S, running=False)

    def test_a_silent_shard_takes_its_inputs_away_until_they_are_confirmed_again(self) -> None:
        watched = WatchedTags({ESTOP: "estop"})
        watched.see(ESTOP, q.GOOD, 0, snapshot=False)
        watched.hear([ESTOP, 99], S, silent=True)
        assert watched.missing(S, running=True) == ["estop is not heard of: its shard is silent"]
        watched.hear([ESTOP], 2 * S, silent=False)
        assert watched.missing(2 * S, running=False) == ["estop is not confirmed yet"]
        watched.see(ESTOP, q.GOOD, 2 * S, snapshot=False)
        assert watched.missing(2 * S, running=False) == []

    def test_other_tags_do_not_matter(self) -> None:
        watched = WatchedTags({})
        watched.see(7, q.BAD, 0, snapshot=False)
        assert watched.missing(0, running=False) == []


class TestLeases:
    def test_a_lease_counts_from_the_question_not_from_the_answer(self) -> None:
        leases = Leases(["opcua/plc"], 3.0, 1.0)
        assert leases.lost(0) == ["opcua/plc: asked for the lease"]
        assert leases.due(0) == ["opcua/plc"]
        leases.asked("opcua/plc", 0)
        assert leases.due(2 * S) == []
        leases.granted("opcua/plc")
        assert leases.lost(3 * S - 1) == []
        assert leases.lost(3 * S)

    def test_it_is_renewed_three_times_a_lease(self) -> None:
        leases = Leases(["opcua/plc"], 3.0, 0.1)
        leases.asked("opcua/plc", 0)
        leases.granted("opcua/plc")
        assert leases.due(S // 2) == []
        assert leases.due(S) == ["opcua/plc"]

    def test_silence_lets_it_run_out_and_a_refusal_ends_it(self) -> None:
        leases = Leases(["opcua/plc"], 3.0, 1.0)
        leases.asked("opcua/plc", 0)
        leases.granted("opcua/plc")
        leases.asked("opcua/plc", S)
        leases.failed("opcua/plc", "no answer", refused=False)
        assert leases.lost(2 * S) == []
        leases.asked("opcua/plc", 2 * S)
        leases.failed("opcua/plc", "Conflict: lease 'x' holds this output", refused=True)
        assert leases.lost(2 * S) == ["opcua/plc: Conflict: lease 'x' holds this output"]


class Rig:
    """A gate with all its parts."""

    def __init__(self, wait: str = "", owners: tuple[str, ...] = ("opcua/plc",)) -> None:
        self.inputs = WatchedTags({TEMPERATURE: "mash.temperature"})
        self.outputs = WatchedTags({HEATER: "heater"} if owners else {})
        self.leases = Leases(owners, 3.0, 1.0)
        self.gate = Gate(self.inputs, self.outputs, self.leases, wait=wait)

    def ready(self, now_ns: int = 0) -> None:
        self.inputs.see(TEMPERATURE, q.GOOD, now_ns, snapshot=False)
        self.outputs.see(HEATER, q.GOOD, now_ns, snapshot=True)

    def hold(self, now_ns: int) -> None:
        self.leases.asked("opcua/plc", now_ns)
        self.leases.granted("opcua/plc")


class TestGate:
    def test_the_way_to_the_first_cycle(self) -> None:
        rig = Rig()
        assert rig.gate.step(0) is Phase.INPUTS
        assert rig.gate.reason == "waiting for inputs: mash.temperature is BadWaitingForInitialData"
        assert not rig.gate.renews
        rig.ready()
        assert rig.gate.step(0) is Phase.LEASE
        assert rig.gate.renews
        rig.hold(0)
        assert rig.gate.step(0) is Phase.LOOK
        assert rig.gate.step(S) is Phase.RUNNING
        assert rig.gate.reason == ""

    def test_no_lease_is_needed_without_a_device(self) -> None:
        rig = Rig(owners=())
        rig.ready()
        assert rig.gate.step(0) is Phase.RUNNING

    def test_an_output_that_cannot_be_read_back_holds_the_start_up(self) -> None:
        rig = Rig()
        rig.inputs.see(TEMPERATURE, q.GOOD, 0, snapshot=False)
        rig.hold(0)
        rig.gate.step(0)
        rig.hold(2 * S)
        assert rig.gate.step(2 * S) is Phase.LOOK
        assert rig.gate.reason == "reading outputs back: heater is BadWaitingForInitialData"

    def test_an_operator_decides_before_anything_else(self) -> None:
        rig = Rig(wait="resume or reset")
        rig.ready()
        assert rig.gate.step(0) is Phase.OPERATOR
        assert not rig.gate.renews
        rig.gate.wait = ""
        assert rig.gate.step(0) is Phase.LEASE

    def test_a_lost_input_pauses_and_lets_the_lease_run_out(self) -> None:
        rig = Rig()
        rig.ready()
        rig.hold(0)
        rig.gate.step(0)
        rig.gate.step(S)
        rig.inputs.see(TEMPERATURE, q.BAD_NO_COMMUNICATION, S, snapshot=False)
        assert rig.gate.step(S) is Phase.INPUTS
        assert not rig.gate.renews
        rig.ready(9 * S)
        assert rig.gate.step(9 * S) is Phase.LEASE
        rig.hold(9 * S)
        assert rig.gate.step(9 * S) is Phase.LOOK
        assert rig.gate.step(10 * S) is Phase.RUNNING

    def test_a_short_pause_within_the_lease_needs_no_second_look(self) -> None:
        rig = Rig()
        rig.ready()
        rig.hold(0)
        rig.gate.step(0)
        rig.hold(S)
        rig.gate.step(S)
        rig.inputs.see(TEMPERATURE, q.BAD, S, snapshot=False)
        rig.gate.step(S)
        rig.ready(2 * S)
        assert rig.gate.step(2 * S) is Phase.RUNNING


class TestOutputs:
    def test_only_changes_are_written(self) -> None:
        plan = OutputPlan()
        plan.align({"setpoint": 52.0, "stirrer": True})
        assert plan.due({"setpoint": 52.0, "stirrer": True}) == []
        assert plan.due({"setpoint": 63.0, "stirrer": True}) == [("setpoint", 63.0)]

    def test_what_was_not_read_back_is_written(self) -> None:
        assert OutputPlan().due({"setpoint": 52.0}) == [("setpoint", 52.0)]

    def test_what_must_not_be_believed_is_written(self) -> None:
        plan = OutputPlan()
        plan.align({"setpoint": 52.0}, forget=["setpoint", "stirrer"])
        assert plan.due({"setpoint": 52.0}) == [("setpoint", 52.0)]

    def test_one_write_at_a_time_and_the_newest_value_after_it(self) -> None:
        plan = OutputPlan()
        plan.hand("setpoint", 52.0)
        assert plan.due({"setpoint": 63.0}) == []
        assert plan.due({"setpoint": 63.0}, ["setpoint"]) == []
        plan.answered("setpoint")
        assert plan.due({"setpoint": 63.0}) == [("setpoint", 63.0)]

    def test_a_failed_write_is_not_repeated(self) -> None:
        plan = OutputPlan()
        plan.hand("setpoint", 52.0)
        plan.answered("setpoint")
        assert plan.due({"setpoint": 52.0}) == []

    def test_a_forced_output_is_written_without_a_change(self) -> None:
        plan = OutputPlan()
        plan.align({"setpoint": 20.0})
        assert plan.due({"setpoint": 20.0}, ["setpoint"]) == [("setpoint", 20.0)]

    def test_a_32_bit_device_reads_back_the_same(self) -> None:
        assert same(63.7, 63.70000076293945)
        assert not same(63.7, 63.71)
        assert not same(True, 1)
        assert not same(None, 0.0)
        assert same(1, 1.0)
