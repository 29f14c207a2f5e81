"""Ports: how frames leave and enter a process: over ZeroMQ. Its in-memory twin is in `transport_memory`.

A send never blocks: it is taken or not. `Unreachable` says that the peer of a routed frame is gone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import zmq

from tagwerk.protocols.codec import MAX_BODY_BYTES, MAX_FRAME_BYTES
from tagwerk.protocols.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer = bytes | memoryview

INGEST_LIMIT_BYTES: Final = MAX_FRAME_BYTES + 4_096
CONTROL_LIMIT_BYTES: Final = MAX_BODY_BYTES
"""Largest answer."""
REQUEST_LIMIT_BYTES: Final = 4 << 20
"""Largest tell or ask."""
SEND_LIMIT: Final = 1_000
"""Frames that ZeroMQ may hold for one peer (its high-water mark)."""
FEED_LIMIT: Final = 700
"""Frames of a feed that wait for a watcher that does not read: 46 MB, shared by all that are as late."""
REQUESTS_LIMIT: Final = 64
"""Requests that wait in ZeroMQ to be taken from one connection: 256 MB of the largest; the rest waits at the asker."""
INGEST_LIMIT: Final = 256
"""Ingest frames that wait so: as many as a writer may have without acknowledgement, 18 MB."""
TOPIC_LIMIT_BYTES: Final = 64
"""Largest message of a subscriber: a topic has 8 bytes, what ZeroMQ says at the start 25."""
LONG_RUN: Final = 4
"""Messages received without a pause, after which more are expected."""
HANDSHAKE_MS: Final = 3_000
"""A connection that has not said by then what it is, is ended: each costs a descriptor."""

# Plain numbers: pyzmq's enumerations are slow to look at.
_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE_NOBLOCK: Final = int(zmq.NOBLOCK) | int(zmq.SNDMORE)
_POLLIN: Final = int(zmq.POLLIN)


class Unreachable(Unavailable):
    """The peer that a frame is addressed to is not connected."""


class Port(Protocol):
    """One end of a connection."""

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Hand over one message; False if it is not taken now.

        Raises:
            Unreachable: A router's addressee is not connected.
        """
        ...

    def recv(self) -> list[bytes] | None:
        """The next message, or None."""
        ...

    def close(self) -> None:
        """Let go. What was sent and not delivered is lost: trust acknowledgements."""
        ...


class Subscriber(Port, Protocol):
    """A port that receives the topics it asks for."""

    def subscribe(self, topic: bytes) -> None:
        """Ask for a topic."""
        ...

    def unsubscribe(self, topic: bytes) -> None:
        """Ask no more for a topic."""
        ...


class Transport(Protocol):
    """Makes ports and waits on them."""

    def router(self, address: str, limit_bytes: int, limit: int = SEND_LIMIT) -> Port:
        """Bind: messages arrive as [identity, ...], and are sent so.

        Args:
            address: Where.
            limit_bytes: A part that is larger ends its connection.
            limit: How many messages of one connection may wait here; the others wait at their sender.
        """
        ...

    def dealer(self, address: str, identity: bytes) -> Port:
        """Connect to a router. Takes nothing while the peer is away."""
        ...

    def publisher(self, address: str) -> Port:
        """Bind: sends [topic, ...]; receives 1 + topic and 0 + topic as subscriptions come and go."""
        ...

    def subscriber(self, address: str) -> Subscriber:
        """Connect to a publisher."""
        ...

    def wait(self, ports: Sequence[Port], timeout_ns: int) -> list[Port]:
        """Those ports that have something; waits at most so long, or until `wake`."""
        ...

    def wake(self) -> None:
        """End a `wait`. The one call that may come from another thread or a signal handler."""
        ...

    def forget(self, port: Port) -> None:
        """Close a port that is not needed any more."""
        ...

    def fds(self, ports: Sequence[Port]) -> list[int]:
        """Descriptors to watch from another loop (edge-triggered: ask `wait` after every event)."""
        ...

    def close(self) -> None:
        """Close all ports and let go of the context."""
        ...


class ZmqPort:
    """A port over a ZeroMQ socket."""

    def __init__(self, socket: zmq.Socket[bytes], bound_path: str | None = None) -> None:
        self.socket = socket
        # Without what pyzmq's own multipart calls do for each part, which takes longer than the call.
        self._send = super(zmq.Socket, socket).send
        self._recv = socket.recv
        self._look = [(socket, _POLLIN)]
        self.descriptor = int(socket.getsockopt(zmq.FD))
        self._bound_path = bound_path
        self._run = 0
        self.seen = False
        """True if it has something, as was seen when it was waited for."""

    def send(self, frames: Sequence[Buffer]) -> bool:
        """See `Port.send`."""
        try:
            for frame in frames[:-1]:
                self._send(frame, _MORE_NOBLOCK)
            self._send(frames[-1], _NOBLOCK)
        except zmq.Again:  # of the first part: libzmq takes all or nothing
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                msg = "the peer is not connected"
                raise Unreachable(msg) from error
            raise
        return True

    def recv(self) -> list[bytes] | None:
        """See `Port.recv`."""
        # To receive from an empty socket costs an exception, to look costs less: but not each time in a long run.
        if not self.seen and self._run < LONG_RUN and not zmq.zmq_poll(self._look, 0):
            self._run = 0
            return None
        self.seen = False
        try:
            frame = self._recv(_NOBLOCK, False)
        except zmq.Again:
            self._run = 0
            return None
        self._run += 1
        frames = [frame.bytes]
        while frame.more:
            frame = self._recv(_NOBLOCK, False)
            frames.append(frame.bytes)
        return frames

    def subscribe(self, topic: bytes) -> None:
        """See `Subscriber.subscribe`."""
        self.socket.setsockopt(zmq.SUBSCRIBE, topic)

    def unsubscribe(self, topic: bytes) -> None:
        """See `Subscriber.unsubscribe`."""
        self.socket.setsockopt(zmq.UNSUBSCRIBE, topic)

    def close(self) -> None:
        """See `Port.close`."""
        self.socket.close(0)
        if self._bound_path is not None:  # libzmq leaves the file behind
            with suppress(FileNotFoundError):
                os.unlink(self._bound_path)


class ZmqTransport:
    """Ports over ZeroMQ. One thread uses it; `wake` alone may be called from others."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._listed: list[Port] = []
        self._by_socket: dict[object, ZmqPort] = {}
        self._ports: list[ZmqPort] = []
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waited: list[tuple[Any, int]] = [(self._wake, _POLLIN)]

    def _socket(self, kind: int, limit_bytes: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, SEND_LIMIT)
        socket.setsockopt(zmq.RCVHWM, SEND_LIMIT)
        socket.setsockopt(zmq.MAXMSGSIZE, limit_bytes)
        socket.setsockopt(zmq.RECONNECT_IVL, 5)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 100)
        return socket

    def _port(self, socket: zmq.Socket[bytes], bound: str | None = None) -> ZmqPort:
        path = bound.removeprefix("ipc://") if bound is not None and bound.startswith("ipc://") else None
        port = ZmqPort(socket, path)
        self._ports.append(port)
        return port

    def router(self, address: str, limit_bytes: int, limit: int = SEND_LIMIT) -> Port:
        """See `Transport.router`."""
        socket = self._socket(zmq.ROUTER, limit_bytes)
        socket.setsockopt(zmq.RCVHWM, limit)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        socket.bind(address)
        return self._port(socket, address)

    def dealer(self, address: str, identity: bytes) -> Port:
        """See `Transport.dealer`."""
        socket = self._socket(zmq.DEALER, CONTROL_LIMIT_BYTES)
        socket.setsockopt(zmq.IDENTITY, identity)
        # Only a finished connection is given frames: nothing waits for a peer that is away, to be done late.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.connect(address)
        return self._port(socket)

    def publisher(self, address: str) -> Port:
        """See `Transport.publisher`."""
        socket = self._socket(zmq.XPUB, TOPIC_LIMIT_BYTES)
        socket.setsockopt(zmq.SNDHWM, FEED_LIMIT)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        socket.bind(address)
        return self._port(socket, address)

    def subscriber(self, address: str) -> Subscriber:
        """See `Transport.subscriber`."""
        socket = self._socket(zmq.SUB, INGEST_LIMIT_BYTES)
        socket.connect(address)
        return self._port(socket)

    def wait(self, ports: Sequence[Port], timeout_ns: int) -> list[Port]:
        """See `Transport.wait`."""
        if self._listed != ports:
            self._list(ports)
        timeout_ms = -1 if timeout_ns < 0 else (timeout_ns + 999_999) // 1_000_000
        ready: list[Port] = []
        for socket, _ in zmq.zmq_poll(self._waited, timeout_ms):
            port = self._by_socket.get(socket)
            if port is None:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            else:
                port.seen = True
                ready.append(port)
        return ready

    def _list(self, ports: Sequence[Port]) -> None:
        self._listed = list(ports)
        self._by_socket = {port.socket: port for port in ports if isinstance(port, ZmqPort)}
        self._waited = [(self._wake, _POLLIN), *((socket, _POLLIN) for socket in self._by_socket)]

    def wake(self) -> None:
        """See `Transport.wake`."""
        os.eventfd_write(self._wake, 1)

    def fds(self, ports: Sequence[Port]) -> list[int]:
        """See `Transport.fds`."""
        return [self._wake, *(port.descriptor for port in ports if isinstance(port, ZmqPort))]

    def forget(self, port: Port) -> None:
        """Close a port that is not needed any more."""
        if isinstance(port, ZmqPort):
            if port in self._listed:
                self._list([other for other in self._listed if other is not port])
            self._ports.remove(port)
            port.close()

    def close(self) -> None:
        """See `Transport.close`."""
        for port in self._ports:
            port.close()
        self._ports.clear()
        self._context.term()
        os.close(self._wake)
