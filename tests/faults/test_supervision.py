"""What a node does when its processes hang, burn, multiply or fail, and when it is itself late: on real processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from node_rig import NAMES, Rig, rigs
from tiny_node import BUSY_S

from tagwerk.runtime.node_ctl import NodeCtl
from tagwerk.runtime.page import PeerState
from tagwerk.runtime.process import Identity, end, group_members

pytestmark = pytest.mark.slow

NOISE_S = 3.0  # of a machine that others use, too
HANG_S = 1.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    yield from rigs(tmp_path)


def mono_s() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def is_back(rig: Rig, name: str, pid: int) -> bool:
    view = rig.slot(name)
    return view.state is PeerState.RUNNING and view.pid not in (0, pid)


def test_who_spins_waits_for_ever_or_is_stopped_is_ended_and_back(make: Callable[..., Rig]) -> None:
    rig = make(node=f"hang_after_s = {HANG_S}")
    rig.up()
    began_s = mono_s()
    hung = {"cvt/0": rig.obeys("cvt/0", "spin"), "alarms/0": rig.obeys("alarms/0", "deadlock")}
    hung["plant/0"] = rig.slot("plant/0").pid
    os.kill(hung["plant/0"], signal.SIGSTOP)
    rig.until(lambda: all(is_back(rig, name, pid) for name, pid in hung.items()))
    for name in hung:
        view = rig.slot(name)
        back_s = view.started_mono_ns / 1e9 - began_s
        assert HANG_S * 0.9 < back_s < HANG_S + 1.0 + NOISE_S
        assert (view.restarts, view.reason) == (1, f"hung: no beat for {HANG_S:g} s")
    assert rig.slot("events/0").restarts == 0


def test_who_is_busy_has_until_its_limit_and_no_longer(make: Callable[..., Rig]) -> None:
    rig = make(node="hang_after_s = 0.5")
    rig.up()
    began_s = mono_s()
    pid = rig.obeys("cvt/0", "busy")
    rig.until(lambda: is_back(rig, "cvt/0", pid))
    ended_s = rig.slot("cvt/0").started_mono_ns / 1e9 - began_s
    assert BUSY_S + 0.5 <= ended_s < BUSY_S + 0.5 + 1.0 + NOISE_S


def test_a_late_node_accuses_nobody(make: Callable[..., Rig]) -> None:
    rig = make(node=f"hang_after_s = {HANG_S}")
    node = rig.up()
    pids = [rig.slot(name).pid for name in NAMES]
    began_s = mono_s()
    node.send_signal(signal.SIGSTOP)
    for pid in pids:  # else their own beats would speak for them
        os.kill(pid, signal.SIGSTOP)
    rig.until(lambda: mono_s() - began_s > 2.5 * HANG_S)
    node.send_signal(signal.SIGCONT)
    # The node turns first, and sees nothing but old beats.
    rig.until(lambda: rig.slot("node/main").beat_mono_ns / 1e9 > began_s + 2.5 * HANG_S)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    rig.until(lambda: rig.slot("node/main").beat_mono_ns / 1e9 > mono_s() - 0.1 > began_s + 4 * HANG_S)
    assert [rig.slot(name).pid for name in NAMES] == pids
    assert "was late by" in rig.log("node-main")


def test_one_trouble_counts_once_whoever_dies(make: Callable[..., Rig]) -> None:
    rig = make(node="restarts = 1\nperiod_s = 1.0")
    rig.environment["TINY_RETRY_S"] = "0.2"
    rig.does("historian/0", "crash")
    others = tuple(name for name in NAMES if name != "historian/0")
    node = rig.up(*others)
    rig.until(lambda: rig.slot("historian/0").restarts >= 4)  # more than one trial has failed
    node.kill()
    node.wait()
    node = rig.up(*others)
    began = rig.slot("historian/0").restarts
    rig.until(lambda: rig.slot("historian/0").restarts >= began + 2)
    view = rig.slot("historian/0")
    assert (view.fatal, view.fatal_count) == (True, 1), "the new node knows that it is the same trouble"
    rig.does("historian/0", "")
    rig.until(lambda: not rig.slot("historian/0").fatal)
    view = rig.slot("historian/0")
    assert (view.state, view.fatal_count) == (PeerState.RUNNING, 1)
    rig.does("historian/0", "crash")
    os.kill(view.pid, signal.SIGKILL)
    rig.until(lambda: rig.slot("historian/0").fatal_count == 2)


def test_who_burns_the_cpu_for_a_whole_period_is_restarted(make: Callable[..., Rig]) -> None:
    rig = make(node="cpu_limit_pct = 25.0\nperiod_s = 2.0")
    rig.up()
    pid = rig.obeys("cvt/0", "burn")
    rig.until(lambda: is_back(rig, "cvt/0", pid))
    assert "cpu_limit_pct allows 25 %" in rig.slot("cvt/0").reason
    assert [rig.slot(name).restarts for name in NAMES if name != "cvt/0"] == [0, 0, 0, 0]


def test_a_node_that_cannot_start_anybody_lives_and_tries_again(make: Callable[..., Rig]) -> None:
    rig = make()
    node = rig.up()
    soft, hard = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (3, hard))
    pid = rig.slot("cvt/0").pid
    os.kill(pid, signal.SIGKILL)
    rig.until(lambda: "cvt/0 cannot be started: [Errno 24]" in rig.log("node-main"))
    assert rig.slot("cvt/0").state is PeerState.BACKOFF
    assert psutil.Process(node.pid).is_running()
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (soft, hard))
    rig.until(lambda: is_back(rig, "cvt/0", pid))
    assert len(rig.processes()) == 1 + len(NAMES)


def sleepers(seconds: int) -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", str(seconds)]]


def test_what_an_external_program_started_ends_with_it(make: Callable[..., Rig]) -> None:
    # Two grandchildren, one of which does not hold the lock; numbers of their own, as other tests may sleep too.
    script = f"sleep 7{os.getpid()} & sleep 8{os.getpid()} 9>&- 8>&- 7>&- 6>&- 5>&- 4>&- 3>&- & wait"
    external = f"[external.tree]\ncommand = ['sh', '-c', '{script}']\n[external.bad]\ncommand = ['false']\n"
    rig = make(node="restarts = 2", external=external)
    names = [int(f"7{os.getpid()}"), int(f"8{os.getpid()}")]
    node = rig.up(*NAMES, "external/tree")
    rig.until(lambda: [len(sleepers(name)) for name in names] == [1, 1])
    before = {one.pid for name in names for one in sleepers(name)}

    pid = rig.slot("external/tree").pid
    os.kill(pid, signal.SIGKILL)
    rig.until(lambda: is_back(rig, "external/tree", pid))
    rig.until(lambda: [len(sleepers(name)) for name in names] == [1, 1])
    between = {one.pid for name in names for one in sleepers(name)}
    assert not before & between

    # With the node dies the program, not what it has started: that is for the next node to end.
    node.kill()
    node.wait()
    node = rig.up(*NAMES, "external/tree")
    rig.until(lambda: [len(sleepers(name)) for name in names] == [1, 1])
    after = {one.pid for name in names for one in sleepers(name)}
    assert not between & after

    assert NodeCtl(rig.home).call("stop", "external/tree").ok
    rig.until(lambda: not [one for name in names for one in sleepers(name)])
    rig.until(lambda: rig.slot("external/bad").state is PeerState.FATAL)
    assert rig.slot("external/bad").reason == "exited with 1"


LAUNCHER = """
import os, signal, sys
for number in (signal.SIGUSR2, signal.SIGCHLD, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
os.set_inheritable(os.pipe()[1], True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def signals_of(pid: int, what: str) -> set[int]:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(what))
    mask = int(line.split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_children_inherit_nothing_of_whoever_started_the_node(make: Callable[..., Rig]) -> None:
    rig = make(external="[external.plc]\ncommand = ['sleep', '1000']\n")
    rig.launcher = (sys.executable, "-c", LAUNCHER)
    rig.up(*NAMES, "external/plc")
    actor, program = rig.slot("cvt/0").pid, rig.slot("external/plc").pid
    assert signals_of(actor, "SigIgn") == {signal.SIGPIPE, signal.SIGXFSZ}, "what Python ignores"
    assert signals_of(program, "SigIgn") == set()
    for pid in (actor, program):
        assert signals_of(pid, "SigBlk") == set()
        assert os.getpgid(pid) == pid
        assert not [entry for entry in os.scandir(f"/proc/{pid}/fd") if os.readlink(entry.path).startswith("pipe:")]
    assert len(list(os.scandir(f"/proc/{program}/fd"))) == 4, "three for the log, one for the lock"
    os.kill(actor, signal.SIGKILL)  # a node that ignored SIGCHLD could not reap it
    rig.until(lambda: is_back(rig, "cvt/0", actor))


def test_a_process_is_ended_only_if_it_is_the_one_that_was_meant() -> None:
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        own = Identity.of(stranger.pid)
        assert own is not None
        mistaken = Identity(own.pid, own.start_ticks - 1)  # its pid was another's before
        assert end(mistaken, term_s=1.0)
        assert group_members([mistaken]) == []
        assert stranger.poll() is None
        assert group_members([own]) == [own]
        assert end(own, term_s=1.0)
        assert stranger.wait() == -signal.SIGTERM
    finally:
        stranger.kill()
        stranger.wait()
