"""`tagwerk bench` with real processes: its figures, and what is left when it is broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
from brewery import wait_for

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.bench.forks import Fork
from tagwerk.runtime.bench.plant import BenchPlant
from tagwerk.runtime.bench.tasks import Flow, Kills
from tagwerk.runtime.bench.work import measured

pytestmark = pytest.mark.slow

LIMIT_S = 120
KEYS = {"name", "value", "unit", "floor", "ratio", "n", "median", "low", "high"}


def bench(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start it, with its scratch directories in a folder of the test."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tagwerk.runtime.cli", "bench", *options],
        cwd=folder,  # as from an installed package: no checkout is near
        env=os.environ | {"TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def of(folder: Path) -> list[psutil.Process]:
    """All processes that have the folder in their command line or their environment."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for word in (*process.cmdline(), *process.environ().values())):
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def test_it_gives_figures_beside_a_floor_and_leaves_nothing(tmp_path: Path) -> None:
    process = bench(tmp_path, "--quick", "--json")
    out, progress = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, progress
    found = json.loads(out)
    assert set(found) == {"machine", "rows"}
    assert found["machine"]["cores"] == os.cpu_count()
    names = [row["name"] for row in found["rows"]]
    assert len(names) == len(set(names)) == 12
    for row in found["rows"]:
        assert set(row) == KEYS
        assert row["low"] <= row["median"] <= row["high"]
        expected = row["value"] / row["floor"] if row["unit"] == "samples/s" else row["floor"] / row["value"]
        assert row["ratio"] == pytest.approx(expected, rel=1e-2, abs=1e-3)
    assert not list(tmp_path.iterdir())
    assert not of(tmp_path)


def test_broken_off_it_leaves_nothing(tmp_path: Path) -> None:
    process = bench(tmp_path, "--quick")
    assert process.stderr is not None
    for line in process.stderr:
        if "batches of 1,000" in line:
            break
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, words
    assert "Traceback" not in words
    assert not list(tmp_path.iterdir())
    wait_for("the end of all its processes", lambda: not of(tmp_path))


def test_views_get_their_part_and_no_more() -> None:
    with BenchPlant(100) as plant:
        task = Flow(
            10, 50, tags=100, home=str(plant.home), views=(("bench.*",), ("bench.*7",)), crowd=("bench.t00001*",)
        )
        flowed = measured(task)
        assert [one.samples for one in flowed.seen] == [500, 50]
        assert flowed.crowd_samples >= 50
        assert flowed.crowd_frames >= 1


def test_the_floor_comes_back_with_its_table() -> None:
    figures = measured(Kills(2, tags=1_000)).figures
    assert len(figures) == 2
    assert all(figure > 0 for figure in figures)


def test_a_measurement_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no plant is up"):
        measured(Flow(1, 10, home=str(tmp_path)))


def test_a_plant_that_does_not_come_up_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(Unavailable, match="nonsense"), BenchPlant(1, extra="nonsense = 1\n"):
        pass
    assert not list(tmp_path.iterdir())


def _sleep(pipe: Connection) -> None:
    pipe.send("here")
    time.sleep(LIMIT_S)


def _end(pipe: Connection) -> None:
    pipe.close()


def test_a_fork_is_gone_where_its_with_ends() -> None:
    with Fork(_sleep) as fork:
        assert fork.hear(10) == "here"
        (child,) = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
        with pytest.raises(Unavailable, match="said nothing"):
            fork.hear(0.01)
    assert not child.is_running()


def test_a_fork_that_ends_without_a_word_is_told() -> None:
    with Fork(_end) as fork, pytest.raises(Unavailable, match="ended before"):
        fork.hear(10)
