"""Many alarms: what `alarms/0` costs while every tag changes once a second, and how soon a crossed limit is seen.

Run `python -m benchmarks.alarms` from the checkout. An attached writer publishes all tags once a second, in batches
spread over the second, below the limit. First nothing crosses: that is the processor time. Then single tags do, at
random: from the call that publishes it until another process sees the transition, which is stored and synced by then.
That process asks `GetAlarms` each half millisecond, so each figure includes a question and its answer. The floor is
what a synced commit of one row to an SQLite database takes under the same load, as often as limits are crossed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import time
from collections import deque
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil

import tagwerk
from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.bench.forks import FORK, Fork
from tagwerk.runtime.bench.plant import BenchPlant
from tagwerk.runtime.bench.tally import sleep_until
from tagwerk.runtime.bench.tasks import TAG

BATCH = 1_000
LIMIT = 100.0
BEYOND = 150.0
WARM_S = 3.0
PATIENCE_S = 60.0
PAUSE_S = 0.0005
ALARM = "a{:06d}"


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alarms", type=int, default=100_000, help="alarms, one a tag (default 100000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each half (default 20)")
    parser.add_argument("--crossings", type=float, default=20.0, help="limits crossed a second (default 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of words")
    given = parser.parse_args()
    figures = _measure(given.alarms, given.seconds, given.crossings)
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<40}{value:>12,.2f}")


def _measure(alarms: int, seconds: float, crossings_hz: float) -> dict[str, float]:
    names = range(alarms)
    tables = (f'[alarm.{ALARM.format(n)}]\ntag = "{TAG.format(n)}"\ntype = "HI"\nlimit = {LIMIT}\n' for n in names)
    with BenchPlant(alarms, extra="".join(tables)) as plant:
        figures = {"alarms": float(alarms), "start_s": plant.started_s}
        floor = Fork(_commit, plant.home / "floor.db", crossings_hz)
        with floor, Fork(_write, plant.home, alarms, 0.0, None) as writer:
            writer.hear(PATIENCE_S)
            time.sleep(WARM_S)
            floor.say("begin")
            figures |= _shares(plant, seconds, "% of one core")
            floor.say("enough")
            floor_ms = floor.hear(PATIENCE_S)
        theirs, ours = FORK.Pipe(duplex=False)
        with Fork(_look, plant.home, theirs) as looker, Fork(_write, plant.home, alarms, crossings_hz, ours) as writer:
            writer.hear(PATIENCE_S)
            time.sleep(WARM_S)
            figures |= _shares(plant, seconds, "% of one core, with crossings")
            looker.say("enough")
            delays_ms = looker.hear(PATIENCE_S)
    figures["crossings"] = float(len(delays_ms))
    for name, taken in (("", delays_ms), ("floor_", floor_ms)):
        p50, p99 = np.percentile(taken, [50, 99]).tolist()
        figures |= {f"{name}p50_ms": p50, f"{name}p99_ms": p99, f"{name}max_ms": max(taken)}
    return figures


def _shares(plant: BenchPlant, seconds: float, words: str) -> dict[str, float]:
    actors = {name: psutil.Process(plant.pid(name)) for name in ("alarms/0", "cvt/0")}
    for process in actors.values():
        process.cpu_percent()
    time.sleep(seconds)
    return {f"{name}, {words}": process.cpu_percent() for name, process in actors.items()}


def _write(pipe: Connection, home: Path, tags: int, crossings_hz: float, out: Connection | None) -> None:
    """Publish all tags once a second, for ever; tell of each crossing, by alarm and time."""
    rng = np.random.default_rng(1)
    under_way: deque[Future[None]] = deque()
    with tagwerk.attach(home=home, writer="bench", timeout_s=PATIENCE_S) as plant:
        names = [TAG.format(number) for number in range(tags)]
        batches = [names[at : at + BATCH] for at in range(0, tags, BATCH)]
        frames = [[plant.samples(one, rng.random(len(one)) * LIMIT) for one in batches] for _ in range(2)]
        pipe.send("begins")
        turns = rng.permutation(tags)  # an alarm that still stands would not be raised anew
        start, published, crossed = time.perf_counter(), 0, 0
        while True:
            batch_s = start + published / len(batches)
            crossing_s = start + (crossed + rng.random()) / crossings_hz if out is not None else float("inf")
            sleep_until(min(batch_s, crossing_s))
            if crossing_s < batch_s and out is not None:
                number = int(turns[crossed % tags])
                crossed += 1
                samples = plant.samples(names[number], [BEYOND], time.time_ns())
                out.send((ALARM.format(number), int(samples.times[0])))
            else:
                turn, place = divmod(published, len(batches))
                published += 1
                samples = frames[turn % 2][place].at(time.time_ns())
            under_way.append(plant.publish_soon(samples))
            while under_way[0].done() or len(under_way) > BATCH:
                under_way.popleft().result(PATIENCE_S)
                if not under_way:
                    break


def _commit(pipe: Connection, path: Path, rate_hz: float) -> None:
    """Commit a row so often, from `begin` on; say how long each took, ms, when told that it is enough."""
    taken_ms: list[float] = []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for command in ("journal_mode = wal", "synchronous = full"):
            connection.execute(f"PRAGMA {command}")
        connection.execute("CREATE TABLE rows (at_ns INTEGER, text TEXT)")
        pipe.recv()
        start_s = time.perf_counter()
        while not pipe.poll():
            sleep_until(start_s + len(taken_ms) / rate_hz)
            began_s = time.perf_counter()
            connection.execute("INSERT INTO rows VALUES (?, ?)", (time.time_ns(), "x" * 200))
            taken_ms.append((time.perf_counter() - began_s) * 1e3)
    pipe.send(taken_ms)


def _look(pipe: Connection, home: Path, crossings: Connection) -> None:
    """See each crossing come; say how long it took, ms, when told that it is enough."""
    delays_ms: list[float] = []
    with tagwerk.attach(home=home, timeout_s=PATIENCE_S) as plant:
        while not pipe.poll():
            if not crossings.poll(0.1):
                continue
            name, at_ns = crossings.recv()
            while (row := plant.alarms(names=[name])[0]).raised_ns is None or row.raised_ns < at_ns:
                if time.time_ns() - at_ns > PATIENCE_S * 1e9 / 4:
                    raise Unavailable(f"{name} was crossed at {at_ns} and not raised: {row}")
                time.sleep(PAUSE_S)  # a busy loop would take a core from the actors that it measures
            delays_ms.append((time.time_ns() - at_ns) / 1e6)
    pipe.send(delays_ms)


if __name__ == "__main__":
    main()
