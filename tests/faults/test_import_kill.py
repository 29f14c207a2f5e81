"""An import through kills of who sends and who stores: all of the file is in history once, and nothing else changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from brewery import Brewery, wait_for
from small_plant import start_plant

import tagwerk
from tagwerk.protocols import quality as q
from tagwerk.protocols.history import GetHistorianState, HistorianState
from tagwerk.runtime.attach import Plant

pytestmark = pytest.mark.slow

S = 1_000_000_000
T0 = 1_700_000_000 * S
ROWS = 60_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewery]:
    plant = start_plant(tmp_path_factory.mktemp("import"), ["lab.level,float,", "lab.count,int,"])
    yield plant
    plant.stop()


def importer(small: Brewery, file: Path) -> subprocess.Popen[str]:
    words = ["-P", "-m", "tagwerk.runtime.cli", "--home", str(small.home), "history", "import", str(file)]
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stored(plant: Plant) -> int:
    return plant.query("historian/0", GetHistorianState(), HistorianState, 20.0).rows


def test_each_sample_is_there_once_and_nothing_is_current(small: Brewery, tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    seconds = np.datetime_as_string((np.arange(ROWS) + T0 // S).astype("M8[s]")).tolist()
    lines = [f"{at}Z,lab.{'count' if n % 2 else 'level'},{n},,Good" for n, at in enumerate(seconds)]
    file.write_text("\n".join(["time,tag,value,unit,quality", *lines, ""]), encoding="utf-8")
    with tagwerk.attach(home=small.home, writer="owner", timeout_s=20.0) as plant:
        plant.publish(plant.samples(["lab.level"], [7.0]))  # another source owns it, and stays
        before = plant.read("lab.level")
        rows = stored(plant)

        first = importer(small, file)
        wait_for("the first samples", lambda: stored(plant) > rows or first.poll() is not None)
        first.kill()
        first.communicate()
        rows = stored(plant)
        second = importer(small, file)
        wait_for("more samples", lambda: stored(plant) > rows or second.poll() is not None)
        small.kill("historian/0")
        err = second.communicate(timeout=60)[1]
        assert second.returncode == 0, err
        third = importer(small, file)
        out, err = third.communicate(timeout=60)
        assert (third.returncode, err) == (0, "")
        assert f"0 samples added, {ROWS:,} were known, of 2 tags" in out

        level = plant.history("lab.level", T0, T0 + ROWS * S)["lab.level"]
        count = plant.history("lab.count", T0, T0 + ROWS * S)["lab.count"]
        assert level.values.tolist() == list(range(0, ROWS, 2))
        assert count.values.tolist() == list(range(1, ROWS, 2))
        assert level.times.tolist() == [T0 + n * S for n in range(0, ROWS, 2)]
        assert set(level.quality.tolist()) == set(count.quality.tolist()) == {q.BACKFILLED}
        assert plant.read("lab.level") == before
