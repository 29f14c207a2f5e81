"""The engine's own server as a stock asyncua client sees it while an order runs. The resources have no network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from observer_rig import GONE, IN_TURN, Observer, shown
from workshop_rig import WAIT_S, free_ports

from tagwerk.actors.orders.engine import Engine
from tagwerk.actors.orders.logic.engine_keys import read_keys
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.pfdl.talk import OrderEnded, OrderState
from tagwerk.actors.orders.logic.services import EVENT_STATUS, Argument, Service
from tagwerk.actors.orders.simulated import SimulatedResource, SimulatedService
from tagwerk.protocols.errors import DeviceGone

pytestmark = pytest.mark.slow

LOT = {
    "parts": [{"n": 1.0, "name": "a"}, {"n": 2.0, "name": "b"}],
    "main": {"n": 3.0, "name": "c"},
    "rgb": [1.0, 2.5, 3.0],
    "words": ["x", "y"],
    "flags": [True, False],
    "empty": [],
    "done": False,
}
TEXT = f"""# dialect: tagwerk 1
Struct Lot
    parts: Part[]
    main: Part
    rgb: number[3]
    words: string[]
    flags: boolean[]
    empty: Part[]
    done: boolean
End
Struct ResourceAssignment
    job_resource: string
End
Struct Part
    n: number
    name: string
End
Task productionTask
    Parallel
        left
            In
                Lot {json.dumps(LOT)}
            Out
                lot: Lot
        right
            In
                Lot {json.dumps(LOT)}
            Out
                other: Lot
End
"""
TASK = """Task {name}
    In
        lot: Lot
    Cut
        In
            ResourceAssignment {{"job_resource": "opc.tcp://{name}:1"}}
            lot
        Out
            lot: Lot
            count: number
    Cut
        In
            ResourceAssignment {{"job_resource": "opc.tcp://{name}:1"}}
            lot
        Out
            lot: Lot
            count: number
    Out
        lot
End
"""
ARGUMENT = Argument("lot", "Lot", False, "lot")
COUNT = Argument("count", "number", False, "Double")


class Floor:
    """Two resources that cut when they are told to."""

    def __init__(self) -> None:
        cut = SimulatedService(Service("Cut", (ARGUMENT,), (ARGUMENT, COUNT), True), lambda _: {}, tells=False)
        self.of = {f"opc.tcp://{name}:1": SimulatedResource([cut]) for name in ("left", "right")}

    def endpoint(self, url: str) -> Any:
        if url not in self.of:
            raise DeviceGone(url)
        return self.of[url].endpoint(url)

    async def cut(self, name: str, number: int) -> None:
        """Let the so-manieth cut at a resource end: each adds a part."""
        resource = self.of[f"opc.tcp://{name}:1"]
        await until(lambda: len(resource.calls) == number)
        (lot,) = resource.calls[-1][1]
        parts = [*lot["parts"], {"n": 10 + number, "name": f"cut {number}"}]
        resource.finish("Cut", {EVENT_STATUS: 0, "lot": {**lot, "parts": parts}, "count": float(number)})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


def both_run(tree: dict[str, Any]) -> bool:
    root = tree.get("productionTask", {})
    return all(root.get(task, {}).get("StateVariable") == IN_TURN[0] for task in ("left", "right"))


async def check_types(observer: Observer) -> None:
    """The structs of the order are types of the server, in whatever order they were defined."""
    structures = observer.client.nodes.base_structure_type
    names = {one.BrowseName.Name: one for one in await structures.get_children_descriptions()}
    definition = await observer.client.get_node(names["Lot"].NodeId).read_data_type_definition()
    assert isinstance(definition, ua.StructureDefinition)
    part, text, number, truth = names["Part"].NodeId, *(ua.NodeId(ua.Int32(of)) for of in (12, 11, 1))
    assert [(one.Name, one.DataType, one.ValueRank) for one in definition.Fields] == [
        ("parts", part, 1), ("main", part, -1), ("rgb", number, 1), ("words", text, 1), ("flags", truth, 1),
        ("empty", part, 1), ("done", truth, -1),
    ]  # fmt: skip
    assert names["Lot"].BrowseName.NamespaceIndex == 2


async def observed(see: Callable[[Floor, Observer], Coroutine[Any, Any, None]]) -> OrderEnded:
    """Run the order; see it while it runs."""
    url, floor = f"opc.tcp://127.0.0.1:{free_ports(1)}", Floor()
    text = TEXT + "".join(TASK.format(name=name) for name in ("left", "right"))
    engine = Engine(read(text), url, text, read_keys(()), lambda _: None, floor.endpoint)
    running = asyncio.create_task(engine.run())
    await until(lambda: all(one.calls for one in floor.of.values()))
    async with Client(url, timeout=WAIT_S, watchdog_intervall=WAIT_S) as client:
        observer = Observer(client)
        await observer.start()
        reading = asyncio.create_task(observer.keep_reading())
        seeing = asyncio.create_task(see(floor, observer))
        await asyncio.wait({reading, seeing, running}, return_when=asyncio.FIRST_COMPLETED)
        for one in (reading, running):
            assert not one.done(), one.exception()
        reading.cancel()
        await seeing
    await floor.cut("right", 2)  # the server ends with the order: nobody looks at it any more
    return await running


def test_a_stock_client_sees_tasks_states_and_values() -> None:
    async def see(floor: Floor, observer: Observer) -> None:
        await check_types(observer)
        tree = await shown(observer, both_run)
        assert list(tree) == ["productionTask"]
        root = tree["productionTask"]
        assert (root["StateVariable"], root["CurrentExecution"]) == ("Initial", "None")
        for task in ("left", "right"):
            assert root[task]["lot"] == LOT
            await observer.follow(task)
        await floor.cut("right", 1)
        tree = await shown(observer, lambda tree: "count" in tree["productionTask"]["right"])
        right = tree["productionTask"]["right"]
        assert (right["count"], right["lot"]["parts"][-1]) == (1.0, {"n": 11.0, "name": "cut 1"})
        assert tree["productionTask"]["left"]["lot"] == LOT  # a variable belongs to its task
        for number in (1, 2):
            await floor.cut("left", number)
        tree = await shown(observer, lambda tree: "left" not in tree["productionTask"])
        assert len(tree["productionTask"]["lot"]["parts"]) == 4  # what it gives is the caller's now
        await until(lambda: observer.states.get("left", [])[-1:] == [GONE])
        assert observer.states["left"] == [*IN_TURN, *IN_TURN, GONE]
        assert observer.states["right"] == [*IN_TURN, "ExecutionInProgess"]

    end = asyncio.run(observed(see))
    assert end.state is OrderState.FINISHED, end.reason
