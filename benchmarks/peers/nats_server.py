"""NATS: publish to a subject, a subscriber in another process. No table, no journal: nothing is durable.

The server is started here with its defaults; nats-py, its own client for Python.
"""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import shutil
import socket
import subprocess
import time
from typing import Any

import nats
import speak


def main() -> None:
    """Run a server, measure, end it."""
    sizes = speak.sizes()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [shutil.which("nats-server") or "nats-server", "-a", "127.0.0.1", "-p", str(port)],
        stderr=subprocess.DEVNULL,
    )
    try:
        speak.until(lambda: listens(port))
        url = f"nats://127.0.0.1:{port}"
        rate = flow(url, sizes["singles"] * 2, 0.0)["rate"]
        rows = [speak.row("single samples", "NATS, publish to subscriber, not stored", rate, "samples/s")]
        delays = flow(url, sizes["timed"], 1_000.0)["delays"]
        speak.tell(rows + speak.delays("writer to watcher at 1,000/s", "NATS, not stored", delays))
    finally:
        server.terminate()
        server.wait(10)


def listens(port: int) -> bool:
    """Whether the server is up."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def flow(url: str, count: int, rate_hz: float) -> dict[str, Any]:
    """Send from here to a subscriber in another process."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    watcher = context.Process(target=run_watch, args=(theirs, url, count), daemon=True)
    watcher.start()
    ours.recv()
    asyncio.run(write(url, count, rate_hz))
    result: dict[str, Any] = ours.recv()
    watcher.join()
    return result


async def write(url: str, count: int, rate_hz: float) -> None:
    """Publish so many; the client gathers what is not flushed."""
    client = await nats.connect(url)
    start = time.perf_counter()
    for number in range(count):
        if rate_hz:
            await asyncio.sleep(max(0.0, start + number / rate_hz - time.perf_counter()))
        await client.publish("tags.t0", str(time.time_ns()).encode())
        if rate_hz:
            await client.flush()
    await client.drain()


def run_watch(pipe: Any, url: str, count: int) -> None:
    """The subscriber's process."""
    asyncio.run(watch(pipe, url, count))


async def watch(pipe: Any, url: str, count: int) -> None:
    """Count what comes; say how fast it came after a tenth, and how long each was under way."""
    client = await nats.connect(url)
    delays: list[float] = []
    moments: list[float] = []
    warm = count // speak.WARM
    done = asyncio.Event()

    async def came(message: Any) -> None:
        delays.append((time.time_ns() - int(message.data)) / 1e6)
        if len(delays) in (warm, count):
            moments.append(time.perf_counter())
        if len(delays) == count:
            done.set()

    await client.subscribe("tags.*", cb=came, pending_msgs_limit=count + 1, pending_bytes_limit=1 << 30)
    await client.flush()
    pipe.send("ready")
    await asyncio.wait_for(done.wait(), 60)
    pipe.send({"rate": (count - warm) / (moments[1] - moments[0]), "delays": delays[warm:]})
    await client.close()


if __name__ == "__main__":
    main()
