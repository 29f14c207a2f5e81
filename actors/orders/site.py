"""The calls of one resource in a plant: a line of our own, few places in the resource's queue, and each end told once.

How far a call came is stored before the act, its end before anybody is told; so a process that takes over knows of each
call whether it was made, and never makes one twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import msgspec

from tagwerk.actors.orders.call import Call
from tagwerk.actors.orders.call_store import DONE, GIVEN_UP, STOPPED, CallStore, Kept
from tagwerk.actors.orders.given_up import GivenUp
from tagwerk.actors.orders.logic.calls import Job, Phase
from tagwerk.actors.orders.logic.line import Waiting, next_one
from tagwerk.actors.orders.logic.pfdl.talk import Output, Parameter
from tagwerk.actors.orders.logic.queues import client_identifier
from tagwerk.actors.orders.logic.services import Failure, ServiceFault
from tagwerk.actors.orders.resource import Resource
from tagwerk.protocols.errors import DeviceGone, Refused, RemoteProtocolError
from tagwerk.protocols.orders import ExecuteService, ServiceStatus
from tagwerk.runtime.clock import Clock

OUTPUT_BYTES: Final = 1 << 20
"""What a service gives may be so large."""
AGAIN_S: Final = 1.0
"""A place that could not be given back is given back then."""
_NOT_CALLED: Final = ("NEW", "QUEUED", "CLAIMED")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Work:
    """One call.

    Args:
        task: While it runs.
        after_crash: Whether another process began it.
        leaving: Whether this process ends before it is called.
        told: Whether its end is stored by who asked for it.
    """

    number: int
    request: ExecuteService
    job: Job
    phase: str = "NEW"
    expected_s: float = 0.0
    queued_ns: int = 0
    called_ns: int = 0
    status: ServiceStatus | None = None
    stopped: bool = False
    after_crash: bool = False
    leaving: bool = False
    told: bool = False
    task: asyncio.Task[dict[str, Any]] | None = None


@final
class Site:
    """One resource and what it is to do.

    Args:
        resource: Executes.
        store: Keeps the calls; of several sites of one actor it is the same.
        plant: The plant's name in the queues of resources.
        places: So many elements of ours stand in the resource's queue at most.
        clock: Gives times.
        spawn: Runs coroutines.
        tell: Hears how a call stands; of its end it tells `order/0` until that has stored it.
    """

    def __init__(
        self, resource: Resource, store: CallStore, plant: str, places: int, clock: Clock,
        spawn: Callable[[Any], Any], tell: Callable[[ServiceStatus], None],
    ) -> None:  # fmt: skip
        self.resource = resource
        self._store = store
        self._plant = plant
        self._places = places
        self._clock = clock
        self._spawn = spawn
        self._tell = tell
        self._works: dict[str, _Work] = {}
        self._line: dict[str, Waiting] = {}
        self._running: dict[str, _Work] = {}
        self._served: dict[str, int] = {}
        self._turn = 0
        self._given_up = GivenUp(store, resource.late)
        for kept in reversed(store.given_up()):
            if kept.outcome is not None and kept.request.url == resource.url:
                self._given_up.add(self._job(kept.request), kept.outcome.reason)

    # --- how it stands ---

    @property
    def may_move(self) -> str:
        """Why the machine may move although nobody waits for it; "" if it does not."""
        return self._given_up.why

    @property
    def waiting(self) -> int:
        """How many wait in our own line."""
        return len(self._line)

    @property
    def uuids(self) -> tuple[str, ...]:
        """Those that wait or run."""
        return (*self._running, *self._line)

    @property
    def executing(self) -> tuple[ExecuteService, ...]:
        """Those that the resource is at."""
        return tuple(one.request for one in self._running.values() if one.phase in ("CALLED", "ACCEPTED"))

    @property
    def in_doubt(self) -> tuple[ExecuteService, ...]:
        """Those of which nobody knows."""
        return tuple(one.request for one in self._works.values() if one.phase == "UNKNOWN")

    def holds(self, client: str, service_uuid: str) -> bool:
        """Tell whether an element of ours in the queue belongs to a call that is known."""
        work = self._works.get(service_uuid)
        return work is not None and work.job.client == client

    def status(self, uuid: str) -> ServiceStatus | None:
        """Give how a call stands; None if it has ended and was told, or is not known."""
        work = self._works.get(uuid)
        return None if work is None else self._status_of(work)

    # --- what is to be done ---

    def take(self, request: ExecuteService, number: int) -> ServiceStatus:
        """Take a new call, which is stored."""
        work = self._work(number, request)
        self._line_up(work)
        self._next()
        return self._status_of(work)

    def restore(self, kept: Kept) -> None:
        """Take up a call that a process before this one had."""
        work = self._work(kept.number, kept.request)
        work.phase, work.expected_s, work.status = kept.phase, kept.expected_s, kept.outcome
        work.queued_ns, work.called_ns, work.stopped, work.after_crash = (
            kept.queued_ns, kept.called_ns, kept.stopped, True,
        )  # fmt: skip
        if kept.phase == "UNKNOWN" and not kept.stopped:
            self.resource.late.expect(work.job, partial(self._came_late, work))
        if kept.outcome is not None:
            if not kept.told:
                self._tell(kept.outcome)
            if not kept.released and (kept.phase == "ENDED" or kept.stopped):
                self._spawn(self._give_back(work))
        elif kept.stopped and kept.phase in _NOT_CALLED:
            self._settle(work, self._ended(work, STOPPED, "nobody waits for it any more"))
            self._spawn(self._give_back(work))
        elif kept.phase == "NEW":
            self._line_up(work)
        else:
            self._begin(work)  # it has its place in the queue already
            if kept.stopped and work.task is not None:
                self.resource.abandon(work.task)

    def stop(self, uuid: str) -> ServiceStatus | None:
        """Nobody waits for a call any more; None if it is not known."""
        work = self._works.get(uuid)
        if work is None:
            return None
        if not work.stopped:
            work.stopped = True
            self._store.stop(uuid)
            if self._line.pop(uuid, None) is not None:
                self._settle(work, self._ended(work, STOPPED, "nobody waits for it any more"), released=True)
            elif work.task is not None:
                self.resource.abandon(work.task)
            elif work.phase == "UNKNOWN":
                self._spawn(self._give_back(work))
        return self._status_of(work)

    def told(self, uuid: str) -> None:
        """The end of a call is stored by who asked for it."""
        work = self._works.get(uuid)
        if work is not None and work.phase == "ENDED":
            work.told = True
            self._forget(work)

    def start(self) -> None:
        """Begin with what waits."""
        self._next()

    async def leave(self, within_s: float) -> None:
        """The process ends: what is not called yet leaves the queue and comes again with the next one."""
        tasks: list[asyncio.Task[dict[str, Any]]] = []
        self._line.clear()
        for work in self._running.values():
            if work.task is not None and work.phase in _NOT_CALLED:
                work.leaving = True
                self.resource.abandon(work.task)
                tasks.append(work.task)
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)
        await self.resource.drop()

    # --- one call ---

    def _work(self, number: int, request: ExecuteService) -> _Work:
        work = self._works[request.service_uuid] = _Work(number, request, self._job(request))
        return work

    def _job(self, request: ExecuteService) -> Job:
        client = client_identifier(self._plant, request.order, request.number)
        inputs = tuple(Parameter(one.name, one.type, one.value) for one in request.inputs)
        outputs = tuple(Output(one.name, one.type) for one in request.outputs)
        return Job(request.service, request.service_uuid, request.task_uuid, client, inputs, outputs, request.order)

    def _line_up(self, work: _Work) -> None:
        request = work.request
        uuid = request.service_uuid
        self._line[uuid] = Waiting(uuid, request.order, request.priority, work.number)

    def _next(self) -> None:
        while len(self._running) < self._places and (turn := next_one(self._line.values(), self._served)) is not None:
            del self._line[turn.service_uuid]
            self._turn += 1
            self._served[turn.order] = self._turn
            if len(self._served) > 1_000:  # orders that have ended
                waiting = {one.order for one in self._line.values()}
                self._served = {order: when for order, when in self._served.items() if order in waiting}
            self._begin(self._works[turn.service_uuid])

    def _begin(self, work: _Work) -> None:
        call = Call(
            work.job, partial(self._entered, work), partial(self._came_to, work), Phase(work.phase),
            expected_s=work.expected_s,
        )  # fmt: skip
        work.task = self.resource.begin(call, after_crash=work.after_crash)
        self._running[work.request.service_uuid] = work
        self._spawn(self._see_to_its_end(work, call, work.task))

    def _entered(self, work: _Work, phase: Phase) -> None:
        """Keep how far it came, before the act."""
        if phase is Phase.ENDED:
            return  # with its end, in a moment
        work.phase = phase.value
        now_ns = self._clock.now_ns()
        if phase is Phase.QUEUED:
            work.queued_ns = now_ns
        elif phase is Phase.CALLED and not work.called_ns:
            work.called_ns = now_ns
        if phase is Phase.ACCEPTED:
            work.expected_s = self._expected(work)
        self._store.enter(work.request.service_uuid, work.phase, work.expected_s, work.queued_ns, work.called_ns)
        if phase is Phase.CALLED:
            self._tell(self._status_of(work))

    def _expected(self, work: _Work) -> float:
        call = None if work.task is None else self.resource.call_of(work.task)
        return 0.0 if call is None else call.expected_s

    def _came_to(self, work: _Work, outcome: dict[str, Any] | ServiceFault) -> None:
        """Keep its end before its place is given back."""
        if isinstance(outcome, ServiceFault):
            if outcome.failure is Failure.UNKNOWN and not work.stopped:
                status = self._status(work, "UNKNOWN", reason=outcome.reason)
            elif outcome.failure is Failure.UNKNOWN:
                status = self._leave_place(work, outcome.reason)
            else:
                status = self._ended(work, outcome.failure.value, outcome.reason)
        else:
            status = self._status(work, "ENDED", outputs=outcome)
        self._settle(work, self._fitting(work, status))

    def _leave_place(self, work: _Work, why: str) -> ServiceStatus:
        """Its place is given up, and nobody knows whether the machine still moves: that is told until it is known."""
        reason = f"its place was given up; {self.resource.url} may still move: {why}"
        self._given_up.add(work.job, reason)
        return self._ended(work, GIVEN_UP, reason)

    def _came_late(self, work: _Work, outcome: dict[str, Any] | ServiceFault) -> None:
        """The event of a call came after nobody knew its end."""
        if work.phase != "UNKNOWN" or work.stopped:
            return
        if isinstance(outcome, ServiceFault):
            status = self._ended(work, outcome.failure.value, outcome.reason)
        else:
            status = self._status(work, "ENDED", outputs=outcome)
        self._settle(work, msgspec.structs.replace(self._fitting(work, status), late=True))
        if work.task is None:  # else it is seen to where it ends
            self._spawn(self._give_back(work))

    def _fitting(self, work: _Work, status: ServiceStatus) -> ServiceStatus:
        try:
            size = len(msgspec.msgpack.encode(status))
        except (TypeError, ValueError, OverflowError) as error:
            return self._ended(work, Failure.BAD_OUTPUT.value, f"what it gave cannot be stored: {error}")
        if size > OUTPUT_BYTES:
            reason = f"it gave {size} bytes, more than {OUTPUT_BYTES}"
            return self._ended(work, Failure.BAD_OUTPUT.value, reason)
        return status

    async def _see_to_its_end(self, work: _Work, call: Call, task: asyncio.Task[dict[str, Any]]) -> None:
        await asyncio.wait({task})
        uuid = work.request.service_uuid
        work.task = None
        self._running.pop(uuid, None)
        error = None if task.cancelled() else task.exception()
        if work.leaving and work.status is None:
            self._store.enter(uuid, "NEW", 0.0, 0, 0)
            return
        if work.status is None and task.cancelled():
            ended = self._ended(work, STOPPED, "its place was given up, nobody waits for it")
            if work.phase not in _NOT_CALLED:
                ended = self._leave_place(work, "nobody waited for it any more, and its end did not come in time")
            self._settle(work, ended)
        elif work.status is None and error is not None:  # a bug of ours must not end the calls of all others
            _log.critical("%s: %s", self.resource.url, work.request.service, exc_info=error)
            reason = f"{type(error).__name__}: {error}"
            unsure = work.phase not in _NOT_CALLED
            status = self._status(work, "UNKNOWN", reason=reason) if unsure else self._ended(work, "rejected", reason)
            self._settle(work, status)
        if call.unknown and work.stopped:
            await self._give_back(work)
        elif not call.released and work.phase == "ENDED":
            await self._give_back(work)  # the server was gone just then
        elif work.phase != "UNKNOWN":
            self._store.release(uuid)
        self._forget(work)
        self._next()

    async def _give_back(self, work: _Work) -> None:
        while True:
            try:
                await self.resource.give_back(work.job)
                break
            except (ServiceFault, DeviceGone, Refused, RemoteProtocolError) as error:
                _log.warning("%s: the place of %s: %s", self.resource.url, work.job.client, error)
                await asyncio.sleep(AGAIN_S)
        if work.phase == "UNKNOWN":
            reason = "its place was given back; what came of it was for somebody to see"
            self._settle(work, self._ended(work, STOPPED, reason))
        self._store.release(work.request.service_uuid)

    def _forget(self, work: _Work) -> None:
        if work.told and work.task is None and work.phase == "ENDED":
            self._works.pop(work.request.service_uuid, None)

    # --- its end ---

    def _settle(self, work: _Work, status: ServiceStatus, *, released: bool = False) -> None:
        work.phase, work.status = status.phase, status
        if status.phase == "UNKNOWN":
            self.resource.late.expect(work.job, partial(self._came_late, work))
        elif status.failure != GIVEN_UP:
            self.resource.late.forget(status.service_uuid)
            if status.failure in DONE:
                self._given_up.clear()
        self._store.settle(status, released=released)
        self._tell(status)

    def _ended(self, work: _Work, failure: str, reason: str) -> ServiceStatus:
        return self._status(work, "ENDED", failure=failure, reason=reason)

    def _status(
        self, work: _Work, phase: str, outputs: dict[str, Any] | None = None, failure: str = "", reason: str = ""
    ) -> ServiceStatus:
        return ServiceStatus(
            work.request.order, work.request.service_uuid, phase, outputs or {}, failure, reason, work.queued_ns,
            work.called_ns, self._clock.now_ns() if phase == "ENDED" else 0,
        )  # fmt: skip

    def _status_of(self, work: _Work) -> ServiceStatus:
        return work.status or self._status(work, work.phase)
