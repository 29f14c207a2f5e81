"""The example plant as a whole: start-up, memory, and from kill -9 to the first answer of each actor's successor.

Run `python -m benchmarks.plant` from the checkout. The plant is a copy in a home of its own, its PLC on a free port;
a writer publishes 1,000 samples/s all the time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import tagwerk
from tagwerk.protocols.plantwide import DeadLetters, GetDeadLetters
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page
from tagwerk.runtime.states import PeerState

EXAMPLE = Path(__file__).parents[1] / "examples" / "brewhouse"
PAUSE_S = 1.5


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5, help="kills of each actor (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tw-plant-") as folder:
        figures = _measure(Path(folder), given.kills)
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<52}{value:>10,.1f}")


def _measure(folder: Path, kills: int) -> dict[str, float]:
    plant, home = _copy(folder), folder / "home"
    began = time.monotonic()
    node = subprocess.Popen(
        [sys.executable, "-m", "tagwerk.runtime.node", "--home", str(home), "--plant", str(plant)],
        stdout=subprocess.DEVNULL,
    )
    try:
        page = _wait_up(home)
        figures = {"start to all RUNNING, s": time.monotonic() - began}
        time.sleep(5)
        figures |= _idle(node.pid)
        figures |= _kills(home, page, kills)
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(30)
    return figures


def _copy(folder: Path) -> Path:
    target = folder / "plant"
    shutil.copytree(EXAMPLE, target, ignore=shutil.ignore_patterns("__pycache__", "var"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = target / "plant.toml"
    text = path.read_text().replace("127.0.0.1:4840", f"127.0.0.1:{port}")
    text = text.replace("--speed 30", f"--speed 30 --port {port}")
    path.write_text(text.replace("[node.main]\n", "[node.main]\nrestarts = 1000\n"))
    return path


def _wait_up(home: Path) -> Page:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.01)
        try:
            page = Page.open(Home(home).file("node/main", "page"))
        except (OSError, tagwerk.TagwerkError):
            continue
        if all(_running(page, name) for name in _names(page)):
            return page
    sys.exit("the plant did not come up")


def _names(page: Page) -> list[str]:
    return [name for name in page.names() if name != "node/main"]


def _running(page: Page, name: str) -> bool:
    seen = page.look(name)
    return seen is not None and seen.state is PeerState.RUNNING


def _idle(pid: int) -> dict[str, float]:
    everyone = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in everyone:
        process.cpu_percent()
    time.sleep(5)
    cpu = sum(process.cpu_percent() for process in everyone)
    plc = next(process for process in everyone if "plc.py" in " ".join(process.cmdline()))
    whole = sum(process.memory_full_info().pss for process in everyone) / 1e6
    simulator = plc.memory_full_info().pss / 1e6
    return {
        "processes": float(len(everyone)),
        "memory of all, PSS, MB": whole,
        "  of it the simulated PLC, MB": simulator,
        "processor of all at rest, % of one core": cpu,
    }


def _kills(home: Path, page: Page, kills: int) -> dict[str, float]:
    context = mp.get_context("spawn")  # a writer in this process would measure our own interpreter's lock
    stop, moments = context.Event(), context.Queue()
    writer = context.Process(target=_write, args=(home, stop, moments))
    writer.start()
    time.sleep(3)
    answers: dict[str, list[float]] = {}
    struck: dict[str, list[float]] = {}
    with tagwerk.attach(home=home, timeout_s=20) as plant:
        for _ in range(kills):
            for name in [name for name in _names(page) if not name.startswith("external/")]:
                time.sleep(PAUSE_S)
                struck.setdefault(name, []).append(time.monotonic())
                answers.setdefault(name, []).append(_kill(plant, page, name))
    time.sleep(PAUSE_S)
    stop.set()
    acknowledged = np.array(moments.get(timeout=30))
    writer.join()
    figures: dict[str, float] = {}
    for name, times in answers.items():
        figures[f"kill -9 {name} to its answer, ms, median"] = statistics.median(times)
        figures[f"kill -9 {name} to its answer, ms, worst"] = max(times)
    for name in ("cvt/0", "cvt/1"):
        gaps = [_longest_gap(acknowledged, moment) for moment in struck[name]]
        figures[f"kill -9 {name}, writer's longest wait, ms, worst"] = 1e3 * max(gaps)
    everything = sorted(value for times in answers.values() for value in times)
    figures["kill -9 to answer, all, ms, p95"] = everything[int(0.95 * (len(everything) - 1))]
    return figures


def _write(home: Path, stop: Any, moments: Any) -> None:
    acknowledged: list[float] = []
    with tagwerk.attach(home=home, writer="bench", timeout_s=30) as plant:
        tags = {plant.definition(f"lab.probe{n}").shard: f"lab.probe{n}" for n in range(10)}.values()
        due = time.monotonic()
        number = 0.0
        while not stop.is_set():
            number += 1
            for tag in tags:  # one in each shard
                plant.publish(plant.samples(tag, [number]))
            acknowledged.append(time.monotonic())
            due = max(due + 0.001 * len(tags), time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
    moments.put(acknowledged)


def _longest_gap(acknowledged: Any, struck: float) -> float:
    after = acknowledged[(acknowledged > struck - 0.1) & (acknowledged < struck + PAUSE_S)]
    return float(np.diff(after).max())


def _kill(plant: tagwerk.Plant, page: Page, name: str) -> float:
    before = page.look(name)
    if before is None:
        sys.exit(f"{name} is gone")
    started = time.monotonic()
    os.kill(before.pid, signal.SIGKILL)
    while (seen := page.look(name)) is None or seen.incarnation == before.incarnation:
        time.sleep(0.0005)
    plant.query(name, GetDeadLetters(), DeadLetters, 10)
    return 1e3 * (time.monotonic() - started)


if __name__ == "__main__":
    main()
