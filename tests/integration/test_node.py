"""A real node with real processes: what it does when they, or it, are killed, stopped, stuck or wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
from node_rig import DEADLINE_S, NAMES, SCRIPT, Rig, rigs

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.node_ctl import NodeCtl
from tagwerk.runtime.page import Page, PeerState
from tagwerk.runtime.process import Identity
from tagwerk.runtime.status import status_rows
from tagwerk.runtime.supervisord_conf import write_supervisord_conf

pytestmark = pytest.mark.slow


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    yield from rigs(tmp_path)


def test_starts_in_order_and_stops_in_reverse(make: Callable[..., Rig]) -> None:
    rig = make()
    node = rig.up()
    assert rig.diary("start")[0] == "plant/0"
    assert rig.diary("start").index("cvt/0") < rig.diary("start").index("historian/0")
    node.send_signal(signal.SIGTERM)
    assert node.wait(DEADLINE_S) == 0
    assert rig.diary("stop")[-1] == "plant/0"
    assert rig.diary("stop").index("historian/0") < rig.diary("stop").index("cvt/0")


def test_a_clean_stop_leaves_nothing_in_run(make: Callable[..., Rig]) -> None:
    rig = make()
    run = rig.home.run.resolve()
    node = rig.up()
    assert NodeCtl(rig.home).call("down").ok
    assert node.wait(DEADLINE_S) == 0
    assert not run.exists()
    assert not rig.home.run.is_symlink()
    with pytest.raises(Unavailable):
        status_rows(rig.home)


def test_a_killed_actor_is_replaced(make: Callable[..., Rig]) -> None:
    rig = make()
    node = rig.up()
    before = rig.slot("cvt/0")
    page = rig.page_of(node)
    os.kill(before.pid, signal.SIGKILL)
    rig.until(lambda: (peer := page.look("cvt/0")) is not None and peer[:2] == (PeerState.RUNNING, 2))
    after = rig.slot("cvt/0")
    assert (after.restarts, after.incarnation) == (1, 2)
    assert "SIGKILL" in after.reason
    assert rig.slot("historian/0").restarts == 0, "one for one"
    assert after.pid != before.pid


def test_a_stopped_actor_is_hung_and_replaced(make: Callable[..., Rig]) -> None:
    rig = make(node="hang_after_s = 1.0")
    rig.up()
    pid = rig.slot("cvt/0").pid
    os.kill(pid, signal.SIGSTOP)
    rig.until(lambda: (view := rig.slot("cvt/0")).state is PeerState.RUNNING and view.pid != pid)
    assert rig.slot("cvt/0").reason == "hung: no beat for 1 s"


def test_busy_is_not_hung(make: Callable[..., Rig]) -> None:
    rig = make(node="hang_after_s = 1.0")
    node = rig.up()
    pid = rig.slot("cvt/0").pid
    rig.page_of(node).slot("cvt/0").write_busy("vacuum", time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 60 * 10**9)
    stopped = rig.slot("alarms/0").pid
    os.kill(pid, signal.SIGSTOP)
    os.kill(stopped, signal.SIGSTOP)
    rig.until(lambda: rig.slot("alarms/0").pid not in (0, stopped))
    assert rig.slot("cvt/0").pid == pid, "it stopped first, and said that it is busy"


def test_who_fails_too_often_is_fatal_and_the_others_run(make: Callable[..., Rig]) -> None:
    rig = make(node="restarts = 2\nperiod_s = 60.0")
    rig.does("historian/0", "crash")
    node = rig.up("plant/0", "cvt/0", "alarms/0", "events/0")
    rig.until(lambda: rig.slot("historian/0").state is PeerState.FATAL)
    view = rig.slot("historian/0")
    assert (view.fatal, view.fatal_count) == (True, 1)
    assert view.reason == "exited with 1: RuntimeError: told to crash"
    assert view.retry_at_mono_ns - view.since_mono_ns >= 40 * 10**9
    assert "Traceback" in rig.log("historian-0")
    rig.does("historian/0", "")
    reply = NodeCtl(rig.home).call("revive", "historian/0")
    assert reply.ok, reply.message
    assert not rig.slot("historian/0").fatal
    node.send_signal(signal.SIGTERM)
    node.wait(DEADLINE_S)
    rig.up()
    assert rig.slot("historian/0").fatal_count == 1, "the count outlives the node"


def test_a_wrong_configuration_waits_for_revive(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.does("alarms/0", "config")
    rig.up("historian/0")
    rig.until(lambda: rig.slot("alarms/0").state is PeerState.FATAL)
    view = rig.slot("alarms/0")
    assert (view.restarts, view.retry_at_mono_ns) == (0, 0)
    assert "machine.mash: told to refuse" in view.reason
    assert not NodeCtl(rig.home).call("start", "alarms/0").ok


def test_a_killed_node_leaves_no_orphan_and_its_successor_goes_on(make: Callable[..., Rig]) -> None:
    rig = make()
    node = rig.up()
    old = rig.page_of(node)
    node.kill()
    node.wait()
    rig.until(lambda: not rig.processes())
    assert {row["state"] for row in status_rows(rig.home, sample_s=0.0)} == {"UNKNOWN"}
    rig.up()
    assert rig.slot("cvt/0").incarnation == 2
    peer = old.look("cvt/0")
    assert peer is not None
    assert peer[:2] == (PeerState.RUNNING, 2), "who had the old page mapped sees the new one"


def test_a_second_node_takes_the_place_of_the_first(make: Callable[..., Rig]) -> None:
    rig = make()
    first = rig.up()
    second = rig.up()
    assert first.wait(DEADLINE_S) == 0
    assert rig.page_of(second).node.pid == second.pid
    assert len(rig.processes()) == 1 + len(NAMES)


def test_a_hung_node_is_replaced(make: Callable[..., Rig]) -> None:
    rig = make()
    first = rig.up()
    first.send_signal(signal.SIGSTOP)
    rig.until(lambda: rig.slot("node/main").beat_mono_ns < time.clock_gettime_ns(time.CLOCK_MONOTONIC) - 2_500_000_000)
    rows = {row["name"]: row["state"] for row in status_rows(rig.home)}
    assert rows["node/main"] == "UNKNOWN"
    assert rows["cvt/0"] == "RUNNING", "it beats by itself"
    second = rig.up()
    assert first.wait(DEADLINE_S) == -signal.SIGKILL
    assert len(rig.processes()) == 1 + len(NAMES)
    assert rig.page_of(second).node_is_alive()


def test_ctl_restarts_stops_and_starts(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.up()
    ctl = NodeCtl(rig.home)
    reply = ctl.call("restart", "cvt/0")
    assert (reply.ok, reply.message) == (True, "cvt/0 is RUNNING")
    assert rig.slot("cvt/0").incarnation == 2
    assert ctl.call("stop", "cvt/0").message == "cvt/0 is STOPPED"
    assert rig.slot("cvt/0").pid == 0
    assert ctl.call("start", "cvt/0").message == "cvt/0 is RUNNING"
    assert not ctl.call("restart", "cvt/9").ok
    assert not ctl.call("dance", "cvt/0").ok
    assert {row["name"] for row in ctl.call("status").rows} == set(NAMES)


def test_sigterm_during_the_start_stops_all(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.does("plant/0", "sulk")
    node = rig.start()
    rig.until(lambda: rig.diary("start") == ["plant/0"])
    node.send_signal(signal.SIGINT)
    assert node.wait(DEADLINE_S) == 0
    assert rig.diary("start") == ["plant/0"]


def test_external_programs_live_and_die_like_actors(make: Callable[..., Rig]) -> None:
    command = """["python", "-c", "import os, time; print(os.environ['TAGWERK_HOME']); time.sleep(1000)"]"""
    rig = make(external=f"[external.plc]\ncommand = {command}\n")
    node = rig.up(*NAMES, "external/plc")
    pid = rig.slot("external/plc").pid
    assert Path(f"/proc/{pid}/cwd").resolve() == rig.plant.parent
    os.kill(pid, signal.SIGKILL)
    rig.until(lambda: (view := rig.slot("external/plc")).state is PeerState.RUNNING and view.pid != pid)
    successor = rig.slot("external/plc").pid
    node.kill()
    node.wait()
    rig.until(lambda: Identity.of(successor) is None)


def test_a_child_inherits_nothing_of_the_node(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.up()
    child = rig.slot("cvt/0").pid
    files = {os.readlink(entry.path) for entry in os.scandir(f"/proc/{child}/fd")}
    assert {path for path in files if not path.endswith(("cvt-0.log", "cvt-0.lock", "/null"))} <= {
        str(rig.home.file("node/main", "page-new")),  # mmap keeps a descriptor of the page
        str(rig.home.file("node/main", "page")),
    }
    assert os.getpgid(child) == child
    status = Path(f"/proc/{child}/status").read_text()
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk"))
    assert int(blocked.split()[1], 16) == 0


def test_a_wrong_plant_file_ends_the_node_with_2(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.plant.write_text("[plant]\nshards = -1\nnmae = 'x'\n")
    assert rig.start().wait(DEADLINE_S) == 2


def test_machines_code_that_does_not_fit_ends_the_node_with_2(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.plant.write_text("[machine.tank]\nclass = 'no_such_module:Tank'\n")
    assert rig.start().wait(DEADLINE_S) == 2


def supervisorctl(configuration: Path, *words: str) -> str:
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(configuration), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def test_supervisord_keeps_the_node_and_knows_the_actors(make: Callable[..., Rig]) -> None:
    rig = make()
    configuration = write_supervisord_conf(rig.home, rig.plant)
    node_command = f"command={sys.executable} {SCRIPT} --home {rig.home.root} --plant {rig.plant}"
    lines = configuration.read_text().splitlines()
    configuration.write_text("\n".join(node_command if line.startswith("command=") else line for line in lines))

    def node() -> int:
        pid = Page.open(rig.home.file("node/main", "page")).node.pid
        return pid if rig.slot("alarms/0").state is PeerState.RUNNING and Identity.of(pid) else 0

    def supervise() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-s", "-c", str(configuration)]
        rig.nodes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        return rig.nodes[-1]

    first = supervise()
    rig.until(lambda: node() > 0)
    rig.until(lambda: "node:main" in supervisorctl(configuration, "status"))
    assert "RUNNING" in supervisorctl(configuration, "actors")
    assert "cvt/0 is RUNNING" in supervisorctl(configuration, "actor", "restart", "cvt/0")
    assert rig.slot("cvt/0").incarnation == 2

    killed = node()
    os.kill(killed, signal.SIGKILL)
    rig.until(lambda: node() not in (0, killed))

    survivor = node()
    first.kill()
    first.wait()
    assert NodeCtl(rig.home).call("restart", "cvt/0").ok, "without supervisord the plant runs on"
    second = supervise()
    rig.until(lambda: node() not in (0, survivor))
    assert Identity.of(survivor) is None
    second.send_signal(signal.SIGTERM)
    assert second.wait(DEADLINE_S) == 0
    assert not rig.processes()
    assert [path.name for path in rig.home.run.iterdir()] == ["supervisord.conf"]


def test_who_takes_too_much_memory_is_restarted(make: Callable[..., Rig]) -> None:
    rig = make(node="memory_limit_bytes = 16777216\nrestarts = 1\nperiod_s = 600.0")  # less than the libraries take
    rig.start()
    rig.until(lambda: rig.slot("plant/0").state is PeerState.FATAL)
    assert "memory_limit_bytes allows 17 MB" in rig.slot("plant/0").reason


@pytest.mark.parametrize("packet", [b"\xc1", b"\x01", b"\x81\xa2do\x05", b"x" * 5000])
def test_the_node_answers_nonsense_and_lives(make: Callable[..., Rig], packet: bytes) -> None:
    rig = make()
    node = rig.up()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(rig.home.file("node/main", "ctl")))
        connection.send(packet)
        assert msgpack.unpackb(connection.recv(65536))["ok"] is False
        connection.send(msgpack.packb({"do": "status"}) or b"")
        assert msgpack.unpackb(connection.recv(65536))["ok"] is True
    assert node.poll() is None
