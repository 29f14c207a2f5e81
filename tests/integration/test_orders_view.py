"""Several orders in one address space, without a network: what is shown live is what a picture shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.node import Node
from asyncua.common.utils import ServiceError
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from tagwerk.actors.orders import view_session, view_tree, view_types
from tagwerk.actors.orders.logic.order import Order
from tagwerk.actors.orders.logic.pfdl import Program, read
from tagwerk.actors.orders.logic.pfdl.talk import Parameter, ServiceStarted, TaskStarted, pack_command
from tagwerk.actors.orders.logic.records import Assigned, Begun, Controlled, Fell, Gave, Record
from tagwerk.actors.orders.observer_orders import ObservedOrders
from tagwerk.actors.orders.view_server import Door, ViewServer
from tagwerk.actors.orders.view_session import ViewSession
from tagwerk.actors.orders.view_tree import OrderTree
from tagwerk.protocols.order_feed import OrderPicture, OrderStep, TaskPicture
from tagwerk.protocols.orders import Given, OrderRow

pytestmark = pytest.mark.slow
STRUCTS = """# dialect: tagwerk 1
Struct Lot
    parts: Part[]
End
Struct Part
    n: number
End
"""
TEXT = f"""{STRUCTS}Task productionTask
    In
        lot: Lot
    Cut
        In
            lot
        Out
            lot: Lot
    Parallel
        branch
            In
                lot
            Out
                left: Lot
        branch
            In
                lot
            Out
                right: Lot
    Cut
        In
            lot
        Out
            lot: Lot
End
Task branch
    In
        lot: Lot
    Cut
        Retry 1
        In
            lot
        Out
            lot: Lot
    Out
        lot
End
"""
ROW = OrderRow("o_1", "stand", "RUNNING", 0, "bob", 0, 0, "", 0, 0, 0, 0)


@pytest.fixture(scope="module")
def run() -> Any:
    """Run a coroutine with the one server of this module, which takes seconds to be made."""
    with asyncio.Runner() as runner:
        space = ViewServer("opc.tcp://127.0.0.1:1", Door(writable=False))
        runner.run(space.build())
        yield lambda work: runner.run(work(space))


Run = Callable[[Callable[[ViewServer], Coroutine[Any, Any, None]]], None]


async def seen(node: Node) -> dict[str, Any]:
    """What is below a node, by browse names; structs stay as they are on the wire."""
    found: dict[str, Any] = {}
    for one in await node.get_children():
        name = (await one.read_browse_name()).Name
        is_object = await one.read_node_class() == ua.NodeClass.Object
        found[name] = await seen(one) if is_object else await one.read_value()
    return found


async def tree_of(space: ViewServer, program: Program, order_id: str) -> OrderTree:
    types = await space.types.take(program.fields)
    assert types is not None
    return OrderTree(space, types, order_id)


async def in_new_one(space: ViewServer, program: Program, order: Order) -> dict[str, Any]:
    """What a process shows that has just been started."""
    tree = await tree_of(space, program, "other")
    await tree.restore(order.tasks())
    (node,) = (one for one in await space.root.get_children() if one.nodeid.NodeIdType == ua.NodeIdType.String)
    found = await seen(node)
    await tree.remove()
    return found


def test_what_is_shown_live_is_what_a_picture_shows(run: Run) -> None:
    async def see(space: ViewServer) -> None:
        program = read(TEXT)
        order = Order("o", program)
        tree = await tree_of(space, program, "o")

        async def happens(record: Record) -> None:
            for command in order.apply(record, 1).commands:
                await tree.take(command)
            (node,) = await space.root.get_children()
            live = await seen(node)
            assert live == await in_new_one(space, program, order)
            await tree.restore(order.tasks())
            assert await seen(node) == live

        await happens(Begun({"lot": {"parts": [{"n": 1}]}}, "bob"))
        for number in range(4):
            one = next(iter(order.life.services.values()))
            await happens(Assigned(one.uuid, "resource/saw", "opc.tcp://saw:1", "", False))
            if number == 2:
                await happens(Fell(one.uuid, "rejected", "no"))
            else:
                await happens(Gave(one.uuid, {"lot": {"parts": [{"n": number}] * number}}))
        assert len(order.life.services) == 1
        await happens(Controlled("cancel", "bob"))
        await tree.remove()
        assert await space.root.get_children() == []
        assert (space.tasks, space.bytes) == (0, 0)

    run(see)


def test_a_definition_is_one_type_and_another_of_its_name_is_another(run: Run) -> None:
    async def names(space: ViewServer) -> set[str]:
        children = await space.server.nodes.base_structure_type.get_children()
        return {(await one.read_browse_name()).Name for one in children if one.nodeid.NamespaceIndex == 2}

    async def see(space: ViewServer) -> None:
        body = "Task productionTask\n    In\n        lot: Lot\n    Cut\nEnd\n"
        same = read(STRUCTS + body)
        other = read(STRUCTS.replace("n: number", "n: string") + body)
        first, second, third = [await space.types.take(one.fields) for one in (same, same, other)]
        assert first is not None
        assert second is not None
        assert third is not None
        assert await names(space) == {"Lot", "Part", "Lot_2", "Part_2"}
        lot = next(iter(same.tasks.values())).inputs[0].type
        assert first.data_type(lot) == second.data_type(lot) != third.data_type(lot)
        await space.types.release(first)
        assert len(await names(space)) == 4
        await space.types.release(second)
        assert await names(space) == {"Lot_2", "Part_2"}
        again = await space.types.take(same.fields)
        assert again is not None
        assert again.data_type(lot) == first.data_type(lot)  # a client that kept what it had learned is not misled
        for one in (third, again):
            await space.types.release(one)
        assert await names(space) == set()

    run(see)


def test_what_nobody_has_checked_is_shown_as_text(run: Run) -> None:
    async def see(space: ViewServer) -> None:
        tree = await tree_of(space, read("Task productionTask\n    Cut\nEnd\n"), "o")
        values = [Parameter("n", "number", "x"), Parameter("lot", "Lot", {"n": 1}), Parameter("m", "number", 1)]
        await tree.take(TaskStarted("no uuid", "main", "no uuid", tuple(values)))
        (node,) = await space.root.get_children()
        assert node.nodeid.Identifier == "o/no uuid"
        found = await seen(node)
        assert [found[name] for name in ("n", "lot", "m")] == ['"x"', '{"n": 1}', 1.0]
        for value in (2, 3):
            await tree.take(TaskStarted("no uuid", "main", "no uuid", (Parameter("n", "number", value),)))
        assert (await seen(node))["n"] == 3.0
        await tree.remove()

    run(see)


def test_what_is_too_much_is_not_shown_and_nothing_is_left(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(view_tree, "TASKS_LIMIT", 2)
    monkeypatch.setattr(view_tree, "VARIABLES_LIMIT", 1)
    monkeypatch.setattr(view_tree, "BYTES_LIMIT", 250)
    monkeypatch.setattr(view_types, "TYPES_LIMIT", 1)

    async def see(space: ViewServer) -> None:
        assert await space.types.take(read(TEXT).fields) is None
        tree = await tree_of(space, read("Task productionTask\n    Cut\nEnd\n"), "o")
        for uuid, context in (("a", "a"), ("b", "a"), ("c", "a"), ("d", "c")):
            await tree.take(TaskStarted(uuid, "main", context, (Parameter("x", "string", "x" * 60),)))
            await tree.take(ServiceStarted("s", "Cut", uuid, (), ()))
        found = await seen(space.root)
        assert set(found["a"]) >= {"b", "x"}
        assert "c" not in found["a"]
        assert "x" not in found["a"]["b"]
        await tree.remove()
        assert await space.root.get_children() == []

    with caplog.at_level(logging.WARNING):
        run(see)
    assert len([one for one in caplog.messages if one.startswith("not all of order o is shown")]) == 1


def test_an_order_that_cannot_be_shown_hides_no_other(run: Run) -> None:
    async def see(space: ViewServer) -> None:
        orders = ObservedOrders(space, None, 1)
        task = TaskPicture("t", "main", "t", False, False, (Given("n", "number", 1),))
        await orders.picture(OrderPicture("e", 1, ROW, None, (task,), False))
        wrong = OrderStep(2, "o_2", "RUNNING", b"nonsense")
        assert orders.wants(wrong)
        row = OrderRow("o_2", *(getattr(ROW, key) for key in ROW.__struct_fields__[1:]))
        other = TaskPicture("u", "main", "u", False, False, ())
        await orders.picture(OrderPicture("e", 1, row, None, (other,), False))
        await orders.step(wrong)
        assert not orders.wants(wrong)
        assert {one["OrderId"] for one in (await seen(space.root)).values()} == {"o_1"}
        started = pack_command(ServiceStarted("s", "Cut", "t", (), ()))
        await orders.step(OrderStep(1, "o_1", "RUNNING", started))  # its picture shows it already
        assert (await seen(space.root))["t"]["StateVariable"] == "Initial"
        await orders.step(OrderStep(3, "o_1", "PAUSED", started))
        root = (await seen(space.root))["t"]
        assert (root["StateVariable"], root["OrderState"]) == ("ExecutionInProgess", "PAUSED")
        await orders.keep(())
        assert await seen(space.root) == {}

    run(see)


async def refusal(asked: Coroutine[Any, Any, Any]) -> int:
    """The status of a request that is refused."""
    with pytest.raises(ServiceError) as refused:
        await asked
    return int(refused.value.code)


def test_a_request_that_asks_for_too_much_is_refused_and_others_have_their_turn_beside_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(space: ViewServer) -> None:
        inner = space.server.iserver
        session = ViewSession(inner, inner.aspace, inner.subscription_service, "greedy")
        node = space.server.nodes.objects
        browse = ua.BrowseParameters(NodesToBrowse=[ua.BrowseDescription(NodeId=node.nodeid)] * 200)
        read = ua.ReadParameters(NodesToRead=[ua.ReadValueId(node.nodeid, AttributeIds.DisplayName)] * 200)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        assert len(await session.browse(browse)) == len(await session.read(read)) == 200
        beside.cancel()
        assert turns > 200
        monkeypatch.setattr(view_session, "ANSWER_BYTES", 1_000)
        monkeypatch.setattr(view_session, "REFERENCES_LIMIT", 20)
        assert await refusal(session.read(read)) == StatusCodes.BadResponseTooLarge
        assert await refusal(session.browse(browse)) == StatusCodes.BadResponseTooLarge
        monkeypatch.setattr(view_session, "OPERATIONS_LIMIT", 199)
        assert await refusal(session.read(read)) == StatusCodes.BadTooManyOperations
        assert await refusal(session.browse(browse)) == StatusCodes.BadTooManyOperations
        monkeypatch.setattr(view_session, "ITEMS_LIMIT", 1)
        items = ua.CreateMonitoredItemsParameters(ItemsToCreate=[ua.MonitoredItemCreateRequest()] * 2)
        assert await refusal(session.create_monitored_items(items)) == StatusCodes.BadTooManyMonitoredItems
        await session.close_session()

    run(ask)
