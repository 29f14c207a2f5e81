"""tagwerk and the floor on the work of the peers: one run gives the same rows that a peer's file gives."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

import tagwerk
from benchmarks.peers import speak
from tagwerk.protocols.history import GetHistory, HistoryPage
from tagwerk.protocols.tags import TagWritten, WriteTag
from tagwerk.runtime.bench.crowd import IDLE_NS, Loop
from tagwerk.runtime.bench.plant import ACTORS, BenchPlant
from tagwerk.runtime.bench.suite import RATE_HZ, TIMED_TAGS
from tagwerk.runtime.bench.tasks import SINGLES_WINDOW, TAG, WINDOW, Asks, Flow, Kills, Task
from tagwerk.runtime.bench.work import measured
from tagwerk.runtime.control import Outcome

TAGS = 1_000
BATCH = 1_000
PATIENCE_S = 60.0
WARM_S = 2.0
FLOOR = "floor: bare pyzmq, msgpack, numpy"
HOT = '[alarm.hot]\ntag = "bench.t000000"\ntype = "HI"\nlimit = 50.0\ntext = "Hot."\n'
SERVER = Path(__file__).parent / "peers" / "opcua_server.py"
LINK = '[opcua.plc]\nurl = "opc.tcp://127.0.0.1:{port}/"\npublish_interval_s = {publish}\nsample_interval_s = 0.0\n'
ITEM = (
    '[tag."plc.i{number}"]\ntype = "float"\nlog = false\nwritable = {writable}\nsource = "opcua/plc"\n'
    'node = "nsu=urn:bench;s=i{number}"\n'
)

Rows = list[dict[str, Any]]


def measure(sizes: dict[str, Any]) -> Rows:
    """Give all rows of one run."""
    with BenchPlant(TAGS, extra=HOT) as plant:
        rows = flows(plant, sizes) + asks(plant, sizes) + alarms(plant, sizes) + kills(plant, sizes)
    return rows + history(sizes) + opcua(sizes)


def flows(plant: BenchPlant, sizes: dict[str, Any]) -> Rows:
    """Samples from a writer to a watcher."""
    rows: Rows = []
    cases = (("single samples", 1, sizes["singles"]), ("batches of 100", 100, sizes["batches"]))
    for work, batch, messages in (*cases, ("batches of 1,000", BATCH, sizes["batches"])):
        task: Task = Flow(batch, messages, tags=TAGS, window=WINDOW if batch > 1 else SINGLES_WINDOW)
        for what, one in _both(task, plant):
            rows.append(speak.row(work, what, measured(one).seen[0].rate, "samples/s"))
    timed = Flow(1, sizes["timed"], RATE_HZ, TIMED_TAGS)
    actors = msgspec.structs.replace(timed, home=str(plant.home), attached=False)
    for what, one in (*_both(timed, plant), ("tagwerk, actors", actors)):
        seen = measured(one).seen[0]
        rows.append(speak.row("writer to watcher at 1,000/s, p50", what, seen.p50_ms, "ms"))
        rows.append(speak.row("writer to watcher at 1,000/s, p99", what, seen.p99_ms, "ms"))
    return rows


def _both(task: Task, plant: BenchPlant) -> list[tuple[str, Task]]:
    return [(FLOOR, task), ("tagwerk", msgspec.structs.replace(task, home=str(plant.home)))]


def asks(plant: BenchPlant, sizes: dict[str, Any]) -> Rows:
    """Round trips between two processes."""
    floor, actor = _both(Asks(sizes["asks"]), plant)
    script = ("tagwerk, attached script", Asks(sizes["asks"], str(plant.home), attached=True))
    every = (floor, ("tagwerk, actor to actor", actor[1]), script)
    return [speak.row("ask, p50", what, statistics.median(measured(one).figures), "us") for what, one in every]


def kills(plant: BenchPlant, sizes: dict[str, Any]) -> Rows:
    """`kill -9` of each actor in turn, to the successor's answer."""
    work = "kill -9 to the next answer, p50"
    both = _both(Kills(sizes["kills"], ACTORS), plant)
    return [speak.row(work, what, statistics.median(measured(one).figures), "ms") for what, one in both]


def alarms(plant: BenchPlant, sizes: dict[str, Any]) -> Rows:
    """From the publish of a value past the limit until a client is told that the alarm is active and on disk."""
    found: list[float] = []
    with tagwerk.attach(home=plant.home, writer="alarms", timeout_s=PATIENCE_S) as client:
        for _ in range(sizes["kills"] * 10):
            _set(client, 10.0, active=False)
            found.append(_set(client, 60.0, active=True))
    return speak.delays("value to alarm active", "tagwerk", found)


def _set(client: tagwerk.Plant, value: float, *, active: bool) -> float:
    began = time.perf_counter()
    client.publish(client.samples(TAG.format(0), [value]))
    speak.until(lambda: client.alarms(names=("hot",))[0].active is active, PATIENCE_S, 0.0)
    return 1e3 * (time.perf_counter() - began)


def history(sizes: dict[str, Any]) -> Rows:
    """Rows into history: from the first publish until the historian says that it has all of it on disk."""
    with (
        BenchPlant(TAGS, logged=True) as plant,
        tagwerk.attach(home=plant.home, writer="rows", timeout_s=PATIENCE_S) as client,
    ):
        batch = client.samples([TAG.format(number) for number in range(BATCH)], np.random.default_rng(1).random(BATCH))
        handle = client.definition(TAG.format(0)).handle
        began = time.perf_counter()
        under_way = [client.publish_soon(batch.at(time.time_ns())) for _ in range(sizes["batches"])]
        for one in under_way:
            one.result(PATIENCE_S)
        question = GetHistory(handle, 0, 1, limit=1)
        speak.until(lambda: not client.query("historian/0", question, HistoryPage).behind, PATIENCE_S, 0.005)
        rate = BATCH * len(under_way) / (time.perf_counter() - began)
    return [speak.row("rows into history", "tagwerk", rate, "rows/s")]


# --- OPC UA -----------------------------------------------------------------------------------------------------------


def opcua(sizes: dict[str, Any]) -> Rows:
    """A change in a server to a watcher, through a link, a shard and its journal; then many items at once."""
    what, seconds = "tagwerk, link to watcher", sizes["seconds"]
    one = _linked(1, 0.1, 0.01, seconds)
    rows = speak.delays("OPC UA, a change to the callback, published every 10 ms", what, one.delays)
    for items, period_s in ((sizes["items"], 0.1), (sizes["wide"], 1.0)):
        many = _linked(items, period_s, period_s, seconds)
        rows += speak.many_items(items, period_s, what, many.delays, seconds, many.busy)
    with _linked_plant(speak.WRITTEN, 3_600.0, 0.1) as plant:
        return [*rows, speak.row(speak.WRITES, "tagwerk, through shard and link", _written(plant, seconds), "writes/s")]


def _linked(items: int, period_s: float, publish_s: float, seconds: float) -> speak.Heard:
    """Give how long each value was under way from a server through a link to a watcher."""
    with _linked_plant(items, period_s, publish_s) as plant:
        return _watched(plant, items, seconds)


@contextmanager
def _linked_plant(items: int, period_s: float, publish_s: float) -> Iterator[BenchPlant]:
    """Start a server and a plant with a link to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tags = "".join(ITEM.format(number=number, writable=str(number < speak.WRITTEN).lower()) for number in range(items))
    server = subprocess.Popen([sys.executable, SERVER, str(port), str(items), str(period_s)], stderr=subprocess.DEVNULL)
    try:
        with BenchPlant(1, extra=LINK.format(port=port, publish=publish_s) + tags) as plant:
            yield plant
    finally:
        server.kill()
        server.wait()


def _watched(plant: BenchPlant, items: int, seconds: float) -> speak.Heard:
    heard = speak.Heard()
    link = psutil.Process(plant.pid("opcua/plc"))
    with tagwerk.attach(home=plant.home, timeout_s=PATIENCE_S) as client:
        names = [f"plc.i{number}" for number in range(items)]
        speak.until(lambda: all(value.good for value in client.read_many(names)), PATIENCE_S, 0.05)
        watch = client.watch("plc.*", mode="every")
        end = time.monotonic() + WARM_S + seconds
        before = None
        while (now := time.monotonic()) < end:
            samples = watch.get(end - now)
            if now <= end - seconds:
                continue
            before = before if before is not None else sum(link.cpu_times()[:2])
            if samples is not None and not samples.snapshot and samples.values is not None:
                heard.delays += ((time.time_ns() - samples.times) / 1e6).tolist()
        heard.busy = 0.0 if before is None else (sum(link.cpu_times()[:2]) - before) / seconds
    return heard


def _written(plant: BenchPlant, seconds: float) -> float:
    """Write many values at a time, as an actor does; each is answered when it was read back. Give writes a second."""
    with tagwerk.attach(home=plant.home, timeout_s=PATIENCE_S) as client:
        names = [f"plc.i{number}" for number in range(speak.WRITTEN)]
        speak.until(lambda: all(value.good for value in client.read_many(names)), PATIENCE_S, 0.05)
        handles = [client.definition(name).handle for name in names]
    loop = Loop(plant.home, "attach/bench_writes")
    answers: list[Outcome] = []
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        for number, handle in enumerate(handles):
            order = WriteTag(handle, float(count + number), "bench", "bench", "")
            loop.peers.ask("cvt/0", order, answers.append, PATIENCE_S)
        while len(answers) < len(handles):
            loop.reactor.step(IDLE_NS)
        for answer in answers:
            if not isinstance(answer, TagWritten):
                raise RuntimeError(f"a write came to nothing: {answer}")
        answers.clear()
        count += len(handles)
    loop.close()
    return count / (time.monotonic() - began)
