"""What observers of orders are given: steps and pictures, and what a dashboard is told of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tagwerk.actors.orders import dashboard as dashboard_module
from tagwerk.actors.orders.crew_feed import CrewFeed
from tagwerk.actors.orders.dashboard import Dashboard, Poster
from tagwerk.actors.orders.logic import feed as feed_module
from tagwerk.actors.orders.logic.feed import Feed
from tagwerk.actors.orders.logic.order import Order
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.pfdl.talk import (
    Command,
    OrderEnded,
    OrderState,
    ServiceEnded,
    ServiceFinished,
    ServiceStarted,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    pack_command,
    unpack_command,
)
from tagwerk.actors.orders.logic.records import Assigned, Begun, Controlled, Fell, Gave, Record, ServiceTold, TaskTold
from tagwerk.actors.orders.logic.told import DEFAULT_TASK
from tagwerk.actors.orders.observer_orders import ObservedOrders
from tagwerk.protocols.message import Message
from tagwerk.protocols.order_feed import (
    LISTENERS,
    GetOrderFeed,
    GetOrderPicture,
    OrderFeed,
    OrderPicture,
    OrderStep,
    TaskPicture,
)
from tagwerk.protocols.orders import Asked, Given, OrderRow
from tagwerk.runtime.actor import Later, Sender

if TYPE_CHECKING:
    from tagwerk.actors.orders.crew import Crew, Live

TEXT = """# dialect: tagwerk 1
Task productionTask
    In
        n: number
    Cut
        In
            n
        Out
            n: number
    Parallel
        branch
            In
                n
            Out
                left: number
        branch
            In
                n
            Out
                right: number
End
Task branch
    In
        n: number
    Cut
        Retry 1
        In
            n
        Out
            n: number
    Out
        n
End
"""
ENDED = OrderEnded(OrderState.FINISHED)


def test_steps_are_given_once_and_in_their_order() -> None:
    feed = Feed("e")
    for number in range(3):
        feed.add(f"o{number}", "RUNNING", ENDED)
    assert feed.after("", 0).lost
    first = feed.after("e", 1)
    assert [(one.number, one.order) for one in first.steps] == [(2, "o1"), (3, "o2")]
    assert (first.upto, first.lost) == (3, False)
    assert unpack_command(first.steps[0].command) == ENDED
    assert feed.after("e", 3).steps == ()
    assert feed.after("e", 4).lost  # a number that was never given


def test_what_is_too_old_is_lost_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "STEPS_LIMIT", 2)
    feed = Feed("e")
    for number in range(4):
        feed.add(f"o{number}", "RUNNING")
    assert feed.after("e", 1).lost
    assert [one.number for one in feed.after("e", 2).steps] == [3, 4]
    monkeypatch.setattr(feed_module, "BYTES_LIMIT", 2 * len(pack_command(ENDED)))
    for _ in range(3):
        feed.add("o", "RUNNING", ENDED)
    assert [one.number for one in feed.after("e", 5).steps] == [6, 7]


def test_an_answer_has_no_more_than_a_message_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "PAGE_BYTES", 1)
    feed = Feed("e")
    for _ in range(2):
        feed.add("o", "RUNNING", ENDED)
    answer = feed.after("e", 0)
    assert ([one.number for one in answer.steps], answer.upto) == ([1], 1)


class Seen:
    """Tasks as one who hears all commands knows them."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskPicture] = {}
        self.heard: list[str] = []

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            self.heard.append(type(command).__name__)
            match command:
                case TaskStarted(uuid, name, context, inputs):
                    self.tasks[uuid] = TaskPicture(uuid, name, context, False, False, ())
                    self._set(uuid, inputs)
                case ServiceStarted():
                    self._change(command.context_uuid, waits=True)
                case ServiceFinished():
                    self._change(command.context_uuid, waits=False)
                    self._set(command.context_uuid, command.outputs)
                case ServiceEnded():
                    self._change(command.context_uuid, waits=False)
                case TaskFinished() | TaskFailed() if command.task_uuid != command.context_uuid:
                    if isinstance(command, TaskFinished):
                        self._set(command.context_uuid, command.outputs)
                    del self.tasks[command.task_uuid]
                case _:
                    pass

    def _change(self, uuid: str, *, waits: bool) -> None:
        old = self.tasks[uuid]
        self.tasks[uuid] = TaskPicture(uuid, old.name, old.context_uuid, waits, True, old.values)

    def _set(self, uuid: str, values: Any) -> None:
        old = self.tasks[uuid]
        known = {one.name: one for one in old.values} | {one.name: Given(*_fields(one)) for one in values}
        self.tasks[uuid] = TaskPicture(
            uuid, old.name, old.context_uuid, old.waits, old.served, tuple(known.values())
        )  # fmt: skip


def _fields(one: Any) -> tuple[str, str, Any]:
    return one.name, one.type, one.value


def records(order: Order) -> Iterator[Record]:
    """What happens to an order: each service fails once where it may, else it gives one more."""
    yield Begun({"n": 1}, "bob")
    failed: set[str] = set()
    while order.life.services:
        one = next(iter(order.life.services.values()))
        yield Assigned(one.uuid, "resource/saw", "opc.tcp://saw:1", "", False)
        if one.task == "branch" and one.attempt == 1 and one.task_uuid not in failed:
            failed.add(one.task_uuid)
            yield Fell(one.uuid, "rejected", "no")
        else:
            yield Gave(one.uuid, {"n": one.inputs[0].value + 1})


def test_who_hears_all_steps_knows_what_a_picture_shows() -> None:
    order, seen = Order("o", read(TEXT)), Seen()
    for record in records(order):
        seen.take(order.apply(record, 1).commands)
        assert {one.uuid: one for one in order.tasks()} == seen.tasks
    assert order.life.state == OrderState.FINISHED
    assert seen.heard[-1] == "OrderEnded"
    (root,) = order.tasks()
    assert {one.name: one.value for one in root.values} == {"n": 2, "left": 3, "right": 3}


def test_a_task_comes_after_the_one_that_called_it() -> None:
    order = Order("o", read(TEXT))
    for record in records(order):
        order.apply(record, 1)
        known: set[str] = set()
        for one in order.tasks():
            assert one.context_uuid in known or not known
            known.add(one.uuid)


def told(*more: Record) -> list[Record]:
    given = (Given("n", "number", 1),)
    return [
        TaskTold("t", "main", "t", False, given), TaskTold("u", "sub", "t", False, ()),
        ServiceTold("s", "Cut", "u", given, (Asked("n", "number"),)), *more,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "heard"),
    [
        (Gave("s", {"n": 5}), ["ServiceFinished"]),
        (Fell("s", "rejected", "no"), ["ServiceEnded"]),
        (Controlled("cancel", "bob"), ["ServiceEnded", "OrderEnded"]),
    ],
)
def test_another_dispatcher_is_seen_as_an_interpreter_is(end: Record, heard: list[str]) -> None:
    order, seen = Order("o", None), Seen()
    for record in told(Begun({}, "bob"), Assigned("s", "resource/saw", "opc.tcp://saw:1", "", False), end):
        seen.take(order.apply(record, 1).commands)
    assert seen.heard == ["TaskStarted", "TaskStarted", "ServiceStarted", *heard]
    assert {one.uuid: one for one in order.tasks()} == seen.tasks
    seen.take(order.apply(TaskTold("u", "sub", "t", True, (Given("m", "number", 2),)), 2).commands)
    assert [one.values for one in order.tasks()] == [(Given("n", "number", 1), Given("m", "number", 2))]
    assert {one.uuid: one for one in order.tasks()} == seen.tasks


def test_services_of_no_task_have_one() -> None:
    order, seen = Order("o", None), Seen()
    for uuid in ("s1", "s2"):
        seen.take(order.apply(ServiceTold(uuid, "Cut", "t", (), ()), 1).commands)
    assert [(one.uuid, one.name) for one in order.tasks()] == [("t", DEFAULT_TASK)]
    seen.take(order.apply(TaskTold("t", "main", "t", True, (), "no"), 1).commands)
    assert seen.heard[-4:] == ["TaskFailed", "ServiceEnded", "ServiceEnded", "OrderEnded"]


class Desk:
    """What the feed needs of the crew: a clock that is turned by hand, and an order."""

    def __init__(self) -> None:
        self.clock = self
        self.now_ns = 0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.order = Order("o", read(TEXT))
        self.live = SimpleNamespace(stored=SimpleNamespace(id="o_1", text=TEXT), order=self.order)
        self.feed = CrewFeed(cast("Crew", self))

    def mono_ns(self) -> int:
        return self.now_ns

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.due.append((seconds, call))

    def seen(self, order_id: str) -> tuple[Any, OrderRow]:
        assert order_id == "o_1"
        return self.live, row()

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)
        due, self.due = self.due, []
        for _, call in due:
            call()

    def happens(self, *records: Record) -> None:
        for record in records:
            before = self.order.life.shown
            self.feed.add(cast("Live", self.live), record, self.order.apply(record, 1), before)

    def ask(self, message: Message, name: str = "observer/0") -> list[Message]:
        """What it answers, now or later."""
        answers: list[Message] = []
        found = self.feed.on_message(message, Sender(name, 1, b"", 0, 0))
        if isinstance(found, Later):
            found.bind(answers.append)
        elif found is not None:
            answers.append(found)
        return answers


def test_who_asks_for_news_waits_until_they_are_stored() -> None:
    desk = Desk()
    ((first),) = desk.ask(GetOrderFeed("", 0))
    assert isinstance(first, OrderFeed)
    assert (first.lost, first.upto) == (True, 0)
    answers = desk.ask(GetOrderFeed(first.epoch, 0))
    desk.happens(Begun({"n": 1}, "bob"))
    assert answers == []
    desk.feed.flushed()
    (news,) = answers
    assert isinstance(news, OrderFeed)
    assert [(one.order, one.state) for one in news.steps] == [("o_1", "RUNNING")] * 2
    quiet = desk.ask(GetOrderFeed(first.epoch, 2))
    desk.pass_s(2)
    assert quiet == [OrderFeed(first.epoch, 2)]
    (picture,) = desk.ask(GetOrderPicture("o_1"))
    assert isinstance(picture, OrderPicture)
    assert (picture.epoch, picture.upto, [one.name for one in picture.tasks]) == (first.epoch, 2, ["productionTask"])


def test_who_waits_is_bounded_and_a_state_alone_is_a_step() -> None:
    desk = Desk()
    (first,) = desk.ask(GetOrderFeed("", 0))
    assert isinstance(first, OrderFeed)
    waiting = [desk.ask(GetOrderFeed(first.epoch, 0), f"script/{number}") for number in range(LISTENERS + 1)]
    assert [len(one) for one in waiting] == [1, *LISTENERS * [0]]
    desk.happens(Begun({"n": 1}, "bob"), Controlled("pause", "bob"))
    desk.feed.flushed()
    answer = waiting[-1][0]
    assert isinstance(answer, OrderFeed)
    assert (answer.steps[-1].state, answer.steps[-1].command) == ("PAUSED", b"")


def test_an_order_that_is_tried_again_needs_a_new_picture() -> None:
    desk = Desk()
    (first,) = desk.ask(GetOrderFeed("", 0))
    assert isinstance(first, OrderFeed)
    desk.happens(Begun({"n": 1}, "bob"))
    uuid = next(iter(desk.order.life.services))
    desk.happens(Assigned(uuid, "resource/saw", "opc.tcp://saw:1", "", False), Fell(uuid, "rejected", "no"))
    desk.happens(Controlled("retry", "bob"))
    (news,) = desk.ask(GetOrderFeed(first.epoch, 0))
    assert isinstance(news, OrderFeed)
    assert [one.anew for one in news.steps][-2:] == [False, True]
    assert [one.state for one in news.steps][-2:] == ["FAILED", "RUNNING"]


def test_nothing_is_kept_for_nobody() -> None:
    desk = Desk()
    desk.happens(Begun({"n": 1}, "bob"))
    (first,) = desk.ask(GetOrderFeed("", 0))
    assert isinstance(first, OrderFeed)
    assert first.upto == 0
    desk.pass_s(61)
    (later,) = desk.ask(GetOrderFeed(first.epoch, 0))
    assert isinstance(later, OrderFeed)
    assert later.lost
    assert later.epoch != first.epoch


def row(state: str = "RUNNING", ended_s: int = 0) -> OrderRow:
    return OrderRow("o_1", "o", state, 0, "bob", 7_000_000_000, ended_s * 1_000_000_000, "", 0, 0, 0, 0)


def posts(*seen: OrderPicture | OrderStep, follow: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """What a dashboard is told of pictures and steps."""
    found: list[tuple[str, dict[str, Any]]] = []

    async def show() -> None:
        poster = Poster("http://b", lambda url, body: found.append((url.rpartition("/")[2], json.loads(body))))
        orders = ObservedOrders(None, poster, 10)
        for one in seen:
            if isinstance(one, OrderStep):
                await orders.step(one)
            else:
                await orders.picture(one, steps_follow=follow)
        await poster.close()

    asyncio.run(show())
    return found


def test_a_dashboard_hears_of_an_order_that_ran_before_its_teller() -> None:
    task = TaskPicture("t", "productionTask", "t", False, False, ())
    picture = OrderPicture("e", 5, row(), TEXT, (task,), False)
    end = OrderStep(6, "o_1", "FINISHED", pack_command(ENDED))
    found = posts(picture, picture, end)
    assert [path for path, _ in found] == ["pfdl_order", "petri_net", "log_event", "pfdl_order"]
    assert [(body["status"], body["starting_date"]) for path, body in found if path == "pfdl_order"] == [(2, 7), (4, 7)]


def test_a_dashboard_hears_of_an_order_that_ended_while_nobody_told() -> None:
    ((path, body),) = posts(OrderPicture("e", 5, row("FAILED", 9), None, (), False))
    assert (path, body["status"], body["last_update"], body["pfdl_string"]) == ("pfdl_order", 4, 9, "")


def test_steps_that_a_picture_shows_already_are_told_nevertheless() -> None:
    picture = OrderPicture("e", 5, row("FINISHED", 9), TEXT, (), False)
    steps = [OrderStep(4, "o_1", "RUNNING", pack_command(TaskStarted("t", "productionTask", "t", ())))]
    steps.append(OrderStep(5, "o_1", "FINISHED", pack_command(ENDED)))
    found = posts(picture, *steps, follow=True)
    assert [path for path, _ in found] == ["pfdl_order", "petri_net", "log_event", "log_event", "pfdl_order"]


def test_what_is_sent_to_a_dashboard_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_module, "MESSAGES_LIMIT", 10)
    monkeypatch.setattr(dashboard_module, "TREE_LIMIT", 3)

    async def told_much() -> tuple[int, int]:
        sent: list[str] = []
        poster = Poster("http://b", lambda url, _: sent.append(url))
        dashboard = Dashboard(poster, "o", "", None)
        for number in range(20):
            dashboard.take(ServiceStarted(f"s{number}", "Cut", "t", (), ()))
        await poster.close()
        return len(sent), len(dashboard._tree)

    assert asyncio.run(told_much()) == (10, 3)
