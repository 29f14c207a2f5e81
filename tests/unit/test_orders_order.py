"""An order as a fold over its records: killed after each of them it goes on, and no service is executed twice."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from tagwerk.actors.orders.logic.life import (
    Assign,
    Change,
    Effect,
    Execute,
    Life,
    ServiceRun,
    ServiceState,
    Stop,
    pack_life,
    unpack_life,
)
from tagwerk.actors.orders.logic.order import Order
from tagwerk.actors.orders.logic.pfdl import Program, read
from tagwerk.actors.orders.logic.records import (
    Assigned,
    Begun,
    Controlled,
    Doubted,
    Fell,
    Gave,
    Heard,
    Overdue,
    Progressed,
    Record,
    Resolved,
    Restored,
    ServiceTold,
    Stopped,
    TaskTold,
    TokenAgain,
    TokensTaken,
    pack_record,
    unpack_record,
    words_of,
)
from tagwerk.actors.orders.logic.timers import Timers
from tagwerk.actors.orders.logic.wishes import refuse_control, refuse_unbounded, unknown_service, wrong_outputs
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.orders import Asked, GetOrder, Given, StartOrder

S_NS = 1_000_000_000
TEXT = """# dialect: tagwerk 1
Struct Part
    n: number
End
Task productionTask
    In
        part: Part
    Cut
        Retry 1
        In
            part
        Out
            part: Part
    Parallel
        branch
            In
                part
            Out
                left: Part
        branch
            In
                part
            Out
                right: Part
    Loop While part.n < 4
        Cut
            In
                part
            Out
                part: Part
    Out
        part
End
Task branch
    In
        part: Part
    Glue
        Timeout 5
        In
            part
        Out
            part: Part
    Out
        part
End
"""
PROGRAM = read(TEXT)
PART = {"part": {"n": 1}}


class World:
    """A crew and its resources, as far as an order can tell. `records` is what is stored.

    A resource executes each service uuid once, whatever it is asked; what it gives has `n` one higher.
    """

    def __init__(self, program: Program | None = PROGRAM) -> None:
        self.program = program
        self.records: list[bytes] = []
        self.executed: list[str] = []
        self.stopped: list[str] = []
        self.failing: dict[str, Fell] = {}  # service name -> how it fails, once
        self.held: set[str] = set()  # names of services that do not end by themselves
        self.effects: deque[Effect] = deque()
        self.revive()

    def revive(self) -> None:
        """All that was not stored is gone."""
        self.order = Order("o_1/t", self.program)
        for now_ns, data in enumerate(self.records):
            self.order.apply(unpack_record(data), now_ns)
        self.effects = deque(self.order.pending())

    @property
    def life(self) -> Life:
        return self.order.life

    def take(self, record: Record) -> Change:
        change = self.order.apply(record, len(self.records))
        self.records.append(pack_record(record))
        self.effects += change.effects
        return change

    def step(self) -> bool:
        """Do one thing that is left to be done; False if nothing is."""
        if not self.effects:
            return False
        effect = self.effects.popleft()
        if isinstance(effect, Assign) and effect.service.uuid in self.life.services:
            if effect.service.state == ServiceState.WAITING and not self.life.paused:
                self.take(Assigned(effect.service.uuid, "resource/a", "opc.tcp://a:1", "the only one", False))
        elif isinstance(effect, Execute) and effect.service.uuid in self.life.services:
            self.execute(effect)
        elif isinstance(effect, Stop):
            self.stopped.append(effect.service_uuid)
            self.take(Stopped(effect.service_uuid, "its place is given back"))
        return True

    def execute(self, effect: Execute) -> None:
        one = effect.service
        if one.uuid not in self.executed:
            self.executed.append(one.uuid)
        if one.name in self.failing:
            fell = self.failing.pop(one.name)
            self.take(Fell(one.uuid, fell.failure, fell.reason))
        elif one.name not in self.held:
            self.take(Gave(one.uuid, {"part": {"n": one.inputs[0].value["n"] + 1}}, 1, 2))

    def run(self) -> None:
        while self.step():
            pass

    def running(self, name: str) -> str:
        return next(one.uuid for one in self.life.services.values() if one.name == name)


def begun(inputs: dict[str, Any] | None = None) -> World:
    world = World()
    world.take(Begun(inputs or PART, "anna", "host"))
    return world


def test_an_order_runs_to_its_end() -> None:
    world = begun()
    world.run()
    assert (world.life.shown, world.life.over, world.life.finished) == ("FINISHED", True, 5)
    assert world.life.run is not None
    assert next(iter(world.life.run.tasks.values())).variables["part"] == {"n": 4}
    assert len(world.executed) == len(set(world.executed)) == 5


def test_killed_after_each_record_it_goes_on_and_nothing_is_executed_twice() -> None:
    whole = begun()
    whole.failing["Cut"] = Fell("", "server_status", "blunt")
    whole.run()
    assert whole.life.shown == "FINISHED"
    for kill in range(1, len(whole.records) + 1):
        world = begun()
        world.failing["Cut"] = Fell("", "server_status", "blunt")
        while len(world.records) < kill and world.step():
            pass
        life = pack_life(world.life)
        world.revive()
        assert pack_life(world.life) == life, f"after record {kill}"
        world.run()
        assert world.life.shown == "FINISHED", f"after record {kill}"
        assert sorted(world.executed) == sorted(whole.executed), f"after record {kill}"


def test_a_snapshot_is_the_whole_order() -> None:
    world = begun()
    while world.step():
        life = unpack_life(pack_life(world.life))
        assert pack_life(life) == pack_life(world.life)
    assert pack_life(Order("o_1/t", PROGRAM, unpack_life(pack_life(world.life))).life) == pack_life(world.life)


def test_an_event_that_comes_twice_or_too_late_changes_nothing() -> None:
    world = begun()
    world.run()
    before = pack_life(world.life)
    uuid = world.executed[0]
    for late in (
        Gave(uuid, {"part": {"n": 9}}), Fell(uuid, "failed", "no"), Doubted(uuid, "?"), Overdue(uuid),
        Progressed(uuid, "CALLED"), Assigned(uuid, "resource/b", "", "", False), Stopped(uuid, ""),
        Resolved(uuid, "done", {}, "anna"),
    ):  # fmt: skip
        assert world.take(late).effects == []
    assert pack_life(world.life) == before


def test_a_service_that_fails_is_tried_again_elsewhere_and_under_another_uuid() -> None:
    world = begun()
    world.failing["Cut"] = Fell("", "server_status", "blunt")
    first = world.running("Cut")
    world.step()
    world.step()
    again = world.life.services[world.running("Cut")]
    assert (again.uuid == first, again.attempt, again.avoid) == (False, 2, ("resource/a",))


def test_what_could_not_be_reached_is_assigned_anew_under_the_same_uuid() -> None:
    world = begun()
    world.failing["Cut"] = Fell("", "unreachable", "no answer")
    uuid = world.running("Cut")
    world.step()
    world.step()
    one = world.life.services[uuid]
    assert (one.state, one.exclude, one.resource) == (ServiceState.WAITING, ("resource/a",), "")
    world.take(Fell(uuid, "rejected", "there is no other"))
    assert world.running("Cut") != uuid  # the order's own Retry


def test_what_the_order_itself_names_is_not_assigned_anew() -> None:
    world = begun()
    uuid = world.running("Cut")
    world.take(Assigned(uuid, "resource/a", "opc.tcp://a:1", "named", True))
    world.take(Fell(uuid, "unreachable", "no answer"))
    assert uuid not in world.life.services


def test_a_service_in_doubt_waits_for_somebody() -> None:
    world = begun()
    world.held.add("Cut")
    world.run()
    uuid = world.running("Cut")
    world.take(Doubted(uuid, "the session was lost"))
    assert world.life.shown == "UNKNOWN"
    world.revive()
    assert world.effects == deque()  # nothing is done by itself
    with pytest.raises(Refused, match="resolve that first"):
        refuse_control(world.life, "cancel")
    with pytest.raises(Refused, match="in doubt: 1 Cut"):
        unknown_service(world.life, "Glue")
    assert unknown_service(world.life, "1").uuid == unknown_service(world.life, "Cut").uuid == uuid
    assert world.take(Overdue(uuid)).effects == []


@pytest.mark.parametrize(("outcome", "executed"), [("done", 4), ("retry", 6), ("failed", 6)])
def test_somebody_says_what_came_of_it(outcome: str, executed: int) -> None:
    world = begun()
    world.held.add("Cut")
    world.run()
    uuid = world.running("Cut")
    world.take(Doubted(uuid, "the session was lost"))
    world.held.clear()
    world.take(Resolved(uuid, outcome, {"part": {"n": 3}} if outcome == "done" else {}, "anna"))
    world.run()
    assert (world.life.shown, world.life.over) == ("FINISHED", True)
    assert world.stopped == [uuid]  # its place is given back
    assert world.executed.count(uuid) == 1
    assert len(world.executed) == executed


@pytest.mark.parametrize(("failure", "executed"), [("", 4), ("server_status", 6)])
def test_an_event_that_comes_after_all_says_what_came_of_it(failure: str, executed: int) -> None:
    world = begun()
    world.held.add("Cut")
    world.run()
    uuid = world.running("Cut")
    world.take(Doubted(uuid, "the session was lost"))
    world.held.clear()
    heard = Heard(uuid, {} if failure else {"part": {"n": 3}}, failure, "the saw broke" if failure else "")
    world.take(heard)
    assert "heard after all" in words_of(heard)[0]
    assert world.take(heard).effects == []
    world.run()
    assert (world.life.shown, world.life.over) == ("FINISHED", True)
    assert world.stopped == []  # the resource has given its place back by itself
    assert world.executed.count(uuid) == 1
    assert len(world.executed) == executed


def test_a_paused_order_hands_out_nothing() -> None:
    world = begun()
    world.take(Controlled("pause", "anna"))
    world.run()
    assert (world.life.shown, world.executed) == ("PAUSED", [])
    world.revive()
    assert world.effects == deque()
    with pytest.raises(Refused, match="paused already"):
        refuse_control(world.life, "pause")
    world.take(Controlled("resume", "anna"))
    world.run()
    assert world.life.shown == "FINISHED"


def test_a_cancelled_order_gives_back_what_it_has() -> None:
    world = begun()
    world.held |= {"Glue"}
    world.run()
    running = set(world.life.services)
    world.take(Controlled("cancel", "anna", reason="wrong part"))
    assert (world.life.shown, world.life.over) == ("CANCELLED", False)
    world.revive()  # killed before the resources were told
    world.run()
    assert (set(world.stopped), world.life.over) == (running, True)
    assert "cancel by anna: wrong part" in world.life.reason
    with pytest.raises(Refused, match="it has ended"):
        refuse_control(world.life, "cancel")


def test_a_service_whose_time_is_over_is_stopped() -> None:
    world = begun()
    world.held.add("Glue")
    world.run()
    uuid = world.running("Glue")
    world.take(Overdue(uuid))
    world.run()
    assert (world.life.shown, uuid in world.stopped) == ("FAILED", True)
    assert "not finished within 5 s" in world.life.reason


def test_an_order_that_failed_goes_on_where_it_was() -> None:
    world = begun()
    world.failing["Glue"] = Fell("", "server_status", "dry")
    world.run()
    assert world.life.shown == "FAILED"
    with pytest.raises(Refused):
        refuse_control(world.life, "pause")
    refuse_control(world.life, "retry")
    life = unpack_life(pack_life(world.life))
    world.order = Order("o_1/t", PROGRAM, life)  # as it is taken up from the store
    world.take(Controlled("retry", "anna"))
    world.run()
    assert (world.life.shown, world.life.finished) == ("FINISHED", 5)
    assert len(set(world.executed)) == len(world.executed)


def test_a_service_in_doubt_outlives_its_order() -> None:
    world = begun()
    world.held.add("Glue")
    world.run()
    doubted, other = [one.uuid for one in world.life.services.values() if one.name == "Glue"]
    world.take(Doubted(doubted, "lost"))
    world.take(Fell(other, "server_status", "dry"))
    world.run()
    assert (world.life.shown, world.life.over) == ("FAILED", False)
    with pytest.raises(Refused, match="resolve that first"):
        refuse_control(world.life, "retry")
    world.take(Resolved(doubted, "failed", {}, "anna"))
    world.run()
    assert (world.life.over, world.stopped) == (True, [doubted])


def test_another_dispatcher_says_what_is_to_be_done() -> None:
    world = World(None)
    world.take(Begun({}, "bob"))
    part = Given("part", "Part", {"n": 1})
    world.take(TaskTold("t", "main", "t", False, (part,)))
    world.take(ServiceTold("s", "Cut", "t", (part,), (Asked("part", "Part"),)))
    world.run()
    assert [(one.service_uuid, one.outputs) for one in world.life.tokens] == [("s", {"part": {"n": 2}})]
    assert world.life.scopes["t"]["part"].value == {"n": 2}
    world.revive()
    assert world.life.token_number == 1
    world.take(TokensTaken(1))
    world.failing["Cut"] = Fell("", "server_status", "blunt")
    world.take(ServiceTold("s2", "Cut", "t", (part,), (Asked("part", "Part"),)))
    world.run()
    assert [(one.number, one.failed) for one in world.life.tokens] == [(2, "blunt")]
    world.take(TokenAgain("s", {"part": {"n": 2}}, ""))  # its token was let go of, and is asked for once more
    assert [(one.number, one.service_uuid, one.failed) for one in world.life.tokens[1:]] == [(3, "s", "")]
    world.take(TaskTold("t", "main", "t", True, ()))
    assert (world.life.shown, world.life.over) == ("FINISHED", True)


def test_records_say_what_they_are() -> None:
    assert words_of(Controlled("pause", "anna", "host", "lunch")) == ("pause", "anna", "host", "lunch")
    assert words_of(Resolved("u", "done", {}, "anna")) == ("resolved done", "anna", "", "")
    for record in (Begun({}, ""), Doubted("u", "x"), TaskTold("t", "n", "t", False, ()), TokensTaken(3), Overdue("u")):
        assert words_of(record)[0]


def test_after_a_restore_nothing_goes_on_by_itself() -> None:
    world = begun()
    uuid = world.running("Cut")
    world.take(Restored())
    world.revive()
    assert (world.life.shown, list(world.effects)) == ("UNKNOWN", [])
    world.take(Resolved(uuid, "retry", {}, "anna"))  # it was not handed out in the backup: no place to give back
    world.run()
    assert (world.life.shown, world.life.over, uuid in world.executed) == ("FINISHED", True, False)


def test_what_cannot_be_stored_and_shown_is_refused() -> None:
    refuse_unbounded(StartOrder("order", "x" * 20_000, {}, -5, "anna"))
    for wrong in (
        StartOrder("order", "", {}, 1 << 63, "anna"),
        StartOrder("o" * 10_001, "", {}, 0, "anna"),
        GetOrder("order_1", after=-(1 << 63)),
    ):
        with pytest.raises(Refused, match="at most"):
            refuse_unbounded(wrong)


def test_what_a_service_is_said_to_have_given_is_checked() -> None:
    world = begun()
    one = world.life.services[world.running("Cut")]
    assert list(wrong_outputs(one, {"part": {"n": 1}}, PROGRAM)) == []
    assert list(wrong_outputs(one, {"part": {"n": "1"}, "x": 1}, None)) == ["`x`: Cut gives no such output"]
    (missing,) = wrong_outputs(one, {}, PROGRAM)
    assert "say what it gave, a Part" in missing
    (misfit,) = wrong_outputs(one, {"part": {"n": "1"}}, PROGRAM)
    assert "this is no number" in misfit


def test_a_clock_that_is_set_ends_no_service() -> None:
    second = 1_000_000_000
    life = Life()
    life.services["u"] = ServiceRun(1, "u", "Cut", "t", "t", 1, (), (), 10.0, 100 * second, 100 * second, state="SENT")
    timers = Timers()
    assert timers.over([("o", life)], 104 * second, 1_004 * second) == []  # another process began it 4 s ago
    assert timers.over([("o", life)], 9_999 * second, 1_009 * second) == []
    assert timers.over([("o", life)], 0, 1_011 * second) == [("o", "u")]
    life.paused, life.services["u"].state = True, "WAITING"
    assert (timers.over([("o", life)], 0, 1_012 * second), timers.any) == ([], True)
    life.services.clear()
    assert (timers.over([("o", life)], 0, 1_013 * second), timers.any) == ([], False)
