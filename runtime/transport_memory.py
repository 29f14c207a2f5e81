"""The in-memory twin of the ZeroMQ transport: a frame arrives at once, in one thread."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tagwerk.runtime.transport import SEND_LIMIT, Buffer, Port, Subscriber, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence


class MemoryNet:
    """The wires of the in-memory twin: shared by all transports of a test. A frame arrives at once."""

    def __init__(self) -> None:
        self.routers: dict[str, MemoryPort] = {}
        self.publishers: dict[str, MemoryPort] = {}
        self.subscribers: list[MemoryPort] = []


class MemoryPort:
    """A port of the twin. `cut` makes it unreachable, as a killed process is."""

    def __init__(self, net: MemoryNet, kind: str, address: str, identity: bytes = b"") -> None:
        self.net = net
        self.kind = kind
        self.address = address
        self.identity = identity
        self.inbox: deque[list[bytes]] = deque()
        self.peers: dict[bytes, MemoryPort] = {}
        self.topics: set[bytes] = set()
        self.open = True

    def send(self, frames: Sequence[Buffer]) -> bool:
        """See `Port.send`."""
        parts = [bytes(frame) for frame in frames]
        if self.kind == "router":
            return self._route(parts)
        if self.kind == "publisher":
            return self._publish(parts)
        target = self.net.routers.get(self.address)
        if target is None or not target.open or len(target.inbox) >= SEND_LIMIT:
            return False
        target.peers[self.identity] = self
        target.inbox.append([self.identity, *parts])
        return True

    def _route(self, parts: list[bytes]) -> bool:
        peer = self.peers.get(parts[0])
        if peer is None or not peer.open:
            msg = "the peer is not connected"
            raise Unreachable(msg)
        if len(peer.inbox) >= SEND_LIMIT:
            return False
        peer.inbox.append(parts[1:])
        return True

    def _publish(self, parts: list[bytes]) -> bool:
        for port in self.net.subscribers:
            wanted = port.open and port.address == self.address and parts[0] in port.topics
            if wanted and len(port.inbox) < SEND_LIMIT:
                port.inbox.append(parts)
        return True

    def recv(self) -> list[bytes] | None:
        """See `Port.recv`."""
        return self.inbox.popleft() if self.inbox else None

    def subscribe(self, topic: bytes) -> None:
        """See `Subscriber.subscribe`."""
        self.topics.add(topic)
        self._announce(b"\1" + topic)

    def unsubscribe(self, topic: bytes) -> None:
        """See `Subscriber.unsubscribe`."""
        self.topics.discard(topic)
        self._announce(b"\0" + topic)

    def _announce(self, what: bytes) -> None:
        publisher = self.net.publishers.get(self.address)
        if publisher is not None and publisher.open:
            publisher.inbox.append([what])

    def close(self) -> None:
        """See `Port.close`. What waits in it is lost, as in a killed process."""
        self.open = False
        self.inbox.clear()
        for ends in (self.net.routers, self.net.publishers):
            if ends.get(self.address) is self:
                del ends[self.address]
        if self in self.net.subscribers:
            self.net.subscribers.remove(self)


class MemoryTransport:
    """The in-memory twin of `ZmqTransport`, for tests and for tools that need no process."""

    def __init__(self, net: MemoryNet) -> None:
        self._net = net
        self._ports: list[MemoryPort] = []

    def _port(self, kind: str, address: str, identity: bytes = b"") -> MemoryPort:
        port = MemoryPort(self._net, kind, address, identity)
        self._ports.append(port)
        return port

    def router(self, address: str, limit_bytes: int, limit: int = SEND_LIMIT) -> Port:
        """See `Transport.router`."""
        port = self._net.routers[address] = self._port("router", address)
        return port

    def dealer(self, address: str, identity: bytes) -> Port:
        """See `Transport.dealer`."""
        return self._port("dealer", address, identity)

    def publisher(self, address: str) -> Port:
        """See `Transport.publisher`."""
        port = self._net.publishers[address] = self._port("publisher", address)
        for subscriber in self._net.subscribers:
            if subscriber.address == address:
                port.inbox.extend([b"\1" + topic] for topic in subscriber.topics)
        return port

    def subscriber(self, address: str) -> Subscriber:
        """See `Transport.subscriber`."""
        port = self._port("subscriber", address)
        self._net.subscribers.append(port)
        return port

    def wait(self, ports: Sequence[Port], timeout_ns: int) -> list[Port]:
        """See `Transport.wait`; never waits."""
        return [port for port in ports if isinstance(port, MemoryPort) and port.inbox]

    def wake(self) -> None:
        """See `Transport.wake`; nothing waits here."""

    def fds(self, ports: Sequence[Port]) -> list[int]:
        """See `Transport.fds`."""
        return []

    def forget(self, port: Port) -> None:
        """Close a port that is not needed any more."""
        if isinstance(port, MemoryPort):
            self._ports.remove(port)
            port.close()

    def close(self) -> None:
        """See `Transport.close`."""
        for port in self._ports:
            port.close()
        self._ports.clear()
