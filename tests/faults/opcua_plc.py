"""A PLC that is told what to do over its standard input: `opcua_plc.py PORT`.

It holds `n0` ... `n49`, and `late0` ... `late4` once it is told so, and gives each a new value every 100 ms, which
grows also over its restarts. Commands, a line each; every one is answered by a line with its own words.
"""

from __future__ import annotations

import asyncio
import datetime as calendar
import sys
import time
from datetime import UTC, timedelta
from typing import Any

from asyncua import ua
from asyncua.common.callback import CallbackType
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds

URI = "urn:tagwerk:test"
NODES = 50
LATE = 5
PERIOD_S = 0.1


class Stepped(calendar.datetime):
    """What this process takes for the time."""

    offset_s = 0.0

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """The host's time, and the step."""
        return super().now(tz) + timedelta(seconds=cls.offset_s)


def step_everywhere() -> None:
    """Every clock that asyncua looks at is ours."""
    for name, module in list(sys.modules.items()):
        if name.startswith("asyncua") and getattr(module, "datetime", None) is calendar.datetime:
            module.datetime = Stepped  # type: ignore[attr-defined]


class Plc:
    """The server and what stands in it."""

    def __init__(self, server: Server, folder: Node, index: int) -> None:
        self.server = server
        self.folder = folder
        self.index = index
        self.moving: dict[str, Node] = {}
        self.quiet = False
        self.lose = 0
        self.written: list[tuple[str, Any]] = []
        server.subscribe_server_callback(CallbackType.PreWrite, self._note_write)

    def nodeid(self, name: str) -> ua.NodeId:
        return ua.NodeId(ua.String(name), ua.Int16(self.index))

    async def add(self, name: str) -> Node:
        kind, value = (ua.VariantType.Double, 0.0) if len(self.moving) % 2 == 0 else (ua.VariantType.Int64, 0)
        node = await self.folder.add_variable(self.nodeid(name), f"{self.index}:{name}", value, kind)
        await node.set_writable()
        self.moving[name] = node
        return node

    async def put(self, node: Node, value: float, back_s: float = 0.0) -> None:
        kind = await node.read_data_type_as_variant_type()
        typed = float(value) if kind is ua.VariantType.Double else int(value)
        stamp = Stepped.now(UTC) - timedelta(seconds=back_s)
        data = ua.DataValue(ua.Variant(typed, kind), SourceTimestamp=stamp, ServerTimestamp=Stepped.now(UTC))
        await self.server.write_attribute_value(node.nodeid, data)

    def _note_write(self, event: Any, _dispatcher: Any) -> None:
        if event.is_external:
            for item in event.request_params.NodesToWrite:
                self.written.append((item.NodeId.Identifier, item.Value.Value.Value))

    async def turn(self) -> None:
        """Each node a new value."""
        number = time.time_ns() // 1_000_000  # grows over restarts
        for node in self.moving.values():
            await self.put(node, number)

    async def obey(self, command: str) -> str:
        word, _, argument = command.partition(" ")
        if word == "late":
            for n in range(LATE):
                await self.add(f"late{n}")
        elif word == "kept":  # a setpoint that does not move, with a time from before
            node = await self.folder.add_variable(self.nodeid("kept"), f"{self.index}:kept", 0.0)
            await self.put(node, 42.0, back_s=float(argument))
        elif word == "clock":
            Stepped.offset_s = float(argument)
        elif word == "quiet":
            self.quiet = argument == "on"
        elif word == "deaf":  # the monitored item of a node is dead, and nobody says so
            node = self.moving[argument]
            self.server.iserver.aspace[node.nodeid].attributes[AttributeIds.Value].datachange_callbacks.clear()
        elif word == "lose":  # so many publish responses do not arrive
            self.lose = int(argument)
            for subscription in self.server.iserver.subscription_service.subscriptions.values():
                self._loses(subscription)
        elif word == "forget":  # nothing that was not acknowledged is kept
            for subscription in self.server.iserver.subscription_service.subscriptions.values():
                subscription._no_acks_limit = 0
        elif word == "writes":  # what came from outside for a node, in order
            return " ".join(str(value) for name, value in self.written if name == argument)
        else:
            raise ValueError(command)
        return ""

    def _loses(self, subscription: Any) -> None:
        forward, processor = subscription.pub_result_callback, subscription.pub_request_callback.__self__

        async def callback(result: Any, request: Any) -> None:
            if self.lose > 0 and result.NotificationMessage.NotificationData:
                self.lose -= 1
                processor._publish_requests.appendleft(request)
                return
            await forward(result, request)

        subscription.pub_result_callback = callback


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def main(port: int) -> None:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    step_everywhere()
    index = await server.register_namespace(URI)
    folder = await server.nodes.objects.add_folder(ua.NodeId(ua.String("plant"), ua.Int16(index)), f"{index}:plant")
    plc = Plc(server, folder, index)
    for n in range(NODES):
        await plc.add(f"n{n}")
    commands: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: commands.put_nowait(sys.stdin.readline().strip()))
    async with server:
        say("up")
        while True:
            while not commands.empty():
                command = commands.get_nowait()
                if not command:
                    return
                say(command, await plc.obey(command))
            if not plc.quiet:
                await plc.turn()
            await asyncio.sleep(PERIOD_S)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
