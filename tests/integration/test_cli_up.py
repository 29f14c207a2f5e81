"""`tagwerk up`, `down` and the commands between, as processes, with a plant of a few tags and no device."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tagwerk.runtime.cli import supervision
from tagwerk.runtime.home import Home

pytestmark = pytest.mark.slow

DEADLINE_S = 40.0
PLANT = """\
[plant]
name = "small"

[tag."tank.setpoint"]
unit = "degC"
writable = true
low = 0.0
high = 100.0

[alarm."tank.hi"]
tag = "tank.setpoint"
type = "HI"
limit = 90.0
"""


class Rig:
    """A home, a plant file, and the command line as a user calls it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.plant = folder / "plant.toml"
        self.plant.write_text(PLANT, encoding="utf-8")
        self.started: list[subprocess.Popen[str]] = []

    def words(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "tagwerk.runtime.cli", "--home", str(self.home.root), *arguments]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.words(*arguments), capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def json(self, *arguments: str) -> Any:
        done = self.call(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        words = self.words(*arguments)
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.started.append(process)
        return process

    def nothing_is_left(self) -> bool:
        mine = str(self.home.root)
        left = [p for p in psutil.process_iter(["cmdline"]) if any(mine in word for word in p.info["cmdline"] or ())]
        return not left and not os.path.lexists(self.home.run) and supervision.find(self.home) is None


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    for process in rig.started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    rig.call("down")


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended without {text!r}: {said}")


def test_detached_and_down(rig: Rig) -> None:
    ready = rig.json("up", str(rig.plant), "--detach")
    assert (ready["ready"], ready["plant"], ready["actors"]) == (True, "small", 5)
    rows = rig.json("status")
    assert {row["state"] for row in rows} == {"RUNNING"}
    again = rig.call("up", str(rig.plant))
    assert again.returncode == 1
    assert "is up already" in again.stderr
    assert "is up already" in rig.call("up", "/nowhere.toml").stderr  # it does not even look at the file

    assert rig.json("write", "tank.setpoint", "149 degF", "--reason", "test")["value"] == pytest.approx(65.0)
    assert rig.json("read", "tank.*")[0]["value"] == pytest.approx(65.0)
    assert rig.call("write", "tank.setpoint", "-5").returncode == 1
    assert rig.json("restart", "cvt/0")["message"] == "cvt/0 is RUNNING"
    kept = rig.call("history", "tank.setpoint", "--csv", "--last", "10m")
    assert [float(row["value"]) for row in csv.DictReader(io.StringIO(kept.stdout)) if row["value"]][-1] == 65.0
    assert [alarm["letter"] for alarm in rig.json("alarms")] == ["A"]
    for name, code in (("tank.hi", "NotActive"), ("tank.hii", "UnknownTag")):
        error = json.loads(rig.call("ack", name, "--json").stderr)["error"]
        assert (error["code"], error["tag"]) == (code, name)
    assert "did you mean tank.hi?" in error["message"]
    until(lambda: any(event["kind"] == "write" for event in rig.json("events")))

    assert rig.json("down")["stopped"] is True
    assert rig.nothing_is_left()
    assert rig.call("down").returncode == 3
    assert rig.call("read", "tank.setpoint").returncode == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_in_the_foreground_until_a_signal(rig: Rig, number: signal.Signals, code: int) -> None:
    process = rig.start("up", str(rig.plant))
    read_until(process, "small is up")
    process.send_signal(number)
    read_until(process, "stopped")
    assert process.wait(DEADLINE_S) == code
    assert rig.nothing_is_left()


def test_a_dead_supervisord_is_told_and_replaced(rig: Rig) -> None:
    process = rig.start("up", str(rig.plant))
    read_until(process, "small is up")
    running = supervision.find(rig.home)
    assert running is not None
    assert running.supervisor is not None
    os.kill(running.supervisor.pid, signal.SIGKILL)
    said = read_until(process, "puts a new one in charge")
    assert "supervisord ended unexpectedly by SIGKILL" in said
    assert process.wait(DEADLINE_S) == 1
    assert rig.call("status").returncode == 0  # the plant runs on

    taken = rig.call("up", str(rig.plant), "--detach")
    assert taken.returncode == 0, taken.stderr
    assert "takes over from a node" in taken.stderr
    assert rig.call("down").returncode == 0
    assert rig.nothing_is_left()


def test_down_ends_a_node_that_nothing_supervises(rig: Rig) -> None:
    assert rig.call("up", str(rig.plant), "--detach").returncode == 0
    running = supervision.find(rig.home)
    assert running is not None
    assert running.supervisor is not None
    os.kill(running.supervisor.pid, signal.SIGKILL)
    until(lambda: (found := supervision.find(rig.home)) is not None and found.supervisor is None)
    assert rig.call("down").returncode == 0
    assert rig.nothing_is_left()


def test_what_does_not_get_ready_is_named(rig: Rig) -> None:
    with rig.plant.open("a", encoding="utf-8") as plant:
        plant.write('[external.broken]\ncommand = "false"\n')
    done = rig.call("up", str(rig.plant), "--detach", "--timeout", "8")
    assert done.returncode == 3
    assert "small is not ready after 8 s" in done.stderr
    assert "external/broken is " in done.stderr
    assert rig.call("down").returncode == 0
    assert rig.nothing_is_left()


def test_watch_ends_with_ctrl_c(rig: Rig) -> None:
    assert rig.call("up", str(rig.plant), "--detach").returncode == 0
    process = rig.start("watch", "tank.*", "--json")
    read_until(process, '"snapshot": true')
    rig.call("write", "tank.setpoint", "42")
    read_until(process, '"value": 42.0')
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
