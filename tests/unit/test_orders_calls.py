"""A service on a resource, from the queue to its end: over the simulated twin, without a socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from tagwerk.actors.orders.call import Patience
from tagwerk.actors.orders.logic.calls import NEXT, Job, Next, Phase, after_loss
from tagwerk.actors.orders.logic.pfdl.talk import Output, Parameter
from tagwerk.actors.orders.logic.queues import EXECUTING, IDLE, Element, Seen
from tagwerk.actors.orders.logic.services import Argument, Failure, Service, ServiceFault
from tagwerk.actors.orders.resource import Resource
from tagwerk.actors.orders.simulated import SimulatedResource, SimulatedService

NUMBER = Argument("n", "number", False, "Double")
QUICK = Patience(connect_s=0.0, again_s=0.0, poll_s=0.001, appear_s=0.02, idle_s=0.02, gap_s=0.02, linger_s=0.01)
numbers = itertools.count()


def simulated(asynchronous: bool = True, **more: Any) -> SimulatedService:
    return SimulatedService(Service("Cut", (NUMBER,), (NUMBER,), asynchronous), lambda n: {"n": n + 1}, **more)


def job(service: str = "Cut") -> Job:
    number = next(numbers)
    given = (Parameter("n", "number", 1),)
    return Job(service, f"uuid{number}", "task", f"tagwerk:plant:order:{number}", given, (Output("n", "number"),))


def resource(world: SimulatedResource, dead: Callable[[tuple[Element, ...]], list[Element]] = lambda _: []) -> Resource:
    return Resource("sim", world.endpoint, QUICK, dead)


async def execute(world: SimulatedResource, tell: Callable[[Phase], None] = lambda _: None) -> Mapping[str, Any]:
    one = resource(world)
    try:
        return await one.execute(job(), tell)
    finally:
        await one.close()
        assert not world.sessions


def failure(work: Coroutine[Any, Any, Any]) -> Failure:
    with pytest.raises(ServiceFault) as caught:
        asyncio.run(work)
    return caught.value.failure


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_service_gives_its_outputs_and_releases_the_resource(asynchronous: bool) -> None:
    world = SimulatedResource([simulated(asynchronous)])
    phases: list[Phase] = []
    assert asyncio.run(execute(world, phases.append)) == {"n": 2}
    accepted = [Phase.ACCEPTED] if asynchronous else []
    assert phases == [Phase.QUEUED, Phase.CLAIMED, Phase.CALLED, *accepted, Phase.ENDED]
    assert (world.queue, world.state) == ([], IDLE)


@pytest.mark.parametrize(
    ("service", "found"),
    [
        (simulated(accepts=False), Failure.REJECTED),
        (simulated(succeeds=False), Failure.FAILED),
        (simulated(False, succeeds=False), Failure.FAILED),
        (SimulatedService(Service("Cut", (NUMBER,), (NUMBER,), True), lambda _: {}), Failure.BAD_OUTPUT),
        (SimulatedService(Service("Other", (), (), True), dict), Failure.REJECTED),
    ],
)
def test_a_failure_releases_the_resource(service: SimulatedService, found: Failure) -> None:
    world = SimulatedResource([service])
    assert failure(execute(world)) is found
    assert (world.queue, world.state) == ([], IDLE)


def test_the_queue_is_the_line() -> None:
    world = SimulatedResource([simulated()])

    async def run() -> None:
        world.queue = [("somebody", "else")]
        one = resource(world)
        running = [asyncio.create_task(one.execute(job(), lambda _: None)) for _ in range(3)]
        while len(world.queue) < 4:
            await asyncio.sleep(0)
        order = [client for client, _ in world.queue]
        assert not world.calls
        world.queue.pop(0)
        world.tell()
        await asyncio.gather(*running)
        await one.close()
        assert order[1:] == sorted(order[1:])
        assert len(world.calls) == 3

    asyncio.run(run())


def test_a_queue_that_is_worked_now_and_then_is_waited_for() -> None:
    world = SimulatedResource([simulated()], lingers=True)
    assert failure(execute(world)) is Failure.REJECTED  # it never appears
    assert not world.calls

    def tell(phase: Phase) -> None:
        if phase is Phase.QUEUED:
            asyncio.get_running_loop().call_later(0.002, world.settle)

    assert asyncio.run(execute(world, tell)) == {"n": 2}


def test_a_resource_that_is_not_idle_is_not_called() -> None:
    world = SimulatedResource([simulated()], state=3)
    assert failure(execute(world)) is Failure.REJECTED
    assert (world.calls, world.queue, world.state) == ([], [], 3)


def test_a_resource_that_cannot_be_reached() -> None:
    assert failure(execute(SimulatedResource([simulated()], reachable=False))) is Failure.UNREACHABLE


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.CLAIMED, Phase.CALLED])
def test_a_session_lost_before_the_call_does_no_harm(phase: Phase) -> None:
    world = SimulatedResource([simulated()])
    cuts = iter((world.cut,))

    def tell(now: Phase) -> None:
        if now is phase:
            next(cuts, lambda: None)()

    assert asyncio.run(execute(world, tell)) == {"n": 2}
    assert len(world.calls) == 1
    assert (world.queue, world.state) == ([], IDLE)


def test_an_event_after_a_lost_session_still_counts() -> None:
    world = SimulatedResource([simulated(duration_s=0.01)])
    cuts = iter((world.cut,))

    def tell(now: Phase) -> None:
        if now is Phase.ACCEPTED:
            next(cuts, lambda: None)()

    assert asyncio.run(execute(world, tell)) == {"n": 2}
    assert len(world.calls) == 1
    assert (world.queue, world.state) == ([], IDLE)


def test_a_session_lost_long_before_the_call_does_not_shorten_the_wait_for_its_end() -> None:
    world = SimulatedResource([simulated(duration_s=2 * QUICK.gap_s)])

    async def run() -> Mapping[str, Any]:
        world.queue = [("somebody", "else")]
        one = resource(world)
        running = asyncio.create_task(one.execute(job(), lambda _: None))
        while len(world.queue) < 2:
            await asyncio.sleep(0)
        world.cut()
        await asyncio.sleep(4 * QUICK.gap_s)
        world.queue.pop(0)
        world.tell()
        try:
            return await running
        finally:
            await one.close()

    assert asyncio.run(run()) == {"n": 2}
    assert len(world.calls) == 1


def test_a_session_that_is_lost_for_ever_is_not_waited_for_for_ever() -> None:
    world = SimulatedResource([simulated(tells=False)])
    assert failure(execute(world, lambda now: world.cut() if now is Phase.ACCEPTED else None)) is Failure.UNKNOWN
    assert len(world.calls) == 1


@pytest.mark.parametrize("service", [simulated(tells=False), simulated(False, tells=False)])
def test_what_is_not_known_is_said_and_the_state_is_left_alone(service: SimulatedService) -> None:
    world = SimulatedResource([service])
    cuts = iter((world.cut,))

    def tell(now: Phase) -> None:
        if now is (Phase.ACCEPTED if service.service.asynchronous else Phase.CALLED):
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, next(cuts, lambda: None))

    assert failure(execute(world, tell)) is Failure.UNKNOWN
    assert len(world.calls) == 1
    assert (world.queue, world.state) == ([], EXECUTING)


def test_a_session_that_is_lost_while_all_is_given_back_is_replaced() -> None:
    world = SimulatedResource([simulated()])
    cuts = iter((world.cut,))

    def tell(now: Phase) -> None:
        if now is Phase.ENDED:
            next(cuts)()

    assert asyncio.run(execute(world, tell)) == {"n": 2}
    assert (world.queue, world.state) == ([], IDLE)


def test_a_call_that_is_given_up_keeps_its_place_until_its_end() -> None:
    world = SimulatedResource([simulated(duration_s=0.005)])

    async def run() -> None:
        one = resource(world)
        phases: list[Phase] = []
        running = asyncio.create_task(one.execute(job(), phases.append))
        while Phase.ACCEPTED not in phases:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (len(world.queue), world.state) == (1, EXECUTING)
        assert await one.execute(job(), lambda _: None) == {"n": 2}  # it waits for that end
        await one.close()

    asyncio.run(run())
    assert (world.queue, world.state) == ([], IDLE)


def test_a_call_that_is_given_up_before_it_was_made_is_never_made() -> None:
    world = SimulatedResource([simulated()], state=EXECUTING)

    async def run() -> None:
        one = resource(world)
        running = asyncio.create_task(one.execute(job(), lambda _: None))
        while not world.queue:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await one.close()

    asyncio.run(run())
    assert (world.queue, world.calls) == ([], [])


def test_what_the_dead_left_behind_is_removed() -> None:
    world = SimulatedResource([simulated()], queue=[("tagwerk:engine-here-1-2:o:1", "x")])

    async def run() -> Mapping[str, Any]:
        one = resource(world, lambda queue: [each for each in queue if each.service_uuid == "x"])
        try:
            return await one.execute(job(), lambda _: None)
        finally:
            await one.close()

    assert asyncio.run(run()) == {"n": 2}
    assert world.queue == []


def test_after_a_loss_nothing_that_was_called_is_ever_called_again() -> None:
    mine = job()
    there = (Element(mine.client, mine.service_uuid, 1),)
    for (phase, in_queue), what in NEXT.items():
        seen = Seen(there if in_queue else (), EXECUTING)
        assert after_loss(phase, True, seen, mine) is what
        if phase in (Phase.CALLED, Phase.ACCEPTED):
            assert what in (Next.LISTEN, Next.UNKNOWN)
            assert after_loss(phase, False, seen, mine) is Next.UNKNOWN
            assert after_loss(phase, True, Seen(seen.queue, IDLE), mine) is Next.UNKNOWN
        else:
            assert what in (Next.ENQUEUE, Next.WAIT)
