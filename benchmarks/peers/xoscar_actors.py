"""xoscar: an actor in a sub-pool with `auto_recover="actor"`; ask, and `kill -9` to the next answer."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import speak
import xoscar


class Table(xoscar.Actor):
    """Answers with its process."""

    def pid(self) -> int:
        """Give it."""
        return os.getpid()


async def measure(sizes: dict[str, Any]) -> list[dict[str, Any]]:
    """Give all rows."""
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=1, auto_recover="actor")
    try:
        where = xoscar.allocate_strategy.ProcessIndex(1)
        table = await xoscar.create_actor(Table, address=pool.external_address, uid="table", allocate_strategy=where)
        found: list[float] = []
        for number in range(sizes["asks"] + sizes["asks"] // speak.WARM):
            began = time.perf_counter()
            await table.pid()
            if number >= sizes["asks"] // speak.WARM:
                found.append(1e6 * (time.perf_counter() - began))
        rows = speak.delays("ask", "xoscar", found, "us", tail=False)
        killed = [await kill(pool.external_address) for _ in range(sizes["kills"])]
        return rows + speak.delays("kill -9 to the next answer", "xoscar, auto_recover", killed, tail=False)
    finally:
        await pool.stop()


async def kill(address: str) -> float:
    """Kill the sub-pool; ask by name until somebody else answers; ms."""
    table = await xoscar.actor_ref("table", address=address)
    pid = await table.pid()
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    while time.perf_counter() - began < 30:
        try:
            table = await xoscar.actor_ref("table", address=address)
            if await asyncio.wait_for(table.pid(), 1.0) != pid:
                return 1e3 * (time.perf_counter() - began)
        except (TimeoutError, xoscar.ServerClosed, xoscar.ActorNotExist, OSError):
            await asyncio.sleep(0.005)
    raise TimeoutError("it was not recovered")


if __name__ == "__main__":
    speak.tell(asyncio.run(measure(speak.sizes())))
