"""The execution of services on one resource: place in the queue, claim, call, end, and everything released again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from tagwerk.actors.orders.call import Call, Patience
from tagwerk.actors.orders.endpoint import Endpoint, EndpointMaker
from tagwerk.actors.orders.keeper import SessionKeeper
from tagwerk.actors.orders.latecomers import Latecomers
from tagwerk.actors.orders.logic.calls import Job, Next, Phase, after_loss
from tagwerk.actors.orders.logic.queues import EXECUTING, IDLE, Element, Seen, state_name
from tagwerk.actors.orders.logic.services import (
    EVENT_STATUS,
    STATUS,
    Failure,
    Service,
    ServiceFault,
    check_status,
    check_trigger,
    is_ours,
    matched,
    outputs_of,
)
from tagwerk.protocols.errors import DeviceGone, NotSent, Refused, RemoteProtocolError, Unknown

RELEASE_ATTEMPTS: Final = 3  # each with a new session, if one is lost meanwhile
_NOT_CALLED: Final = frozenset((Phase.NEW, Phase.QUEUED, Phase.CLAIMED))
_log = logging.getLogger(__name__)


@final
class Resource:
    """One resource: one long-lived session, and the services that are executed on it. Its queue is the line.

    Args:
        url: Of it.
        make: Makes sessions.
        patience: How long is waited.
        left_behind: Finds elements of ours in the queue whose owners are dead.
        holds: What nobody knows the end of keeps its place and its claim, until `give_back`; else the place is left.
    """

    def __init__(
        self,
        url: str,
        make: EndpointMaker,
        patience: Patience,
        left_behind: Callable[[tuple[Element, ...]], list[Element]],
        *,
        holds: bool = False,
    ) -> None:
        self.url = url
        self._holds = holds
        self.late = Latecomers(url)
        self.keeper = SessionKeeper(url, make, patience, left_behind, self.late)
        self._patience = patience
        self._running: dict[asyncio.Task[dict[str, Any]], Call] = {}

    async def connect(self) -> None:
        """Open the session, if there is none.

        Raises:
            ServiceFault: There is none within the time.
        """
        async with self.keeper.session():
            return

    async def execute(self, job: Job, progress: Callable[[Phase], None]) -> dict[str, Any]:
        """Execute a service and give its outputs.

        If the caller is cancelled, a service that is not called yet never will be; one that is called keeps its place
        until its end is known, or `linger_s` is over.

        Args:
            job: What is to be done.
            progress: Told each phase *before* the act; a phase again when a lost session was replaced in it.

        Raises:
            ServiceFault: It gave nothing.
        """
        task = self.begin(Call(job, progress))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.abandon(task)
            raise

    def begin(self, call: Call, *, after_crash: bool = False) -> asyncio.Task[dict[str, Any]]:
        """Begin a call, or go on with one that a process that died had begun. The task ends as `execute` does.

        Args:
            call: The call.
            after_crash: Whether it was begun by another process.
        """
        loop = asyncio.get_running_loop()
        if after_crash:
            call.lost_at = loop.time()
            call.claimed = call.phase not in (Phase.NEW, Phase.QUEUED)
        task = loop.create_task(self._carry_out(call))
        self._running[task] = call
        task.add_done_callback(self._done)
        return task

    def abandon(self, task: asyncio.Task[dict[str, Any]]) -> None:
        """Nobody waits for a call any more; see `execute`."""
        if task in self._running:
            self._abandon(task, self._running[task])

    def call_of(self, task: asyncio.Task[dict[str, Any]]) -> Call | None:
        """Give the call of a task that runs."""
        return self._running.get(task)

    async def look(self) -> Seen:
        """See queue and state as they are now.

        Raises:
            ServiceFault: There is no session within `connect_s`.
            DeviceGone: The session was lost.
        """
        async with self.keeper.session() as endpoint:
            return await endpoint.look()

    async def drop(self) -> None:
        """End the session, and leave what runs as it is: for a process that ends, and will come again."""
        await self.keeper.close()

    async def services(self) -> tuple[str, ...]:
        """Give the names of the services that it offers.

        Raises:
            ServiceFault: There is no session within `connect_s`.
            DeviceGone: The session was lost.
        """
        async with self.keeper.session() as endpoint:
            return await endpoint.names()

    async def give_back(self, job: Job) -> None:
        """Give back the place of a call of a process that died, or of one that nobody knows the end of.

        The state is made IDLE only if nobody else can have written it: our element leads the queue, or it is empty.

        Raises:
            ServiceFault, DeviceGone, Refused, RemoteProtocolError: It could not be done now.
        """
        async with self.keeper.session() as endpoint:
            seen = await endpoint.look()
            first = seen.queue[0] if seen.queue else None
            ours = first is None or (first.client, first.service_uuid) == (job.client, job.service_uuid)
            if ours and seen.state == EXECUTING:
                await endpoint.set_state(IDLE)
            await endpoint.remove(job.client, job.service_uuid)

    async def close(self) -> None:
        """Let what runs end, release everything, end the session."""
        for task, call in list(self._running.items()):
            self._abandon(task, call)
        if self._running:
            await asyncio.wait(self._running)
        await self.keeper.close()

    def _abandon(self, task: asyncio.Task[dict[str, Any]], call: Call) -> None:
        if call.abandoned:
            return
        call.abandoned = True
        if call.phase in _NOT_CALLED:
            self._give_up(task, call)
        elif call.phase is not Phase.ENDED:
            asyncio.get_running_loop().call_later(self._patience.linger_s, self._give_up, task, call)

    @staticmethod
    def _give_up(task: asyncio.Task[dict[str, Any]], call: Call) -> None:
        if not call.releasing:
            task.cancel()

    def _done(self, task: asyncio.Task[dict[str, Any]]) -> None:
        call = self._running.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None and call.abandoned:
            _log.warning("%s: %s: %s", self.url, call.job.service, error)

    # --- one call ---

    async def _carry_out(self, call: Call) -> dict[str, Any]:
        try:
            outputs = await self._to_its_end(call)
            if call.settled is not None:
                call.settled(outputs)
            return outputs
        except ServiceFault as fault:
            if call.settled is not None:
                call.settled(fault)
            raise
        finally:
            await self._release(call)

    async def _to_its_end(self, call: Call) -> dict[str, Any]:
        try:
            while True:
                try:
                    async with self.keeper.session() as endpoint:
                        return await self._carry_on(endpoint, call)
                except DeviceGone as error:
                    if call.lost_at is None:
                        call.lost_at = asyncio.get_running_loop().time()
                    _log.warning("%s: %s, %s: %s", self.url, call.job.service, call.phase, error)
                    await asyncio.sleep(self._patience.again_s)
        except ServiceFault as error:
            if call.phase not in _NOT_CALLED and error.failure is Failure.UNREACHABLE:
                call.unknown = True
                reason = f"{call.job.service} was called, and then {error.reason}: nobody knows what came of it"
                raise ServiceFault(Failure.UNKNOWN, reason) from error
            call.unknown = call.unknown or error.failure is Failure.UNKNOWN
            raise
        except Refused as error:
            raise ServiceFault(Failure.REJECTED, str(error)) from error
        except RemoteProtocolError as error:
            before = call.phase in _NOT_CALLED
            raise ServiceFault(Failure.REJECTED if before else Failure.BAD_OUTPUT, str(error)) from error

    async def _carry_on(self, endpoint: Endpoint, call: Call) -> dict[str, Any]:
        job = call.job
        if call.service is None:
            call.service = await endpoint.service(job.service)
            call.values = matched(call.service, job.inputs)
        else:
            await endpoint.service(job.service)  # a new session hears its events, too
        service = call.service
        if call.phase is Phase.ENDED:
            raise ServiceFault(Failure.UNKNOWN, f"{job.service} ended, and its end was lost")
        if call.lost_at is not None:
            if call.phase not in _NOT_CALLED:
                endpoint.begin_listening(job.service)  # before the look: what comes after it is heard
            step = after_loss(call.phase, service.asynchronous, await endpoint.look(), job)
            if step is Next.UNKNOWN:
                raise ServiceFault(Failure.UNKNOWN, f"the session was lost while {job.service} was executed")
            if step is Next.LISTEN:
                call.enter(call.phase)
                return await self._end_of(endpoint, call, service)
            call.lost_at = None  # nothing was called when it was lost: the wait for its end begins with its own call
        await self._until_first(endpoint, call)
        endpoint.begin_listening(job.service)  # only who stands first does: others of the same service wait behind us
        call.enter(Phase.CLAIMED)
        await endpoint.set_state(EXECUTING)
        result = await self._handed_over(endpoint, call, service)
        if not service.asynchronous:
            call.enter(Phase.ENDED)
            check_status(job.service, result, STATUS)
            return outputs_of(service, job.outputs, result)
        call.phase = Phase.ENDED  # unless it did begin
        check_trigger(job.service, result)
        expected = result.get("ExpectedServiceExecutionDuration")
        call.expected_s = expected / 1000 if isinstance(expected, (int, float)) else 0.0
        call.enter(Phase.ACCEPTED)
        return await self._end_of(endpoint, call, service)

    async def _until_first(self, endpoint: Endpoint, call: Call) -> None:
        """Take a place in the queue, and wait until it is the first one and the resource is idle."""
        job, patience, clock = call.job, self._patience, asyncio.get_running_loop().time
        place = 0
        if call.phase is not Phase.NEW:  # its element may still be there
            place = (await endpoint.look()).place_of(job.client, job.service_uuid)
        if not place:
            call.enter(Phase.QUEUED)
            await endpoint.add(job)
        since = clock()
        first_since: float | None = None
        while True:
            seen = await endpoint.look()
            now_place = seen.place_of(job.client, job.service_uuid)
            ours = call.claimed and seen.state == EXECUTING  # written by us in a session that was lost
            if now_place == 1 and (seen.state == IDLE or ours):
                return
            if not now_place and (place or clock() - since > patience.appear_s):
                gone = "somebody took it out of the queue" if place else "it does not appear in the queue"
                raise ServiceFault(Failure.REJECTED, f"{job.service} was not called: {gone} of {self.url}")
            place = now_place
            if place == 1:
                first_since = first_since if first_since is not None else clock()
                if clock() - first_since > patience.idle_s:
                    state = state_name(seen.state)
                    reason = f"{job.service} was not called: {self.url} is {state}, not IDLE, for {patience.idle_s:g} s"
                    raise ServiceFault(Failure.REJECTED, reason)
            await endpoint.changed(seen, patience.poll_s)

    async def _handed_over(self, endpoint: Endpoint, call: Call, service: Service) -> Mapping[str, Any]:
        """Call the method; whether that is known not to have happened decides what a failure means."""
        call.enter(Phase.CALLED)
        try:
            return await endpoint.call(service, call.values)
        except (ServiceFault, Refused):
            call.phase = Phase.ENDED
            raise
        except RemoteProtocolError as error:
            if service.asynchronous:
                reason = f"{call.job.service} was called, and its answer cannot be read: {error}"
                raise ServiceFault(Failure.UNKNOWN, reason) from error
            call.phase = Phase.ENDED
            raise
        except NotSent as error:
            call.phase = Phase.CLAIMED
            raise DeviceGone(str(error)) from error
        except Unknown as error:
            raise DeviceGone(str(error)) from error

    async def _end_of(self, endpoint: Endpoint, call: Call, service: Service) -> dict[str, Any]:
        """Wait for the event that ends this call. Without a lost session there is no limit but the order's own."""
        job = call.job
        until = None if call.lost_at is None else call.lost_at + call.expected_s + self._patience.gap_s
        try:
            async with asyncio.timeout_at(until):
                await asyncio.sleep(0)  # a session that is lost again and again is no reason to wait for ever
                while not is_ours(event := await endpoint.event(job.service), job.service_uuid, job.task_uuid):
                    _log.warning("%s: an event of %s names another service", self.url, job.service)
        except TimeoutError as error:
            reason = f"the session was lost while {job.service} was executed, and its event did not come"
            raise ServiceFault(Failure.UNKNOWN, reason) from error
        call.enter(Phase.ENDED)
        check_status(job.service, event, EVENT_STATUS)
        return outputs_of(service, job.outputs, event)

    async def _release(self, call: Call) -> None:
        """Give the resource back. The state comes first: an element that stays tells who left it, a state does not."""
        call.releasing = True
        if call.phase is Phase.NEW:
            call.released = True
            return
        name = call.job.service
        if call.unknown and self._holds:
            return
        if call.unknown:
            text = "%s stays EXECUTING: whether %s has ended is not known. Look at it, then write AssetState 4"
            _log.error(text, self.url, name)
        elif call.phase in (Phase.CALLED, Phase.ACCEPTED):
            _log.warning("%s: %s was not waited for any more, its place is given up", self.url, name)
        for attempt in range(RELEASE_ATTEMPTS):
            try:
                await self._give_back(call)
                call.released = True
                return
            except (DeviceGone, Refused, ServiceFault, RemoteProtocolError) as error:
                if not isinstance(error, DeviceGone) or attempt == RELEASE_ATTEMPTS - 1:
                    _log.error("%s: the element of %s stays in the queue: %s", self.url, name, error)
                    return

    async def _give_back(self, call: Call) -> None:
        async with self.keeper.session() as endpoint:
            if call.claimed and not call.unknown and (await endpoint.look()).state == EXECUTING:
                await endpoint.set_state(IDLE)
            await endpoint.remove(call.job.client, call.job.service_uuid)
