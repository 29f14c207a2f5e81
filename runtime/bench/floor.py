"""The floor: the same work with bare libraries. A writer, a table with an append journal, a watcher; three processes.

pyzmq, msgpack and numpy, no features: no supervision, no recovery, no ownership, no views. Same order and columns as
tagwerk (apply, journal, feed, acknowledge), the journal written before the acknowledgement and synced once a second.
What tagwerk costs over it is what its promises cost.
"""

from __future__ import annotations

import os
import time
import zlib
from multiprocessing.connection import Connection
from threading import Thread
from typing import Final, cast

import msgpack
import numpy as np
import zmq

from tagwerk.runtime.bench.forks import Fork
from tagwerk.runtime.bench.tally import Tally, rounds, sleep_until
from tagwerk.runtime.bench.tasks import Asks, Delays, Flow, Flowed

AT_ONCE: Final = 64
"""Messages taken before the journal is written and the watchers are served."""
PATIENCE_S: Final = 60.0
MESSAGE: Final = b"q" * 100
INBOX: Final = "ipc://in"
FEED: Final = "ipc://feed"
BOX: Final = "ipc://box"
"""In the current directory: whoever started us has made it, and removes it."""


def flow(task: Flow) -> Flowed:
    """Carry a flow through; it has one watcher, of all tags."""
    with Fork(_shard, task.tags) as shard:
        shard.hear(PATIENCE_S)
        with Fork(_watcher, task) as watcher:
            watcher.hear(PATIENCE_S)
            began_s, cpu_s = time.perf_counter(), time.process_time()
            _write(task)
            elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
            return Flowed((watcher.hear(PATIENCE_S),), elapsed_s, cpu_s)


def _packed(parts: list[object]) -> bytes:
    return cast("bytes", msgpack.packb(parts))


def _shard(pipe: Connection, tags: int) -> None:
    """A table: apply, journal, feed, acknowledge, batched per drain."""
    context = zmq.Context()
    inbox, feed = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
    feed.setsockopt(zmq.SNDHWM, 0)
    inbox.bind(INBOX)
    feed.bind(FEED)
    pipe.send("bound")
    feed.recv()  # the watcher's subscription
    feed.send_multipart([b"t", b""])
    journal = os.open("journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    Thread(target=_sync, args=(journal,), daemon=True).start()
    values, times, quality = np.zeros(tags), np.zeros(tags, "<i8"), np.zeros(tags, "<u4")
    while inbox.poll():
        records: list[bytes] = []
        frames: list[bytes] = []
        last: dict[bytes, bytes] = {}
        for _ in range(AT_ONCE):
            try:
                identity, number, frame = inbox.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            columns = msgpack.unpackb(frame)
            rows = np.frombuffer(columns[0], "<u4")
            values[rows] = np.frombuffer(columns[1], "<f8")
            times[rows] = np.frombuffer(columns[2], "<i8")
            quality[rows] = np.frombuffer(columns[3], "<u4")
            record = _packed([1, number, frame])
            records.append(len(record).to_bytes(4, "little") + zlib.crc32(record).to_bytes(4, "little") + record)
            frames.append(frame)
            last[identity] = number
        os.write(journal, b"".join(records))
        for frame in frames:
            feed.send_multipart([b"t", frame])
        for identity, number in last.items():
            inbox.send_multipart([identity, number])


def _sync(journal: int) -> None:
    """Put the journal on the disk once a second, on the side: `journal.sync = "interval"`."""
    while True:
        time.sleep(1.0)
        os.fdatasync(journal)


def _watcher(pipe: Connection, task: Flow) -> None:
    """Counts what arrives; says when the first tenth and the last came, and how long it was under way."""
    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    sub.setsockopt(zmq.RCVHWM, 0)
    sub.connect(FEED)
    sub.setsockopt(zmq.SUBSCRIBE, b"t")
    sub.recv_multipart()  # the greeting
    pipe.send("subscribed")
    tally = Tally(task.batch * task.messages, timed=task.rate_hz > 0)
    while not tally.done:
        columns = msgpack.unpackb(sub.recv_multipart()[1])
        tally.add(np.frombuffer(columns[2], "<i8"))
    pipe.send(tally.seen())
    pipe.recv()


def _write(task: Flow) -> None:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(INBOX)
    columns = [rows.tobytes() for rows in rounds(task)]
    values = np.random.default_rng(1).random(task.batch).tobytes()
    quality = np.zeros(task.batch, "<u4").tobytes()
    acknowledged = 0
    start = time.perf_counter()
    for number in range(1, task.messages + 1):
        if task.rate_hz:
            sleep_until(start + number / task.rate_hz)
        while number - acknowledged > task.window or dealer.poll(0):
            acknowledged = int.from_bytes(dealer.recv(), "little")
        times = np.full(task.batch, time.time_ns(), "<i8").tobytes()
        frame = _packed([columns[number % len(columns)], values, times, quality])
        dealer.send_multipart([number.to_bytes(8, "little"), frame])
    while acknowledged < task.messages:
        acknowledged = int.from_bytes(dealer.recv(), "little")
    context.destroy(0)


# --- ask --------------------------------------------------------------------------------------------------------------


def ask(task: Asks) -> Delays:
    """Round trips of 100 bytes, DEALER to ROUTER and back, blocking; us."""
    with Fork(_echo) as echo:
        echo.hear(PATIENCE_S)
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(BOX)
        found: list[float] = []
        for _ in range(task.count + task.count // 10):
            began_ns = time.perf_counter_ns()
            dealer.send(MESSAGE)
            dealer.recv()
            found.append((time.perf_counter_ns() - began_ns) / 1e3)
        context.destroy(0)
        return Delays(tuple(found[-task.count :]))


def _echo(pipe: Connection) -> None:
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(BOX)
    pipe.send("bound")
    while True:
        router.send_multipart(router.recv_multipart())
