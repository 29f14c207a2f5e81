"""The feed under faults: a wire that drops, delays and reorders; watchers that stand still; shards that die."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import pytest
from brewery import Brewery, wait_for
from delivery_rig import SHARD, Client, Rig
from feed_watcher import State
from rough_feed import Oracle, RoughLine, RoughTransport
from small_plant import start_plant

import tagwerk
from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import ValueType, decode, make
from tagwerk.protocols.tags import GetSnapshot, OpenView, TagDef, ViewOpened, ViewSnapshot
from tagwerk.runtime.transport_memory import MemoryPort
from tagwerk.runtime.watcher import ShardWatch, Watch

_log = logging.getLogger(__name__)

HANDLES = tuple(range(1, 9))
FRAME = 20
PER_LIFE = 25_000
"""Samples between two deaths of the shard."""


class RoughRig(Rig):
    """A plant whose clients hear the feed over a bad wire."""

    rng: random.Random
    fault = 0.0

    def transport(self) -> RoughTransport:
        transport = RoughTransport(self.net)
        transport.rng, transport.fault = self.rng, self.fault
        return transport


def line_of(client: Client) -> RoughLine:
    """The wire between the feed and this client."""
    lines = [port.inbox for port in client.reactor.ports if isinstance(port, MemoryPort)]
    return next(line for line in lines if isinstance(line, RoughLine))


@pytest.mark.parametrize(("samples", "seed"), [(100_000, 1), pytest.param(1_000_000, 2, marks=pytest.mark.long)])
def test_no_gap_of_a_rough_wire_is_unseen(tmp_path: Path, samples: int, seed: int) -> None:
    RoughRig.rng, RoughRig.fault = random.Random(seed), 0.05
    rig = RoughRig(tmp_path, zmq=False, tags=[TagDef(handle, f"rough.t{handle}", "float", 0) for handle in HANDLES])
    stream = Stream(rig)
    try:
        stream.publish()
        clients = [rig.client(f"attach/watcher{n}") for n in range(2)]
        oracles = [Oracle(HANDLES, lambda: stream.number) for _ in clients]
        watches = [watch(client, oracle) for client, oracle in zip(clients, oracles, strict=True)]
        while stream.number < samples:
            stream.publish()
            rig.clock.advance(0.001)
            rig.turn()
            if stream.number % PER_LIFE == 0:
                rig.kill()
                rig.run(0.05)
                rig.shard()
        lines = [line_of(client) for client in clients]
        for line in lines:
            line.fault = 0.0
        rig.until(lambda: all(oracle.next == samples for oracle in oracles))
    finally:
        rig.close()
    for oracle in oracles:
        assert oracle.undetected == []
        assert oracle.first + oracle.samples + oracle.skipped == samples
        assert oracle.samples > samples / 2, "the watchers were in step most of the time"
    assert all(one.resyncs > samples / FRAME * 0.005 for one in watches)
    assert all(set(line.done) == {"drop", "delay", "double", "swap", "burst"} for line in lines)


class Stream:
    """What the shard takes: numbers, one tag after the other."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.number = 0
        rig.shard()

    def publish(self) -> None:
        numbers = np.arange(self.number, self.number + FRAME)
        handles = np.array(HANDLES)[numbers % len(HANDLES)]
        self._rig.cvt.own([make(ValueType.FLOAT, handles, numbers.astype("<f8"), self._rig.clock.now_ns())])
        self._rig.cvt.on_flush()
        self.number += FRAME


def watch(client: Client, oracle: Oracle) -> ShardWatch:
    """Have the oracle watch what this client sees."""
    made = Watch(("rough.*",), [SHARD], client.reactor, client.directory, client.peers, oracle.batch)
    return made.shards[SHARD]


# --- real processes ---------------------------------------------------------------------------------------------------

TAGS = 1_000
BATCH = 100
RATE = 10_000
IN_STEP_S = 2.0
SHARD_MAY_GROW_BYTES = 50 << 20


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewery]:
    plant = start_plant(
        tmp_path_factory.mktemp("feeds"), [*(f"load.t{n},float,false" for n in range(TAGS)), "quiet.level,float,false"]
    )
    try:
        yield plant
    finally:
        plant.stop()


SCRIPT = """
import sys, pathlib, tagwerk
with tagwerk.attach(writer="quiet", home=pathlib.Path(sys.argv[1])) as plant:
    def publish():
        plant.publish(plant.samples("quiet.level", [7.0]))
    plant.on_lost(publish)
    publish()
    print("published", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_script_that_stood_still_is_told_to_publish_what_does_not_change(plant: Brewery) -> None:
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(plant.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert script.stdout is not None
        assert script.stdout.readline() == "published\n"
        with plant.attach() as client:
            assert client.read("quiet.level").good
            script.send_signal(signal.SIGSTOP)
            wait_for("the loss", lambda: client.read("quiet.level").quality == q.BAD_NO_COMMUNICATION)
            script.send_signal(signal.SIGCONT)
            wait_for("its return", lambda: client.read("quiet.level").good)
            assert client.read("quiet.level").value == 7.0
    finally:
        script.kill()
        script.communicate()


class Load:
    """Publishes at a steady rate until the block ends."""

    def __init__(self, plant: tagwerk.Plant) -> None:
        self._plant = plant
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.published = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        names = [f"load.t{n}" for n in range(TAGS)]
        for turn in itertools.count():
            if self._stopped.wait(max(0.0, began + turn * BATCH / RATE - time.monotonic())):
                return
            some = [names[(turn * BATCH + n) % TAGS] for n in range(BATCH)]
            self._plant.publish_soon(self._plant.samples(some, np.full(BATCH, float(turn))))
            self.published += BATCH


class WatcherProcess:
    """A `feed_watcher` and how it is spoken to."""

    def __init__(self, home: Path, *globs: str) -> None:
        script = Path(__file__).with_name("feed_watcher.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(home), str(TAGS), *globs],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.globs = globs

    def ask(self, line: str = "") -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def watchers(plant: Brewery) -> Iterator[Callable[..., WatcherProcess]]:
    with contextlib.ExitStack() as stack:

        def start(*globs: str) -> WatcherProcess:
            made = WatcherProcess(plant.home, *globs)
            stack.callback(made.end)
            return made

        yield start


def truth(client: tagwerk.Plant, globs: tuple[str, ...]) -> tuple[int, int, str]:
    """(incarnation, position, state): what the shard says of a view now."""
    opened = client.query("cvt/0", OpenView(globs, 10.0), ViewOpened)
    shot = client.query("cvt/0", GetSnapshot(opened.topic), ViewSnapshot)
    state = State(TAGS)
    for frame in shot.frames:
        state.apply(decode(frame))
    return shot.incarnation, shot.position, state.bytes().hex()


def in_step_after(client: tagwerk.Plant, watcher: WatcherProcess, began_s: float, within_s: float) -> float:
    """Seconds from `began_s` until the watcher was, at one position, byte for byte what the shard was."""
    while time.monotonic() < began_s + within_s:
        incarnation, position, state = truth(client, watcher.globs)
        taken_s = time.monotonic()
        answer = watcher.ask(f"{incarnation} {position}")
        if not answer["jumped"]:
            assert answer["state"] == state
            return taken_s - began_s
    raise AssertionError(f"the watcher was not in step within {within_s} s: {watcher.ask()}")


@pytest.mark.slow
@pytest.mark.parametrize("frozen_s", [10.0, pytest.param(60.0, marks=pytest.mark.long)])
def test_a_watcher_that_stands_still_costs_nobody_anything(
    plant: Brewery, watchers: Callable[..., WatcherProcess], frozen_s: float
) -> None:
    other, frozen = watchers("load.*"), watchers("load.t*")
    shard = psutil.Process(plant.peer("cvt/0").pid)
    with plant.attach(writer="load") as client, Load(client) as load:
        for watcher in (other, frozen):
            in_step_after(client, watcher, time.monotonic(), 10.0)
        before, published = shard.memory_info().rss, load.published
        other.ask()
        frozen.process.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        peak = 0
        while time.monotonic() < stopped_s + frozen_s:
            peak = max(peak, shard.memory_info().rss)
            in_step_after(client, other, time.monotonic(), IN_STEP_S)
        assert load.published - published > 0.9 * RATE * frozen_s
        frozen.process.send_signal(signal.SIGCONT)
        behind_s = in_step_after(client, frozen, time.monotonic(), IN_STEP_S)
        seen, late = other.ask(), frozen.ask()
    _log.info("grew %d bytes, in step after %.2f s, other %s, frozen %s", peak - before, behind_s, seen, late)
    assert peak - before <= SHARD_MAY_GROW_BYTES
    assert seen["resyncs"] == 0
    assert seen["stale"] == 0
    assert late["resyncs"] >= 1


@pytest.mark.slow
def test_the_watchers_of_a_killed_shard_are_in_step_with_its_successor(
    plant: Brewery, watchers: Callable[..., WatcherProcess]
) -> None:
    both = [watchers("load.*"), watchers("load.t*")]
    with plant.attach(writer="load") as client, Load(client):
        for watcher in both:
            in_step_after(client, watcher, time.monotonic(), 10.0)
        before = plant.kill("cvt/0")
        wait_for("the successor", lambda: plant.reborn("cvt/0", before))
        began_s = time.monotonic()
        times_s = [in_step_after(client, watcher, began_s, IN_STEP_S) for watcher in both]
        seen = [watcher.ask() for watcher in both]
    _log.info("in step after %s s, %s", times_s, seen)
    assert all(one["stale"] == 0 for one in seen)
