"""Orders in a plant: real actors, real resource servers, killed while orders run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from brewery import Brewery, free_port, wait_for
from workshop_rig import ORDER, ROOT, START_S, STRUCTS, Workshop, a_order, call, task

from tagwerk.actors.orders import session
from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.actors.orders.ua_endpoint import UaEndpoint
from tagwerk.protocols.errors import DeviceGone, Refused
from tagwerk.protocols.message import Done
from tagwerk.protocols.orders import (
    CREW,
    Asked,
    DispatchService,
    DispatchTask,
    GetOrder,
    GetTokens,
    Given,
    OpenOrder,
    OrderDetail,
    OrderStarted,
    Provided,
    ProvideParameter,
    Tokens,
)
from tagwerk.runtime.attach import Plant
from tagwerk.runtime.cli.app import run as cli
from tagwerk.runtime.ua_security import Security

pytestmark = pytest.mark.slow
KILLS = ("order/0", "resource/milling", "assigner/0", "resource/old", "order/0", "resource/milling")
LIMIT_S = 40.0
QUICK = "linger_s = 0.5\ngap_s = 0.5\nstuck_after_s = 1.0\n"


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    quiet_asyncua()
    workshop = Workshop()
    try:
        yield workshop  # it becomes ready while the plant comes up
    finally:
        workshop.end()


@pytest.fixture(scope="module")
def saw() -> Iterator[str]:
    """The smallest resource, as a script."""
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, str(ROOT / "examples/workshop/saw.py"), url], stdout=subprocess.DEVNULL)
    yield url
    process.kill()
    process.wait(LIMIT_S)


@contextmanager
def secured_saw(folder: Path) -> Generator[str]:
    """A saw behind a lock, with a certificate of its own."""
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, str(Path(__file__).with_name("secured_saw.py")), url, str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield url
    finally:
        process.kill()
        process.wait(LIMIT_S)


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with secured_saw(tmp_path_factory.mktemp("safe")) as url:
        yield url


@pytest.fixture(scope="module")
def shop(workshop: Workshop, saw: str, safe: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewery]:
    folder = tmp_path_factory.mktemp("shop")
    path = folder / "plant.toml"
    path.write_text(
        f'[resource.milling]\nurl = "{workshop.url("milling")}"\n{QUICK}'
        f'[resource.old]\nurl = "{workshop.url("oldMilling")}"\n{QUICK}'
        f'[resource.mounting]\nurl = "{workshop.url("mounting")}"\n{QUICK}'
        f'[resource.saw]\nurl = "{saw}"\n'
        f'[resource.safe]\nurl = "{safe}"\nsecurity = "sign_and_encrypt"\nuser = "anna"\n'
        'password_file = "anna"\n'
        '[node.main]\nrestarts = 100\n'
    )  # fmt: skip
    (folder / "anna").touch(0o600)
    (folder / "anna").write_text("geheim\n")
    running = Brewery.bring_up(folder, path)
    try:
        workshop.lines("ready", START_S)
        wait_for_resources(running)
        yield running
    finally:
        running.stop()


def wait_for_resources(shop: Brewery) -> None:
    with shop.attach() as plant:
        for name in ("milling", "old", "mounting", "saw", "safe"):
            tag = f"resource.{name}.connected"
            wait_for(tag, lambda tag=tag: plant.read(tag).value, LIMIT_S)  # type: ignore[misc]


class Desk:
    """An operator at the command line."""

    def __init__(self, shop: Brewery, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.shop = shop
        self._folder = folder
        self._capfd = capfd

    def says(self, *words: str, code: int = 0) -> Any:
        self._capfd.readouterr()
        assert cli(["--home", str(self.shop.home), "--json", *words]) == code, self._capfd.readouterr().err
        found = self._capfd.readouterr()
        return json.loads(found.out if code == 0 else found.err)

    def start(self, text: str, *more: str, name: str = "order") -> str:
        file = self._folder / f"{name}.pfdl"
        file.write_text(STRUCTS + text)
        found: str = self.says("order", "start", str(file), *more)["id"]
        return found

    def row(self, order_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.says("order", "show", order_id)
        return found

    def value(self, tag: str) -> Any:
        return self.says("read", tag)[0]["value"]

    def alarm(self, name: str) -> bool:
        """Whether an alarm is active."""
        return any(one["name"] == name and one["active"] for one in self.says("alarms"))

    def ends(self, order_id: str, state: str = "FINISHED") -> dict[str, Any]:
        wait_for(f"{order_id} {state}", lambda: self.row(order_id)["state"] == state, LIMIT_S)
        return self.row(order_id)


@pytest.fixture
def desk(shop: Brewery, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Desk:
    return Desk(shop, tmp_path, capfd)


def executed(workshop: Workshop, service: str) -> int:
    return sum(json.loads(line)["call"] == service for line in workshop.lines(within_s=0.2) if line.startswith("{"))


def test_an_order_is_made_by_the_resources_of_the_plant(desk: Desk, workshop: Workshop) -> None:
    mill = call("Milling", workshop.at("oldMilling"), "order")
    text = "    In\n        order: SWAP_Order\n" + call("Mounting", "order") + mill
    given = json.dumps({**json.loads(a_order().removeprefix("SWAP_Order ")), "order_id": 7})
    order_id = desk.start(f"Task productionTask\n{text}End\n", f"order={given}", "--reason", "a stand", name="Stand 1")
    assert order_id.startswith("stand_1_")
    row = desk.ends(order_id)
    assert [(one["service"], one["resource"]) for one in row["services"]] == [
        ("Mounting", "resource/mounting"), ("Milling", "resource/old"),
    ]  # fmt: skip
    assert row["variables"]["order"]["order_id"] == 7
    assert "shortest line" in row["services"][0]["why"]
    log = desk.says("order", "log", order_id)
    assert [one["kind"] for one in log][:2] == ["begun", "assigned"]
    assert (log[0]["what"], bool(log[0]["by"])) == ("a stand", True)
    picture = desk._folder / "report.svg"
    report = desk.says("order", "report", order_id, "--svg", str(picture))
    assert report["finished"] == 2
    assert "Mounting @ mounting" in picture.read_text()
    events = wait_for("the end in the log of events", lambda: [
        one for one in desk.says("events") if one["target"] == f"order/{order_id}" and one["after"] == "FINISHED"
    ])  # fmt: skip
    assert events[0]["kind"] == "order.state"
    assert desk.says("read", "resource.mounting.connected")[0]["value"] is True


def test_what_is_wrong_is_told_before_anything_begins(desk: Desk) -> None:
    file = desk._folder / "wrong.pfdl"
    file.write_text(
        STRUCTS + "Task productionTask\n    In\n        n: number\n" + call("Milling", "n", out="") + "End\n"
    )
    assert desk.says("order", "start", str(file), code=2)["error"]["key"] == "n"
    assert desk.says("order", "start", str(file), "n=x", code=2)["error"]["value"] == "x"
    assert desk.says("order", "start", str(file), "n=1", "m=2", code=2)["error"]["key"] == "m"
    for words in (("show", "no_1"), ("cancel", "no_1"), ("resolve", "no_1", "1", "done")):
        assert desk.says("order", *words, code=1)["error"]["code"] == "UnknownTag"
    order_id = desk.start(task(call("Painting", a_order())))
    assert "no resource of the plant offers Painting" in desk.ends(order_id, "FAILED")["reason"]
    nowhere = 'ResourceAssignment {"job_resource": "opc.tcp://127.0.0.1:1"}'
    order_id = desk.start(task(call("Milling", nowhere, a_order())))
    assert "is no [resource] of the plant file" in desk.ends(order_id, "FAILED")["reason"]


def test_killed_again_and_again_orders_go_on_and_nothing_is_done_twice(desk: Desk, workshop: Workshop) -> None:
    workshop.lines()
    count, orders = 3, 4
    text = (ROOT / "examples/workshop/orders/smooth.pfdl").read_text().replace("# dialect: tagwerk 1", "")  # has it
    ids = [desk.start(text, f"from={count}", "--priority", str(number)) for number in range(orders)]
    for name in KILLS:
        before = desk.shop.kill(name)
        wait_for(f"{name} again", lambda name=name, before=before: desk.shop.reborn(name, before))  # type: ignore[misc]

    def settled() -> bool:
        """A service that was called when its resource died may be in doubt: somebody looks at the machine."""
        for one in ids:
            row = desk.row(one)
            for service in row["services"]:
                if service["state"] == "UNKNOWN":
                    left = service["inputs"][0]["value"] - 1
                    desk.says("order", "resolve", one, str(service["number"]), "done", f"roughness={left}")
        return all(desk.row(one)["state"] == "FINISHED" for one in ids)

    wait_for("all orders to finish", settled, LIMIT_S)
    assert executed(workshop, "Polish") <= orders * count  # one that was in doubt may never have been called
    services = [one for order_id in ids for one in desk.row(order_id)["services"]]
    assert len(services) == len({one["uuid"] for one in services}) == orders * count
    workshop.settled()


def test_a_service_in_doubt_waits_for_somebody(desk: Desk, workshop: Workshop) -> None:
    with workshop.held("mounting"):
        order_id = desk.start(task(call("Inspect", a_order(), out="found: Inspection")))
        workshop.called("Inspect")
        before = desk.shop.kill("resource/mounting")
        wait_for("resource/mounting again", lambda: desk.shop.reborn("resource/mounting", before))
        row = desk.ends(order_id, "UNKNOWN")
        assert "the session was lost while Inspect was executed" in row["services"][0]["reason"]
        assert workshop.seen("mounting") == (1, 5)  # nobody else is sent to a machine that may still move
        wait_for("the alarm", lambda: desk.alarm("order.in_doubt"))
        assert "resolve that first" in desk.says("order", "cancel", order_id, code=1)["error"]["message"]
        assert "say what it gave" in desk.says("order", "resolve", order_id, "1", "done", code=1)["error"]["message"]
    desk.says("order", "resolve", order_id, "Inspect", "retry", "--reason", "it had not begun")
    workshop.called("Inspect")
    row = desk.ends(order_id)
    assert [one["state"] for one in row["services"]] == ["FAILED", "FINISHED"]
    wait_for("the resource to be free", lambda: workshop.seen("mounting") == (0, 4))


def test_an_order_is_paused_resumed_cancelled_and_tried_again(desk: Desk, workshop: Workshop) -> None:
    workshop.lines()
    with workshop.held("mounting"):
        polish = call("Polish", 'Surface {"roughness": 1}', out="roughness: number")
        order_id = desk.start(task(call("Mounting", a_order()), polish))
        workshop.called("Mounting")
        assert desk.says("order", "pause", order_id)["state"] == "PAUSED"
    wait_for("Mounting to end", lambda: desk.row(order_id)["finished"] == 1)
    assert desk.row(order_id)["waiting"] == 1
    desk.says("order", "resume", order_id)
    assert "Polish wants `roughness`" in desk.ends(order_id, "FAILED")["reason"]
    desk.says("order", "retry", order_id)
    assert desk.ends(order_id, "FAILED")["services"][-1]["number"] == 3
    workshop.lines()
    with workshop.held("mounting"):
        order_id = desk.start(task(call("Mounting", a_order())))
        workshop.called("Mounting")
        desk.says("order", "cancel", order_id, "--reason", "wrong part")
        assert "wrong part" in desk.ends(order_id, "CANCELLED")["reason"]
        wait_for("the place to be given up", lambda: workshop.seen("mounting") == (0, 4))
        wait_for("it to be told", lambda: desk.value("resource.mounting.may_move"))
        wait_for("the alarm", lambda: desk.alarm("resource.mounting.may_move"))
        assert f"Mounting of {order_id} was called, and its place was given up" in desk.value(
            "resource.mounting.reason"
        )
        stopped = [one["what"] for one in desk.says("order", "log", order_id) if one["kind"] == "stopped"]
        assert "may still move" in stopped[0]
    desk.ends(desk.start(task(call("Inspect", a_order(), out="found: Inspection"))))
    wait_for("it to be at rest", lambda: not desk.value("resource.mounting.may_move"))
    wait_for("the resource to be free", lambda: workshop.seen("mounting") == (0, 4))
    newest = desk.says("order", "list", "--limit", "2")[1]
    assert (newest["id"], newest["running"]) == (order_id, 0)


def test_an_event_that_comes_after_all_settles_a_service_in_doubt(desk: Desk, workshop: Workshop) -> None:
    workshop.lines()
    with workshop.held("milling"):
        polish = call("Polish", workshop.at("milling"), "from", out="roughness: number")
        there = f"Task productionTask\n    In\n        from: number\n{polish}End\n"
        order_id = desk.start(there, "from=3")
        workshop.called("Polish")
        resource = desk.row(order_id)["services"][0]["resource"]
        before = desk.shop.kill(resource)
        wait_for(f"{resource} again", lambda: desk.shop.reborn(resource, before))
        desk.ends(order_id, "UNKNOWN")
    assert desk.ends(order_id)["variables"]["roughness"] == 2
    heard = [one for one in desk.says("order", "log", order_id) if one["kind"] == "heard after all"]
    assert "roughness = 2" in heard[0]["what"]
    wait_for("the resource to be free", lambda: workshop.seen("milling") == (0, 4))


def test_a_plain_list_of_services_is_a_dispatcher(shop: Brewery, workshop: Workshop) -> None:
    with shop.attach() as plant:
        order_id = opened(plant)
        given = (Given("roughness", "number", 3),)
        root = DispatchTask(order_id, "t", "main", "t", False, given)
        assert isinstance(plant.ask(CREW, root), Done)
        wanted = DispatchService(order_id, "s-1", "Polish", "t", given, (Asked("roughness", "number"),))
        for _ in range(2):  # a message that may not have come is sent again
            plant.ask(CREW, wanted)
        tokens = plant.query(CREW, GetTokens(order_id, 0, 20.0), Tokens, 30.0).tokens
        assert [(one.service_uuid, one.outputs, one.failed) for one in tokens] == [("s-1", {"roughness": 2}, "")]
        found = plant.query(CREW, ProvideParameter(order_id, "roughness", "t"), Provided)
        assert found.value == Given("roughness", "number", 2)
        before = shop.kill("order/0")
        wait_for("order/0 again", lambda: shop.reborn("order/0", before))
        assert plant.query(CREW, GetTokens(order_id, 1, 0.0), Tokens).tokens == ()
        executed(workshop, "Polish")
        plant.ask(CREW, wanted)  # a script that begins anew: its token comes again, nothing is executed
        again = plant.query(CREW, GetTokens(order_id, 1, 20.0), Tokens, 30.0).tokens
        assert [(one.number, one.outputs) for one in again] == [(2, {"roughness": 2})]
        assert executed(workshop, "Polish") == 0
        other = opened(plant)
        plant.ask(CREW, DispatchTask(other, "t", "main", "t", False, given))
        plant.ask(CREW, DispatchService(other, "s-1", "Polish", "t", given, (Asked("roughness", "number"),)))
        (taken,) = plant.query(CREW, GetTokens(other, 0, 20.0), Tokens, 30.0).tokens
        assert "give another" in taken.failed
        plant.ask(CREW, DispatchTask(other, "t", "main", "t", True))
        plant.ask(CREW, DispatchTask(order_id, "t", "main", "t", True))
        assert plant.query(CREW, GetOrder(order_id), OrderDetail).row.state == "FINISHED"
        with pytest.raises(Refused, match="has ended"):
            plant.ask(CREW, wanted)


STOCK = """Task productionTask
    In
        order: SWAP_Order
        there: ResourceAssignment
    Parallel
        mill
            In
                order
                there
            Out
                left: SWAP_Order
        mill
            In
                order
                there
            Out
                right: SWAP_Order
    Condition
        left.order_id == right.order_id
    Passed
        Milling
            In
                left
                there
            Out
                left: SWAP_Order
End
Task mill
    In
        mine: SWAP_Order
        there: ResourceAssignment
    Loop i To mine.number_light_segments
        Milling
            In
                mine
                there
            Out
                mine: SWAP_Order
    Out
        mine
End
"""


def test_pfdl_scheduler_is_a_dispatcher_and_its_process_may_be_killed(
    shop: Brewery, desk: Desk, workshop: Workshop, tmp_path: Path
) -> None:
    pytest.importorskip("pfdl_scheduler")
    file = tmp_path / "Stock order.pfdl"
    file.write_text(STRUCTS + STOCK)
    command = [sys.executable, "-m", "tagwerk.runtime.cli", "--home", str(shop.home), "order", "dispatch"]
    values = [
        f"order={a_order().removeprefix('SWAP_Order ')}",
        f'there={{"job_resource": "{workshop.url("milling")}"}}',
    ]
    executed(workshop, "Milling")
    with workshop.held("milling"):
        first = subprocess.Popen([*command, str(file), *values], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        assert first.stdout is not None
        order_id = first.stdout.readline().strip()
        workshop.called("Milling")
        first.kill()
        first.wait(LIMIT_S)
        first.stdout.close()
        before = shop.kill("order/0")
        wait_for("order/0 again", lambda: shop.reborn("order/0", before))
    second = subprocess.run(
        [*command, "--order", order_id], capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=tmp_path
    )
    assert (second.returncode, second.stderr) == (0, ""), second
    row = desk.row(order_id)
    assert (row["state"], row["finished"]) == ("FINISHED", 5)
    assert len({one["uuid"] for one in row["services"]}) == 5 == executed(workshop, "Milling") + 1
    assert row["variables"]["left"]["order_id"] == ORDER["order_id"]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert "has ended" in str(desk.says("order", "dispatch", "--order", order_id, code=2))
    nowhere = [values[0], 'there={"job_resource": "opc.tcp://127.0.0.1:1"}']
    assert cli(["--home", str(shop.home), "--json", "order", "dispatch", str(file), *nowhere]) == 1
    failed = desk.says("order", "list", "--limit", "1")[0]
    assert (failed["state"], failed["running"]) == ("FAILED", 0)
    assert "Milling" in failed["reason"]


def test_the_smallest_resource_and_the_smallest_dispatcher_are_scripts(
    shop: Brewery, desk: Desk, saw: str, tmp_path: Path
) -> None:
    def script(*words: str) -> list[str]:
        environment = {**os.environ, "TAGWERK_HOME": str(shop.home)}
        command = [sys.executable, *words]
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=True, cwd=ROOT, env=environment
        )
        return found.stdout.splitlines()

    list_ = "examples/workshop/service_list.py"
    polished = script(list_, "Polish", "Polish", "--input", "roughness=3", "--output", "roughness:number")
    assert polished[1:] == ["Polish: {'roughness': 2.0}", "Polish: {'roughness': 1.0}"]
    assert desk.row(polished[0])["state"] == "FINISHED"
    assert desk.ends(cut(desk, saw, tmp_path))["finished"] == 3


def cut(desk: Desk, url: str, folder: Path) -> str:
    board = folder / "board.pfdl"
    text = (ROOT / "examples/workshop/orders/board.pfdl").read_text()
    board.write_text(text.replace("opc.tcp://127.0.0.1:4848", url))
    order_id: str = desk.says("order", "start", str(board))["id"]
    return order_id


def test_an_order_runs_on_a_resource_that_demands_encryption_and_a_user(
    desk: Desk, shop: Brewery, safe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CONNECT_LIMIT_S", 2.0)
    (pin,) = shop.home.rglob("server.der")
    (tmp_path / "other").mkdir()

    async def refused(url: str, user: str, password: str) -> str:
        endpoint = UaEndpoint(url, Security("sign_and_encrypt", pin.parent, user, password))
        with pytest.raises(DeviceGone) as caught:
            await endpoint.open()
        await endpoint.close()
        return str(caught.value)

    with secured_saw(tmp_path / "other") as other:
        assert desk.ends(cut(desk, safe, tmp_path))["finished"] == 3
        assert "BadUserAccessDenied (look at `user` and `password_file`)" in asyncio.run(refused(safe, "anna", "x"))
        assert "BadIdentityTokenRejected" in asyncio.run(refused(safe, "", ""))
        wait_for("the other saw", lambda: (tmp_path / "other" / "server.der").exists(), LIMIT_S)
        wait_for("its certificate to be told", lambda: "remove" in asyncio.run(refused(other, "anna", "geheim")))


def opened(plant: Plant) -> str:
    found = plant.ask(CREW, OpenOrder("list", 0, "bob"))
    assert isinstance(found, OrderStarted)
    return found.id


def test_a_resource_that_stands_still_is_told(desk: Desk, workshop: Workshop) -> None:
    async def claim() -> None:
        endpoint = UaEndpoint(workshop.url("mounting"))
        await endpoint.open()
        await endpoint.set_state(5)
        await endpoint.close()

    asyncio.run(claim())
    wait_for("it to be stuck", lambda: desk.says("read", "resource.mounting.stuck")[0]["value"] is True)
    workshop.reset("mounting")
    wait_for("it to be free", lambda: desk.says("read", "resource.mounting.stuck")[0]["value"] is False)
