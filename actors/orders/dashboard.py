"""Messages about a run, for a dashboard of the original's kind: posted beside the run, and lost without harm."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final, final
from urllib.request import ProxyHandler, Request, build_opener

from tagwerk.actors.orders.logic.graph import dot
from tagwerk.actors.orders.logic.pfdl import Program
from tagwerk.actors.orders.logic.pfdl.talk import (
    Command,
    OrderEnded,
    OrderState,
    RunState,
    ServiceFinished,
    ServiceStarted,
    TaskFailed,
    TaskFinished,
    TaskStarted,
)

MESSAGES_LIMIT: Final = 1_000
POST_LIMIT_S: Final = 2.0
CLOSE_LIMIT_S: Final = 3.0
STARTED: Final = 2
FINISHED: Final = 4

Post = Callable[[str, dict[str, Any]], None]

_log = logging.getLogger(__name__)


def said(command: Command) -> tuple[int, str]:
    """Give what a command says to people, and how grave it is, as Python's logging counts it."""
    if isinstance(command, OrderEnded):
        if command.state is OrderState.FINISHED:
            return logging.INFO, "Order finished."
        return logging.ERROR, f"Order {command.state.lower()}: {command.reason}"
    is_task = isinstance(command, (TaskStarted, TaskFinished, TaskFailed))
    uuid = command.task_uuid if is_task else command.service_uuid  # type: ignore[union-attr]
    name = f"{'Task' if is_task else 'Service'} {command.name} with UUID '{uuid}'"
    if isinstance(command, (TaskStarted, ServiceStarted)):
        return logging.INFO, f"{name} started."
    if isinstance(command, (TaskFinished, ServiceFinished)):
        return logging.INFO, f"{name} finished."
    return logging.ERROR, f"{name} ended: {command.reason}"


@final
class Dashboard:
    """Posts to one dashboard.

    Args:
        address: `http://host:port`; "" is none.
        order_id: Of the run.
        text: The program's text.
        program: The program.
        post: Sends one message to a URL, in a thread; raises OSError if it cannot.
    """

    def __init__(self, address: str, order_id: str, text: str, program: Program, post: Post | None = None) -> None:
        self._address = address.rstrip("/")
        self._order_id = order_id
        self._text = text
        self._graph = dot(program) if address else ""
        self._since = 0
        self._tree: dict[str, dict[str, Any]] = {}
        self._root: dict[str, Any] = {}
        self._messages: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue(MESSAGES_LIMIT)
        self._sender: asyncio.Task[None] | None = None
        self._lost = 0
        self._post = post or posted

    def take(self, command: Command, _state: RunState) -> None:
        """Tell of a command. Never waits: what does not fit into the line is left out."""
        if not self._address:
            return
        now = int(time.time())
        if self._sender is None:
            self._since = now
            self._sender = asyncio.get_running_loop().create_task(self._send())
            self._order(now, STARTED)
        if isinstance(command, (TaskStarted, ServiceStarted)):
            self._grow(command)
        level, text = said(command)
        event = {"order_id": self._order_id, "log_message": text, "log_date": now, "log_level": level}
        self._put("log_event", event)
        if isinstance(command, OrderEnded):
            self._order(now, FINISHED)

    async def close(self) -> None:
        """Send what is left, within `CLOSE_LIMIT_S`."""
        if self._sender is None:
            return
        if not self._messages.full():
            self._messages.put_nowait(None)
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self._sender
        except TimeoutError:
            self._lost += self._messages.qsize()
        if self._lost:
            _log.warning("%d messages did not reach the dashboard %s", self._lost, self._address)

    def _order(self, now: int, status: int) -> None:
        order = {"order_id": self._order_id, "starting_date": self._since, "last_update": now, "status": status}
        self._put("pfdl_order", {**order, "pfdl_string": self._text})

    def _grow(self, command: TaskStarted | ServiceStarted) -> None:
        """Hang a task or service into the tree of calls, and show it."""
        own = command.task_uuid if isinstance(command, TaskStarted) else command.service_uuid
        node: dict[str, Any] = {"id": own, "name": command.name, "children": []}
        if isinstance(command, TaskStarted):
            self._tree[own] = node
        if command.context_uuid in self._tree and command.context_uuid != own:
            self._tree[command.context_uuid]["children"].append(node)
        else:
            self._root = node
        content = f"{self._graph}\ncall_tree:{json.dumps(self._root)}"
        self._put("petri_net", {"order_id": self._order_id, "content": content, "type_pn": "dot"})

    def _put(self, path: str, message: dict[str, Any]) -> None:
        if self._messages.full():
            self._lost += 1
        else:
            self._messages.put_nowait((path, message))

    async def _send(self) -> None:
        while (one := await self._messages.get()) is not None:
            try:
                await asyncio.to_thread(self._post, f"{self._address}/{one[0]}", one[1])
            except OSError as error:
                if not self._lost:
                    _log.warning("the dashboard %s: %s", self._address, error)
                self._lost += 1


def posted(url: str, message: dict[str, Any]) -> None:
    """Post a message.

    Raises:
        OSError: It was not taken.
    """
    body = json.dumps(message).encode()
    request = Request(url, body, {"Content-Type": "application/json"})
    # What stands in the environment for the way to the internet is not the way through a plant.
    with build_opener(ProxyHandler({})).open(request, timeout=POST_LIMIT_S) as answer:
        answer.read(1)
