"""The simulated workshop, a process a machine, and orders for it."""

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
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError

from tagwerk.actors.orders.call import Patience
from tagwerk.actors.orders.engine import Engine, Told
from tagwerk.actors.orders.logic.engine_keys import read_keys
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.pfdl.talk import OrderEnded

ROOT = Path(__file__).parents[2]
T = TypeVar("T")
START_S = 120.0
WAIT_S = 60.0
QUICK = Patience(connect_s=0.3, appear_s=3.0, idle_s=1.0, gap_s=2.0, linger_s=0.3)
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
Struct Surface
    roughness: number
End
Struct Inspection
    passed: boolean
    remarks: string[]
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


MACHINES = ("warehouse", "coating", "gluing", "milling", "mounting", "oldMilling")


class Loop:
    """An asyncio loop in a thread: its clients are used from anywhere."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.start(work).result(WAIT_S)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()


class Workshop:
    """A running workshop. Its machines are looked at, and their knobs turned, by plain clients."""

    def __init__(self) -> None:
        first = self.first = free_ports(1 + len(MACHINES))
        command = [sys.executable, str(ROOT / "examples/workshop/workshop.py"), str(first), "--old", "--delay", "0.02"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._rest = b""
        self._loop = Loop()
        self._clients: dict[str, Client] = {}
        self.registry = self.agent = f"opc.tcp://127.0.0.1:{first}"
        self.ports: dict[str, int] = dict(zip(MACHINES, range(first + 1, first + 1 + len(MACHINES)), strict=True))

    def url(self, name: str) -> str:
        return f"opc.tcp://127.0.0.1:{self.ports[name]}"

    def at(self, name: str) -> str:
        return f'ResourceAssignment {{"job_resource": "{self.url(name)}"}}'

    def lines(self, until: str = "", within_s: float = 0.0) -> list[str]:
        """What it wrote until now, or up to a line that has these words."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + within_s
        found: list[str] = []
        while not until or not any(until in line for line in found):
            if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            if not (more := os.read(self.process.stdout.fileno(), 65536)):
                break
            *whole, self._rest = (self._rest + more).split(b"\n")
            found += [line.decode() for line in whole]
        assert not until or any(until in line for line in found), f"no line with {until!r} but {found}"
        return found

    def called(self, service: str) -> None:
        """Wait until a service is called."""
        self.lines(f'"call": "{service}"', WAIT_S)

    def turn(self, name: str, knob: str, value: Any) -> None:
        """Turn a knob of a machine."""
        self._loop.run(self._turn(name, knob, value))

    def release(self, name: str) -> None:
        """Let the services of a machine end that are held. Does not wait, so that a running order may ask for it."""
        self._loop.start(self._turn(name, "Hold", False))

    @contextlib.contextmanager
    def held(self, name: str) -> Generator[None]:
        """Let no service of a machine end until it is released."""
        self.turn(name, "Hold", True)
        try:
            yield
        finally:
            self.turn(name, "Hold", False)

    def seen(self, name: str) -> tuple[int, int | None]:
        """How many wait at a machine, and its state."""
        return self._loop.run(self._seen(name))

    def settled(self) -> None:
        """Wait until nobody stands at any machine: an old one works its queue now and then only."""
        deadline = time.monotonic() + WAIT_S
        while any(self.seen(name) != (0, 4) for name in MACHINES):
            assert time.monotonic() < deadline, {name: self.seen(name) for name in MACHINES}
            time.sleep(0.02)

    def reset(self, name: str) -> None:
        """What an operator does who has looked at the machine."""
        self._loop.run(self._reset(name))

    def end(self) -> None:
        self._loop.run(self._leave())
        self._loop.end()
        self.process.terminate()
        self.process.wait(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    async def _client(self, name: str) -> Client:
        if name not in self._clients:
            client = self._clients[name] = Client(self.url(name), timeout=WAIT_S, watchdog_intervall=WAIT_S)
            await client.connect()
        return self._clients[name]

    async def _turn(self, name: str, knob: str, value: Any) -> None:
        node = (await self._client(name)).get_node(f"ns=5;s={knob}")
        await node.write_value(value)

    async def _part(self, name: str, *path: str) -> Any:
        objects = (await self._client(name)).nodes.objects
        module = f"4:{name[0].upper()}{name[1:]}Module"
        return await objects.get_child([module, *(f"2:{one}" for one in path)])

    async def _seen(self, name: str) -> tuple[int, int | None]:
        queue = await (await self._part(name, "Queue", "ServiceQueue", "queue_variable")).read_value()
        state = await (await self._part(name, "State", "AssetState")).read_value()
        return len(queue) if isinstance(queue, list) else 0, state

    async def _reset(self, name: str) -> None:
        node = await self._part(name, "State", "AssetState")
        await node.write_value(ua.DataValue(ua.Variant(4, ua.VariantType.Int32)))

    async def _leave(self) -> None:
        for client in self._clients.values():
            with contextlib.suppress(OSError, TimeoutError, UaError):  # its machine may have crashed
                await client.disconnect()


class Tunnel:
    """A way to a port of this host that can be cut: what goes through is dropped, a new connection works again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []

    def __enter__(self) -> Self:
        self._loop = Loop()
        self._server = self._loop.run(asyncio.start_server(self._join, "127.0.0.1", 0))
        self.url = f"opc.tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.loop.call_soon_threadsafe(self._server.close)
        self.cut()
        self._loop.run(self._ended())
        self._loop.end()

    def cut(self) -> None:
        """Drop all connections."""
        self._loop.loop.call_soon_threadsafe(self._drop)

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
