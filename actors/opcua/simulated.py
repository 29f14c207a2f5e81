"""A server in memory, and devices that talk to it: what `client.py` does, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from tagwerk.actors.opcua.device import DeviceEvents, Interval, Reading
from tagwerk.actors.opcua.logic.columns import Run
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import DeviceGone, Unknown
from tagwerk.protocols.samples import Value
from tagwerk.runtime.clock import Clock


@dataclass(slots=True)
class SimulatedNode:
    """A node of the server."""

    type_name: str
    value: Value
    status: int = 0
    time_ns: int = 1
    write_status: int = 0


@final
@dataclass(slots=True)
class SimulatedServer:
    """A server that does what a test tells it.

    Args:
        clock: Its time.
        nodes: What it holds, by NodeId text. Nodes may come and go while it runs.
    """

    clock: Clock
    nodes: dict[str, SimulatedNode] = field(default_factory=dict[str, SimulatedNode])
    up: bool = True
    """It takes connections."""
    hangs: bool = False
    """It answers nothing, and closes nothing."""
    forgets_answers: bool = False
    """It does what is written, and dies before it answers."""
    dies_after_subscribe: bool = False
    """It tells the first values, and dies before it says that it will."""
    subscribing_s: float = 0.0
    """How long it takes over the answer to `subscribe`."""
    answering_s: float = 0.0
    """How long it takes over the answer to a write that it has done."""
    writes: list[tuple[str, Value]] = field(default_factory=list[tuple[str, Value]])
    """Every write that reached it, in order."""
    devices: list[SimulatedDevice] = field(default_factory=list["SimulatedDevice"])

    def connect(self, events: DeviceEvents) -> SimulatedDevice:
        """A `DeviceMaker`."""
        return SimulatedDevice(self, events)

    def put(self, node: str, value: Value, time_ns: int = 0, status: int = 0) -> None:
        """Change a value; whoever subscribed hears it now."""
        held = self.nodes[node]
        held.value, held.status, held.time_ns = value, status, time_ns or self.clock.now_ns()
        for device in list(self.devices):
            device.notify(node)

    def forget_item(self, node: str) -> None:
        """Watch a node for nobody any more, and say nothing."""
        for device in self.devices:
            device.forget_item(node)

    def die(self) -> None:
        """Drop all connections and take none."""
        self.up = False
        for device in list(self.devices):
            device.lose("connection reset")


@final
class SimulatedDevice:
    """One session with a `SimulatedServer`. Implements `Device`."""

    def __init__(self, server: SimulatedServer, events: DeviceEvents) -> None:
        self._server = server
        self._events = events
        self._items: dict[str, list[int]] = {}
        self._interval: Interval | None = None
        self._last_sign_ns = 0
        self._open = False
        self.closed = False

    @property
    def last_sign_ns(self) -> int:
        """See `Device.last_sign_ns`. A server that does not hang is always fresh."""
        if self._open and not self._server.hangs:
            self._last_sign_ns = self._server.clock.mono_ns()
        return self._last_sign_ns

    @property
    def last_publish_ns(self) -> int:
        """See `Device.last_publish_ns`."""
        return self.last_sign_ns

    @property
    def interval(self) -> Interval | None:
        """See `Device.interval`."""
        return self._interval

    async def connect(self) -> None:
        """See `Device.connect`."""
        await self._answer()
        if not self._server.up:
            raise DeviceGone("connection refused")
        self._open = True
        self._server.devices.append(self)

    async def subscribe(self, items: Sequence[tuple[int, str]]) -> list[int]:
        """See `Device.subscribe`."""
        await self._answer()
        self._interval = Interval(0.1, 1.0, 0.1, 100)
        status: list[int] = []
        for number, node in items:
            status.append(0 if node in self._server.nodes else q.BAD_NODE_ID_UNKNOWN)
            if status[-1] == 0 and number not in self._items.setdefault(node, []):
                self._items[node].append(number)
        for _, node in items:
            self.notify(node)
        if self._server.dies_after_subscribe:
            self._server.die()
        await asyncio.sleep(self._server.subscribing_s)
        await self._answer()
        return status

    async def read(self, nodes: Sequence[str]) -> list[Reading]:
        """See `Device.read`."""
        await self._answer()
        return [self._reading(node) for node in nodes]

    async def node_type(self, node: str) -> str:
        """See `Device.node_type`."""
        await self._answer()
        held = self._server.nodes.get(node)
        return "" if held is None else held.type_name

    async def write(
        self, node: str, value: float | int | bool | str, type_name: str, may_send: Callable[[], None]
    ) -> int:
        """See `Device.write`."""
        may_send()
        held = self._server.nodes.get(node)
        if held is None:
            return q.BAD_NODE_ID_UNKNOWN
        if not self._server.hangs:
            self._server.writes.append((node, value))
            if type_name != held.type_name:
                return q.BAD_TYPE_MISMATCH
            if held.write_status:
                return held.write_status
            self._server.put(node, value)
        try:
            if self._server.forgets_answers:
                self._server.die()
            await asyncio.sleep(self._server.answering_s)
            await self._answer()
        except DeviceGone as error:
            raise Unknown(str(error)) from error
        return 0

    async def probe(self) -> None:
        """See `Device.probe`."""
        await self._answer()

    async def close(self) -> None:
        """See `Device.close`."""
        self._open = False
        self.closed = True
        if self in self._server.devices:
            self._server.devices.remove(self)

    def notify(self, node: str) -> None:
        """Send the node's value to whoever watches it."""
        numbers = self._items.get(node)
        if not numbers or not self._open or self._server.hangs:
            return
        reading = self._reading(node)
        count = len(numbers)
        run = Run(
            np.array(numbers, np.uint32),
            [reading.value] * count,
            np.full(count, reading.status, np.uint32),
            np.full(count, reading.source_ns, np.int64),
            np.zeros(count, np.int64),
        )
        self._events.on_data([run], self._server.clock.now_ns())

    def forget_item(self, node: str) -> None:
        """It is watched no more."""
        self._items.pop(node, None)

    def lose(self, reason: str) -> None:
        """The connection breaks."""
        if self._open:
            self._open = False
            self._events.on_lost(reason)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self._server.hangs:
            try:
                async with asyncio.timeout(1.0):
                    await asyncio.Event().wait()
            except TimeoutError as error:
                raise DeviceGone("no answer in time") from error
        if not self._server.up or self.closed:
            raise DeviceGone("connection reset")

    def _reading(self, node: str) -> Reading:
        held = self._server.nodes.get(node)
        if held is None:
            return Reading(None, q.BAD_NODE_ID_UNKNOWN, 0, 0)
        return Reading(held.value, held.status, held.time_ns, 0)
