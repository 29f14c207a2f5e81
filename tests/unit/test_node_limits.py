from __future__ import annotations

import psutil
import pytest

from tagwerk.runtime.clock import NS_PER_S
from tagwerk.runtime.node_limits import Limits
from tagwerk.runtime.process import Identity

OWN = Identity.own()


class Twin:
    """A process that used what the test says."""

    cpu_s = 0.0

    def __init__(self, pid: int) -> None:
        assert pid > 0

    def cpu_times(self) -> Twin:
        return self

    @property
    def user(self) -> float:
        return Twin.cpu_s

    @property
    def system(self) -> float:
        return 0.0


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> type[Twin]:
    monkeypatch.setattr(psutil, "Process", Twin)
    Twin.cpu_s = 0.0
    return Twin


def test_memory_counts_at_once() -> None:
    assert "memory_limit_bytes allows 1 MB" in Limits(1_000_000, 0, 30).broken_by("cvt/0", OWN, 0)
    assert not Limits(1 << 40, 0, 30).broken_by("cvt/0", OWN, 0)


def test_cpu_counts_over_a_whole_period(cpu: type[Twin]) -> None:
    limits = Limits(0, 50, 10)
    assert not limits.broken_by("cvt/0", OWN, 0)
    cpu.cpu_s = 9.0
    assert not limits.broken_by("cvt/0", OWN, 9 * NS_PER_S), "a burst"
    assert limits.broken_by("cvt/0", OWN, 12 * NS_PER_S) == "it took 75 % CPU for 12 s, cpu_limit_pct allows 50 %"
    cpu.cpu_s = 10.0
    assert not limits.broken_by("cvt/0", OWN, 24 * NS_PER_S), "the next period is judged alone"


def test_a_successor_does_not_answer_for_its_predecessor(cpu: type[Twin]) -> None:
    limits = Limits(0, 50, 10)
    assert not limits.broken_by("cvt/0", OWN, 0)
    cpu.cpu_s = 100.0
    assert not limits.broken_by("cvt/0", Identity(OWN.pid, 1), 20 * NS_PER_S)


def test_who_has_ended_breaks_nothing() -> None:
    assert not Limits(1, 1, 1).broken_by("cvt/0", Identity(2**22 + 1, 5), 0)
