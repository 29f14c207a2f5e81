"""tagwerk's own paths: a writer and watchers that are attached processes, questions to an actor, kills."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from concurrent.futures import Future
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from tagwerk.protocols.errors import TagwerkError, Unavailable
from tagwerk.protocols.names import compile_globs
from tagwerk.protocols.plantwide import DeadLetters, GetDeadLetters
from tagwerk.protocols.samples import Samples, ValueType, make
from tagwerk.protocols.tags import ReadTags, TagStates
from tagwerk.runtime import definitions
from tagwerk.runtime.attach import Plant, attach
from tagwerk.runtime.attach_watch import TagWatch
from tagwerk.runtime.bench.crowd import IDLE_NS, OPEN_S, Loop, crowd
from tagwerk.runtime.bench.forks import Fork
from tagwerk.runtime.bench.tally import Tally, rounds, sleep_until
from tagwerk.runtime.bench.tasks import TAG, Asks, Delays, Flow, Flowed, Kills, Seen
from tagwerk.runtime.control import Outcome
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page
from tagwerk.runtime.publisher import Publisher
from tagwerk.runtime.watcher import Watch
from tagwerk.runtime.writer_link import WINDOW as LINK_WINDOW

PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.0005
PAUSE_S: Final = 0.3
"""Between two kills: the plant stands again, and the next death is a first one."""


# --- samples ----------------------------------------------------------------------------------------------------------


def flow(task: Flow) -> Flowed:
    """Carry a flow through the shards of a plant that is up."""
    with ExitStack() as people:
        watchers = [people.enter_context(Fork(_watcher, task, globs)) for globs in task.views]
        others = people.enter_context(Fork(crowd, task)) if task.crowd else None
        for watcher in watchers:
            watcher.hear(PATIENCE_S)
        if others is not None:
            others.hear(OPEN_S)
        shards_s = _shards_cpu_s(task.home)
        elapsed_s, cpu_s = _publish(task)
        seen: tuple[Seen, ...] = tuple(watcher.hear(PATIENCE_S) for watcher in watchers)
        frames, samples = (0, 0) if others is None else _counted(others)
        shards_s = _shards_cpu_s(task.home) - shards_s
        return Flowed(seen, elapsed_s, cpu_s, shards_s, frames, samples)


def _counted(others: Fork) -> tuple[int, int]:
    others.say("enough")
    frames, samples = others.hear(PATIENCE_S)
    return int(frames), int(samples)


def _shards_cpu_s(home: str) -> float:
    """Give the processor time that the shards have taken so far."""
    page = Page.open(Home(Path(home)).file("node/main", "page"))
    try:
        seen = [page.look(name) for name in page.names() if name.startswith("cvt/")]
    finally:
        page.close()
    times = [psutil.Process(one.pid).cpu_times() for one in seen if one is not None]
    return float(sum(one.user + one.system for one in times))


def _watcher(pipe: Connection, task: Flow, globs: tuple[str, ...]) -> None:
    matches = compile_globs(globs)
    mine = np.array([matches(TAG.format(number)) for number in range(task.tags)])
    share = [int(mine[rows].sum()) for rows in rounds(task)]
    # The writer's first message has number 1: see `_publish`.
    expected = sum(share[number % len(share)] for number in range(1, task.messages + 1))
    tally = Tally(expected, timed=task.rate_hz > 0)
    if not task.attached:
        _watch_in_a_loop(pipe, task, globs, tally)
        return
    with attach(home=Path(task.home), timeout_s=PATIENCE_S) as plant:
        watch = plant.watch(*globs, mode="every")
        _until_in_step(watch)
        pipe.send("in step")
        while not tally.done:
            samples = watch.get(PATIENCE_S)
            if samples is None:
                raise Unavailable(f"nothing came for {PATIENCE_S:g} s")
            if watch.resyncs:  # what was skipped cannot be counted
                raise Unavailable("the watcher fell behind, and began again from a snapshot: this run does not count")
            if samples.values is not None and not samples.snapshot:
                tally.add(samples.times)
        pipe.send(tally.seen())
        pipe.recv()


def _until_in_step(watch: TagWatch) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not watch.in_step:
        if time.monotonic() > deadline:
            raise Unavailable("the watcher does not come into step")
        time.sleep(LOOK_S)


def _watch_in_a_loop(pipe: Connection, task: Flow, globs: tuple[str, ...], tally: Tally) -> None:
    """Watch as an actor does: each batch is a call in the loop that took it from the socket."""

    def take(samples: Samples) -> None:
        if samples.values is not None and not samples.snapshot:
            tally.add(samples.times)

    loop = Loop(Path(task.home), "attach/bench_watch")
    watch = Watch(globs, loop.shards, loop.reactor, loop.directory, loop.peers, take)
    deadline = time.monotonic() + PATIENCE_S
    while not watch.synced:
        loop.reactor.step(IDLE_NS)
        if time.monotonic() > deadline:
            raise Unavailable("the watcher does not come into step")
    pipe.send("in step")
    while not tally.done:
        if not loop.reactor.step(IDLE_NS) and time.monotonic() > deadline + PATIENCE_S:
            raise Unavailable("not all came")
        if any(shard.resyncs for shard in watch.shards.values()):
            raise Unavailable("the watcher fell behind, and began again from a snapshot: this run does not count")
    pipe.send(tally.seen())
    pipe.recv()


def _publish_in_a_loop(task: Flow) -> tuple[float, float]:
    """Publish as an actor does, from the loop that owns the sockets; see `_publish`."""
    loop = Loop(Path(task.home), "attach/bench_writer")
    table = definitions.load(Home(Path(task.home)))
    publisher = Publisher(
        "bench_actor", loop.reactor, loop.directory, table.shard_of, len(loop.shards),
        incarnation=time.time_ns() >> 10, named=True,
    )  # fmt: skip
    publisher.open_all()
    while not publisher.opened:
        loop.reactor.step(IDLE_NS)
    handles = np.array([table.by_name[TAG.format(tag)].handle for tag in range(task.tags)], "<u4")
    values = np.random.default_rng(1).random(task.batch)
    templates = [make(ValueType.FLOAT, handles[rows], values, 0) for rows in rounds(task)]
    start, cpu_s = time.perf_counter(), time.process_time()
    for number in range(1, task.messages + 1):
        if task.rate_hz:
            sleep_until(start + number / task.rate_hz)
        while publisher.pending >= min(task.window, LINK_WINDOW // 2):
            loop.reactor.step(IDLE_NS)
        publisher.publish(templates[number % len(templates)].at(time.time_ns()))
        publisher.flush()  # as at the end of an actor's drain
        loop.reactor.step(0)
    while publisher.pending:
        loop.reactor.step(IDLE_NS)
    taken = time.perf_counter() - start, time.process_time() - cpu_s
    publisher.goodbye()
    loop.close()
    return taken


def _publish(task: Flow) -> tuple[float, float]:
    """Publish all, and wait for the acknowledgements; give how long it took, and the processor time, s."""
    if not task.attached:
        return _publish_in_a_loop(task)
    with attach(home=Path(task.home), writer="bench", timeout_s=PATIENCE_S) as plant:
        values = np.random.default_rng(1).random(task.batch)
        templates = [plant.samples([TAG.format(tag) for tag in rows.tolist()], values) for rows in rounds(task)]
        under_way: deque[Future[None]] = deque()
        start, cpu_s = time.perf_counter(), time.process_time()
        for number in range(1, task.messages + 1):
            if task.rate_hz:
                sleep_until(start + number / task.rate_hz)
            batch = templates[number % len(templates)]
            under_way.append(plant.publish_soon(batch.at(time.time_ns())))
            while len(under_way) >= task.window or (under_way and under_way[0].done()):
                under_way.popleft().result(PATIENCE_S)
        while under_way:
            under_way.popleft().result(PATIENCE_S)
        return time.perf_counter() - start, time.process_time() - cpu_s


# --- questions --------------------------------------------------------------------------------------------------------


def ask(task: Asks) -> Delays:
    """Round trips to `cvt/0`: the value of one tag; us."""
    with attach(home=Path(task.home), timeout_s=PATIENCE_S) as plant:
        question = ReadTags((plant.definition(TAG.format(0)).handle,))
        if task.attached:
            found = [_timed_query(plant, question) for _ in range(task.count + task.count // 10)]
            return Delays(tuple(found[-task.count :]))
    return _ask_in_a_loop(task, question)


def _timed_query(plant: Plant, question: ReadTags) -> float:
    began_ns = time.perf_counter_ns()
    plant.query("cvt/0", question, TagStates)
    return (time.perf_counter_ns() - began_ns) / 1e3


def _ask_in_a_loop(task: Asks, question: ReadTags) -> Delays:
    """Ask as an actor does: the answer is a message to the loop that asked, no other thread takes part."""
    loop = Loop(Path(task.home), "attach/bench_asks")
    reactor, peers = loop.reactor, loop.peers
    answers: list[Outcome] = []
    found: list[float] = []
    for number in range(1, task.count + task.count // 10 + 1):
        began_ns = time.perf_counter_ns()
        peers.ask("cvt/0", question, answers.append, PATIENCE_S)
        while len(answers) < number:
            reactor.step(IDLE_NS)
        found.append((time.perf_counter_ns() - began_ns) / 1e3)
        if isinstance(outcome := answers[-1], TagwerkError):
            raise outcome
    loop.close()
    return Delays(tuple(found[-task.count :]))


# --- kills ------------------------------------------------------------------------------------------------------------


def kills(task: Kills) -> Delays:
    """From SIGKILL to the first answer of the successor, ms; with `tags` until a watcher has the state of all again."""
    page = Page.open(Home(Path(task.home)).file("node/main", "page"))
    found: list[float] = []
    with attach(home=Path(task.home), timeout_s=PATIENCE_S) as plant:
        watch = plant.watch("bench.*", mode="every") if task.tags else None
        if watch is not None:
            _take_snapshot(watch, task.tags)
        for _ in range(task.count):
            for name in task.actors:
                time.sleep(PAUSE_S)
                found.append(1e3 * _kill(plant, page, name, watch, task.tags))
    return Delays(tuple(found))


def _kill(plant: Plant, page: Page, name: str, watch: TagWatch | None, tags: int) -> float:
    before = page.look(name)
    if before is None:
        raise Unavailable(f"{name} is not there")
    began_s = time.perf_counter()
    os.kill(before.pid, signal.SIGKILL)
    if watch is not None:
        _take_snapshot(watch, tags)
        return time.perf_counter() - began_s
    while (seen := page.look(name)) is None or seen.incarnation == before.incarnation:
        if time.perf_counter() - began_s > PATIENCE_S:
            raise Unavailable(f"{name} was not started again")
        time.sleep(LOOK_S)
    plant.query(name, GetDeadLetters(), DeadLetters, PATIENCE_S)
    return time.perf_counter() - began_s


def _take_snapshot(watch: TagWatch, tags: int) -> None:
    """Take batches until a whole snapshot has come."""
    taken = 0
    while taken < tags:
        samples = watch.get(PATIENCE_S)
        if samples is None:
            raise Unavailable(f"no snapshot came within {PATIENCE_S:g} s")
        taken += len(samples) if samples.snapshot else 0
