"""Messages about a run, for a dashboard of the original's kind: posted beside the run, and lost without harm."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Timer
from typing import Any, Final, final
from urllib.parse import urlsplit

from tagwerk.actors.orders.logic.graph import dot
from tagwerk.actors.orders.logic.pfdl import Program
from tagwerk.actors.orders.logic.pfdl.talk import (
    Command,
    OrderEnded,
    OrderState,
    ServiceFinished,
    ServiceStarted,
    TaskFailed,
    TaskFinished,
    TaskStarted,
)

MESSAGES_LIMIT: Final = 1_000
BYTES_LIMIT: Final = 32 << 20
"""Of messages that wait to be sent."""
TREE_LIMIT: Final = 1_000
"""Tasks and services in the tree of calls of one order; what comes later is told as log events alone."""
POST_LIMIT_S: Final = 2.0
CLOSE_LIMIT_S: Final = 3.0
STARTED: Final = 2
FINISHED: Final = 4

Post = Callable[[str, bytes], None]

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
class Poster:
    """Sends messages to one dashboard, one after the other.

    Args:
        address: `http://host:port`.
        post: Sends one body to a URL, in a thread; raises OSError if it cannot.
    """

    def __init__(self, address: str, post: Post | None = None) -> None:
        self._address = address.rstrip("/")
        self._messages: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(MESSAGES_LIMIT)
        self._bytes = 0
        self._sender: asyncio.Task[None] | None = None
        self._lost = 0
        self._post = post or posted

    def put(self, path: str, message: dict[str, Any]) -> None:
        """Send a message later. Never waits: what does not fit into the line is left out."""
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())
        body = json.dumps(message).encode()
        if self._messages.full() or self._bytes + len(body) > BYTES_LIMIT:
            self._lost += 1
            return
        self._bytes += len(body)
        self._messages.put_nowait((path, body))

    async def close(self) -> None:
        """Send what is left, within `CLOSE_LIMIT_S`."""
        if self._sender is None:
            return
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self._messages.put(None)
                await self._sender
        except TimeoutError:
            self._lost += self._messages.qsize()
        if self._lost:
            _log.warning("%d messages did not reach the dashboard %s", self._lost, self._address)

    async def _send(self) -> None:
        down = False
        while (one := await self._messages.get()) is not None:
            self._bytes -= len(one[1])
            try:
                await asyncio.to_thread(self._post, f"{self._address}/{one[0]}", one[1])
                down = False
            except OSError as error:
                if not down:
                    _log.warning("the dashboard %s: %s", self._address, error)
                down = True
                self._lost += 1


@final
class Dashboard:
    """What a dashboard is told of one order.

    Args:
        poster: Sends it.
        order_id: Of the order.
        text: The program's text.
        program: The program; None if another dispatcher says what is to be done.
        since: When the order was started, seconds since 1970; 0: now.
    """

    def __init__(self, poster: Poster, order_id: str, text: str, program: Program | None, since: int = 0) -> None:
        self._poster = poster
        self._order_id = order_id
        self._text = text
        self._graph = "digraph {}" if program is None else dot(program)
        self._since = since
        self._told = 0
        self._tree: dict[str, dict[str, Any]] = {}
        self._root: dict[str, Any] = {}

    def take(self, command: Command) -> None:
        """Tell of a command."""
        if not self._told:
            self.stands(STARTED)
        if isinstance(command, (TaskStarted, ServiceStarted)):
            own = command.task_uuid if isinstance(command, TaskStarted) else command.service_uuid
            self.grow(own, command.name, command.context_uuid)
        level, text = said(command)
        event = {"order_id": self._order_id, "log_message": text, "log_date": int(time.time()), "log_level": level}
        self._poster.put("log_event", event)
        if isinstance(command, OrderEnded):
            self.stands(FINISHED)

    def stands(self, status: int, at: int = 0) -> None:
        """Tell how the order stands: `STARTED` or `FINISHED`, and since when, seconds since 1970 (0: now)."""
        if status == self._told:
            return
        self._told = status
        at = at or int(time.time())
        self._since = self._since or at
        order = {"order_id": self._order_id, "starting_date": self._since, "last_update": at, "status": status}
        self._poster.put("pfdl_order", {**order, "pfdl_string": self._text})

    def grow(self, uuid: str, name: str, context_uuid: str) -> None:
        """Hang a task or service into the tree of calls, and show it."""
        if uuid in self._tree or len(self._tree) >= TREE_LIMIT:
            return
        node: dict[str, Any] = {"id": uuid, "name": name, "children": []}
        self._tree[uuid] = node
        if context_uuid in self._tree and context_uuid != uuid:
            self._tree[context_uuid]["children"].append(node)
        elif not self._root:
            self._root = node
        content = f"{self._graph}\ncall_tree:{json.dumps(self._root)}"
        self._poster.put("petri_net", {"order_id": self._order_id, "content": content, "type_pn": "dot"})


def posted(url: str, body: bytes) -> None:
    """Post a message, JSON: straight there, as a proxy on the way to the internet is not the way through a plant.

    Raises:
        OSError: It was not taken, within twice `POST_LIMIT_S`.
    """
    try:
        address = urlsplit(url)
        connect = HTTPSConnection if address.scheme == "https" else HTTPConnection
        with closing(connect(address.netloc, timeout=POST_LIMIT_S)) as connection:
            connection.connect()
            over = Timer(POST_LIMIT_S, _cut, (connection.sock,))  # the limit of a socket begins anew with each byte
            over.start()
            try:
                connection.request("POST", address.path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
            finally:
                over.cancel()
    except (HTTPException, ValueError, OverflowError) as error:  # no HTTP; a name or a port that cannot be
        raise OSError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    if not 200 <= answer.status < 300:
        raise OSError(f"it answered {answer.status} {answer.reason[:200]}")


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)
