"""The floor: the same work with bare libraries. A writer, a table with an append journal, a watcher; three processes.

pyzmq, msgpack and numpy, no features: no supervision, no recovery, no ownership, no views. Same order and columns as
tagwerk (apply, journal, feed, acknowledge), the journal written before the acknowledgement. What tagwerk costs over it
is what its promises cost.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

TAGS = 1_000
WINDOW = 64


def _frame(handles: np.ndarray[Any, Any], values: np.ndarray[Any, Any], now_ns: int) -> bytes:
    count = len(handles)
    times = np.full(count, now_ns, "<i8").tobytes()
    return msgpack.packb([handles.tobytes(), values.tobytes(), times, np.zeros(count, "<u4").tobytes()])


def shard(folder: str, stop: Any) -> None:
    """A table of `TAGS` rows: apply, journal, feed, acknowledge, batched per drain."""
    context = zmq.Context()
    inbox, feed = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
    inbox.bind(f"ipc://{folder}/in")
    feed.bind(f"ipc://{folder}/feed")
    journal = os.open(f"{folder}/journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    values, times, quality = np.zeros(TAGS), np.zeros(TAGS, "<i8"), np.zeros(TAGS, "<u4")
    while not stop.is_set():
        if not inbox.poll(100):
            continue
        records: list[bytes] = []
        frames: list[bytes] = []
        last: dict[bytes, bytes] = {}
        for _ in range(64):
            try:
                identity, number, frame = inbox.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            columns = msgpack.unpackb(frame)
            rows = np.frombuffer(columns[0], "<u4")
            values[rows] = np.frombuffer(columns[1], "<f8")
            times[rows] = np.frombuffer(columns[2], "<i8")
            quality[rows] = np.frombuffer(columns[3], "<u4")
            record = msgpack.packb([1, number, frame])
            records.append(len(record).to_bytes(4, "little") + zlib.crc32(record).to_bytes(4, "little") + record)
            frames.append(frame)
            last[identity] = number
        os.write(journal, b"".join(records))
        for frame in frames:
            feed.send_multipart([b"t", frame])
        for identity, number in last.items():
            inbox.send_multipart([identity, number])
    context.destroy(0)


def watcher(folder: str, rows: int, warm: int, ready: Any, result: Any, latency: bool) -> None:
    """Counts what arrives; reports when the first `warm` and the last of `rows` came, or each latency."""
    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    sub.setsockopt(zmq.RCVHWM, 0)
    sub.connect(f"ipc://{folder}/feed")
    sub.setsockopt(zmq.SUBSCRIBE, b"t")
    ready.set()
    seen = 0
    started = 0.0
    latencies: list[float] = []
    while seen < rows:
        _, frame = sub.recv_multipart()
        columns = msgpack.unpackb(frame)
        seen += len(np.frombuffer(columns[0], "<u4"))
        if latency:
            latencies.append((time.time_ns() - int(np.frombuffer(columns[2], "<i8")[0])) / 1e6)
        if not started and seen >= warm:
            started = time.perf_counter()
    elapsed = time.perf_counter() - started
    result.put(latencies if latency else (rows - warm) / elapsed)
    context.destroy(0)


def run(batch: int, messages: int, rate_hz: float = 0.0) -> Any:
    """Samples/s from writer to watcher, or with a rate the latencies in ms.

    Args:
        batch: Samples a message.
        messages: How many.
        rate_hz: Messages a second; 0: as fast as acknowledgements allow.
    """
    mp_context = mp.get_context("fork")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        stop, ready, result = mp_context.Event(), mp_context.Event(), mp_context.Queue()
        rows, warm = batch * messages, batch * (messages // 10)
        people = [
            mp_context.Process(target=shard, args=(folder, stop)),
            mp_context.Process(target=watcher, args=(folder, rows, warm, ready, result, rate_hz > 0)),
        ]
        for person in people:
            person.start()
        ready.wait(10)
        time.sleep(0.3)
        _write(folder, batch, messages, rate_hz)
        measured = result.get(timeout=120)
        stop.set()
        for person in people:
            person.join(10)
        return measured


def _write(folder: str, batch: int, messages: int, rate_hz: float) -> None:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(f"ipc://{folder}/in")
    handles = np.arange(batch, dtype="<u4") % TAGS
    values = np.random.default_rng(1).random(batch)
    acknowledged = 0
    start = time.perf_counter()
    for number in range(1, messages + 1):
        if rate_hz:
            _sleep_until(start + number / rate_hz)
        while number - acknowledged > WINDOW or dealer.poll(0):
            acknowledged = int.from_bytes(dealer.recv(), "little")
        dealer.send_multipart([number.to_bytes(8, "little"), _frame(handles, values, time.time_ns())])
    while acknowledged < messages:
        acknowledged = int.from_bytes(dealer.recv(), "little")
    context.destroy(0)


def _sleep_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)


if __name__ == "__main__":
    assert Path("/tmp").is_dir()
    for size, count in ((1_000, 20_000), (100, 60_000), (1, 60_000)):
        print(f"batches of {size}: {run(size, count):,.0f} samples/s")
    delays = np.array(run(1, 3_000, 1_000.0))
    print(f"latency at 1,000 messages/s: p50 {np.median(delays):.3f} ms, p99 {np.percentile(delays, 99):.3f} ms")
