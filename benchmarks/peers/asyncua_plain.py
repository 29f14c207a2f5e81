"""asyncua's own client, plain: a subscription and a callback, on the server of `opcua_server.py`."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import speak
from asyncua import Client, ua

SERVER = Path(__file__).with_name("opcua_server.py")
WARM_S = 2.0


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
    speak.tell(rows)


def run(items: int, period_s: float, publishing_ms: float, seconds: float) -> Handler:
    """Start a server, subscribe to all its items, count for some seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, SERVER, str(port), str(items), str(period_s)])
    try:
        return asyncio.run(listen(port, items, publishing_ms, seconds))
    finally:
        server.kill()
        server.wait()


async def listen(port: int, items: int, publishing_ms: float, seconds: float) -> Handler:
    """Count what comes after a warm-up."""
    client = Client(f"opc.tcp://127.0.0.1:{port}/")
    deadline = time.monotonic() + 30
    while True:
        try:
            await client.connect()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
    try:
        handler = Handler()
        space = await client.get_namespace_index("urn:bench")
        subscription = await client.create_subscription(publishing_ms, handler)
        nodes = [client.get_node(ua.NodeId(f"i{number}", space)) for number in range(items)]
        await subscription.subscribe_data_change(nodes)
        await asyncio.sleep(WARM_S)
        handler.delays.clear()
        busy_s = time.process_time()
        await asyncio.sleep(seconds)
        handler.busy = (time.process_time() - busy_s) / seconds
        found, handler.delays = handler.delays, []
        result = Handler()
        result.delays, result.busy = found, handler.busy
        return result
    finally:
        await client.disconnect()


if __name__ == "__main__":
    main()
