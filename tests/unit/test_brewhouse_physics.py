"""The example plant's physics: fast enough, calm enough, and it breaks where it is told to."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "examples" / "brewhouse" / "physics.py"
MASH_STEPS_DEGC = (52.0, 63.0, 72.0, 78.0)


def load_physics() -> Any:
    """The examples are scripts, not a package: load this one from its file."""
    spec = spec_from_file_location("brewhouse_physics", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


physics = load_physics()


def run(plant: Any, minutes: float, *, watchdog_ok: bool = True) -> None:
    for _ in range(round(minutes * 20)):
        plant.step(3.0, watchdog_ok=watchdog_ok)


@pytest.mark.parametrize("speed", [1, 10, 30, 60])
def test_mash_steps_are_reached_in_time_and_without_overshoot(speed: int) -> None:
    plant = physics.Brewhouse()
    dt_s = speed / 10
    for setpoint in MASH_STEPS_DEGC:
        start = plant.mash.sensor.value
        plant.mash.loop.setpoint = setpoint
        reached_s, highest = None, start
        for scan in range(round(900 / dt_s)):
            plant.step(dt_s)
            highest = max(highest, plant.mash.sensor.value)
            if reached_s is None and plant.mash.sensor.value > setpoint - 0.5:
                reached_s = scan * dt_s
        assert highest < setpoint + 0.5
        assert reached_s is not None
        assert reached_s < 36 * (setpoint - start)  # 6 minutes for 10 K
        assert plant.phase is physics.Phase.RESTING


def test_nothing_moves_towards_a_limit_at_rest() -> None:
    plant = physics.Brewhouse()
    run(plant, 240)
    assert plant.mash.sensor.value == pytest.approx(45.0, abs=0.2)
    assert plant.kettle.sensor.value == pytest.approx(60.0, abs=0.2)
    assert plant.fermenter.sensor.value == pytest.approx(18.0, abs=0.3)
    assert plant.fermenter.co2_pressure <= 0.8
    assert plant.mash.level == plant.kettle.level == 70.0


def test_a_full_boil_stays_under_the_kettle_limit() -> None:
    plant = physics.Brewhouse()
    plant.kettle.loop.setpoint = 100.0
    highest = 0.0
    for _ in range(60):
        run(plant, 1)
        highest = max(highest, plant.kettle.sensor.value)
    assert 99.5 < highest < 101.0
    assert plant.phase is physics.Phase.BOILING


def test_a_stuck_contactor_heats_past_both_limits_whatever_trips() -> None:
    plant = physics.Brewhouse()
    plant.faults.heater_contactor_stuck = True
    run(plant, 30, watchdog_ok=False)
    assert plant.heater_trip
    assert plant.mash.sensor.value > 82.0
    assert plant.kettle.sensor.value > 106.0
    assert plant.kettle.pressure > 0.2
    plant.faults.estop_pressed = True  # the main breaker is the one thing that helps
    hot = plant.mash.sensor.value
    run(plant, 10)
    assert plant.mash.sensor.value < hot - 5
    assert plant.phase is physics.Phase.TRIPPED


def test_a_silent_watchdog_takes_the_heat_and_gives_it_back() -> None:
    plant = physics.Brewhouse()
    plant.mash.loop.setpoint = 60.0
    run(plant, 1, watchdog_ok=False)
    run(plant, 1, watchdog_ok=False)
    assert plant.mash.heater < 1.0
    run(plant, 1)
    assert not plant.heater_trip
    assert plant.mash.heater > 90.0


def test_the_estop_leaves_loops_in_man_and_drives_off() -> None:
    plant = physics.Brewhouse()
    plant.pump.command = plant.valve_out.command = True
    run(plant, 1)
    plant.faults.estop_pressed = True
    run(plant, 1)
    plant.faults.estop_pressed = False
    run(plant, 1)
    assert not plant.estop
    assert not any((plant.pump.running, plant.stirrer_running, plant.mash.loop.auto, plant.kettle.loop.auto))
    assert plant.valve_out.closed
    assert plant.mash.loop.output == 0.0


def test_manual_to_auto_is_without_a_bump() -> None:
    plant = physics.Brewhouse()
    run(plant, 10)
    before = plant.kettle.loop.output
    plant.kettle.loop.auto = False
    run(plant, 1)
    assert plant.kettle.loop.output == before
    plant.kettle.loop.auto = True
    plant.step(0.1)
    assert plant.kettle.loop.output == pytest.approx(before, abs=1.5)


def test_pump_moves_wort_and_stops_before_it_runs_dry() -> None:
    plant = physics.Brewhouse()
    plant.valve_drain.command = True  # or the kettle would be full first
    plant.pump.command = plant.valve_out.command = True
    run(plant, 2)
    assert plant.pump.running
    assert plant.phase is physics.Phase.TRANSFER
    assert plant.pump.flow == pytest.approx(80.0, abs=0.1)
    run(plant, 10)
    assert not plant.pump.running
    assert plant.dry_run
    assert plant.mash.level == pytest.approx(5.0, abs=1.0)
    assert plant.pump.total == pytest.approx(0.65 * physics.VESSEL_L, rel=0.02)


def test_the_mash_tun_fills_to_its_interlock() -> None:
    plant = physics.Brewhouse()
    plant.valve_in.command = True
    plant.step(3.0)
    assert not plant.valve_in.open
    assert not plant.valve_in.closed
    run(plant, 15)
    assert plant.mash.level == pytest.approx(95.0, abs=1.5)


def test_a_kettle_without_wort_is_not_heated() -> None:
    plant = physics.Brewhouse()
    plant.kettle.level = 8.0
    run(plant, 2)
    assert plant.kettle.heater < 0.1


def test_valve_and_pump_faults_show_in_the_feedback() -> None:
    plant = physics.Brewhouse()
    plant.faults.valve_sticks = plant.faults.pump_trip = True
    plant.valve_out.command = plant.pump.command = True
    run(plant, 1)
    assert plant.valve_out.closed
    assert not plant.pump.running


def test_sensor_faults_hide_the_truth() -> None:
    plant = physics.Brewhouse()
    plant.faults.sensor_frozen = True
    frozen = plant.mash.sensor.value
    plant.mash.loop.setpoint = 50.0
    run(plant, 5)
    assert plant.mash.sensor.value == frozen
    assert plant.mash.temperature > 52.0
    plant.faults.sensor_frozen = False
    plant.faults.sensor_drift = 0.5
    run(plant, 4)
    assert plant.kettle.sensor.drift == pytest.approx(2.0, abs=0.01)
    plant.faults.sensor_drift = 0.0
    run(plant, 1)
    assert plant.kettle.sensor.drift == 0.0
