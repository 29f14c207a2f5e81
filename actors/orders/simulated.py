"""A resource without a network, for rehearsals and tests: the twin of `ua_endpoint.py`. Implements `Endpoint`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from tagwerk.actors.orders.logic.calls import Job
from tagwerk.actors.orders.logic.queues import IDLE, Element, Seen
from tagwerk.actors.orders.logic.services import EVENT_STATUS, STATUS, TRIGGER, Service
from tagwerk.protocols.errors import DeviceGone, NotSent, Refused, RefusedCode, Unknown

Work = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SimulatedService:
    """A service and what it does.

    Args:
        service: As it is declared.
        work: Values in the order of the arguments -> outputs by name.
        duration_s: How long it takes.
        accepts: Whether it takes its parameters.
        succeeds: Whether it ends well.
        tells: Whether it tells its end.
    """

    service: Service
    work: Work
    duration_s: float = 0.0
    accepts: bool = True
    succeeds: bool = True
    tells: bool = True


@dataclass
class SimulatedResource:
    """A resource: its queue and state outlive every session.

    Args:
        services: What it can do.
        reachable: Whether a session can be opened.
        lingers: Elements appear in the queue only when `settle` is called, as the template in C does once a second.
    """

    services: Sequence[SimulatedService]
    reachable: bool = True
    lingers: bool = False
    state: int = IDLE
    queue: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    coming: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list[tuple[str, tuple[Any, ...]]])
    """Service and values of every call."""
    sessions: list[SimulatedEndpoint] = field(default_factory=list["SimulatedEndpoint"])

    def endpoint(self, _url: str) -> SimulatedEndpoint:
        """Make a session: an `EndpointMaker`."""
        return SimulatedEndpoint(self)

    def settle(self) -> None:
        """Let what was asked of the queue come about."""
        self.queue += self.coming
        self.coming.clear()
        self.tell()

    def tell(self) -> None:
        """Tell all sessions that something has changed."""
        for one in self.sessions:
            one.on_change()

    def cut(self) -> None:
        """Lose all sessions."""
        for one in list(self.sessions):
            one.lose()

    def finish(self, name: str, fields: Mapping[str, Any]) -> None:
        """Send the event of a service."""
        for one in self.sessions:
            one.on_event(name, fields)


@final
class SimulatedEndpoint:
    """One session with a simulated resource.

    Args:
        resource: With this one.
    """

    def __init__(self, resource: SimulatedResource) -> None:
        self._resource = resource
        self._change = asyncio.Event()
        self._changes = 0
        self._boxes: dict[str, asyncio.Queue[Mapping[str, Any] | None]] = {}
        self._lost = asyncio.Event()
        self._heard: Callable[[Service, Mapping[str, Any]], None] | None = None

    async def open(self) -> None:
        """See `Endpoint.open`."""
        if not self._resource.reachable:
            self._lost.set()
            raise DeviceGone("simulated: it cannot be reached")
        self._resource.sessions.append(self)

    async def close(self) -> None:
        """See `Endpoint.close`."""
        self.lose()

    async def service(self, name: str) -> Service:
        """See `Endpoint.service`."""
        return self._find(name).service

    async def names(self) -> tuple[str, ...]:
        """See `Endpoint.names`."""
        self._check()
        return tuple(one.service.name for one in self._resource.services)

    async def look(self) -> Seen:
        """See `Endpoint.look`."""
        self._check()
        queue = (Element(client, uuid, place) for place, (client, uuid) in enumerate(self._resource.queue, 1))
        return Seen(tuple(queue), self._resource.state, self._changes)

    async def changed(self, seen: Seen, within_s: float) -> None:
        """See `Endpoint.changed`."""
        if self._changes != seen.version:
            return
        self._change.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._change.wait()
        except TimeoutError:
            return

    async def add(self, job: Job) -> None:
        """See `Endpoint.add`."""
        self._check()
        self._resource.coming.append((job.client, job.service_uuid))
        if not self._resource.lingers:
            self._resource.settle()

    async def remove(self, client: str, service_uuid: str) -> None:
        """See `Endpoint.remove`."""
        self._check()
        for line in (self._resource.queue, self._resource.coming):
            if (client, service_uuid) in line:
                line.remove((client, service_uuid))
        self._resource.tell()

    async def set_state(self, state: int) -> None:
        """See `Endpoint.set_state`."""
        self._check()
        self._resource.state = state
        self._resource.tell()

    def begin_listening(self, service: str) -> None:
        """See `Endpoint.begin_listening`."""
        self._boxes[service] = asyncio.Queue(100)

    def listen(self, heard: Callable[[Service, Mapping[str, Any]], None]) -> None:
        """See `Endpoint.listen`."""
        self._heard = heard

    async def call(self, service: Service, values: Sequence[Any]) -> Mapping[str, Any]:
        """See `Endpoint.call`."""
        if self._lost.is_set():
            raise NotSent("simulated: the session is over")
        simulated = self._find(service.name)
        self._resource.calls.append((service.name, tuple(values)))
        outputs = simulated.work(*values)
        if service.asynchronous:
            if simulated.accepts and simulated.tells:
                fields = {EVENT_STATUS: 0 if simulated.succeeds else 1, **outputs}
                loop = asyncio.get_running_loop()
                loop.call_later(simulated.duration_s, self._resource.finish, service.name, fields)
            return {TRIGGER: int(simulated.accepts), "ExpectedServiceExecutionDuration": simulated.duration_s * 1000}
        try:
            async with asyncio.timeout(simulated.duration_s if simulated.tells else None):
                await self._lost.wait()
        except TimeoutError:
            return {STATUS: 0 if simulated.succeeds else 1, **outputs}
        raise Unknown("simulated: no answer to a call")

    async def event(self, service: str) -> Mapping[str, Any]:
        """See `Endpoint.event`."""
        found = await self._boxes[service].get()
        if found is None:
            raise DeviceGone("simulated: the session is over")
        return found

    def on_change(self) -> None:
        """Queue or state have changed."""
        self._changes += 1
        self._change.set()

    def on_event(self, name: str, fields: Mapping[str, Any]) -> None:
        """A service has ended."""
        if self._heard is not None:
            self._heard(self._find(name).service, fields)
        if name in self._boxes:
            self._boxes[name].put_nowait(fields)

    def lose(self) -> None:
        """The session ends."""
        self._lost.set()
        if self in self._resource.sessions:
            self._resource.sessions.remove(self)
        self.on_change()
        for box in self._boxes.values():
            box.put_nowait(None)

    def _check(self) -> None:
        if self._lost.is_set():
            raise DeviceGone("simulated: the session is over")

    def _find(self, name: str) -> SimulatedService:
        self._check()
        for one in self._resource.services:
            if one.service.name == name:
                return one
        raise Refused(RefusedCode.UNKNOWN_TAG, f"simulated: no service {name}")
