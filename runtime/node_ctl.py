"""Speaking to a node: one Unix SEQPACKET socket, one msgpack map a packet, one reply a request.

`{"do": "restart", "name": "cvt/0"}` is answered `{"ok": true, "message": "cvt/0 is RUNNING", "rows": []}`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field
from typing import Any, Final, final

import msgpack

from tagwerk.protocols.errors import RemoteProtocolError, Timeout, Unavailable
from tagwerk.runtime.home import Home

REQUEST_LIMIT_BYTES: Final = 4096
REPLY_LIMIT_BYTES: Final = 65536  # `status` of a full page


@dataclass(frozen=True, slots=True)
class CtlReply:
    """What a node answered."""

    ok: bool
    message: str
    rows: list[dict[str, Any]] = field(default_factory=list)


@final
class NodeCtl:
    """The other end, for commands and tests. Each call is a connection of its own.

    Args:
        home: The plant's home.
        node: Which node.
    """

    def __init__(self, home: Home, node: str = "main") -> None:
        self._home = home
        self._node = f"node/{node}"

    def call(self, do: str, name: str = "", timeout_s: float = 30.0) -> CtlReply:
        """Ask the node for something, and wait for its outcome.

        Args:
            do: `start stop restart revive status down`.
            name: The actor it is about.
            timeout_s: How long to wait.

        Raises:
            Unavailable: No node is up.
            Timeout: It did not answer in time; it may still do what was asked.
        """
        path = self._home.file(self._node, "ctl")
        request = packed({"do": do, "name": name})
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(timeout_s)
            try:
                connection.connect(os.fspath(path))
                connection.send(request)
                packet = connection.recv(REPLY_LIMIT_BYTES)
            except TimeoutError as error:
                raise Timeout(f"{self._node} has not answered within {timeout_s:g} s") from error
            except OSError as error:
                raise Unavailable(f"{self._node} is not up: {error.strerror}") from error
        if not packet:
            raise Unavailable(f"{self._node} has closed the connection")
        reply: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            reply = msgpack.unpackb(packet)
        if not isinstance(reply.get("ok"), bool):
            raise RemoteProtocolError(f"{self._node} answered nonsense")
        return CtlReply(reply["ok"], str(reply["message"]), list(reply["rows"]))


def packed(content: dict[str, Any]) -> bytes:
    """Give a packet's bytes."""
    packet = msgpack.packb(content)
    assert isinstance(packet, bytes)
    return packet
