"""Clocks."""

from __future__ import annotations

import time

from tagwerk.runtime.clock import NS_PER_S, Clock, ManualClock, SystemClock


def test_the_manual_clock_moves_only_when_told() -> None:
    clock: Clock = (manual := ManualClock(now_ns=5, mono_ns=7))
    assert (clock.now_ns(), clock.mono_ns()) == (5, 7)
    manual.advance(1.5)
    assert (clock.now_ns(), clock.mono_ns()) == (5 + 3 * NS_PER_S // 2, 7 + 3 * NS_PER_S // 2)


def test_the_system_clock_is_that_of_the_host() -> None:
    clock: Clock = SystemClock()
    before, mono_before = time.time_ns(), time.monotonic_ns()
    assert 0 <= clock.now_ns() - before < 60 * NS_PER_S
    assert 0 <= clock.mono_ns() - mono_before < 60 * NS_PER_S
