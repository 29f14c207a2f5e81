"""`tagwerk engine` against real OPC UA servers: a simulated shop floor in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua.client.client import Client

from tagwerk.actors.orders.engine import Engine, Told
from tagwerk.actors.orders.logic.calls import Phase
from tagwerk.actors.orders.logic.engine_keys import read_keys
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.pfdl.talk import OrderEnded, OrderState
from tagwerk.actors.orders.resource import Patience
from tagwerk.actors.orders.session import Session, quiet_asyncua
from tagwerk.actors.orders.ua_endpoint import UaEndpoint
from tagwerk.runtime.cli.app import run as cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
START_S = 40.0
WAIT_S = 20.0
QUICK = Patience(connect_s=1.0, appear_s=3.0, idle_s=1.0, gap_s=2.0, linger_s=0.3)
STRUCTS = """# dialect: tagwerk 1
Struct SWAP_Order
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
Struct Counter
    number: number
End
Struct ResourceAssignment
    job_resource: string
End
Struct AssignmentAgent
    agent: string
End
Struct Milling_Capabilities
    diameter: number
End
"""
ORDER = {
    "order_id": 1000,
    "stand": {"stand_shape": "plate", "stand_height": 3, "stand_id": "Default"},
    "segments": [{"color": "red", "diameter": 5, "segment_id": "a"}, {"color": "green", "diameter": 6, "segment_id": "b"}],
    "number_light_segments": 2,
}


class Floor:
    """A running shop floor."""

    def __init__(self) -> None:
        self.first = free_ports(7)
        command = [sys.executable, str(ROOT / "examples/shopfloor/shopfloor.py"), str(self.first)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.registry, self.agent = f"opc.tcp://127.0.0.1:{self.first}", f"opc.tcp://127.0.0.1:{self.first + 1}"
        names = ("milling", "old", "warehouse", "faulty", "slow")
        self.ports = {name: self.first + 2 + number for number, name in enumerate(names)}

    def url(self, name: str) -> str:
        return f"opc.tcp://127.0.0.1:{self.ports[name]}"

    def at(self, name: str) -> str:
        return f'ResourceAssignment {{"job_resource": "{self.url(name)}"}}'

    def lines(self, until: str = "", within_s: float = 0.0) -> list[str]:
        """What it wrote until now, or up to a line."""
        assert self.process.stdout is not None
        found: list[str] = []
        deadline = time.monotonic() + within_s
        while select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            line = self.process.stdout.readline().strip()
            if not line or line == until:
                return found
            found.append(line)
        assert not until, f"no line {until!r} but {found}"
        return found

    def seen(self, name: str) -> tuple[int, int | None]:
        """How many wait at a resource, and its state."""

        async def look() -> tuple[int, int | None]:
            endpoint = UaEndpoint(self.url(name))
            await endpoint.open()
            try:
                seen = await endpoint.look()
                return len(seen.queue), seen.state
            finally:
                await endpoint.close()

        return asyncio.run(look())


def free_ports(count: int) -> int:
    """Give the first of so many free ports in a row."""
    for first in range(42000 + os.getpid() % 5000, 60000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def floor() -> Iterator[Floor]:
    quiet_asyncua()
    floor = Floor()
    try:
        floor.lines("ready", START_S)
        yield floor
    finally:
        floor.process.terminate()
        floor.process.wait(10)
        assert floor.process.stdout is not None
        floor.process.stdout.close()


def engine(text: str, *keys: str, tell: Callable[[Told], None] = lambda _: None, patience: Patience = QUICK) -> Engine:
    url = f"opc.tcp://127.0.0.1:{free_ports(1)}"
    return Engine(read(STRUCTS + text), url, text, read_keys(keys), tell, patience=patience)


def run(text: str, *keys: str, tell: Callable[[Told], None] = lambda _: None) -> OrderEnded:
    return asyncio.run(engine(text, *keys, tell=tell).run())


def call(service: str, *inputs: str, out: str = "order: SWAP_Order", more: str = "") -> str:
    """One call, indented for a task."""
    lines = [service, *(f"    {line}" for line in more.splitlines())]
    if inputs:
        lines += ["    In", *(f"        {one}" for one in inputs)]
    if out:
        lines += ["    Out", f"        {out}"]
    return "".join(f"    {line}\n" for line in lines)


def task(*calls: str) -> str:
    return f"Task productionTask\n{''.join(calls)}End\n"


def a_order() -> str:
    return f"SWAP_Order {json.dumps(ORDER)}"


def test_one_file_from_the_command_line(floor: Floor, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "order.pfdl"
    first = call("GetPartsFromWarehouse", floor.at("warehouse"), a_order())
    file.write_text(STRUCTS + task(first, call("Milling", floor.at("old"), "order")))
    floor.lines()
    assert cli(["engine", f"opc.tcp://127.0.0.1:{free_ports(1)}", str(file), "log_info=true"]) == 0
    out = capfd.readouterr().out.splitlines()
    assert out[-1] == "Execution Engine Completed the Process Execution"
    assert [line for line in out if "GetParts" in line and "queued at" in line]
    calls = [json.loads(line) for line in floor.lines(within_s=0.5)]
    assert [one["call"] for one in calls] == ["GetPartsFromWarehouse", "Milling"]
    assert calls[1]["inputs"] == {"order": ORDER}
    assert floor.seen("old") == (0, 4)
    assert floor.seen("warehouse") == (0, 4)


def test_a_service_counts_down_in_a_loop(floor: Floor) -> None:
    # The original never ends here: what a variable is set to a second time, it does not see.
    text = task(
        call("Count", floor.at("milling"), 'Counter {"number": 4}', out="left: number"),
        "    Loop While left > 0\n",
        "".join(f"    {line}\n" for line in call("Count", floor.at("milling"), "left", out="left: number").splitlines()),
    )
    assert run(text.replace('Counter {"number": 4}', "c.number").replace(
        "Task productionTask\n", "Task productionTask\n" + call("Make", out="c: Counter"), 1,
    )).reason  # fmt: skip
