"""Orders of a plant as others see them: a stock OPC UA client, a dashboard. Their actor is killed while orders run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import BadSecurityPolicyRejected, BadUserAccessDenied, UaError
from brewery import Brewery, free_port, wait_for
from observer_rig import IN_TURN, Board, Observer
from workshop_rig import ORDER, START_S, STRUCTS, WAIT_S, Workshop, a_order, call

from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.protocols.orders import CREW, GetOrder, OrderDetail, OrderStarted, StartOrder
from tagwerk.runtime.ua_certificate import own_certificate

pytestmark = pytest.mark.slow
LIMIT_S = 40.0
SURFACES = """# dialect: tagwerk 1
Struct SWAP_Order
    surfaces: Surface[]
    words: string[]
End
Struct Surface
    depth: number[2]
End
Task productionTask
    In
        roughness: number
        order: SWAP_Order
    Polish
        In
            roughness
        Out
            roughness: number
End
"""


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    quiet_asyncua()
    workshop = Workshop()
    try:
        yield workshop
    finally:
        workshop.end()


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    board = Board()
    try:
        yield board
    finally:
        board.end()


class Shop:
    """A plant whose orders are looked at."""

    def __init__(self, running: Brewery, url: str, folder: Path) -> None:
        self.running = running
        self.url = url
        self._folder = folder

    def start(self, text: str, **inputs: Any) -> str:
        with self.running.attach() as plant:
            found = plant.ask(CREW, StartOrder("stand", text, inputs, 0, "bob"))
        assert isinstance(found, OrderStarted)
        return found.id

    def state(self, order_id: str) -> str:
        with self.running.attach() as plant:
            return plant.query(CREW, GetOrder(order_id), OrderDetail).row.state

    async def client(self, password: str = "look") -> Client:
        """A client that signs and encrypts."""
        client = Client(self.url, timeout=WAIT_S, watchdog_intervall=WAIT_S)
        client.set_user("watcher")
        client.set_password(password)
        own_certificate(self._folder)
        client.application_uri = "urn:test"
        await client.set_security(
            SecurityPolicyBasic256Sha256, str(self._folder / "own.der"), str(self._folder / "own.pem")
        )
        return client

    @asynccontextmanager
    async def observer(self, password: str = "look") -> AsyncGenerator[Observer]:
        """One that has learned the types."""
        async with await self.client(password) as client:
            observer = Observer(client)
            await observer.start()
            yield observer


@pytest.fixture(scope="module")
def shop(workshop: Workshop, board: Board, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    path, url = folder / "plant.toml", f"opc.tcp://127.0.0.1:{free_port()}"
    (folder / "observer.password").touch(0o600)
    (folder / "observer.password").write_text("look")
    path.write_text(
        f'[order]\ndashboard = "{board.url}"\n'
        f'[order.observer]\nurl = "{url}"\nuser = "watcher"\npassword_file = "observer.password"\nended = 1\n'
        f'[resource.milling]\nurl = "{workshop.url("milling")}"\n'
        f'[resource.mounting]\nurl = "{workshop.url("mounting")}"\n'
        '[node.main]\nrestarts = 100\n'
    )  # fmt: skip
    running = Brewery.bring_up(folder, path)
    try:
        workshop.lines("ready", START_S)
        yield Shop(running, url, folder)
    finally:
        running.stop()


async def orders(observer: Observer, is_so: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
    async with asyncio.timeout(LIMIT_S):
        while not is_so(found := await observer.orders()):
            await asyncio.sleep(0.01)
    return found


def floats(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_int=float)


def test_orders_are_seen_while_they_run_and_after_their_observer_was_killed(
    shop: Shop, workshop: Workshop, board: Board
) -> None:
    mount = call("Mounting", a_order()) + call("Mounting", "order")
    lamp = f"{STRUCTS}Task productionTask\n    sub\n        In\n            {a_order()}\nEnd\n"
    lamp += f"Task sub\n    In\n        order: SWAP_Order\n{mount.replace(a_order(), 'order', 1)}End\n"
    with workshop.held("mounting"), workshop.held("milling"):
        first = shop.start(lamp)
        workshop.called("Mounting")
        second = shop.start(SURFACES, order={"surfaces": [{"depth": [1, 2]}], "words": ["a", "b"]}, roughness=2)
        workshop.called("Polish")

        both = first, second
        asyncio.run(see(shop, workshop, both))
    assert shop.state(first) == shop.state(second) == "FINISHED"
    wait_for("the ends on the dashboard", lambda: all(statuses(board, one)[-1:] == [4] for one in both))
    assert set(statuses(board, first)) == {2, 4}


async def see(shop: Shop, workshop: Workshop, both: tuple[str, str]) -> None:
    first, second = both
    async with seen_again(shop) as observer:
        check(await orders(observer, lambda found: all_at_work(found, both)), both)
        before = await asyncio.to_thread(shop.running.kill, "observer/0")
    await asyncio.to_thread(wait_for, "observer/0 again", lambda: shop.running.reborn("observer/0", before))
    async with seen_again(shop) as observer:
        check(await observer.orders(), both)  # whoever is let in sees all that there is
        await observer.follow("sub")
        workshop.release("mounting")
        await orders(observer, lambda found: found.get(first, {}).get("OrderState") == "FINISHED")
        assert observer.states["sub"][:6] == [*IN_TURN, *IN_TURN]
        workshop.release("milling")
        found = await orders(observer, lambda found: set(found) == {second})  # of those that have ended one is kept
        assert (found[second]["OrderState"], found[second]["roughness"]) == ("FINISHED", 1.0)


def all_at_work(found: dict[str, dict[str, Any]], both: tuple[str, str]) -> bool:
    first, second = (found.get(one, {}) for one in both)
    return all(one.get("StateVariable") == IN_TURN[0] for one in (first.get("sub", {}), second))


def check(found: dict[str, dict[str, Any]], both: tuple[str, str]) -> None:
    """Two orders at work, whose structs of the same name are two types."""
    assert set(found) == set(both)
    first, second = (found[one] for one in both)
    assert [(one["OrderState"], one["OrderName"], one["TaskName"]) for one in (first, second)] == 2 * [
        ("RUNNING", "stand", "productionTask")
    ]
    assert (first["StateVariable"], first["sub"]["StateVariable"]) == ("Initial", IN_TURN[0])
    assert first["sub"]["order"] == floats(ORDER)
    assert (second["roughness"], second["order"]) == (2.0, {"surfaces": [{"depth": [1.0, 2.0]}], "words": ["a", "b"]})


def statuses(board: Board, order_id: str) -> list[int]:
    return [one["status"] for one in board.of("/pfdl_order", order_id)]


@asynccontextmanager
async def seen_again(shop: Shop) -> AsyncGenerator[Observer]:
    """An observer as soon as there is somebody to look at."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    observer = await stack.enter_async_context(shop.observer())
                    break
                except (OSError, UaError):
                    await asyncio.sleep(0.05)
        yield observer


def test_nobody_looks_who_is_not_let_in(shop: Shop) -> None:
    order_id = shop.start(SURFACES, order={"surfaces": [], "words": []}, roughness=1)

    async def refused() -> None:
        async with seen_again(shop) as observer:
            await orders(observer, lambda found: order_id in found)
            node = (await observer.root.get_children())[0]
            state = await node.get_child("2:StateVariable")
            with pytest.raises(BadUserAccessDenied):  # it is a view: nobody writes it
                await state.write_value("Initial")
            thief = await shop.client("a guess")
            await thief.connect_socket()
            await thief.send_hello()
            await thief.open_secure_channel()
            session = thief.uaclient.session
            session.restore_authentication_token(observer.client.uaclient.session.authentication_token)
            thief._server_nonce = b""  # type: ignore[assignment]
            with pytest.raises(UaError):
                await thief.activate_session("watcher", "a guess")
            with pytest.raises(BadUserAccessDenied):
                await thief.get_node(state.nodeid).read_value()
            thief.disconnect_socket()
        with pytest.raises(UaError):
            async with shop.observer("a guess"):
                pass
        anonymous, readable = Client(shop.url), Client(shop.url)
        readable.set_user("watcher")
        readable.set_password("look")
        for client in (anonymous, readable):  # on a channel without security, which is for asking what there is
            await client.connect_socket()
            await client.send_hello()
            await client.open_secure_channel()
            assert {one.SecurityMode.name for one in await client.get_endpoints()} == {"SignAndEncrypt"}
            with pytest.raises(BadSecurityPolicyRejected):
                await client.uaclient.create_session(ua.CreateSessionParameters())
            client.disconnect_socket()

    asyncio.run(refused())


def test_a_dashboard_is_told_of_orders_and_one_that_is_down_changes_nothing(shop: Shop, board: Board) -> None:
    order_id = shop.start(SURFACES, order={"surfaces": [], "words": []}, roughness=1)
    wait_for("the end on the dashboard", lambda: statuses(board, order_id) == [2, 4], LIMIT_S)
    texts = [one["log_message"] for one in board.of("/log_event", order_id)]
    assert [text.partition(" with ")[0] for text in texts] == [
        "Task productionTask", "Service Polish", "Service Polish", "Task productionTask", "Order finished.",
    ]  # fmt: skip
    assert board.of("/pfdl_order", order_id)[0]["pfdl_string"] == SURFACES
    graph, _, tree = board.of("/petri_net", order_id)[-1]["content"].partition("\ncall_tree:")
    assert graph.startswith("digraph")
    assert json.loads(tree)["children"][0]["name"] == "Polish"
    board.end()
    order_id = shop.start(SURFACES, order={"surfaces": [], "words": []}, roughness=1)
    wait_for("the order to end", lambda: shop.state(order_id) == "FINISHED", LIMIT_S)

    async def seen() -> None:
        async with seen_again(shop) as observer:
            found = await orders(observer, lambda found: set(found) == {order_id})
            assert found[order_id]["OrderState"] == "FINISHED"

    asyncio.run(seen())
