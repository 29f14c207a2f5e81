"""Redis: a hash for the current values, a channel for whoever watches; HSET and PUBLISH, a subscriber in a process.

The server is started here, with `appendonly yes` and `appendfsync everysec`: what tagwerk's `journal.sync = "interval"`
promises. redis-py with hiredis, as its documentation recommends.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import shutil
import subprocess
import tempfile
import time
from typing import Any

import redis
import speak

FIELDS = 100


def main() -> None:
    """Run a server, measure, end it."""
    sizes = speak.sizes()
    folder = tempfile.mkdtemp(prefix="tw-peer-")
    path = f"{folder}/redis.sock"
    server = subprocess.Popen(
        [
            *(shutil.which("redis-server") or "redis-server", "--port", "0", "--unixsocket", path, "--dir", folder),
            *("--appendonly", "yes", "--appendfsync", "everysec"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        speak.until(lambda: os.path.exists(path))
        speak.tell(measure(path, sizes))
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(folder)


def measure(path: str, sizes: dict[str, Any]) -> list[dict[str, Any]]:
    """Give all rows."""
    singles = sizes["singles"]
    every = [
        ("single samples", "Redis, HSET then PUBLISH", "call", singles // 4, 1),
        ("single samples", "Redis, HSET and PUBLISH in one pipeline", "pipeline", singles // 4, 1),
        ("batches of 100", "Redis, 100 HSET and PUBLISH in one pipeline", "pipeline", singles // 50, FIELDS),
        ("batches of 100", "Redis, one HSET of 100 fields and one PUBLISH", "fields", singles // 20, FIELDS),
    ]
    rows = []
    for work, what, how, messages, batch in every:
        rows.append(speak.row(work, what, flow(path, how, max(messages, 20), batch, 0.0)["rate"], "samples/s"))
    delays = flow(path, "pipeline", sizes["timed"], 1, 1_000.0)["delays"]
    return rows + speak.delays("writer to watcher at 1,000/s", "Redis, one pipeline", delays)


def flow(path: str, how: str, messages: int, batch: int, rate_hz: float) -> dict[str, Any]:
    """Send from here to a subscriber in another process."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    count = messages * (batch if how == "pipeline" else 1)
    watcher = context.Process(target=watch, args=(theirs, path, count, batch if how == "fields" else 1), daemon=True)
    watcher.start()
    ours.recv()
    client = redis.Redis(unix_socket_path=path)
    start = time.perf_counter()
    for number in range(messages):
        if rate_hz:
            time.sleep(max(0.0, start + number / rate_hz - time.perf_counter()))
        send(client, how, batch, number)
    result: dict[str, Any] = ours.recv()
    watcher.join()
    return result


def send(client: Any, how: str, batch: int, number: int) -> None:
    """One message in one of three ways."""
    if how == "fields":
        client.hset("tags", mapping={f"t{field}": number for field in range(batch)})
        client.publish("tags", f"{time.time_ns()}")
    elif how == "call":
        client.hset("tags", "t0", number)
        client.publish("tags", f"{time.time_ns()}")
    else:
        pipe = client.pipeline(transaction=False)
        for field in range(batch):
            pipe.hset("tags", f"t{field}", number)
            pipe.publish("tags", f"{time.time_ns()}")
        pipe.execute()


def watch(pipe: Any, path: str, count: int, weight: int) -> None:
    """Count what comes; say how fast it came after a tenth, and how long each was under way."""
    subscriber = redis.Redis(unix_socket_path=path).pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe("tags")
    while subscriber.get_message(timeout=0.1) is not None:
        pass
    pipe.send("ready")
    delays: list[float] = []
    began = time.perf_counter()
    warm = count // speak.WARM
    for seen, message in enumerate(subscriber.listen(), 1):
        delays.append((time.time_ns() - int(message["data"])) / 1e6)
        if seen == warm:
            began = time.perf_counter()
        if seen == count:
            break
    pipe.send({"rate": weight * (count - warm) / (time.perf_counter() - began), "delays": delays[warm:]})


if __name__ == "__main__":
    main()
