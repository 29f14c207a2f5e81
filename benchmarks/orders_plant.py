"""Orders in a plant: what a service costs beside its own time, many orders at once.

Run `python -m benchmarks.orders_plant` from the checkout. Its resources are milling machines of `examples/workshop`, a
process each, which take 50 ms a service and look at their queues at once. `orders.py` measures the engine, without a
plant.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.orders import SERVICE_S, STRUCTS, call, free_ports, nested
from benchmarks.orders import task as task_of
from tagwerk.protocols.errors import TagwerkError
from tagwerk.protocols.orders import CREW, GetOrder, OrderDetail, OrderStarted, StartOrder
from tagwerk.runtime.attach import Plant, attach

ROOT: Final = Path(__file__).parents[1]
SERVER: Final = ROOT / "examples" / "workshop" / "machine.py"
START_LIMIT_S: Final = 180.0
RUN_LIMIT_S: Final = 300.0
BRANCHES: Final = 3
ORDER: Final = (
    'SWAP_Order {"order_id": 1, "stand": {"stand_shape": "a", "stand_height": 3, "stand_id": "b"}, "segments": [],'
    ' "number_light_segments": 0}'
)


def sequence(count: int) -> str:
    """Give an order of so many services, one after the other, each with what the one before gave."""
    return STRUCTS + task_of("productionTask", call("Milling", ORDER), *[call("Milling")] * (count - 1))


def three_ways(count: int) -> str:
    """Give an order of three branches, side by side, of so many services each."""
    branches = nested(call("branch", ORDER, "") * BRANCHES, "Parallel")
    return STRUCTS + task_of("productionTask", branches) + task_of("branch", *[call("Milling")] * count)


@contextlib.contextmanager
def shop(resources: int) -> Iterator[Plant]:
    """Run so many resource servers and a plant that uses them; all of it ends with the block."""
    ports = range(first := free_ports(resources), first + resources)
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="orders-") as folder:
        for port in ports:
            words = [sys.executable, str(SERVER), "milling", str(port), "--delay", str(SERVICE_S)]
            server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            stack.callback(server.wait)
            stack.callback(server.kill)
        plant = Path(folder) / "plant.toml"
        plant.write_text(
            "".join(f'[resource.r{n}]\nurl = "opc.tcp://127.0.0.1:{port}"\n' for n, port in enumerate(ports))
        )
        home = Path(folder) / "home"
        node = subprocess.Popen(
            [sys.executable, "-m", "tagwerk.runtime.node", "--home", str(home), "--plant", str(plant)],
            stderr=subprocess.DEVNULL,
        )
        stack.callback(node.wait)
        stack.callback(node.terminate)
        wait_for_all(home, resources)
        yield stack.enter_context(attach(home=home, timeout_s=20.0))


def wait_for_all(home: Path, resources: int) -> None:
    """Wait until the plant is up and all resources are connected."""
    deadline = time.monotonic() + START_LIMIT_S
    while not all_connected(home, resources):
        if time.monotonic() > deadline:
            raise SystemExit(f"plant and machines are not ready after {START_LIMIT_S:g} s")
        time.sleep(0.1)


def all_connected(home: Path, resources: int) -> bool:
    """Tell whether the plant answers, and has a session with each resource."""
    try:
        with attach(home=home) as plant:
            return all(plant.read(f"resource.r{n}.connected").value for n in range(resources))
    except TagwerkError:
        return False  # not up yet


def start(plant: Plant, text: str) -> str:
    """Start an order; give its id."""
    answer = plant.ask(CREW, StartOrder("bench", text, {}, 0, "bench"), 60.0)
    assert isinstance(answer, OrderStarted)
    return answer.id


def end_of(plant: Plant, order_id: str) -> OrderDetail:
    """Wait for the end of an order."""
    deadline = time.monotonic() + RUN_LIMIT_S
    while True:
        found = plant.query(CREW, GetOrder(order_id), OrderDetail, 30.0)
        if found.row.ended_ns:
            assert found.row.state == "FINISHED", found.row
            return found
        assert time.monotonic() < deadline, found.row
        time.sleep(0.02)


def took_s(found: OrderDetail) -> float:
    """Give how long an order took."""
    return (found.row.ended_ns - found.row.started_ns) / 1e9


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.orders_plant",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--services", type=int, default=3, help="of each of these orders")
    parser.add_argument("--resources", type=int, default=10)
    given = parser.parse_args()
    with shop(3) as plant:
        end_of(plant, start(plant, sequence(2)))  # each resource is asked for its types once
        for _ in range(2):
            end_of(plant, start(plant, three_ways(2)))
        rows = [end_of(plant, start(plant, sequence(20))) for _ in range(given.runs)]
        costs = [(took_s(found) / 20 - SERVICE_S) * 1e3 for found in rows]
        print(
            f"overhead a service, warm: median {statistics.median(costs):.1f} ms, {min(costs):.1f} to {max(costs):.1f}"
        )
        waits = [(one.called_ns - one.started_ns) / 1e6 for found in rows for one in found.services]
        print(f"  of it from asked for to called: median {statistics.median(waits):.1f} ms")
        walls = [took_s(end_of(plant, start(plant, three_ways(6)))) for _ in range(given.runs)]
        print(f"18 services, three ways: median {statistics.median(walls):.2f} s, {min(walls):.2f} to {max(walls):.2f}")
    with shop(given.resources) as plant:
        began = time.monotonic()
        ids = [start(plant, sequence(given.services)) for _ in range(given.orders)]
        found = [end_of(plant, order_id) for order_id in ids]
        wall_s = time.monotonic() - began
        services = [one for each in found for one in each.services]
        assert len({one.uuid for one in services}) == len(services) == given.orders * given.services
        least_s = len(services) * SERVICE_S / given.resources
        print(
            f"{given.orders} orders of {given.services} services at once on {given.resources} resources: {wall_s:.1f} s"
            f" (their own time alone: {least_s:.1f} s), {len(services) / wall_s:.0f} services/s, none missed"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
