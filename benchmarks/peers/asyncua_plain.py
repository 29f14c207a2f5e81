"""asyncua's own client, plain: a subscription and a callback, on the server of `opcua_server.py`."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import speak
from asyncua import Client, ua

SERVER = Path(__file__).with_name("opcua_server.py")
WARM_S = 2.0
TIMEOUT_S = 30.0
"""With the 4 s it has by itself, the connection ended while 10,000 items were asked for."""
AT_ONCE = 1_000


class Handler(speak.Heard):
    """Notes when what came was set at its source."""

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Take a change."""
        source = data.monitored_item.Value.SourceTimestamp
        if source is not None and value:
            now = datetime.now(UTC).replace(tzinfo=None)
            self.delays.append(1e3 * (now - source.replace(tzinfo=None)).total_seconds())


def main() -> None:
    """Measure one item on its own, then many."""
    logging.basicConfig(level=logging.CRITICAL)
    sizes = speak.sizes()
    seconds = sizes["seconds"]
    one = run(1, 0.1, 10, seconds)
    rows = speak.delays("OPC UA, a change to the callback, published every 10 ms", "asyncua client", one.delays)
    for items, period_s in ((sizes["items"], 0.1), (sizes["wide"], 1.0)):
        many = run(items, period_s, 1e3 * period_s, seconds)
        rows += speak.many_items(items, period_s, "asyncua client", many.delays, seconds, many.busy)
    speak.tell(
        [*rows, speak.row(speak.WRITES, "asyncua client, write_values and read_values", written(seconds), "writes/s")]
    )


def run(items: int, period_s: float, publishing_ms: float, seconds: float) -> Handler:
    """Start a server, subscribe to all its items, count for some seconds."""
    with serving(items, period_s) as port:
        return asyncio.run(listen(port, items, publishing_ms, seconds))


@contextmanager
def serving(items: int, period_s: float) -> Iterator[int]:
    """Start a server; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, SERVER, str(port), str(items), str(period_s)])
    try:
        yield port
    finally:
        server.kill()
        server.wait()


async def connected(port: int) -> Client:
    """Connect, as soon as the server listens."""
    client = Client(f"opc.tcp://127.0.0.1:{port}/", timeout=TIMEOUT_S)
    deadline = time.monotonic() + 30
    while True:
        try:
            await client.connect()
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return client


def written(seconds: float) -> float:
    """Write many values at a time, and read them back; give writes a second."""
    with serving(speak.WRITTEN, 3_600.0) as port:
        return asyncio.run(write(port, seconds))


async def write(port: int, seconds: float) -> float:
    """Write for some seconds."""
    client = await connected(port)
    try:
        space = await client.get_namespace_index("urn:bench")
        nodes = [client.get_node(ua.NodeId(f"i{number}", space)) for number in range(speak.WRITTEN)]
        began, count = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            values = [float(count + number) for number in range(len(nodes))]
            await client.write_values(nodes, [ua.DataValue(ua.Variant(value)) for value in values])
            if await client.read_values(nodes) != values:
                raise RuntimeError("other values are read than were written")
            count += len(nodes)
        return count / (time.monotonic() - began)
    finally:
        await client.disconnect()


async def listen(port: int, items: int, publishing_ms: float, seconds: float) -> Handler:
    """Count what comes after a warm-up."""
    client = await connected(port)
    try:
        handler = Handler()
        space = await client.get_namespace_index("urn:bench")
        subscription = await client.create_subscription(publishing_ms, handler)
        nodes = [client.get_node(ua.NodeId(f"i{number}", space)) for number in range(items)]
        for start in range(0, items, AT_ONCE):
            await subscription.subscribe_data_change(nodes[start : start + AT_ONCE])
        await asyncio.sleep(WARM_S)
        handler.delays.clear()
        busy_s = time.process_time()
        await asyncio.sleep(seconds)
        handler.busy = (time.process_time() - busy_s) / seconds
        found, handler.delays = handler.delays, []
        if not found:
            raise RuntimeError(f"nothing came of {items} items")
        result = Handler()
        result.delays, result.busy = found, handler.busy
        return result
    finally:
        await client.disconnect()


if __name__ == "__main__":
    main()
