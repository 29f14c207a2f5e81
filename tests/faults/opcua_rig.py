"""A PLC under our thumb, a cable that can be cut, a link on it, and what its operator would see."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, final

from opcua_plc import LATE, NODES
from shown import Shown, until

from tagwerk.actors.opcua.asyncua_mends import quiet_asyncua
from tagwerk.actors.opcua.client import UaDevice
from tagwerk.actors.opcua.device import DeviceEvents
from tagwerk.actors.opcua.link import Link
from tagwerk.actors.opcua.logic.items import ItemTable
from tagwerk.actors.opcua.writer import Writer
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.clock import Clock, SystemClock
from tagwerk.runtime.plantfile_models import OpcuaConfig
from tagwerk.runtime.ua_security import Security

PROMPT = [f"n{n}" for n in range(NODES)]
LATER = [f"late{n}" for n in range(LATE)]
NAMES = [*PROMPT, *LATER, "kept"]
HANDLES = {name: number for number, name in enumerate(NAMES, 1)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@final
class PlcProcess:
    """The server, in a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        script = Path(__file__).with_name("opcua_plc.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(self.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"

    def tell(self, command: str) -> None:
        """Have it do something, and wait until it has."""
        assert self.ask(command) == ""

    def ask(self, command: str) -> str:
        """Have it do something; gives what it says about it."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(command + "\n")
        process.stdin.flush()
        answer = process.stdout.readline().rstrip("\n")
        assert answer.startswith(command), answer
        return answer.removeprefix(command).strip()

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


class End(asyncio.Protocol):
    """One end of a connection through the cable; what comes in here goes out at the other end."""

    def __init__(self, cable: Cable, other: End | None = None) -> None:
        self._cable = cable
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._cable.ends.add(self)
        if self.other is None:
            self._cable.accepted(self)
        else:
            for data in self.other.take_early():
                transport.write(data)

    def take_early(self) -> list[bytes]:
        early, self._early = self._early, []
        return early

    def data_received(self, data: bytes) -> None:
        if self._cable.swallows:
            return
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cable.ends.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()


@final
class Cable:
    """A TCP proxy between the link and the PLC, on the event loop of who made it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._dials: set[asyncio.Task[None]] = set()
        self.ends: set[End] = set()
        self.port = free_port()
        self.swallows = False
        """A network that loses everything, and says nothing."""

    async def plug(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: End(self), "127.0.0.1", self.port)

    def accepted(self, near: End) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(near))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, near: End) -> None:
        far = near.other = End(self, near)
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", self._target)
        except OSError:
            assert near.transport is not None
            near.transport.abort()  # there is nobody: the same as without a cable

    async def cut(self) -> None:
        """Every connection is reset, and none is taken."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()
        while self.ends or self._dials:
            self.reset()
            await asyncio.sleep(0.01)

    def reset(self) -> None:
        """Every connection is reset; the next one is welcome."""
        for end in list(self.ends):
            if end.transport is not None:
                end.transport.abort()

    def say_to_link(self, data: bytes) -> None:
        """Put bytes into the connection as if the PLC had sent them."""
        for end in self.ends:
            if end.transport is not None and end.transport.get_extra_info("sockname")[1] == self.port:
                end.transport.write(data)


@final
class Rig:
    """All of it, wired."""

    def __init__(
        self, plc: PlcProcess, cable: Cable, clock: Clock, tags: list[TagDef], channel_s: float = 3600.0, **config: Any
    ) -> None:
        self.plc = plc
        self.cable = cable
        self.shown = Shown(HANDLES)
        self.tags = {tag.name: tag for tag in tags}
        settings = OpcuaConfig(
            url=f"opc.tcp://127.0.0.1:{cable.port}/", publish_interval_s=0.05, sample_interval_s=0.05, **config
        )
        self.items = ItemTable(tags)

        def connect(events: DeviceEvents) -> UaDevice:
            device = UaDevice(settings, Security(), events)
            device.client.secure_channel_timeout = round(channel_s * 1000)
            return device

        self.link = Link(settings, self.items, connect, self.shown, clock, random.random, logging.getLogger("link"))
        self.link.on_connection = lambda up, why: self.shown.events.append((up, why))
        self.writer = Writer(clock, lambda: self.link.device, self.link)

    async def told(self, command: str) -> None:
        await asyncio.to_thread(self.plc.tell, command)

    async def asked(self, question: str) -> str:
        return await asyncio.to_thread(self.plc.ask, question)

    async def fresh(self, names: list[str], limit_s: float) -> float:
        """Wait until each item shows a value that the server wrote from now on; says how long that took."""
        since = time.time() * 1000
        start = time.monotonic()
        while left := self.shown.stale(names, since):
            assert time.monotonic() - start < limit_s, f"{len(left)} items are missing: {left[:5]}"
            await asyncio.sleep(0.01)
        return time.monotonic() - start


@asynccontextmanager
async def rig(
    plc: PlcProcess,
    names: list[str],
    clock: Clock | None = None,
    holds: dict[str, float] | None = None,
    compare_s: float = 60.0,
    **config: Any,
) -> AsyncGenerator[Rig]:
    """A link on a running PLC, through a cable; afterwards nothing may be left."""
    quiet_asyncua()
    cable = Cable(plc.port)
    await cable.plug()
    tags = [
        TagDef(
            HANDLES[name], name, "float" if name == "kept" or HANDLES[name] % 2 else "int", 0,
            node=f"nsu=urn:tagwerk:test;s={name}", writable=True, hold_s=(holds or {}).get(name, 0.0),
        )
        for name in names
    ]  # fmt: skip
    made = Rig(plc, cable, clock or SystemClock(), tags, **config)
    made.link.compare_s = compare_s
    life = asyncio.create_task(made.link.run())
    try:
        yield made
        assert not life.done(), life
    finally:
        life.cancel()
        (ended,) = await asyncio.gather(life, return_exceptions=True)
        await cable.cut()
    assert isinstance(ended, asyncio.CancelledError), ended
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, limit_s=3.0)


def hang(plc: PlcProcess) -> None:
    plc.signal(signal.SIGSTOP)


def wake(plc: PlcProcess) -> None:
    plc.signal(signal.SIGCONT)
