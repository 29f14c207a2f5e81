"""Backup and restore by the command line, of real processes under load."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from brewery import Brewery, wait_for
from small_plant import start_plant

import tagwerk

TAG = "a.x"


def tagwerk_command(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tagwerk.runtime.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(*arguments: str) -> tuple[int, str]:
    done = tagwerk_command(*arguments)
    return done.wait(60), done.communicate()[0]


class Load(threading.Thread):
    """Publishes 1, 2, 3 and so on, each acknowledged before the next."""

    def __init__(self, plant: Brewery) -> None:
        super().__init__()
        self._plant = plant
        self.acknowledged = 0
        self.stopped = False

    def run(self) -> None:
        with self._plant.attach(writer="counter", timeout_s=20.0) as attached:
            while not self.stopped:
                number = self.acknowledged + 1
                attached.publish(attached.samples([TAG], [float(number)]))
                self.acknowledged = number


def history(home: Path) -> list[float]:
    with tagwerk.attach(home=home, timeout_s=20.0) as plant:
        samples = plant.history([TAG], 0, 1 << 62)[TAG]
        return [row.value for row in samples.rows() if isinstance(row.value, float) and row.good]


@pytest.mark.timeout(120)
def test_a_backup_under_load_and_kills_is_restored_whole(tmp_path: Path) -> None:
    plant = start_plant(tmp_path, [f"{TAG},float,false"])
    load = Load(plant)
    backup, there = tmp_path / "backup", tmp_path / "there"
    try:
        load.start()
        wait_for("samples", lambda: load.acknowledged > 200)
        before = load.acknowledged

        historian = plant.kill("historian/0")
        code, said = run("backup", str(backup), "--home", str(plant.home))
        assert code == 0, said
        assert plant.reborn("historian/0", historian)
        wait_for("more samples", lambda: load.acknowledged > before + 300)
    finally:
        load.stopped = True
        load.join(30)
        plant.stop()
    last = load.acknowledged
    code, said = run("restore", str(backup), "--home", str(there / "home"))
    assert code == 0, said
    again = Brewery.bring_up(there, tmp_path / "plant.toml")
    try:
        found = wait_for("history", lambda: history(again.home))
        assert found == [float(number) for number in range(1, len(found) + 1)]
        assert before <= len(found) < last
        with again.attach(writer="counter", timeout_s=20.0) as attached:
            attached.publish(attached.samples([TAG], [0.5]))
        assert 0.5 in history(again.home)
        assert "hole" not in again.log("historian/0")
    finally:
        again.stop()
