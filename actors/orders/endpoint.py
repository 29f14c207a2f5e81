"""What a service's execution needs of a resource, as one small interface: `ua_endpoint.py`, and its simulated twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tagwerk.actors.orders.logic.calls import Job
from tagwerk.actors.orders.logic.queues import Seen
from tagwerk.actors.orders.logic.services import Service


class Endpoint(Protocol):
    """One session with a resource, used once: open, work, close. A new session is a new object.

    Every method but `close` raises DeviceGone when the session is over, and Refused when the resource says no.
    """

    async def open(self) -> None:
        """Connect, and find the module's queue, state and services."""
        ...

    async def close(self) -> None:
        """End it. Raises nothing."""
        ...

    async def service(self, name: str) -> Service:
        """Learn a service, once. Its events are heard from then on.

        Raises:
            RemoteProtocolError: What the resource says of it cannot be understood.
        """
        ...

    async def names(self) -> tuple[str, ...]:
        """Give the names of the services that it offers."""
        ...

    async def look(self) -> Seen:
        """See its queue and its state, as they are now."""
        ...

    async def changed(self, seen: Seen, within_s: float) -> None:
        """Wait until queue or state have changed since they were seen, the session has ended, or this time is over."""
        ...

    async def add(self, job: Job) -> None:
        """Put an element into the queue."""
        ...

    async def remove(self, client: str, service_uuid: str) -> None:
        """Take an element out of the queue; one that is not there is no error."""
        ...

    async def set_state(self, state: int) -> None:
        """Write the AssetState."""
        ...

    def begin_listening(self, service: str) -> None:
        """Keep the events of a service from now on; forget those from before."""
        ...

    def listen(self, heard: Callable[[Service, Mapping[str, Any]], None]) -> None:
        """Tell of every event of a service that is known, whoever waits for it."""
        ...

    async def call(self, service: Service, values: Sequence[Any]) -> Mapping[str, Any]:
        """Call a service's method and give its result, by field. There is no limit: a synchronous one takes its time.

        Raises:
            ServiceFault: A value does not fit the argument: certainly not called.
            NotSent: It was certainly not handed over.
            Unknown: It was handed over, and no answer came.
            RemoteProtocolError: The answer cannot be read.
        """
        ...

    async def event(self, service: str) -> Mapping[str, Any]:
        """Give the next event of a service, by field.

        Raises:
            RemoteProtocolError: It cannot be read.
        """
        ...


EndpointMaker = Callable[[str], Endpoint]
"""URL -> a fresh session, not yet opened."""
