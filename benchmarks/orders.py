"""Orders on the workshop: what the engine adds to a service, and 18 services in three branches; beside plain asyncua.

Run `python -m benchmarks.orders` from the checkout. It starts `examples/workshop`: its machines take 50 ms a service
and look at their queues at once. The engine has its own OPC UA server, as `tagwerk engine` does. The floor makes the
same OPC UA calls in the same order with asyncua's client and nothing else: no order, no view, nothing that could go
wrong is waited for. Both are measured in turns, each in a process of its own: asyncua knows types once a process.
Orders in a plant: `orders_plant.py`.

- *warm*: one service after the other on one machine; from one start to the next, less the 50 ms of the service itself.
- *18 services*: five lights are fetched and coated side by side, then glued one after the other; a stand is fetched
  and milled beside them; then all is mounted. Machines are assigned by the registry. It is done twice: the first time
  opens all sessions and learns all types. The machines alone need 0.65 s: six fetched, one coated, five glued, mounted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from asyncua import ua

from benchmarks.orders_floor import Floor
from tagwerk.actors.orders.engine import Engine, Told, failed
from tagwerk.actors.orders.logic.engine_keys import read_keys
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.pfdl.talk import ServiceStarted, TaskFinished, TaskStarted
from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.runtime.bench.rows import Row, delay, described, machine

WORKSHOP = Path(__file__).parents[1] / "examples" / "workshop" / "workshop.py"
SERVICE_S = 0.05
COLD = 3  # the first few services open sessions and learn types
LIGHTS = 5
WHOLE = "whole"
TURNS = 2  # the first opens all sessions, the second has them
START_S = 120.0
WORK_S = 300.0
ORDER = {
    "order_id": 1000,
    "stand": {"stand_shape": "plate", "stand_height": 3, "stand_id": "a"},
    "segments": [{"color": "red", "diameter": 5, "segment_id": "b"}],
    "number_light_segments": LIGHTS,
}
STRUCTS = """Struct SWAP_Order
    order_id: number
    stand: Stand_Segment
    segments: Light_Segment[]
    number_light_segments: number
End
Struct Stand_Segment
    stand_shape: string
    stand_height: number
    stand_id: string
End
Struct Light_Segment
    color: string
    diameter: number
    segment_id: string
End
"""


def call(name: str, given: str = "order", out: str = "order") -> str:
    """Give the text of one call, four spaces deep."""
    result = f"        Out\n            {out}: SWAP_Order\n" if out else ""
    return f"    {name}\n        In\n            {given}\n{result}"


def task(name: str, *calls: str, gives: bool = False) -> str:
    """Give the text of a task that takes an order."""
    head = "" if name == "productionTask" else "    In\n        order: SWAP_Order\n"
    return f"Task {name}\n{head}{''.join(calls)}{'    Out' + chr(10) + '        order' + chr(10) if gives else ''}End\n"


def nested(calls: str, first: str) -> str:
    """Give calls below a line."""
    return f"    {first}\n" + "".join(f"    {line}\n" for line in calls.splitlines())


def warm_order(services: int) -> str:
    """Give an order of services one after the other."""
    literal = f"SWAP_Order {json.dumps(ORDER)}"
    return STRUCTS + task(
        "productionTask", call("Milling", literal), nested(call("Milling"), f"Loop i To {services - 1}")
    )


def branched_order() -> str:
    """Give an order of twice 18 services: 5 x (fetch, coat) + 5 x glue, fetch + mill beside them, mount."""
    literal = f"SWAP_Order {json.dumps(ORDER)}"
    sides = call("lights", out="") + call("stand")
    loops = (
        nested(call("light", out=""), "Parallel Loop i To order.number_light_segments"),
        nested(call("Gluing"), "Loop i To order.number_light_segments"),
    )
    return STRUCTS + "".join((
        task("productionTask", *(call(WHOLE, literal, "") for _ in range(TURNS))),
        task(WHOLE, nested(sides, "Parallel"), call("Mounting")),
        task("lights", *loops),
        task("light", call("GetPartsFromWarehouse"), call("Coating")),
        task("stand", call("GetPartsFromWarehouse"), call("Milling"), gives=True),
    ))  # fmt: skip


@contextmanager
def workshop() -> Iterator[int]:
    """Run the workshop; give its registry's port, the machines' come behind it."""
    first = free_ports(6)
    command = [sys.executable, str(WORKSHOP), str(first), "--delay", str(SERVICE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout or ())
            if not any(line == "ready\n" for line in lines):
                raise SystemExit("the workshop does not start")
            drain = threading.Thread(target=list, args=(lines,), daemon=True)
            drain.start()
            yield first
        finally:
            process.terminate()
            process.wait(START_S)
            drain.join(START_S)


def free_ports(count: int) -> int:
    """Give the first of so many free ports in a row."""
    for first in range(44000, 60000, count):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise SystemExit("no free ports")


def engine_run(text: str, port: int) -> list[tuple[float, Told]]:
    """Run an order; give what was told, with the time."""
    quiet_asyncua()
    told: list[tuple[float, Told]] = []
    keys = read_keys([f"device_registry_url=opc.tcp://127.0.0.1:{port}"])
    url = f"opc.tcp://127.0.0.1:{free_ports(1)}"
    engine = Engine(read(text), url, text, keys, lambda one: told.append((time.perf_counter(), one)))
    end = asyncio.run(engine.run())
    if failed(end):
        raise SystemExit(f"the order failed: {end.reason}")
    return told


def warm_engine(port: int, services: int) -> list[float]:
    """Give what each warm service takes beyond its own time, ms: from its start to the next one's."""
    starts = [at for at, one in engine_run(warm_order(services), port) if isinstance(one, ServiceStarted)]
    return beyond(starts)


def beyond(starts: list[float]) -> list[float]:
    """Give the times between starts beyond a service's own, ms, without the first few."""
    return [(after - before - SERVICE_S) * 1000 for before, after in pairwise(starts)][COLD:]


def branched_engine(port: int) -> list[float]:
    """Give the times of twice 18 services, s."""
    told = engine_run(branched_order(), port)
    if sum(isinstance(one, ServiceStarted) for _, one in told) != TURNS * (3 * LIGHTS + 3):
        raise SystemExit("these are not 18 services")
    begun = [at for at, one in told if isinstance(one, TaskStarted) and one.name == WHOLE]
    ended = [at for at, one in told if isinstance(one, TaskFinished) and one.name == WHOLE]
    return [end - begin for begin, end in zip(begun, ended, strict=True)]


def warm_floor(port: int, services: int) -> list[float]:
    """Give what each warm service takes beyond its own time with asyncua alone, ms."""

    async def work() -> list[float]:
        quiet_asyncua()
        floor = Floor(f"opc.tcp://127.0.0.1:{port}")
        machine_ = await floor.machine(await floor.url_of("Milling"))
        order, starts = new_order(), [time.perf_counter()]
        for _ in range(services):
            order = await machine_.serve("Milling", order)
            starts.append(time.perf_counter())
        await floor.close()
        return beyond(starts)

    return asyncio.run(work())


def branched_floor(port: int) -> list[float]:
    """Give the times of twice 18 services with asyncua alone, s."""

    async def whole(floor: Floor) -> float:
        begin = time.perf_counter()
        order = await floor.first_order("GetPartsFromWarehouse", new_order)

        async def light() -> None:
            await floor.serve("Coating", await floor.serve("GetPartsFromWarehouse", order))

        async def lights() -> None:
            await asyncio.gather(*(light() for _ in range(LIGHTS)))
            glued = order
            for _ in range(LIGHTS):
                glued = await floor.serve("Gluing", glued)

        async def stand() -> Any:
            return await floor.serve("Milling", await floor.serve("GetPartsFromWarehouse", order))

        _, made = await asyncio.gather(lights(), stand())
        await floor.serve("Mounting", made)
        return time.perf_counter() - begin

    async def work() -> list[float]:
        quiet_asyncua()
        floor = Floor(f"opc.tcp://127.0.0.1:{port}")
        taken = [await whole(floor) for _ in range(TURNS)]
        await floor.close()
        return taken

    return asyncio.run(work())


def new_order() -> Any:
    """Give the order as asyncua has it; its types must be known."""
    stand = ua.Stand_Segment(**ORDER["stand"])
    segments = [ua.Light_Segment(**one) for one in ORDER["segments"]]
    return ua.SWAP_Order(float(ORDER["order_id"]), stand, segments, float(LIGHTS))


def measure(rounds: int, services: int) -> list[Row]:
    """Measure everything, engine and floor in turns."""
    works: tuple[Callable[..., Any], ...] = (warm_floor, warm_engine, branched_floor, branched_engine)
    found: dict[str, list[float]] = {work.__name__: [] for work in works}
    with workshop() as port, ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for work in works:
                given = (port, services) if work in (warm_floor, warm_engine) else (port,)
                found[work.__name__] += processes.submit(work, *given).result(WORK_S)
    names = ("branched_engine", "branched_floor")
    return [
        delay("warm service beyond its 50 ms, p50", "ms", found["warm_engine"], found["warm_floor"]),
        delay("warm service beyond its 50 ms, p99", "ms", found["warm_engine"], found["warm_floor"], 99),
        *(
            delay(
                f"18 services of 50 ms in three branches, {words}", "s", *(found[name][turn::TURNS] for name in names)
            )
            for turn, words in enumerate(("sessions opened", "warm"))
        ),
    ]


def main() -> None:
    """Measure, print a table or JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.orders", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each, in turns (3)")
    parser.add_argument("--services", type=int, default=40, metavar="N", help="warm services a run (40)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    given = parser.parse_args()
    found = machine()
    rows = measure(given.rounds, given.services + COLD + 1)
    if given.json:
        print(json.dumps({"machine": found, "rows": [row.as_json() for row in rows]}))
        return
    print(described(found))
    print(f"{'what':<56}{'tagwerk':>12}{'floor':>12}{'ratio':>8}")
    for row in rows:
        print(f"{row.name:<56}{row.value:>12,.3f}{row.floor:>12,.3f}{row.ratio:>8.2f}  {row.unit}, n = {row.n}")


if __name__ == "__main__":
    main()
