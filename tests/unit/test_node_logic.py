from __future__ import annotations

import pytest

from tagwerk.protocols.errors import LocalProtocolError
from tagwerk.runtime.clock import NS_PER_S
from tagwerk.runtime.node_logic import Restarts, Verdict, may_start, may_stop, overdue_at_ns
from tagwerk.runtime.states import ALIVE, NEXT, STATES, Event, PeerState, seen_state, step

MIDDLE = 0.5  # the jitter that changes nothing


def end(record: Restarts, at_s: float, ran_s: float = 0.0, *, config_error: bool = False) -> Verdict:
    return record.ended(round(at_s * NS_PER_S), round(ran_s * NS_PER_S), config_error=config_error, jitter=MIDDLE)


def after_s(verdict: Verdict) -> float:
    assert verdict.retry_after_ns is not None
    return verdict.retry_after_ns / NS_PER_S


def test_the_first_restart_comes_at_once_the_next_after_doubling_delays() -> None:
    record = Restarts(restarts=20, period_s=60)
    assert [after_s(end(record, at_s)) for at_s in range(9)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]


def test_who_ran_stably_is_restarted_at_once_again() -> None:
    record = Restarts(restarts=20, period_s=60)
    end(record, 1)
    assert after_s(end(record, 2)) == 0.1
    assert after_s(end(record, 20, ran_s=10)) == 0


def test_jitter_spreads_by_a_fifth() -> None:
    delays = []
    for jitter in (0.0, 0.999999):
        record = Restarts(restarts=5, period_s=60)
        end(record, 0)
        delays.append(after_s(record.ended(0, 0, config_error=False, jitter=jitter)))
    assert delays == pytest.approx([0.08, 0.12], rel=1e-3)


def test_more_ends_than_the_period_allows_are_fatal_and_count_once() -> None:
    record = Restarts(restarts=2, period_s=30)
    assert [end(record, at_s).event for at_s in (0, 1)] == [Event.ENDED, Event.ENDED]
    verdict = end(record, 2)
    assert (verdict.event, verdict.counts, after_s(verdict)) == (Event.GAVE_UP, True, 60)
    assert record.on_trial


def test_ends_that_are_far_apart_are_not_fatal() -> None:
    record = Restarts(restarts=2, period_s=30)
    assert {end(record, at_s).event for at_s in range(0, 200, 16)} == {Event.ENDED}


def test_a_failed_trial_is_fatal_at_once_doubles_the_wait_and_does_not_count_again() -> None:
    record = Restarts(restarts=0, period_s=30)
    verdicts = [end(record, at_s) for at_s in (0, 60, 180, 420, 900, 1800, 2700)]
    assert [after_s(verdict) for verdict in verdicts] == [60, 120, 240, 480, 900, 900, 900]
    assert [verdict.counts for verdict in verdicts] == [True] + [False] * 6


def test_a_trial_is_stood_by_running_a_whole_period() -> None:
    record = Restarts(restarts=0, period_s=30)
    end(record, 0)
    assert not record.proven(29 * NS_PER_S)
    assert record.proven(30 * NS_PER_S)
    assert not record.on_trial
    verdict = end(record, 1000)
    assert (verdict.counts, after_s(verdict)) == (True, 60)


def test_a_wrong_configuration_is_not_tried_again() -> None:
    record = Restarts(restarts=5, period_s=30)
    assert end(record, 0, config_error=True) == Verdict(Event.GAVE_UP, None, True)
    record.forgive()
    assert end(record, 1).event is Event.ENDED


def test_the_first_start_goes_by_needs() -> None:
    assert may_start((), ())
    assert may_start(("plant/0",), ("plant/0", "x"))
    assert not may_start(("plant/0", "cvt/0"), ("plant/0",))


def test_the_last_stop_goes_in_reverse() -> None:
    needs = {"plant/0": (), "cvt/0": ("plant/0",), "alarms/0": ("cvt/0",)}
    assert [name for name in needs if may_stop(name, needs, list(needs))] == ["alarms/0"]
    assert [name for name in needs if may_stop(name, needs, ["plant/0", "cvt/0"])] == ["cvt/0", "alarms/0"]


@pytest.mark.parametrize(
    ("beat", "busy_until", "grace_from", "hangs"),
    [
        (90, 0, 0, False),
        (89, 0, 0, True),
        (0, 0, 90, False),
        (0, 0, 0, True),
        (0, 95, 0, False),
        (0, 200, 0, False),
        (50, 80, 60, True),
    ],
)
def test_who_hangs(beat: int, busy_until: int, grace_from: int, hangs: bool) -> None:
    at_ns = overdue_at_ns(beat_ns=beat, busy_until_ns=busy_until, grace_from_ns=grace_from, limit_ns=10)
    assert (at_ns <= 100) is hangs


def test_every_living_state_can_end_and_be_stopped() -> None:
    for state in ALIVE:
        assert (state, Event.ENDED) in NEXT
        assert state is PeerState.STOPPING or (state, Event.STOP) in NEXT
    for state in set(STATES) - ALIVE - {PeerState.UNKNOWN}:
        assert NEXT[state, Event.FORKED] is PeerState.STARTING
    assert PeerState.UNKNOWN not in NEXT.values()


def test_what_cannot_happen_is_a_bug() -> None:
    with pytest.raises(LocalProtocolError, match="READY cannot happen to an actor that is STOPPED"):
        step(PeerState.STOPPED, Event.READY)


def test_an_actor_is_believed_only_about_itself() -> None:
    s = PeerState
    assert seen_state(s.STARTING, s.RUNNING, True) is s.RUNNING
    assert seen_state(s.STARTING, s.RUNNING, False) is s.STARTING
    assert seen_state(s.RUNNING, s.STOPPING, True) is s.STOPPING
    assert seen_state(s.HUNG, s.RUNNING, True) is s.HUNG
    assert seen_state(s.FATAL, s.RUNNING, True) is s.FATAL


def test_who_hangs_at_every_start_fails_too_often_however_long_each_hang_lasts() -> None:
    record = Restarts(restarts=2, period_s=30)
    silent_ns = 60 * NS_PER_S
    verdicts = [
        record.ended(at_s * NS_PER_S, 0, config_error=False, jitter=MIDDLE, silent_ns=silent_ns)
        for at_s in (61, 122, 183)
    ]
    assert [verdict.event for verdict in verdicts] == [Event.ENDED, Event.ENDED, Event.GAVE_UP]


def test_what_was_given_up_under_an_earlier_node_is_the_same_trouble() -> None:
    record = Restarts(restarts=5, period_s=30, on_trial=True)
    verdict = end(record, 1)
    assert (verdict.event, verdict.counts, after_s(verdict)) == (Event.GAVE_UP, False, 60)
    assert record.proven(30 * NS_PER_S)
    assert end(record, 1000).event is Event.ENDED
