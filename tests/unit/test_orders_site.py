"""The calls of one resource: killed at any moment, none is made twice; turns on a resource that many orders share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tagwerk.actors.orders.call import Patience
from tagwerk.actors.orders.call_store import CallStore
from tagwerk.actors.orders.endpoint import Endpoint
from tagwerk.actors.orders.logic.calls import Job
from tagwerk.actors.orders.logic.choice import Candidate, chosen
from tagwerk.actors.orders.logic.line import Waiting, next_one
from tagwerk.actors.orders.logic.queues import EXECUTING, IDLE, Element, Seen
from tagwerk.actors.orders.logic.services import EVENT_STATUS, Argument, Failure, Service, ServiceFault
from tagwerk.actors.orders.logic.stuck import Watchman
from tagwerk.actors.orders.resource import Resource
from tagwerk.actors.orders.simulated import SimulatedEndpoint, SimulatedResource, SimulatedService
from tagwerk.actors.orders.site import Site
from tagwerk.protocols.orders import Asked, ExecuteService, Given, ServiceStatus
from tagwerk.runtime.clock import SystemClock

QUICK = Patience(connect_s=0.0, again_s=0.0, poll_s=0.001, appear_s=0.2, idle_s=0.2, gap_s=0.02, linger_s=0.01)
PART = Argument("part", "Part", False, "part")
WAIT_S = 10.0


class Killed(BaseException):
    """The process is no more."""


class Life:
    """One process: after so many steps it is dead, and does nothing more."""

    def __init__(self, steps: int = 1_000_000) -> None:
        self.left = steps

    @property
    def dead(self) -> bool:
        return self.left <= 0

    def step(self) -> None:
        self.left -= 1
        if self.dead:
            raise Killed


class MortalEndpoint:
    """A session of a process that may die before any of its acts, or right after it."""

    def __init__(self, life: Life, inner: SimulatedEndpoint) -> None:
        self._life = life
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("begin_listening", "listen"):
            return found

        async def mortal(*arguments: Any) -> Any:
            self._life.step()
            answer = await found(*arguments)
            self._life.step()
            return answer

        return mortal


class MortalStore:
    """A store of such a process."""

    def __init__(self, life: Life, inner: CallStore) -> None:
        self._life = life
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "given_up":  # read before anything begins
            return found

        def mortal(*arguments: Any, **more: Any) -> Any:
            self._life.step()
            answer = found(*arguments, **more)
            self._life.step()
            return answer

        return mortal


class Rig:
    """A resource, its store, and one process after the other that serves it."""

    def __init__(self, folder: Path, *, asynchronous: bool = True, **more: Any) -> None:
        def one_more(part: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"part": {"n": part["n"] + 1}}

        service = Service("Cut", (PART,), (PART,), asynchronous)
        self.resource = SimulatedResource([SimulatedService(service, one_more, **more)])
        self.store = CallStore(folder / "calls.db")
        self.told: list[ServiceStatus] = []
        self.life = Life()
        self.site: Site | None = None

    def process(self, steps: int = 1_000_000, places: int = 2) -> Site:
        """Begin a process; the one before it is dead."""
        self.life = life = Life(steps)

        def make(_: str) -> Endpoint:
            mortal: Any = MortalEndpoint(life, SimulatedEndpoint(self.resource))
            return cast("Endpoint", mortal)

        def left_behind(queue: tuple[Element, ...]) -> list[Element]:
            return [one for one in queue if not site.holds(one.client, one.service_uuid)]

        resource = Resource("opc.tcp://a:1", make, QUICK, left_behind, holds=True)
        store: Any = MortalStore(life, self.store)
        self.tasks: list[asyncio.Task[Any]] = []

        def spawn(work: Awaitable[None]) -> None:
            self.tasks.append(asyncio.ensure_future(work))

        site = Site(resource, store, "plant", places, SystemClock(), spawn, self.told.append)
        self.site = site
        for kept in self.store.open_calls():
            site.restore(kept)
        site.start()
        return site

    async def ends(self, uuid: str, *phases: str) -> ServiceStatus:
        """Wait until a call has come to one of these."""
        async with asyncio.timeout(WAIT_S):
            while True:
                kept = self.store.find(uuid)
                if kept is not None and kept.phase in phases and (kept.released or kept.phase == "UNKNOWN"):
                    assert kept.outcome is not None
                    return kept.outcome
                await asyncio.sleep(0.001)

    async def dies(self) -> None:
        """Wait until the process is dead, and nothing of it moves any more."""
        async with asyncio.timeout(WAIT_S):
            while not self.life.dead:
                await asyncio.sleep(0.001)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
        self.resource.cut()


def request(number: int, order: str = "o_1", priority: int = 0) -> ExecuteService:
    part = (Given("part", "Part", {"n": number}),)
    return ExecuteService(
        order, number, f"u{number}", "t", "Cut", "opc.tcp://a:1", priority, part, (Asked("part", "Part"),)
    )


def steps_of_a_whole_call(folder: Path, **more: Any) -> int:
    async def count() -> int:
        rig = Rig(folder, **more)
        site = rig.process()
        site.take(request(1), rig.store.take(request(1)))
        await rig.ends("u1", "ENDED")
        return 1_000_000 - rig.life.left

    return asyncio.run(count())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_killed_at_any_step_a_call_is_never_made_twice(tmp_path: Path, asynchronous: bool) -> None:
    (tmp_path / "whole").mkdir()
    whole = steps_of_a_whole_call(tmp_path / "whole", asynchronous=asynchronous)
    assert whole > 20

    async def killed(steps: int) -> str:
        folder = tmp_path / str(steps)
        folder.mkdir()
        rig = Rig(folder, asynchronous=asynchronous)
        site = rig.process(steps)
        try:
            site.take(request(1), rig.store.take(request(1)))
        except Killed:
            rig.life.left = 0
        await rig.dies()
        site = rig.process()
        status = await rig.ends("u1", "ENDED", "UNKNOWN")
        assert len(rig.resource.calls) <= 1
        if status.phase == "UNKNOWN":
            assert (rig.resource.state, len(rig.resource.queue)) == (EXECUTING, 1)  # its place is kept
            site.stop("u1")
            await rig.ends("u1", "ENDED")
        else:
            assert (status.failure, status.outputs) == ("", {"part": {"n": 2}}), status.reason
            assert len(rig.resource.calls) == 1
        async with asyncio.timeout(WAIT_S):
            while rig.resource.queue:
                await asyncio.sleep(0.001)
        assert (rig.resource.state, rig.resource.queue, rig.resource.coming) == (IDLE, [], [])
        assert {one.service_uuid for one in rig.told if one.phase == "ENDED"} == {"u1"}
        rig.store.close()
        return status.phase

    found = [asyncio.run(killed(steps)) for steps in range(1, whole)]
    assert "UNKNOWN" in found  # what was called, and whose end nobody heard
    assert found[0] == found[-1] == "ENDED"


def test_a_service_of_a_higher_priority_goes_first_and_orders_take_turns() -> None:
    line = [Waiting("a1", "a", 0, 1), Waiting("a2", "a", 0, 2), Waiting("b1", "b", 0, 3), Waiting("c1", "c", 5, 4)]
    served: dict[str, int] = {}
    turns: list[str] = []
    for turn in range(len(line)):
        one = next_one(line, served)
        assert one is not None
        line.remove(one)
        served[one.order] = turn
        turns.append(one.service_uuid)
    assert turns == ["c1", "a1", "b1", "a2"]
    assert next_one(line, served) is None


def test_only_so_many_stand_in_the_queue_of_the_resource(tmp_path: Path) -> None:
    async def run() -> list[int]:
        rig = Rig(tmp_path, tells=False)
        site = rig.process(places=1)
        for number, (order, priority) in enumerate((("a", 0), ("a", 0), ("b", 0), ("c", 9)), 1):
            asked = request(number, order, priority)
            site.take(asked, rig.store.take(asked))
        async with asyncio.timeout(WAIT_S):
            for _ in range(4):
                while not site.executing:
                    await asyncio.sleep(0.001)
                assert len(rig.resource.queue) == 1
                uuid = site.executing[0].service_uuid
                rig.resource.finish("Cut", {"ServiceExecutionResult": 0, "part": {"n": 0}})
                await rig.ends(uuid, "ENDED")
        return [values[0]["n"] for _, values in rig.resource.calls]

    assert asyncio.run(run()) == [1, 4, 3, 2]


def test_a_call_that_nobody_waits_for_leaves_the_line(tmp_path: Path) -> None:
    async def run() -> None:
        rig = Rig(tmp_path, tells=False)
        site = rig.process(places=1)
        for number in (1, 2):
            site.take(request(number), rig.store.take(request(number)))
        async with asyncio.timeout(WAIT_S):
            while not rig.resource.calls:
                await asyncio.sleep(0.001)
        for uuid, failure in (("u2", "stopped"), ("u1", "given_up")):
            site.stop(uuid)
            assert (await rig.ends(uuid, "ENDED")).failure == failure
        assert (len(rig.resource.calls), rig.resource.queue, rig.resource.state) == (1, [], IDLE)
        assert site.stop("u9") is None

    asyncio.run(run())


def event(uuid: str) -> dict[str, Any]:
    return {"service_uuid": uuid, EVENT_STATUS: 0, "part": {"n": 7}}


@pytest.mark.parametrize("killed", [False, True])
def test_an_event_that_names_a_call_of_which_nobody_knew_settles_it(tmp_path: Path, killed: bool) -> None:
    async def run() -> None:
        rig = Rig(tmp_path, tells=False)
        site = rig.process()
        site.take(request(1), rig.store.take(request(1)))
        async with asyncio.timeout(WAIT_S):
            while not rig.resource.calls:
                await asyncio.sleep(0.001)
        rig.resource.cut()
        await rig.ends("u1", "UNKNOWN")
        if killed:
            rig.life.left = 0
            await rig.dies()
            rig.process()
            assert rig.site is not None
            await rig.site.resource.connect()
        rig.resource.finish("Cut", event("") | {"service_uuid": None})  # anybody's
        rig.resource.finish("Cut", event("u9"))
        await asyncio.sleep(0)
        assert (rig.told[-1].phase, rig.resource.state) == ("UNKNOWN", EXECUTING)
        rig.resource.finish("Cut", event("u1"))
        status = await rig.ends("u1", "ENDED")
        assert (status.outputs, status.failure, status.late) == ({"part": {"n": 7}}, "", True)
        assert rig.told[-1] == status
        assert (len(rig.resource.calls), rig.resource.queue, rig.resource.state) == (1, [], IDLE)

    asyncio.run(run())


def test_a_machine_whose_call_was_given_up_may_move_until_its_end_is_known(tmp_path: Path) -> None:
    async def run() -> None:
        rig = Rig(tmp_path, tells=False)
        site = rig.process()
        site.take(request(1), rig.store.take(request(1)))
        async with asyncio.timeout(WAIT_S):
            while not rig.resource.calls:
                await asyncio.sleep(0.001)
        assert site.may_move == ""
        site.stop("u1")
        status = await rig.ends("u1", "ENDED")
        assert "opc.tcp://a:1 may still move" in status.reason
        assert "Cut of o_1 was called" in site.may_move
        site.told("u1")
        rig.store.told("u1", 2, 1)
        rig.life.left = 0
        await rig.dies()
        site = rig.process()  # another process knows it, too
        assert "may still move" in site.may_move
        await site.resource.connect()
        rig.resource.finish("Cut", event("u1"))
        assert site.may_move == ""
        assert rig.process().may_move == ""

    asyncio.run(run())


def candidate(name: str, load: int = 0, *, connected: bool = True, services: Sequence[str] = ("Cut",)) -> Candidate:
    return Candidate(name, f"opc.tcp://{name}:1", connected, tuple(services), load)


def test_the_shortest_line_of_those_that_offer_it() -> None:
    def pick(*ones: Candidate, **more: Any) -> str:
        return chosen("Cut", ones, **more)[0].name

    a, b, other = candidate("a", 2), candidate("b", 1), candidate("c", services=("Glue",))
    assert pick(a, b, other) == "b"
    assert pick(a, b, other, avoid=("b",)) == "a"
    assert pick(b, other, avoid=("b",)) == "b"
    assert pick(a, b, exclude=("b",)) == "a"
    assert pick(a, candidate("b", connected=False)) == "a"


@pytest.mark.parametrize(
    ("ones", "failure", "words"),
    [
        ((candidate("a", connected=False),), Failure.UNREACHABLE, "a cannot be reached"),
        ((candidate("a", connected=False, services=()),), Failure.UNREACHABLE, "is not known yet"),
        ((candidate("a", services=("Glue",)),), Failure.REJECTED, r"offers Cut \(Glue\)"),
    ],
)
def test_no_resource(ones: tuple[Candidate, ...], failure: Failure, words: str) -> None:
    with pytest.raises(ServiceFault, match=words) as caught:
        chosen("Cut", ones)
    assert caught.value.failure is failure


def test_what_stands_still_is_seen() -> None:
    watchman = Watchman(10.0)
    mine, theirs = Element("tagwerk:p:o:1", "u1", 1), Element("other", "u2", 1)
    s_ns = 1_000_000_000

    def look(seen: Seen, at_s: int) -> str:
        return watchman.look(seen, frozenset({"u1"}), at_s * s_ns)

    assert look(Seen((theirs,), EXECUTING), 0) == ""
    assert look(Seen((theirs,), EXECUTING), 9) == ""
    assert "other has led it" in look(Seen((theirs,), EXECUTING), 11)
    assert look(Seen((mine,), EXECUTING), 12) == ""
    assert look(Seen((mine,), EXECUTING), 100) == ""  # our own service takes its time
    assert look(Seen((), EXECUTING), 101) == ""
    assert "nobody stands in the queue" in look(Seen((), EXECUTING), 112)
    assert look(Seen((), IDLE), 113) == ""


def test_a_job_is_known_by_plant_order_and_number(tmp_path: Path) -> None:
    async def run() -> Job:
        rig = Rig(tmp_path)
        site = rig.process()
        site.take(request(7), rig.store.take(request(7)))
        await rig.ends("u7", "ENDED")
        assert rig.told[-1].outputs == {"part": {"n": 8}}
        assert rig.told[0].phase == "CALLED"
        site.told("u7")
        assert site.status("u7") is None
        return Job("Cut", "u7", "t", "tagwerk:plant:o_1:7", (), ())

    assert asyncio.run(run()).client == "tagwerk:plant:o_1:7"
