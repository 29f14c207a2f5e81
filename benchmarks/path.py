"""tagwerk's own path beside the floor, in the same run: a writer, a shard, a watcher; three processes.

Run `python -m benchmarks.path` from the checkout. The shard is a real one, under its node, with journal, ownership,
views, beats and supervision; the writer and the watcher are attached processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

import tagwerk
from benchmarks import floor

PLANT = '[plant]\nname = "bench"\nshards = 1\n' + "".join(
    f'[tag."bench.t{i}"]\nlog = false\n' for i in range(floor.TAGS)
)
CASES = ((1_000, 20_000), (100, 40_000), (1, 30_000))
LATENCY_MESSAGES = 3_000


def main() -> None:
    """Run all cases, interleaved with the floor, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case; the median counts (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tw-bench-") as folder:
        rows = _measure(Path(folder), given.rounds)
    machine = {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    if given.json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    print(f"{machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, {given.rounds} rounds")
    print(f"{'what':<44}{'tagwerk':>14}{'floor':>14}{'ratio':>8}")
    for row in rows:
        print(f"{row['name']:<44}{row['value']:>14,.3f}{row['floor']:>14,.3f}{row['ratio']:>8.2f}  {row['unit']}")


def _measure(folder: Path, rounds: int) -> list[dict[str, Any]]:
    plant = folder / "plant.toml"
    plant.write_text(PLANT)
    home = folder / "home"
    node = subprocess.Popen(
        [sys.executable, "-m", "tagwerk.runtime.node", "--home", str(home), "--plant", str(plant)],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_ready(home)
        rows = [_throughput(home, batch, messages, rounds) for batch, messages in CASES]
        rows += _latency(home, rounds)
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(20)
    return rows


def _wait_ready(home: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with tagwerk.attach(home=home, timeout_s=1) as plant:
                plant.read("bench.t0")
                plant.history("bench.t0", 0, 1)
                return
        except tagwerk.TagwerkError:
            time.sleep(0.1)
    sys.exit("the plant did not come up")


def _row(name: str, unit: str, ours: list[float], floors: list[float], *, more_is_better: bool) -> dict[str, Any]:
    value, base = statistics.median(ours), statistics.median(floors)
    ratio = value / base if more_is_better else base / value
    return {
        "name": name, "value": value, "unit": unit, "floor": base, "ratio": ratio, "n": len(ours),
        "median": value, "low": min(ours), "high": max(ours),
    }  # fmt: skip


def _throughput(home: Path, batch: int, messages: int, rounds: int) -> dict[str, Any]:
    ours, floors = [], []
    for _ in range(rounds):
        floors.append(floor.run(batch, messages))
        ours.append(_run(home, batch, messages, 0.0))
    name = f"samples/s, batches of {batch}, journaled"
    return _row(name, "samples/s", ours, floors, more_is_better=True)


def _latency(home: Path, rounds: int) -> list[dict[str, Any]]:
    ours, floors = [], []
    for _ in range(rounds):
        floors.append(np.array(floor.run(1, LATENCY_MESSAGES, 1_000.0)))
        ours.append(np.array(_run(home, 1, LATENCY_MESSAGES, 1_000.0)))
    rows = []
    for percent in (50, 99):
        mine = [float(np.percentile(run, percent)) for run in ours]
        bare = [float(np.percentile(run, percent)) for run in floors]
        name = f"writer to watcher, 1,000 messages/s, p{percent}"
        rows.append(_row(name, "ms", mine, bare, more_is_better=False))
    return rows


def _run(home: Path, batch: int, messages: int, rate_hz: float) -> Any:
    context = mp.get_context("spawn")
    ready, result = context.Event(), context.Queue()
    rows = batch * messages
    other = context.Process(target=_watch, args=(home, rows, rows // 10, ready, result, rate_hz > 0))
    other.start()
    if not ready.wait(20):
        sys.exit("the watcher did not come up")
    _publish(home, batch, messages, rate_hz)
    measured = result.get(timeout=120)
    other.join(10)
    return measured


def _watch(home: Path, rows: int, warm: int, ready: Any, result: Any, latency: bool) -> None:
    with tagwerk.attach(home=home) as plant:
        watch = plant.watch("bench.*", mode="every")
        watch.get(10)
        ready.set()
        seen, started = 0, 0.0
        latencies: list[float] = []
        while seen < rows:
            samples = watch.get(30)
            if samples is None:
                sys.exit("nothing came for 30 s")
            if samples.snapshot:
                seen = rows if not samples.complete else seen  # a resync: the count would be wrong
                continue
            if samples.values is None:
                continue
            if latency:
                now_ns = time.time_ns()
                latencies.extend(((now_ns - samples.times) / 1e6).tolist())
            seen += len(samples)
            if not started and seen >= warm:
                started = time.perf_counter()
        if watch.resyncs:
            sys.exit(f"the watcher fell behind {watch.resyncs} times: this run does not count")
        result.put(latencies if latency else (rows - warm) / (time.perf_counter() - started))


def _publish(home: Path, batch: int, messages: int, rate_hz: float) -> None:
    with tagwerk.attach(home=home, writer="bench", timeout_s=60) as plant:
        names = [f"bench.t{i}" for i in range(min(batch, floor.TAGS))]
        values = np.random.default_rng(1).random(batch)
        template = plant.samples(names, values)
        out: deque[Any] = deque()
        start = time.perf_counter()
        for number in range(1, messages + 1):
            if rate_hz:
                left = start + number / rate_hz - time.perf_counter()
                if left > 0:
                    time.sleep(left)
            out.append(plant.publish_soon(template.at(time.time_ns())))
            while len(out) >= floor.WINDOW or (out and out[0].done()):
                out.popleft().result(60)
        while out:
            out.popleft().result(60)


if __name__ == "__main__":
    main()
