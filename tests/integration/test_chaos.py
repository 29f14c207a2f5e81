"""`tagwerk chaos` with real processes: a short run that must keep all promises, and one that is broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from brewery import EXAMPLE, wait_for

import tagwerk
from tagwerk.runtime.chaos.commands import PULSE
from tagwerk.runtime.chaos.numbers import writers_for
from tagwerk.runtime.chaos.scratch import Scratch, not_running

pytestmark = pytest.mark.slow

RUN_S = 30
LIMIT_S = 180
NAMES = ("cvt", "historian", "alarms", "writer")


def chaos(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start it, with the scratch directory in a folder of the test."""
    return subprocess.Popen(
        [sys.executable, "-m", "tagwerk.runtime.cli", "chaos", *options],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_short_run_keeps_all_promises(tmp_path: Path) -> None:
    minutes, kill = str(RUN_S / 60), ",".join(NAMES)
    process = chaos(tmp_path, "--minutes", minutes, "--seed", "3", "--rate", "5000", "--kill", kill, "--json")
    out, progress = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, f"{out}\n{progress}"
    verdict = json.loads(out)
    assert verdict["kept"] is True
    assert verdict["seed"] == 3
    assert verdict["seconds"] == RUN_S
    assert verdict["in_history"] >= verdict["acknowledged"] > 10_000
    assert verdict["alarms_recorded"] == verdict["alarms_expected"] > 50
    broken = ("lost", "duplicated", "alarms_missed", "watchers_differing")
    assert {name: verdict[name] for name in broken} == dict.fromkeys(broken, 0)
    assert verdict["leftovers"] == []
    assert set(verdict["kills"]) == set(NAMES)
    assert all(count > 0 for count in verdict["kills"].values())
    assert verdict["recovery_ms"]["max"] >= verdict["recovery_ms"]["p50"] > 0
    assert "answers after" in progress
    assert not list(tmp_path.iterdir()), "the scratch directory of a run that kept its promises is removed"


def test_a_run_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    process = chaos(tmp_path, "--minutes", "2", "--rate", "1000", "--kill", "cvt")
    assert process.stdout is not None
    for line in process.stdout:
        if "answers after" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [("--kill", "pumps"), ("--minutes", "0"), ("--rate", "1"), ("no-such-plant.toml",)])
def test_wrong_usage_starts_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    process = chaos(tmp_path, *options)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert not list(tmp_path.iterdir())


def test_a_client_goes_on_with_the_plant_of_the_next_supervisord(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = Scratch(EXAMPLE / "plant.toml", writers_for(100), example=True)
    try:
        page = scratch.up()
        with tagwerk.attach(home=scratch.home.root) as plant:
            watch = plant.watch("chaos.*")
            wait_for("the watch in step", lambda: watch.in_step)
            wait_for("pulses of the machine", lambda: sum(one.node == PULSE for one in scratch.executions()) > 5)
            assert scratch.supervisord is not None
            scratch.supervisord.process.kill()
            scratch.supervisord.process.wait()
            before = page.node
            scratch.supervise()
            wait_for("the next node", lambda: page.reopen_if_replaced() or page.node != before, 60)
            wait_for("all RUNNING", lambda: not not_running(page), 60)
            wait_for("the watch in step with the new shards", lambda: watch.resyncs >= 2 and watch.in_step)
            assert plant.read("chaos.a.t00").tag == "chaos.a.t00"
    finally:
        left = scratch.down(())
    assert left == []
