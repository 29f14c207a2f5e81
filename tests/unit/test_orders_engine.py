"""A whole order over simulated resources: no socket, no server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tagwerk.actors.orders import engine as engine_module
from tagwerk.actors.orders.call import Patience
from tagwerk.actors.orders.dashboard import Dashboard, Poster
from tagwerk.actors.orders.engine import Engine, Progress, Told, failed
from tagwerk.actors.orders.logic.calls import Phase
from tagwerk.actors.orders.logic.engine_keys import read_keys
from tagwerk.actors.orders.logic.pfdl import Interpreter, read
from tagwerk.actors.orders.logic.pfdl.talk import OrderEnded, OrderState, ServiceFinished, ServiceStarted
from tagwerk.actors.orders.logic.services import Argument, Service
from tagwerk.actors.orders.simulated import SimulatedResource, SimulatedService

QUICK = Patience(connect_s=0.0, again_s=0.0, poll_s=0.001, appear_s=0.1, idle_s=0.1, gap_s=0.02, linger_s=0.0)
PART_1 = 'Part {"n": 1}'
PART = Argument("part", "Part", False, "part")
HEAD = """# dialect: tagwerk 1
Struct Part
    n: number
End
Struct ResourceAssignment
    job_resource: string
End
"""
CUT = """    Cut{more}
        In
            ResourceAssignment {{"job_resource": "opc.tcp://a:1"}}
            {part}
        Out
            part: Part
"""


def cut(part: str = "part", more: str = "") -> str:
    return CUT.format(part=part, more=f"\n        {more}" if more else "")


def program(*calls: str) -> str:
    return f"{HEAD}Task productionTask\n{''.join(calls)}End\n"


def one_more(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"part": {"n": part["n"] + 1}}


def world(**more: Any) -> SimulatedResource:
    return SimulatedResource([SimulatedService(Service("Cut", (PART,), (PART,), True), one_more, **more)])


def run(resource: SimulatedResource, *calls: str, keys: tuple[str, ...] = ()) -> tuple[OrderEnded, list[Told]]:
    text = program(*calls)
    told: list[Told] = []
    engine = Engine(read(text), "", text, read_keys(keys), told.append, resource.endpoint, QUICK)
    return asyncio.run(engine.run()), told


def test_what_a_service_gives_the_next_one_takes() -> None:
    resource = world()
    end, told = run(resource, cut(PART_1), cut())
    assert not failed(end)
    assert [values for _, values in resource.calls] == [({"n": 1},), ({"n": 2},)]
    last = [one for one in told if isinstance(one, ServiceFinished)][-1]
    assert last.outputs[0].value == {"n": 3}
    urls = {one.url for one in told if isinstance(one, Progress)}
    assert urls == {"opc.tcp://a:1"}
    assert (resource.queue, resource.sessions) == ([], [])


def test_a_service_that_takes_too_long_is_tried_again() -> None:
    resource = world(tells=False)
    end, told = run(resource, cut(PART_1, "Timeout 0.02\n        Retry 1"))
    assert (end.state, end.reason) == (OrderState.FAILED, "Cut: not finished within 0.02 s")
    assert [one.attempt for one in told if isinstance(one, ServiceStarted)] == [1, 2]
    assert resource.queue == []


def test_an_unknown_outcome_ends_the_order_without_another_try() -> None:
    resource = world(tells=False)
    told: list[Told] = []
    text = program(cut(PART_1, "Retry 5"))

    def tell(one: Told) -> None:
        told.append(one)
        if isinstance(one, Progress) and one.phase is Phase.ACCEPTED:
            resource.queue.clear()
            resource.cut()

    end = asyncio.run(Engine(read(text), "", text, read_keys(()), tell, resource.endpoint, QUICK).run())
    assert end.state is OrderState.CANCELLED
    assert len(resource.calls) == 1


def test_branches_run_side_by_side_in_the_queue_of_one_resource() -> None:
    resource = world()
    branch = "Task branch\n    In\n        part: Part\n" + cut() + "End\n"
    text = (
        HEAD
        + "Task productionTask\n    Parallel\n"
        + 3 * '        branch\n            In\n                Part {"n": 1}\n'
    )
    engine = Engine(read(f"{text}End\n{branch}"), "", text, read_keys(()), lambda _: None, resource.endpoint, QUICK)
    assert not failed(asyncio.run(engine.run()))
    assert len(resource.calls) == 3


def test_a_dashboard_that_is_not_there_does_no_harm() -> None:
    end, _ = run(world(), cut(PART_1), keys=("dashboard_host_address=http://127.0.0.1:1",))
    assert not failed(end)


def test_a_view_that_cannot_be_shown_is_dropped_and_the_order_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    acts: list[str] = []

    class Broken:
        def __init__(self, *_: object) -> None:
            return

        async def start(self) -> None:
            acts.append("start")

        async def take(self, command: object) -> None:
            acts.append("take")
            if len(acts) == 3:
                raise LookupError(f"no node for {type(command).__name__}")

        async def stop(self) -> None:
            acts.append("stop")
            raise RuntimeError("stopped twice")

    monkeypatch.setattr(engine_module, "View", Broken)
    resource, text = world(), program(cut(PART_1), cut())
    engine = Engine(read(text), "opc.tcp://v:1", text, read_keys(()), lambda _: None, resource.endpoint, QUICK)
    end = asyncio.run(engine.run())
    assert not failed(end)
    assert len(resource.calls) == 2
    assert acts == ["start", "take", "take", "stop"]
    first, second = (one.getMessage() for one in caplog.records)
    assert "LookupError('no node for ServiceStarted')" in first
    assert "stopped twice" in second


def test_what_a_dashboard_is_told() -> None:
    text = program(cut(PART_1))
    sound = read(text)
    _, commands = Interpreter(sound).start("o")

    async def told() -> list[tuple[str, dict[str, Any]]]:
        posted: list[tuple[str, dict[str, Any]]] = []
        poster = Poster("http://127.0.0.1:1/", lambda url, body: posted.append((url, json.loads(body))))
        dashboard = Dashboard(poster, "o", text, sound)
        for command in (*commands, OrderEnded(OrderState.FAILED, "no")):
            dashboard.take(command)
        await poster.close()
        return posted

    posted = asyncio.run(told())
    orders = [body for url, body in posted if url == "http://127.0.0.1:1/pfdl_order"]
    assert [one["status"] for one in orders] == [2, 4]
    assert orders[0]["pfdl_string"] == text
    assert orders[0]["starting_date"] <= orders[1]["last_update"]
    graphs = [body["content"] for url, body in posted if url.endswith("/petri_net")]
    assert graphs[0].startswith("digraph")
    assert '"name": "Cut"' in graphs[-1].partition("\ncall_tree:")[2]
    logs = [body for url, body in posted if url.endswith("/log_event")]
    assert [one["log_level"] for one in logs] == [20, 20, 40]
    assert logs[0]["log_message"].startswith("Task productionTask with UUID '")


def test_so_many_named_resources_are_connected_to_at_the_start() -> None:
    text = program(cut(PART_1), cut().replace("//a:1", "//b:2"))
    for count, named in ((0, []), (1, ["opc.tcp://a:1"]), (5, ["opc.tcp://a:1", "opc.tcp://b:2"])):
        keys = read_keys((f"number_default_clients={count}",))
        assert Engine(read(text), "", text, keys, lambda _: None, world().endpoint, QUICK)._named_resources() == named
