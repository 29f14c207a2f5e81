"""The example's mash schedule, joined in memory with the example's physics."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tagwerk.actors.machines import Bench, Machine
from tagwerk.protocols import quality as q

BREWHOUSE = Path(__file__).parents[2] / "examples" / "brewhouse"
SPEED = 30.0
CYCLE_S = 0.5


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    monkeypatch.syspath_prepend(str(BREWHOUSE))
    names = {"mash", "physics", "signals"}
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    import mash  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]
    import physics  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]

    yield mash, physics
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


class Rig:
    """A machine and a plant, a cycle at a time."""

    def __init__(self, mash: Any, physics: Any, **parameters: float) -> None:
        self.plant: Any = physics.Brewhouse()
        self.bench = Bench(mash.Mash, parameters={"speed": SPEED, **parameters})
        self.feed()
        self.mash: Any = mash.Mash.build(self.bench)
        self.highest = 0.0
        self.time_s = 0.0

    def feed(self) -> None:
        self.bench.feed("temperature", self.plant.mash.sensor.value)
        self.bench.feed("estop", self.plant.estop)
        self.bench.feed("heater_trip", self.plant.heater_trip)

    def cycle(self) -> None:
        self.plant.step(CYCLE_S * SPEED)
        self.time_s += CYCLE_S
        self.highest = max(self.highest, self.plant.mash.temperature)
        self.bench.advance(CYCLE_S)
        self.feed()
        self.mash.cycle(self.bench.now_ns)
        wanted = self.bench.wanted
        if "setpoint" in wanted:
            loop = self.plant.mash.loop
            loop.setpoint, loop.auto, self.plant.stirrer = wanted["setpoint"], wanted["auto"], wanted["stirrer"]

    def until(self, state: str, limit_s: float) -> None:
        end_s = self.time_s + limit_s
        while self.mash.state != state:
            assert self.time_s < end_s, f"{self.mash.state} after {limit_s} s, not {state}"
            self.cycle()


@pytest.fixture
def rig(example: tuple[ModuleType, ModuleType]) -> Rig:
    return Rig(*example)


def test_a_whole_mash(rig: Rig) -> None:
    rig.mash.send("start")
    for rest, (degc, minutes) in enumerate([(52.0, 10.0), (63.0, 35.0), (72.0, 20.0), (78.0, 5.0)], 1):
        assert (rig.mash.state, rig.mash.step, rig.mash.setpoint) == ("heating", rest, degc)
        rig.until("resting", 60.0)
        began_s = rig.time_s
        rig.until("rested", 90.0)
        assert (rig.time_s - began_s) * SPEED == pytest.approx(minutes * 60, abs=CYCLE_S * SPEED)
        assert rig.plant.mash.sensor.value == pytest.approx(degc, abs=0.6)
        assert rig.mash.rest_remaining == 0.0
        rig.mash.send("confirm")
    assert rig.mash.state == "done"
    assert (rig.mash.setpoint, rig.mash.stirrer, rig.mash.step) == (20.0, False, 0)
    assert rig.highest < 79.0, "the HI alarm at 80 must not come up in normal work"
    rig.mash.send("start")
    assert (rig.mash.state, rig.mash.step) == ("heating", 1)


def test_nothing_is_set_before_the_start(rig: Rig) -> None:
    rig.cycle()
    assert rig.bench.wanted == {"step": 0, "rest_remaining": 0.0}


@pytest.mark.parametrize("fault", ["estop_pressed", "trip"])
def test_a_trip_aborts_into_the_safe_state(rig: Rig, fault: str) -> None:
    rig.mash.send("start")
    rig.until("resting", 60.0)
    if fault == "trip":
        rig.bench.feed("heater_trip", True)
        rig.mash.cycle(0)
    else:
        rig.plant.faults.estop_pressed = True
        rig.cycle()
    assert (rig.mash.state, rig.mash.setpoint, rig.mash.stirrer) == ("aborted", 20.0, False)
    assert rig.bench.forced == {"setpoint", "auto", "stirrer"}


@pytest.mark.parametrize("state", ["heating", "resting", "rested"])
def test_an_operator_aborts_in_any_state(rig: Rig, state: str) -> None:
    rig.mash.send("start")
    rig.until(state, 120.0)
    rig.mash.send("abort")
    assert (rig.mash.state, rig.mash.setpoint, rig.mash.step) == ("aborted", 20.0, 0)


@pytest.mark.parametrize("quality", [q.BAD_NO_COMMUNICATION, q.GOOD])
def test_it_does_not_start_while_heating_is_not_known_to_be_safe(rig: Rig, quality: int) -> None:
    rig.bench.feed("estop", True, quality)
    with pytest.raises(Machine.TransitionNotAllowed):
        rig.mash.send("start")
    assert rig.mash.rest == 0


def test_a_rest_counts_only_at_its_temperature(rig: Rig) -> None:
    rig.mash.send("start")
    rig.until("resting", 60.0)
    rig.cycle()
    remaining_s = rig.mash.rest_remaining
    rig.bench.feed("temperature", 48.0)
    rig.bench.advance(100.0)
    rig.mash.cycle(0)
    assert rig.mash.rest_remaining == remaining_s


def test_a_changed_temperature_is_followed_at_once(rig: Rig) -> None:
    rig.mash.send("start")
    rig.bench.parameters["rest_1_temperature"] = 50.0
    rig.cycle()
    assert rig.mash.setpoint == 50.0
