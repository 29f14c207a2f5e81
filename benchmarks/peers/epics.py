"""EPICS pvAccess by p4p: a server with PVs, a client that puts, a client in another process that monitors.

Three processes, as tagwerk's writer, shard and watcher. Nothing is durable. A put is acknowledged by the server.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from typing import Any

import speak
from p4p.client.thread import Context
from p4p.nt import NTScalar
from p4p.server import Server
from p4p.server.thread import SharedPV

PVS = 100


def main() -> None:
    """Measure puts one by one and to 100 PVs at a time, and how long a value is under way to a monitor."""
    sizes = speak.sizes()
    os.environ |= {"EPICS_PVA_ADDR_LIST": "127.0.0.1", "EPICS_PVA_AUTO_ADDR_LIST": "NO"}
    os.environ |= {"EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_BEACON_ADDR_LIST": "127.0.0.1"}
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    os.environ["EPICS_PVA_BROADCAST_PORT"] = str(ours.recv())
    watched, watching = context.Pipe()
    watcher = context.Process(target=watch, args=(watching, sizes["timed"] // 2), daemon=True)
    watcher.start()
    client = Context("pva")
    try:
        client.get("bench:t0", timeout=10)
        rows = puts(client, sizes["singles"] // 10)
        watched.recv()
        start = time.perf_counter()
        for number in range(sizes["timed"] // 2):
            time.sleep(max(0.0, start + number / 1_000 - time.perf_counter()))
            client.put("bench:late", {"value": time.time()}, get=False)
        speak.tell(
            rows + speak.delays("writer to watcher at 1,000/s", "EPICS pvAccess, put to monitor", watched.recv())
        )
    finally:
        client.close()
        watcher.kill()
        server.kill()


def puts(client: Context, count: int) -> list[dict[str, Any]]:
    """Puts one after another, and to 100 PVs in one call."""
    names = [f"bench:t{number}" for number in range(PVS)]
    single = speak.per_second(count, lambda number: client.put(names[0], {"value": float(number)}, get=False))
    many = speak.per_second(
        max(5, count // PVS), lambda number: client.put(names, [{"value": float(number)}] * PVS, get=False)
    )
    return [
        speak.row("single samples", "EPICS pvAccess, put", single, "samples/s"),
        speak.row("batches of 100", "EPICS pvAccess, one call puts to 100 PVs", many * PVS, "samples/s"),
    ]


class Handler:
    """Takes what is put."""

    def put(self, pv: SharedPV, operation: Any) -> None:
        """Set it, and tell the monitors."""
        pv.post(operation.value(), timestamp=time.time())
        operation.done()


def serve(pipe: Any) -> None:
    """The server's process."""
    names = [f"bench:t{number}" for number in range(PVS)] + ["bench:late"]
    pvs = {name: SharedPV(nt=NTScalar("d"), initial=0.0, handler=Handler()) for name in names}
    with Server(providers=[pvs], conf={"EPICS_PVAS_SERVER_PORT": "0", "EPICS_PVAS_BROADCAST_PORT": "0"}) as server:
        pipe.send(server.conf()["EPICS_PVAS_BROADCAST_PORT"])
        pipe.recv()


def watch(pipe: Any, count: int) -> None:
    """The monitor's process: how long each value was under way, in ms; updates that were merged are not seen."""
    client = Context("pva")
    found: list[float] = []

    def came(value: Any) -> None:
        if float(value) > 1e9:
            found.append((time.time() - float(value)) * 1e3)

    subscription = client.monitor("bench:late", came)
    speak.until(lambda: subscription._S is not None)  # noqa: SLF001  it has no other sign of life
    time.sleep(0.5)
    pipe.send("ready")
    before, quiet_since = -1, time.monotonic()
    while len(found) < count and time.monotonic() - quiet_since < 3.0:
        if len(found) != before or not found:
            before, quiet_since = len(found), time.monotonic()
        time.sleep(0.05)
    pipe.send(found[len(found) // speak.WARM :])
    client.close()


if __name__ == "__main__":
    main()
