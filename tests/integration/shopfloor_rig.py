"""A simulated shop floor in a process of its own, and orders for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tagwerk.actors.orders.call import Patience
from tagwerk.actors.orders.engine import Engine, Told
from tagwerk.actors.orders.logic.engine_keys import read_keys
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.pfdl.talk import OrderEnded
from tagwerk.actors.orders.ua_endpoint import UaEndpoint

ROOT = Path(__file__).parents[2]
START_S = 120.0
WAIT_S = 60.0
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
    count: number
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
    "segments": [
        {"color": "red", "diameter": 5, "segment_id": "a"},
        {"color": "green", "diameter": 6, "segment_id": "b"},
    ],
    "number_light_segments": 2,
}


HOLDING = "holding again"


class Floor:
    """A running shop floor."""

    def __init__(self) -> None:
        self.first = free_ports(3)
        command = [sys.executable, str(ROOT / "examples/shopfloor/shopfloor.py"), str(self.first)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._rest = b""
        self._released = 0
        self.registry = self.agent = f"opc.tcp://127.0.0.1:{self.first}"
        self.ports = {"milling": self.first + 1, "old": self.first + 2}

    def url(self, name: str) -> str:
        return f"opc.tcp://127.0.0.1:{self.ports[name]}"

    def at(self, name: str) -> str:
        return f'ResourceAssignment {{"job_resource": "{self.url(name)}"}}'

    def lines(self, until: str = "", within_s: float = 0.0) -> list[str]:
        """What it wrote until now, or up to a line."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + within_s
        while until.encode() not in self._rest.splitlines() or not until:
            if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            if not (more := os.read(self.process.stdout.fileno(), 65536)):
                break
            self._rest += more
        found, self._rest = self._rest.decode().splitlines(), b""
        self._released -= found.count(HOLDING)
        found = [line for line in found if line != HOLDING]
        assert not until or until in found, f"no line {until!r} but {found}"
        return found

    def called(self, service: str) -> None:
        """Wait until a service is called."""
        found = ""
        deadline = time.monotonic() + WAIT_S
        while f'"call": "{service}"' not in found:
            assert time.monotonic() < deadline, f"{service} is not called: {found}"
            found += "".join(self.lines(within_s=0.1))

    def release(self) -> None:
        """Let the services end that wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        self._released += 1

    def settle(self) -> None:
        """Wait until it holds again what was released; what it wrote until then is forgotten."""
        deadline = time.monotonic() + WAIT_S
        while self._released:
            assert time.monotonic() < deadline, "it does not hold again"
            self.lines(within_s=0.05)
        self.lines()

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

    def reset(self, name: str) -> None:
        """What an operator does who has looked at the machine."""

        async def write() -> None:
            endpoint = UaEndpoint(self.url(name))
            await endpoint.open()
            try:
                await endpoint.set_state(4)
            finally:
                await endpoint.close()

        asyncio.run(write())

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(WAIT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Tunnel:
    """A way to a port of this host that can be cut: what goes through is dropped, a new connection works again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._writers: list[asyncio.StreamWriter] = []
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        start = asyncio.start_server(self._join, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(WAIT_S)
        self.url = f"opc.tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()
        stop = asyncio.run_coroutine_threadsafe(self._ended(), self._loop)
        stop.result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    def cut(self) -> None:
        """Drop all connections."""
        self._loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _ended(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        await asyncio.gather(_pass(reader, back), _pass(there, writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def free_ports(count: int) -> int:
    """Give the first of so many free ports in a row."""
    for first in range(42000 + os.getpid() % 5000, 60000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


def engine(text: str, *keys: str, tell: Callable[[Told], None] = lambda _: None, url: str = "") -> Engine:
    return Engine(read(STRUCTS + text), url, text, read_keys(keys), tell, patience=QUICK)


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


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


if __name__ == "__main__":
    run(sys.argv[1])
