"""The one-shot engine: one order from its first task to its end, in the process that asks for it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, final

import psutil

from tagwerk.actors.orders.assigner import Assigner
from tagwerk.actors.orders.call import Patience
from tagwerk.actors.orders.dashboard import Dashboard, Poster
from tagwerk.actors.orders.endpoint import EndpointMaker
from tagwerk.actors.orders.logic.assignment import Wanted, wanted, with_scheme
from tagwerk.actors.orders.logic.calls import Job, Phase
from tagwerk.actors.orders.logic.engine_keys import Keys
from tagwerk.actors.orders.logic.pfdl import Interpreter, Program
from tagwerk.actors.orders.logic.pfdl.model import Call, Literal, statements_in
from tagwerk.actors.orders.logic.pfdl.talk import (
    CancelOrder,
    Command,
    Event,
    FireEvent,
    OrderEnded,
    OrderState,
    ServiceEnded,
    ServiceFailed,
    ServiceStarted,
)
from tagwerk.actors.orders.logic.pfdl.values import plain
from tagwerk.actors.orders.logic.queues import Element, client_identifier, engine_plant, left_behind
from tagwerk.actors.orders.logic.services import Failure, ServiceFault
from tagwerk.actors.orders.resource import Resource
from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.actors.orders.ua_endpoint import UaEndpoint
from tagwerk.actors.orders.view import View
from tagwerk.protocols.errors import Refused, RefusedCode

EVENTS_LIMIT: Final = 100_000
VIEW_LIMIT: Final = 100_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a service came: told before each act."""

    service_uuid: str
    name: str
    url: str
    phase: Phase


Told = Command | Progress


def lives(pid: int, started: int) -> bool:
    """Tell whether a process lives that began at this time, seconds since 1970."""
    try:
        return int(psutil.Process(pid).create_time()) == started
    except psutil.NoSuchProcess:
        return False


def run(program: Program, url: str, text: str, keys: Keys, tell: Callable[[Told], None]) -> OrderEnded:
    """Run a program; give its end.

    Args:
        program: A sound one.
        url: Where the engine's own server listens.
        text: The program's text, for the dashboard.
        keys: What the engine was told.
        tell: Hears of each step.

    Raises:
        Refused: The engine cannot listen there, or the program's first task takes inputs.
    """
    quiet_asyncua()
    return asyncio.run(Engine(program, url, text, keys, tell).run())


@final
class Engine:
    """One run.

    Args:
        program: A sound one.
        url: Where its own server listens; "" is: it has none.
        text: The program's text.
        keys: What it was told.
        tell: Hears of each step.
        make: Makes sessions with resources.
        patience: How long resources are waited for.
    """

    def __init__(
        self, program: Program, url: str, text: str, keys: Keys, tell: Callable[[Told], None],
        make: EndpointMaker = UaEndpoint, patience: Patience | None = None,
    ) -> None:  # fmt: skip
        self._program = program
        self._url = url
        self._keys = keys
        self._tell = tell
        self._make = make
        self._patience = patience or Patience()
        self._order_id = uuid.uuid4().hex
        self._host = socket.gethostname()
        pid = os.getpid()
        self._plant = engine_plant(self._host, pid, int(psutil.Process(pid).create_time()))
        self._interpreter = Interpreter(program)
        self._view = View(url, program) if url else None
        self._poster = Poster(keys.dashboard_host_address) if keys.dashboard_host_address else None
        self._dashboard = Dashboard(self._poster, self._order_id, text, program) if self._poster else None
        self._assigner = Assigner(keys.custom_url)
        self._numbers = count(1)
        self._resources: dict[str, Resource] = {}
        self._services: dict[str, asyncio.Task[None]] = {}
        self._events: asyncio.Queue[Event] = asyncio.Queue(EVENTS_LIMIT)
        self._shown: asyncio.Queue[Command | None] = asyncio.Queue(VIEW_LIMIT)

    async def run(self) -> OrderEnded:
        """Run to the end; see `run`."""
        await asyncio.sleep(self._keys.delay_start)
        try:
            if self._view is not None:
                await self._view.start()
        except OSError as error:
            raise Refused(RefusedCode.CONFLICT, f"the engine cannot listen at {self._url}: {error}") from error
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_showing())
                warm = [group.create_task(self._warm(url)) for url in self._named_resources()]
                end = await self._to_its_end(group)
                for task in [*warm, *self._services.values()]:
                    task.cancel()
                await self._shown.put(None)
            return end
        finally:
            await asyncio.gather(*(one.close() for one in self._resources.values()))
            await self._assigner.close()
            if self._poster is not None:
                await self._poster.close()
            await self._end_view()

    async def _to_its_end(self, group: asyncio.TaskGroup) -> OrderEnded:
        state, commands = self._interpreter.start(self._order_id)
        end = await self._take(commands, group)
        while end is None:
            event = await self._events.get()
            if not isinstance(event, CancelOrder):
                self._services.pop(event.service_uuid, None)
            state, commands = self._interpreter.step(state, event)
            end = await self._take(commands, group)
        return end

    async def _take(self, commands: tuple[Command, ...], group: asyncio.TaskGroup) -> OrderEnded | None:
        """Do what a step asks for; give the end, if this was it."""
        end: OrderEnded | None = None
        for command in commands:
            self._tell(command)
            if self._dashboard is not None:
                self._dashboard.take(command)
            await self._shown.put(command)
            if isinstance(command, ServiceStarted):
                task = group.create_task(self._serve(command))
                self._services[command.service_uuid] = task
            elif isinstance(command, ServiceEnded) and command.running:
                self._services.pop(command.service_uuid).cancel()
            elif isinstance(command, OrderEnded):
                end = command
        return end

    async def _serve(self, command: ServiceStarted) -> None:
        """Have a service executed, and say what came of it: one event, whatever happens."""
        job = Job(
            command.name, command.service_uuid, command.context_uuid,
            client_identifier(self._plant, self._order_id, next(self._numbers)), command.inputs, command.outputs,
        )  # fmt: skip
        keys = self._keys
        where = wanted(command.name, command.inputs, keys.device_registry_url, keys.assignment_agent_url)
        event: Event
        try:
            async with asyncio.timeout(command.timeout_s):
                event = FireEvent(command.service_uuid, await self._execute(job, where))
        except TimeoutError:
            event = ServiceFailed(command.service_uuid, f"not finished within {command.timeout_s:g} s")
        except ServiceFault as fault:
            event = ServiceFailed(command.service_uuid, fault.reason)
            if fault.failure is Failure.UNKNOWN:  # to try it again might do it twice
                event = CancelOrder(fault.reason)
        await self._events.put(event)

    async def _execute(self, job: Job, where: Wanted) -> dict[str, Any]:
        url = await self._assigner.resource_for(job.service, where)

        def progress(phase: Phase) -> None:
            self._tell(Progress(job.service_uuid, job.service, url, phase))

        return await self._resource(url).execute(job, progress)

    def _resource(self, url: str) -> Resource:
        if url not in self._resources:
            self._resources[url] = Resource(url, self._make, self._patience, self._left_behind)
        return self._resources[url]

    def _left_behind(self, queue: tuple[Element, ...]) -> list[Element]:
        return left_behind(queue, self._host, lives)

    def _named_resources(self) -> list[str]:
        """Give the first few resources that the program names: their sessions are opened while it begins."""
        found: dict[str, None] = {}
        for task in self._program.tasks.values():
            for call in statements_in(task.body):
                for one in call.inputs if isinstance(call, Call) else ():
                    if isinstance(one, Literal) and one.struct == "ResourceAssignment":
                        found[with_scheme(str(next(iter(plain(one.value).values()), "")))] = None
        return list(found)[: self._keys.number_default_clients]

    async def _warm(self, url: str) -> None:
        try:
            await self._resource(url).connect()
        except ServiceFault:
            return  # whoever needs it will say so

    async def _keep_showing(self) -> None:
        """Bring the view after the run, which does not wait for it. Whatever goes wrong there, the order goes on."""
        while (one := await self._shown.get()) is not None:
            if self._view is None:
                continue
            try:
                await self._view.take(one)
            except Exception as error:
                _log.warning("the engine's OPC UA server is closed, the order goes on: it fails with %r", error)
                await self._end_view()

    async def _end_view(self) -> None:
        view, self._view = self._view, None
        if view is None:
            return
        try:
            await view.stop()
        except Exception as error:
            _log.warning("the engine's OPC UA server did not end well: %r", error)


def failed(end: OrderEnded) -> bool:
    """Tell whether an order did not come to its good end."""
    return end.state is not OrderState.FINISHED
