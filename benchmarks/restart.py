"""A shard's restart: from kill -9 until all tags are read and the next publish is acknowledged.

Run `python -m benchmarks.restart` from the checkout. The shard is a real one, under its node. Its snapshots are made to
fail while the journal grows, so that a restart has to apply all of it; `--behind 0` measures it as it is otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tagwerk
from tagwerk.protocols.samples import decode
from tagwerk.protocols.tags import GetSnapshot, OpenView, ViewOpened, ViewSnapshot
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page

SHARD = "cvt/0"
PAUSE_S = 1.0


def main() -> None:
    """Measure and print p50, p95 and the highest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=100_000, help="tags of the shard (default 100000)")
    parser.add_argument("--behind", type=int, default=64, help="MB of journal behind the snapshot (default 64)")
    parser.add_argument("--batch", type=int, default=1_000, help="samples in a frame (default 1000)")
    parser.add_argument("--kills", type=int, default=20, help="kills (default 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of words")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tw-restart-") as folder:
        times_ms = _measure(Path(folder), given.tags, given.behind, given.batch, given.kills)
    p50, p95 = np.percentile(times_ms, [50, 95]).tolist()
    figures = {"tags": given.tags, "behind_mb": given.behind, "batch": given.batch, "kills": given.kills,
               "p50_ms": p50, "p95_ms": p95, "max_ms": max(times_ms)}  # fmt: skip
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<12}{value:>12,.1f}")


def _measure(folder: Path, tags: int, behind_mb: int, batch: int, kills: int) -> list[float]:
    names = [f"bench.t{number}" for number in range(tags)]
    (folder / "tags.csv").write_text("name,type,log\n" + "".join(f"{name},float,false\n" for name in names))
    plant_file, home = folder / "plant.toml", folder / "home"
    plant_file.write_text(
        '[plant]\nname = "restart"\nshards = 1\ntag_files = ["tags.csv"]\n[node.main]\nrestarts = 1000\n'
    )
    node = subprocess.Popen(
        [sys.executable, "-m", "tagwerk.runtime.node", "--home", str(home), "--plant", str(plant_file)],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_up(home)
        with tagwerk.attach(home=home, writer="bench", timeout_s=60) as plant:
            _fill(plant, home, names, behind_mb, batch)
            return [_kill(plant, home, names) for _ in range(kills)]
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(60)


def _wait_up(home: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with tagwerk.attach(home=home, timeout_s=1) as plant:
                plant.read("bench.t0")
                return
        except tagwerk.TagwerkError:
            time.sleep(0.1)
    sys.exit("the plant did not come up")


def _fill(plant: tagwerk.Plant, home: Path, names: list[str], behind_mb: int, batch: int) -> None:
    """Publish each tag, then go on until so much is in the journal behind the snapshot."""
    values = np.random.default_rng(1).random(len(names))
    plant.publish(plant.samples(names, values), timeout_s=60)
    time.sleep(PAUSE_S)
    data = home / "data" / "cvt-0"
    if behind_mb:
        (data / "table.snapshot.tmp").mkdir()  # where the next one would be written
    frames = [plant.samples(names[at : at + batch], values[at : at + batch]) for at in range(0, len(names), batch)]
    before, number = _size(data), 0
    while _size(data) - before < behind_mb << 20:
        out = []
        for _ in range(200):
            out.append(plant.publish_soon(frames[number % len(frames)].at(time.time_ns())))
            number += 1
        for one in out:
            one.result(60)


def _size(data: Path) -> int:
    return sum(path.stat().st_size for path in (data / "journal").glob("*.seg"))


def _kill(plant: tagwerk.Plant, home: Path, names: list[str]) -> float:
    """One kill; gives ms until the successor is in step."""
    samples = plant.samples(names[:1], [1.0])
    page = Page.open(Home(home).file("node/main", "page"))
    pid = page.slot(SHARD).read().pid
    page.close()
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    plant.publish(samples.at(time.time_ns()), timeout_s=60)
    while _readable(plant) < len(names):
        time.sleep(0.001)
    took_ms = (time.perf_counter() - began) * 1e3
    time.sleep(PAUSE_S)
    return took_ms


def _readable(plant: tagwerk.Plant) -> int:
    """How many tags have a value."""
    try:
        view = plant.call(SHARD, OpenView(("*",), 5.0), 1.0)
        if not isinstance(view, ViewOpened):
            return 0
        snapshot = plant.call(SHARD, GetSnapshot(view.topic), 5.0)
    except tagwerk.TagwerkError:
        return 0
    if not isinstance(snapshot, ViewSnapshot):
        return 0
    return sum(len(batch) for frame in snapshot.frames for batch in decode(frame) if batch.values is not None)


if __name__ == "__main__":
    main()
