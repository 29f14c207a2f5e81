"""A stock asyncua client that reads the tasks of orders, and a dashboard that takes what is posted."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.ua.uaerrors import BadNodeIdUnknown
from workshop_rig import WAIT_S

GONE = "the task is gone"
IN_TURN = ["ExecutionInProgess", "ExecutionCompleted", "ReadyForExecution"]


class Observer:
    """A stock client: it learns the types, and then reads all that there is."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.states: dict[str, list[str]] = {}
        self.read = 0

    def datachange_notification(self, node: Node, val: str | None, data: Any) -> None:
        self.states.setdefault(self._names[node.nodeid], []).append(val or GONE)  # None: a bad status

    async def start(self) -> None:
        await self.client.load_data_type_definitions()
        assert await self.client.get_namespace_index("http://exection_engine.fraunhofer.iosb.de") == 2  # its spelling
        self.root = await self.client.nodes.objects.get_child("2:LifeCycleObject")
        self._names: dict[ua.NodeId, str] = {}
        self._subscription = await self.client.create_subscription(10, self)

    async def tree(self) -> dict[str, Any]:
        """What is there: task name -> state, variables, and the tasks below it."""
        return await self._below(self.root)

    async def orders(self) -> dict[str, dict[str, Any]]:
        """What is there: order -> its first task."""
        found: dict[str, dict[str, Any]] = {}
        for node in await self.root.get_children():
            inside = await self._below(node)
            found[inside.get("OrderId", "")] = inside
        return found

    async def follow(self, task: str) -> None:
        """Hear of each state of a task from now on."""
        node = await self._find(self.root, task)
        assert node is not None
        state = await node.get_child("2:StateVariable")
        self._names[state.nodeid] = task
        await self._subscription.subscribe_data_change(state)

    async def keep_reading(self) -> None:
        """Read everything, again and again: what cannot be decoded fails the test."""
        while True:
            await self.tree()
            self.read += 1

    async def _find(self, parent: Node, task: str) -> Node | None:
        for node in await parent.get_children():
            if (await node.read_node_class()) != ua.NodeClass.Object:
                continue
            if await (await node.get_child("2:TaskName")).read_value() == task:
                return node
            if (found := await self._find(node, task)) is not None:
                return found
        return None

    async def _below(self, parent: Node) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in await parent.get_children_descriptions():
            node = self.client.get_node(one.NodeId)
            try:
                if one.NodeClass == ua.NodeClass.Object:
                    inside = await self._below(node)
                    assert one.NodeId.to_string() == f"ns=2;g={one.BrowseName.Name}"
                    found[inside.get("TaskName", "")] = inside
                else:
                    found[one.BrowseName.Name] = plain(await node.read_value())
            except BadNodeIdUnknown:
                continue  # its task has ended meanwhile
        return found


def plain(value: Any) -> Any:
    """A decoded value as PFDL has it. Whatever stayed opaque fails here."""
    assert not isinstance(value, ua.ExtensionObject), f"a value that a stock client cannot decode: {value}"
    if isinstance(value, list):
        return [plain(one) for one in value]
    if dataclasses.is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    assert isinstance(value, (str, bool, float)), value
    return value


async def shown(observer: Observer, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The tree as soon as it is so: the view comes after the run, which does not wait for it."""
    async with asyncio.timeout(WAIT_S):
        while not condition(tree := await observer.tree()):
            await asyncio.sleep(0.005)
    return tree


class Board:
    """A dashboard: a real HTTP server that keeps what is posted."""

    def __init__(self) -> None:
        board = self
        self.posts: list[tuple[str, dict[str, Any]]] = []

        class Taker(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                board.posts.append((self.path, json.loads(body)))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"success": true}')

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Be down: whoever posts is refused."""
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT_S)

    def of(self, path: str, order_id: str) -> list[dict[str, Any]]:
        """What was posted there of an order."""
        return [body for at, body in list(self.posts) if at == path and body["order_id"] == order_id]
