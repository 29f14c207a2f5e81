"""The node's end of its socket: bounded in clients, bytes and time, and nothing in it waits."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import msgpack

from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.runtime.clock import NS_PER_S
from tagwerk.runtime.node_ctl import REQUEST_LIMIT_BYTES, packed
from tagwerk.runtime.node_verbs import Reply, Verbs, Waiting

CLIENT_LIMIT: Final = 64
IDLE_LIMIT_S: Final = 5.0  # without a request
WAIT_LIMIT_S: Final = 60.0  # for the outcome of a request
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: ucred of unix(7)


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    deadline_ns: int
    waiting: Waiting | None = None


@final
class CtlServer:
    """The node's end. Nothing in here waits: `accept` and `readable` are called when there is something.

    Args:
        path: Where the socket stands.
        verbs: What is done with the requests.
        uid: The only user who may speak.
    """

    def __init__(self, path: Path, verbs: Verbs, uid: int) -> None:
        path.unlink(missing_ok=True)  # of a predecessor that was killed; its lock is ours
        self._path = path
        self._verbs = verbs
        self._uid = uid
        self._clients: dict[int, _Client] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._socket.bind(os.fspath(path))
        path.chmod(0o600)
        self._socket.listen(CLIENT_LIMIT)

    def fileno(self) -> int:
        """Give the listening descriptor."""
        return self._socket.fileno()

    def accept(self, now_ns: int) -> int | None:
        """Take the next client. Give its descriptor, None if it was turned away."""
        try:
            connection, _ = self._socket.accept()
        except OSError:  # it has gone again, or no descriptor is left: either way the actors come first
            return None
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] != self._uid or len(self._clients) >= CLIENT_LIMIT:
            connection.close()
            return None
        connection.setblocking(False)
        self._clients[connection.fileno()] = _Client(connection, now_ns + round(IDLE_LIMIT_S * NS_PER_S))
        return connection.fileno()

    def readable(self, descriptor: int, now_ns: int) -> None:
        """Take a client's request, or its end."""
        client = self._clients[descriptor]
        try:
            packet = client.socket.recv(REQUEST_LIMIT_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet or client.waiting is not None:  # it has gone, or speaks out of turn
            self._drop(descriptor)
            return
        try:
            verb, name = _parse(packet)
        except RemoteProtocolError as error:
            self._reply(descriptor, Reply(False, str(error)), now_ns)
            return
        answer = self._verbs.do(verb, name, now_ns)
        if isinstance(answer, Reply):
            self._reply(descriptor, answer, now_ns)
        else:
            client.waiting = answer
            client.deadline_ns = now_ns + round(WAIT_LIMIT_S * NS_PER_S)

    def tick(self, now_ns: int) -> None:
        """Answer those whose outcome has come or whose time is up, and turn out the idle."""
        for descriptor, client in list(self._clients.items()):
            outcome = client.waiting.outcome() if client.waiting is not None else None
            if outcome is not None:
                self._reply(descriptor, outcome, now_ns)
            elif now_ns >= client.deadline_ns:
                if client.waiting is not None:
                    self._reply(descriptor, Reply(False, client.waiting.so_far()), now_ns)
                self._drop(descriptor)

    def is_waited_for(self) -> bool:
        """Say whether somebody waits for an outcome."""
        return any(client.waiting is not None for client in self._clients.values())

    def close_inherited(self) -> None:
        """Close all sockets, in a child that has just been forked."""
        for client in self._clients.values():
            client.socket.close()
        self._socket.close()

    def close(self) -> None:
        """Close all sockets and take the path away."""
        self.close_inherited()
        self._path.unlink(missing_ok=True)

    def _reply(self, descriptor: int, reply: Reply, now_ns: int) -> None:
        client = self._clients[descriptor]
        client.waiting = None
        client.deadline_ns = now_ns + round(IDLE_LIMIT_S * NS_PER_S)
        packet = packed({"ok": reply.ok, "message": reply.message, "rows": reply.rows})
        try:
            client.socket.send(packet)
        except OSError:  # it has gone, or does not read: its loss, the node does not wait
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        client = self._clients.pop(descriptor, None)
        if client is not None:
            client.socket.close()  # which also takes it out of the epoll set


def _parse(packet: bytes) -> tuple[str, str]:
    if len(packet) > REQUEST_LIMIT_BYTES:
        raise RemoteProtocolError(f"a request has at most {REQUEST_LIMIT_BYTES} bytes")
    try:
        request = msgpack.unpackb(packet)
    except ValueError as error:  # the root of all that msgpack raises on foreign bytes
        raise RemoteProtocolError("a request is one msgpack map") from error
    if not isinstance(request, dict):
        raise RemoteProtocolError("a request is one msgpack map")
    verb, name = request.get("do"), request.get("name", "")
    if not isinstance(verb, str) or not isinstance(name, str):
        raise RemoteProtocolError('a request names a verb in "do" and an actor in "name"')
    return verb, name
