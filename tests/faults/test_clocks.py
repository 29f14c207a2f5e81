"""The host's wall clock is set by an hour, either way: no delay, lease or beat follows it, and one event tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from consumer_rig import ALL, HOUR_S, NOW_NS, Rig, S, running

from tagwerk.protocols import quality as q
from tagwerk.runtime.steady import FOLLOW, RESTART_NS, UNSET_NS, SteadyTime

PLANT = """
[alarm.hot]
tag = "s0.t"
type = "HI"
limit = 80.0
on_delay_s = 5.0
off_delay_s = 3.0
[alarm.far]
tag = "s1.t"
type = "HI"
limit = 80.0
[history]
retention_days = 0.03
"""
WAYS = pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with running(tmp_path, monkeypatch, PLANT) as rig:
        yield rig


def until_active(rig: Rig, active: bool, limit_s: float = 20.0) -> float:
    """Give how long it took by the monotonic clock."""
    began_ns = rig.clock.mono_ns()
    while rig.alarm("hot").active is not active:
        assert rig.clock.mono_ns() - began_ns < limit_s * S, "the delay does not end"
        rig.run(0.05)
    return (rig.clock.mono_ns() - began_ns) / S


@WAYS
def test_delays_last_as_long_as_they_should(rig: Rig, by_s: float) -> None:
    writer = rig.writer()
    rig.publish(writer, 0, 90.0)
    rig.run(1.0)
    rig.clock.step(by_s)
    assert 3.5 < until_active(rig, True) < 5.4  # a delay that is over is seen within a second
    rig.publish(writer, 0, 20.0)
    rig.run(1.0)
    rig.clock.step(-by_s)
    assert 1.5 < until_active(rig, False) < 3.4
    (occurrence,) = rig.occurrences()
    assert NOW_NS < occurrence.raised_ns < NOW_NS + 2 * S
    assert occurrence.cleared_ns is not None
    assert occurrence.cleared_ns >= occurrence.raised_ns
    assert not occurrence.late


@WAYS
@pytest.mark.parametrize("dies", ["cvt/0", "alarms/0"])
def test_a_delay_goes_on_over_a_restart_after_the_clock_was_set(rig: Rig, by_s: float, dies: str) -> None:
    writer = rig.writer()
    rig.publish(writer, 0, 90.0)
    rig.run(1.5)
    rig.clock.step(by_s)
    rig.run(0.5)
    rig.kill(dies)
    rig.run(0.5)
    rig.start(dies)
    assert 1.0 < until_active(rig, True) < 4.4


@WAYS
def test_no_value_is_frozen_or_doubted_and_one_event_tells(rig: Rig, by_s: float) -> None:
    writer = rig.writer()
    for number in range(3):
        rig.publish(writer, 0, 20.0 + number)
        rig.publish(writer, 1, 30.0 + number)
        rig.run(1.0)
    rig.clock.step(by_s)
    for number in range(3, 8):
        rig.publish(writer, 0, 20.0 + number)
        rig.publish(writer, 1, 30.0 + number)
        rig.run(1.0)
        for shard, base in ((0, 20.0), (1, 30.0)):
            state = rig.state(shard)
            assert (state.value, state.quality) == (base + number, q.GOOD)
            assert abs(state.time_ns - rig.clock.now_ns()) < 5 * S
    assert sorted(rig.history(0)) == [20.0 + number for number in range(8)]  # by time, which went back
    now_ns = rig.clock.now_ns()
    assert rig.history(0, now_ns - 30 * S, now_ns + S)[-1] == 27.0
    assert [(event.target, event.after) for event in rig.events("clock_step")] == [("host", f"{by_s:+.1f} s")]
    assert rig.events("clock") == []


def test_the_step_is_one_event_also_if_nobody_looked(rig: Rig) -> None:
    rig.run(2.0)
    rig.kill("events/0")
    rig.clock.step(HOUR_S)
    rig.run(2.0)
    for _ in range(2):
        rig.start("events/0")
        rig.run(2.0)
        assert len(rig.events("clock_step")) == 1
        rig.kill("events/0")
    rig.start("events/0")


def test_a_clock_that_drifts_is_not_one_that_was_set(rig: Rig) -> None:
    for _ in range(40):
        rig.clock.step(0.05)
        rig.run(1.0, 0.25)
    assert rig.events("clock_step") == []
    rig.kill("events/0")
    rig.start("events/0")
    rig.run(2.0)
    assert rig.events("clock_step") == []


def test_a_stale_tag_is_stale_after_its_time_and_not_before(tmp_path: Path, rig: Rig) -> None:
    (tmp_path / "other").mkdir()
    other = Rig(tmp_path / "other", stale_after_s=10.0)
    other.start(*ALL)
    writer = other.writer()
    other.publish(writer, 0, 5.0)
    other.clock.step(HOUR_S)
    other.run(5.0)
    assert other.state(0).quality == q.GOOD
    other.clock.step(-2 * HOUR_S)
    other.run(8.0)
    assert other.state(0).quality == q.UNCERTAIN_LAST_USABLE
    other.close()


def test_retention_does_not_follow_a_clock_that_is_set_forward(rig: Rig) -> None:
    """Kept are 43 minutes: the hour would have taken all."""
    writer = rig.writer()
    rig.publish(writer, 0, 5.0)
    rig.run(2.0)
    rig.clock.step(HOUR_S)
    rig.kill("historian/0")
    rig.start("historian/0")  # looks for old rows at once
    rig.run(5.0)
    assert rig.history(0) == [5.0]


@WAYS
def test_an_excursion_during_an_outage_has_its_true_times(rig: Rig, by_s: float) -> None:
    writer = rig.writer()
    rig.run(2.0)
    rig.kill("alarms/0")
    rig.clock.step(by_s)
    raised_ns = rig.clock.now_ns()
    rig.publish(writer, 1, 95.0)
    rig.run(2.0)
    cleared_ns = rig.clock.now_ns()
    rig.publish(writer, 1, 20.0)
    rig.run(1.0)
    rig.start("alarms/0")
    rig.run(1.0)
    (found,) = rig.occurrences()
    assert (found.name, found.raised_ns, found.cleared_ns, found.late) == ("far", raised_ns, cleared_ns, True)


class TestSteadyTime:
    def steady(self, rig: Rig, folder: Path, *, boot: int = 1, not_before_ns: int = 0) -> SteadyTime:
        return SteadyTime(rig.clock, folder / "steady", boot, not_before_ns)

    def test_it_never_goes_back_and_loses_a_twentieth_at_most(self, rig: Rig, tmp_path: Path) -> None:
        steady = self.steady(rig, tmp_path)
        for by_s in (HOUR_S, -2 * HOUR_S, 0.3, -0.3):
            rig.clock.step(by_s)
            before = steady.now_ns()
            rig.clock.advance(10.0)
            assert abs(steady.now_ns() - before - 10 * S) <= 10 * S // FOLLOW
        steady.close()

    def test_it_finds_the_wall_clock_again(self, rig: Rig, tmp_path: Path) -> None:
        steady = self.steady(rig, tmp_path)
        rig.clock.step(-60.0)
        rig.clock.advance(60.0 * FOLLOW)
        assert steady.now_ns() == rig.clock.now_ns()
        steady.close()

    def test_a_clock_that_was_never_set_is_followed_at_once(self, rig: Rig, tmp_path: Path) -> None:
        steady = self.steady(rig, tmp_path)
        rig.clock.step(2 * UNSET_NS / S)
        assert steady.now_ns() == rig.clock.now_ns()
        steady.close()

    def test_it_goes_on_over_a_restart_but_not_over_a_boot_or_a_long_stop(self, rig: Rig, tmp_path: Path) -> None:
        self.steady(rig, tmp_path).close()
        rig.clock.step(HOUR_S)
        rig.clock.advance(1.0)
        again = self.steady(rig, tmp_path)
        assert again.now_ns() == NOW_NS + rig.clock.mono_ns() - 10**12
        again.close()
        other_boot = self.steady(rig, tmp_path, boot=2)
        assert other_boot.now_ns() == rig.clock.now_ns()
        other_boot.close()
        rig.clock.step(HOUR_S)
        rig.clock.advance(RESTART_NS / S)
        later = self.steady(rig, tmp_path, boot=2)
        assert later.now_ns() == rig.clock.now_ns()
        later.close()

    def test_it_is_never_before_what_was_received(self, rig: Rig, tmp_path: Path) -> None:
        last_ns = rig.clock.now_ns() + 600 * S
        steady = self.steady(rig, tmp_path, not_before_ns=last_ns)
        assert steady.now_ns() == last_ns
        rig.clock.advance(20.0)
        assert steady.now_ns() == last_ns + 19 * S
        steady.close()
        (tmp_path / "steady").write_bytes(b"rubbish" * 9)
        rubbish = self.steady(rig, tmp_path)
        assert rubbish.now_ns() == rig.clock.now_ns()
        rubbish.close()
