"""One supervised process, with a gauge page and no process."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tagwerk.runtime import process, supervised
from tagwerk.runtime.clock import NS_PER_S
from tagwerk.runtime.node_counts import Count
from tagwerk.runtime.node_logic import Restarts
from tagwerk.runtime.node_plan import ChildSpec
from tagwerk.runtime.page import Page, Slot
from tagwerk.runtime.process import Identity
from tagwerk.runtime.states import PeerState
from tagwerk.runtime.supervised import Supervised

CHILD = Identity(2**22 + 1, 5)  # no pid is as large


@dataclass
class Stage:
    child: Supervised
    slot: Slot
    killed: list[int] = field(default_factory=list[int])
    kept: list[tuple[Count, int]] = field(default_factory=list[tuple[Count, int]])  # with the count the slot showed

    def runs(self) -> None:
        """Fork it, and let it become ready at 1 s."""
        self.child.forked(CHILD, -1, 0)
        self.slot.attach(pid=CHILD.pid, incarnation=1, mono_ns=1)
        self.slot.write_state(PeerState.RUNNING)
        self.child.look(NS_PER_S)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    slot = Page.create(tmp_path / "node-main.page", ["cvt/0"], Identity.own()).slot("cvt/0")
    stage = Stage(None, slot)  # type: ignore[arg-type]

    def keep(count: Count) -> None:
        stage.kept.append((count, slot.read().fatal_count))

    stage.child = Supervised(ChildSpec("cvt/0", hang_after_s=5.0), slot, Restarts(1, 30), Count(4, 2), keep)
    monkeypatch.setattr(supervised, "kill_group", stage.killed.append)
    monkeypatch.setattr(os, "waitpid", lambda pid, _options: (pid, 9))
    return stage


def state_in_the_kernel(monkeypatch: pytest.MonkeyPatch, letter: str) -> None:
    monkeypatch.setattr(process, "_stat_fields", lambda _pid: [letter])


@pytest.mark.parametrize(("letter", "state"), [("D", PeerState.RUNNING), ("S", PeerState.HUNG), ("T", PeerState.HUNG)])
def test_who_waits_for_a_disk_is_late_and_not_hung(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, letter: str, state: PeerState
) -> None:
    stage.runs()
    state_in_the_kernel(monkeypatch, letter)
    stage.child.look(20 * NS_PER_S)
    assert stage.child.state is state
    assert stage.killed == ([CHILD.pid] if state is PeerState.HUNG else [])


def test_who_hung_after_running_well_is_restarted_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    state_in_the_kernel(monkeypatch, "S")
    for last_beat_s in (100, 300):
        stage.runs()
        stage.slot.write_beat(last_beat_s * NS_PER_S)
        hung_ns = (last_beat_s + 6) * NS_PER_S
        stage.child.look(hung_ns)
        assert stage.child.state is PeerState.HUNG
        stage.child.ended(hung_ns)
        assert stage.child.is_due(hung_ns)


def test_a_fatal_is_durable_before_anybody_can_see_it(stage: Stage) -> None:
    for at_s in (2, 3):
        stage.runs()
        stage.child.ended(at_s * NS_PER_S)
    assert stage.child.state is PeerState.FATAL
    assert stage.kept == [(Count(5, 3, True), 2)]
    assert (stage.slot.read().fatal_count, stage.slot.read().fatal) == (3, True)


def test_the_end_of_a_trial_is_durable_too(stage: Stage) -> None:
    for at_s in (2, 3):
        stage.runs()
        stage.child.ended(at_s * NS_PER_S)
    stage.runs()
    stage.slot.write_beat(40 * NS_PER_S)
    stage.child.look(40 * NS_PER_S)
    assert stage.kept[-1][0] == Count(6, 3, False)
    assert not stage.slot.read().fatal
