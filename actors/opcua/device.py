"""What a link needs from a server, as one small interface; `client.py` and `simulated.py` are its two sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tagwerk.actors.opcua.logic.columns import Run
from tagwerk.protocols.samples import Value


@dataclass(frozen=True, slots=True)
class Reading:
    """One node as it was read.

    Args:
        value: A scalar, or None if there is none or it is not one of float, int, bool, str.
        status: StatusCode.
        source_ns: The source's time, ns since 1970; 0 if not given.
        server_ns: The server's time, ns since 1970; 0 if not given.
    """

    value: Value
    status: int
    source_ns: int
    server_ns: int


@dataclass(frozen=True, slots=True)
class Interval:
    """What the server made of what was asked for. Seconds."""

    publish_s: float
    keepalive_s: float
    sample_s: float
    queue_size: int


class DeviceEvents(Protocol):
    """Who hears what the server says. Calls come from the event loop's thread and must not block."""

    def on_data(self, runs: Sequence[Run], received_ns: int) -> None:
        """One publish response, whole."""
        ...

    def on_gap(self, reason: str) -> None:
        """Notifications were missed although the session lives: all values have to be read again."""
        ...

    def on_lost(self, reason: str) -> None:
        """The connection or the subscription is gone. Said at most once."""
        ...

    def on_failed(self, error: BaseException) -> None:
        """A bug of ours: it is not the server's doing, and must not pass in silence."""
        ...


class Device(Protocol):
    """One session with a server, used once: connect, work, close. A new connection is a new object."""

    @property
    def last_sign_ns(self) -> int:
        """When the server last answered anything, monotonic ns; 0 before."""
        ...

    @property
    def last_publish_ns(self) -> int:
        """When the subscription last said anything, monotonic ns; 0 before it was made."""
        ...

    @property
    def interval(self) -> Interval | None:
        """What the server granted; None before `subscribe`."""
        ...

    async def connect(self) -> None:
        """Open channel and session, and learn the namespaces.

        Raises:
            DeviceGone: No session was made. The caller bounds the time.
        """
        ...

    async def subscribe(self, items: Sequence[tuple[int, str]]) -> list[int]:
        """Watch nodes: (item number, NodeId). Returns a StatusCode an item, in order; others than Good are not watched.

        Raises:
            DeviceGone: The connection broke.
        """
        ...

    async def read(self, nodes: Sequence[str]) -> list[Reading]:
        """Read values, one reading a node, in order.

        Raises:
            DeviceGone: The connection broke.
        """
        ...

    async def node_type(self, node: str) -> str:
        """The name of the built-in type that a node takes (`Float`, `Int16`); "" if it is an array or unknown.

        Raises:
            DeviceGone: The connection broke.
        """
        ...

    async def write(
        self, node: str, value: float | int | bool | str, type_name: str, may_send: Callable[[], None]
    ) -> int:
        """Write a value as this built-in type; returns the server's StatusCode.

        `may_send` is called as the last act before the request is handed to the socket; what it raises goes to the
        caller, and nothing was sent.

        Raises:
            NotSent: The request was certainly not handed over.
            Unknown: It was handed over, and no answer came.
        """
        ...

    async def probe(self) -> None:
        """Ask for a sign of life.

        Raises:
            DeviceGone: None came.
        """
        ...

    async def close(self) -> None:
        """End everything. Takes a second at most, raises nothing, leaves no task and no socket."""
        ...


DeviceMaker = Callable[[DeviceEvents], Device]
