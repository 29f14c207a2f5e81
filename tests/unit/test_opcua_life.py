"""The life of a link, its writes and its leases, against a simulated server and a clock that only we move."""

from __future__ import annotations

import asyncio
import logging
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

from tagwerk.actors.opcua.lease_keeper import LeaseKeeper
from tagwerk.actors.opcua.lease_store import LeaseMemory
from tagwerk.actors.opcua.link import Link
from tagwerk.actors.opcua.logic.items import ItemTable
from tagwerk.actors.opcua.simulated import SimulatedNode, SimulatedServer
from tagwerk.actors.opcua.writer import Writer
from tagwerk.protocols import quality as q
from tagwerk.protocols.message import Done, Message, Refusal
from tagwerk.protocols.samples import Samples, ValueType
from tagwerk.protocols.tags import DropLease, HoldLease, TagDef, TagWritten, WriteNotSent, WriteUnknown
from tagwerk.runtime.plantfile_models import OpcuaConfig

START_NS = 1_000_000_000_000_000_000
TAGS = [
    TagDef(1, "t", "float", 0, source="opcua/plc", node="t", writable=True),
    TagDef(2, "valve", "bool", 0, source="opcua/plc", node="valve", writable=True),
    TagDef(3, "held", "float", 0, source="opcua/plc", node="held", hold_s=5.0),
]


class TurnedSelector(selectors.DefaultSelector):
    """Instead of waiting, the time moves."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("everything waits, and nothing is due")
        self.now_s += max(0.0, timeout)
        return super().select(0)


class TurnedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.turned = TurnedSelector()
        super().__init__(self.turned)

    def time(self) -> float:
        return self.turned.now_s


class LoopClock:
    def __init__(self, loop: TurnedLoop) -> None:
        self._loop = loop
        self.step_ns = 0
        """How far somebody set the wall clock."""

    def mono_ns(self) -> int:
        return round(self._loop.time() * 1e9) + 1

    def now_ns(self) -> int:
        return START_NS + self.mono_ns() + self.step_ns


class Recorder:
    """A sink: what the shards would hold, and what they were told in order."""

    def __init__(self) -> None:
        self.story: list[tuple[str, Any]] = []
        self.current: dict[int, tuple[Any, int, int]] = {}

    def begin_session(self) -> None:
        self.story.append(("born", None))

    def publish(self, samples: Samples) -> None:
        self.story.append((samples.kind.name, samples.tags.tolist()))
        values = [None] * len(samples) if samples.kind is ValueType.QUALITY else list(samples.values)
        for tag, value, time, quality in zip(
            samples.tags.tolist(), values, samples.times.tolist(), samples.quality.tolist(), strict=True
        ):
            before = self.current.get(tag, (None, 0, 0))
            self.current[tag] = (before[0] if samples.kind is ValueType.QUALITY else value, quality, time)

    def quality(self, handle: int) -> int:
        return self.current.get(handle, (None, q.BAD_WAITING_FOR_INITIAL_DATA, 0))[1]


class Rig:
    def __init__(self, loop: TurnedLoop, watchdog: str = "", store: LeaseMemory | None = None) -> None:
        log = logging.getLogger("test")
        self.clock = LoopClock(loop)
        nodes = {
            "t": SimulatedNode("Double", 20.0, time_ns=5),
            "valve": SimulatedNode("Boolean", True, time_ns=5),
            "held": SimulatedNode("Double", 1.0, time_ns=5),
            "wd": SimulatedNode("Boolean", False),
        }
        self.server = SimulatedServer(self.clock, nodes)
        self.sink = Recorder()
        self.items = ItemTable(TAGS)
        config = OpcuaConfig(url="opc.tcp://simulated", watchdog=watchdog)
        self.link = Link(config, self.items, self.server.connect, self.sink, self.clock, lambda: 1.0, log)
        self.writer = Writer(self.clock, lambda: self.link.device, self.link)
        self.store = store or LeaseMemory()
        self.told: list[tuple[str, str]] = []
        self.jobs: set[asyncio.Task[None]] = set()
        self.keeper = LeaseKeeper(
            self.items.by_handle, self.store, self.writer, self.clock, loop.call_later, self._due, self._tell, log
        )  # fmt: skip
        self.keeper.restore()
        self.told_links: list[bool] = []
        self.link.on_connection = lambda up, reason: self.told_links.append(up)
        self.link.first_act = self.keeper.write_due

    def _tell(self, target: str, after: str, reason: str) -> None:
        self.told.append((target, after))

    def _due(self) -> None:
        if self.link.device is not None:
            task = asyncio.get_running_loop().create_task(self.keeper.write_due())
            self.jobs.add(task)
            task.add_done_callback(self.jobs.discard)

    async def write(self, handle: int, value: Any, deadline_s: float = 0.0, lease: str = "") -> Message:
        tag = self.items.by_handle[handle]
        deadline_ns = self.clock.mono_ns() + round(deadline_s * 1e9) if deadline_s else 0
        return await self.writer.write(tag, value, deadline_ns, lambda: self.keeper.check_write(tag, lease))


async def until(condition: Callable[[], bool], limit_s: float = 30.0) -> float:
    """Let the time run until it is so; says how long that took."""
    start = asyncio.get_running_loop().time()
    while not condition():
        if asyncio.get_running_loop().time() - start > limit_s:
            raise AssertionError("it did not happen in time")
        await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - start


def play(story: Callable[[Rig], Awaitable[None]], connected: bool = True, **options: Any) -> Rig:
    """Run a story beside a link, then stop the link; nothing may be left running."""
    loop = TurnedLoop()

    async def live() -> Rig:
        rig = Rig(loop, **options)
        rig.server.up = connected
        life = asyncio.create_task(rig.link.run())
        try:
            if connected:
                await until(lambda: rig.sink.quality(1) == q.GOOD)
            await story(rig)
            assert not life.done() or life.exception() is None
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        assert not rig.server.devices
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return rig

    try:
        return loop.run_until_complete(live())
    finally:
        loop.close()


# --- connecting and losing -------------------------------------------------------------------------------------------


def test_the_birth_comes_before_the_first_sample() -> None:
    async def story(rig: Rig) -> None:
        assert rig.sink.story[0] == ("born", None)
        assert rig.sink.current[1] == (20.0, q.GOOD, 5)

    play(story)


def test_without_a_server_the_tags_say_so_within_a_second_and_the_held_one_later() -> None:
    async def story(rig: Rig) -> None:
        assert await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION) <= 1.1
        assert rig.sink.quality(3) == q.BAD_WAITING_FOR_INITIAL_DATA
        assert await until(lambda: rig.sink.quality(3) == q.BAD_NO_COMMUNICATION) >= 4.9

    play(story, connected=False)


def test_a_dead_server_is_bad_at_once_with_the_time_of_the_loss_and_keeps_the_value() -> None:
    async def story(rig: Rig) -> None:
        lost_ns = rig.clock.now_ns()
        rig.server.die()
        assert await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION) < 0.1
        value, _, time_ns = rig.sink.current[1]
        assert value == 20.0
        assert abs(time_ns - lost_ns) < 100_000_000

    play(story)


def test_a_hanging_server_is_bad_within_two_seconds() -> None:
    async def story(rig: Rig) -> None:
        rig.server.hangs = True
        hung_ns = rig.clock.now_ns()
        assert await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION) < 2.0
        assert abs(rig.sink.current[1][2] - hung_ns) < 20_000_000

    play(story)


def test_the_loss_is_never_older_than_the_last_sample() -> None:
    async def story(rig: Rig) -> None:
        ahead_ns = rig.clock.now_ns() + 3_000_000_000  # the PLC's clock is 3 s ahead
        rig.server.put("t", 21.0, time_ns=ahead_ns)
        rig.server.die()
        await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION)
        assert rig.sink.current[1][2] == ahead_ns

    play(story)


def test_a_short_loss_never_shows_on_a_held_tag() -> None:
    async def story(rig: Rig) -> None:
        rig.server.die()
        await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION)
        rig.server.up = True
        assert await until(lambda: rig.sink.quality(1) == q.GOOD) < 3.0
        await asyncio.sleep(10)
        assert ("QUALITY", [3]) not in rig.sink.story
        assert rig.link.counts.connects == 2

    play(story)


def test_a_new_session_is_a_new_birth() -> None:
    async def story(rig: Rig) -> None:
        rig.server.die()
        rig.server.up = True
        await until(lambda: rig.sink.story.count(("born", None)) == 2)
        await until(lambda: rig.sink.quality(1) == q.GOOD)

    play(story)


def test_a_node_that_comes_late_is_asked_for_until_it_is_there() -> None:
    async def story(rig: Rig) -> None:
        held = rig.server.nodes.pop("held")
        rig.server.die()
        rig.server.up = True
        await until(lambda: rig.sink.quality(3) == q.BAD_NODE_ID_UNKNOWN)
        assert rig.sink.quality(1) == q.GOOD
        await asyncio.sleep(60)
        rig.server.nodes["held"] = held
        assert await until(lambda: rig.sink.quality(3) == q.GOOD) <= 10.1

    play(story)


def test_after_a_gap_everything_is_read_again() -> None:
    async def story(rig: Rig) -> None:
        rig.server.nodes["t"].value = 33.0  # and no notification came
        rig.link.on_gap("test")
        await until(lambda: rig.sink.current[1][0] == 33.0)

    play(story)


def test_the_watchdog_node_toggles_while_the_link_lives() -> None:
    async def story(rig: Rig) -> None:
        await asyncio.sleep(4.5)
        values = [value for node, value in rig.server.writes if node == "wd"]
        assert values == [True, False, True, False, True]

    play(story, watchdog="wd")


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_write_is_taken_and_read_back_as_a_sample() -> None:
    async def story(rig: Rig) -> None:
        answer = await rig.write(1, 65)
        assert isinstance(answer, TagWritten)
        assert (answer.value, answer.quality) == (65.0, q.GOOD)
        assert rig.sink.current[1][0] == 65.0
        assert rig.server.writes == [("t", 65.0)]

    play(story)


def test_nothing_is_written_or_queued_while_not_connected() -> None:
    async def story(rig: Rig) -> None:
        assert isinstance(await rig.write(1, 65.0), WriteNotSent)
        rig.server.up = True
        await until(lambda: rig.sink.quality(1) == q.GOOD)
        await asyncio.sleep(5)
        assert rig.server.writes == []

    play(story, connected=False)


def test_a_write_after_its_deadline_is_not_sent() -> None:
    async def story(rig: Rig) -> None:
        answer = await rig.writer.write(rig.items.by_handle[1], 65.0, rig.clock.mono_ns() - 1, lambda: None)
        assert isinstance(answer, WriteNotSent)
        assert rig.server.writes == []

    play(story)


def test_a_server_that_hangs_gets_no_write_into_its_socket() -> None:
    async def story(rig: Rig) -> None:
        await rig.write(1, 1.0)  # its type is known now
        await asyncio.sleep(0.3)
        rig.server.hangs = True
        await asyncio.sleep(0.3)
        assert isinstance(await rig.write(1, 65.0), WriteNotSent)
        assert rig.server.writes == [("t", 1.0)]

    play(story)


def test_a_server_that_dies_before_it_answers_leaves_the_outcome_unknown() -> None:
    async def story(rig: Rig) -> None:
        rig.server.forgets_answers = True
        assert isinstance(await rig.write(1, 65.0), WriteUnknown)
        rig.server.forgets_answers = False
        rig.server.up = True
        await until(lambda: rig.link.counts.connects == 2)
        await asyncio.sleep(5)
        assert rig.server.writes == [("t", 65.0)]  # never again

    play(story)


def test_the_servers_no_is_a_refusal() -> None:
    async def story(rig: Rig) -> None:
        rig.server.nodes["t"].write_status = 0x803B_0000
        answer = await rig.write(1, 65.0)
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.tag) == ("ReadOnly", "t")

    play(story)


def test_writes_to_one_node_keep_their_order() -> None:
    async def story(rig: Rig) -> None:
        await asyncio.gather(*(rig.write(1, float(n)) for n in range(20)))
        assert [value for _, value in rig.server.writes] == [float(n) for n in range(20)]

    play(story)


# --- leases ----------------------------------------------------------------------------------------------------------

HOLD = HoldLease("mash", (1, 2), (0.0, None), 2.0)


def test_a_lapse_writes_each_safe_value_once() -> None:
    async def story(rig: Rig) -> None:
        assert isinstance(rig.keeper.hold(HOLD), Done)
        for _ in range(5):
            await asyncio.sleep(1)
            assert isinstance(rig.keeper.hold(HOLD), Done)
        assert rig.server.writes == []
        assert 1.9 < await until(lambda: rig.server.writes != []) < 2.2
        await asyncio.sleep(20)
        assert rig.server.writes == [("t", 0.0)]
        assert rig.store.kept == ([], {})
        assert rig.told == [("mash", "lapsed"), ("t", "0.0")]

    play(story)


def test_another_hand_is_kept_off_a_leased_output() -> None:
    async def story(rig: Rig) -> None:
        rig.keeper.hold(HOLD)
        answer = await rig.write(1, 65.0)
        assert isinstance(answer, Refusal)
        assert answer.code == "Conflict"
        assert isinstance(await rig.write(1, 66.0, lease="mash"), TagWritten)

    play(story)


def test_a_lapse_without_a_connection_is_made_up_for_first_of_all() -> None:
    async def story(rig: Rig) -> None:
        rig.keeper.hold(HOLD)
        rig.server.die()
        await asyncio.sleep(5)
        assert rig.store.kept == ([], {1: 0.0})
        rig.sink.story.clear()
        rig.server.up = True
        await until(lambda: rig.server.writes == [("t", 0.0)])
        await until(lambda: rig.sink.quality(2) == q.GOOD)
        told = [what for what in rig.sink.story if what[0] != "QUALITY"]
        assert told[:2] == [("born", None), ("FLOAT", [1])]  # the safe value read back, before any data
        await asyncio.sleep(20)
        assert rig.server.writes == [("t", 0.0)]

    play(story)


def test_a_killed_link_gives_each_holder_one_lease_then_writes_safe_values() -> None:
    store = LeaseMemory()

    async def before(rig: Rig) -> None:
        rig.keeper.hold(HOLD)

    async def after(rig: Rig) -> None:
        await asyncio.sleep(1)
        assert rig.server.writes == []
        await until(lambda: rig.server.writes == [("t", 0.0)], limit_s=2.0)

    play(before, store=store)
    play(after, store=store)


def test_a_holder_that_leaves_may_ask_for_its_safe_values() -> None:
    async def story(rig: Rig) -> None:
        rig.keeper.hold(HOLD)
        rig.keeper.drop(DropLease("mash", write_safe=True))
        await until(lambda: rig.server.writes == [("t", 0.0)], limit_s=0.5)

    play(story)


def test_a_lease_on_what_is_not_ours_or_does_not_fit_is_refused() -> None:
    async def story(rig: Rig) -> None:
        for handles, safe, code in [
            ((9,), (0.0,), "UnknownTag"),
            ((2,), (1.5,), "WrongType"),
            ((3,), (None,), "ReadOnly"),
        ]:
            answer = rig.keeper.hold(HoldLease("x", handles, safe, 2.0))
            assert isinstance(answer, Refusal)
            assert answer.code == code

    play(story)


def test_a_refused_safe_value_is_not_tried_for_ever() -> None:
    async def story(rig: Rig) -> None:
        rig.server.nodes["t"].write_status = 0x803B_0000
        rig.keeper.hold(HOLD)
        await asyncio.sleep(30)
        assert len(rig.server.writes) == 1
        assert rig.keeper.table.due == {}

    play(story)


def test_a_write_is_one_sample_though_it_is_read_back_and_notified() -> None:
    async def story(rig: Rig) -> None:
        for value in (61.0, 62.0, 61.0):
            before = rig.sink.story.count(("FLOAT", [1]))
            assert isinstance(await rig.write(1, value), TagWritten)
            await asyncio.sleep(1)
            assert rig.sink.story.count(("FLOAT", [1])) == before + 1
            assert rig.sink.current[1][0] == value

    play(story)


def test_after_an_echo_the_same_value_is_news_again() -> None:
    async def story(rig: Rig) -> None:
        await rig.write(1, 61.0)
        time_ns = rig.sink.current[1][2]
        rig.server.put("t", 61.0, time_ns=time_ns, status=q.BAD_SENSOR_FAILURE)
        assert rig.sink.quality(1) == q.BAD_SENSOR_FAILURE
        rig.server.put("t", 61.0, time_ns=time_ns)
        assert rig.sink.quality(1) == q.GOOD

    play(story)


# --- marks, births, repetitions --------------------------------------------------------------------------------------


def test_a_session_that_dies_before_it_serves_leaves_no_value_that_looks_good() -> None:
    async def story(rig: Rig) -> None:
        rig.server.die()
        await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION)
        rig.sink.story.clear()
        rig.server.dies_after_subscribe = True
        rig.server.up = True
        await until(lambda: any(kind == "FLOAT" for kind, _ in rig.sink.story))  # its first value was heard
        assert await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION) < 1.0
        assert rig.told_links == [True, False]  # and the operator was told once

    play(story)


def test_a_hold_that_ends_while_a_session_begins_spares_what_it_has_heard_already() -> None:
    async def story(rig: Rig) -> None:
        rig.server.die()
        await asyncio.sleep(4.0)

        async def slow() -> None:  # the safe values that are due take their time
            rig.server.put("held", 2.0)
            await asyncio.sleep(0)

        rig.link.first_act = slow
        rig.server.subscribing_s = 3.0
        rig.server.up = True
        await until(lambda: rig.sink.current[3][0] == 2.0)
        await asyncio.sleep(10)
        assert rig.sink.quality(3) == q.GOOD

    play(story)


def test_a_value_older_than_the_mark_before_it_is_born_anew() -> None:
    async def story(rig: Rig) -> None:
        held = rig.server.nodes.pop("held")
        rig.server.die()
        rig.server.up = True
        await until(lambda: rig.sink.quality(3) == q.BAD_NODE_ID_UNKNOWN)
        held.time_ns = rig.clock.now_ns() - 3_000_000_000
        rig.server.nodes["held"] = held
        rig.sink.story.clear()
        await until(lambda: rig.sink.quality(3) == q.GOOD)
        assert rig.sink.story == [("born", None), ("FLOAT", [3])]

    play(story)


def test_what_is_only_repeated_is_not_published_again() -> None:
    async def story(rig: Rig) -> None:
        rig.sink.story.clear()
        rig.link.on_gap("test")
        await asyncio.sleep(1)
        assert rig.sink.story == []
        rig.link.read_all_again()  # but to shards that may have lost it
        await asyncio.sleep(1)
        assert sorted(tag for kind, tags in rig.sink.story if kind != "born" for tag in tags) == [1, 2, 3]

    play(story)


def test_a_reconnect_within_the_hold_repeats_nothing_of_the_held_tag() -> None:
    async def story(rig: Rig) -> None:
        before = [tags for kind, tags in rig.sink.story if kind == "FLOAT" and 3 in tags]
        rig.server.die()
        rig.server.up = True
        await until(lambda: rig.link.counts.connects == 2 and rig.sink.quality(1) == q.GOOD)
        await asyncio.sleep(1)
        assert [tags for kind, tags in rig.sink.story if kind == "FLOAT" and 3 in tags] == before

    play(story)


def test_a_change_that_was_never_told_is_found_by_comparing_and_the_node_asked_for_anew() -> None:
    async def story(rig: Rig) -> None:
        rig.server.forget_item("held")
        rig.server.put("held", 2.0)
        assert await until(lambda: rig.sink.current[3][0] == 2.0, limit_s=70.0) > 30.0
        assert rig.link.counts.gaps == 1
        await until(lambda: not rig.items.missing, limit_s=12.0)
        rig.server.put("held", 3.0)
        await until(lambda: rig.sink.current[3][0] == 3.0, limit_s=1.0)
        assert rig.link.counts.connects == 1

    play(story)


def test_comparing_finds_nothing_where_all_is_told() -> None:
    async def story(rig: Rig) -> None:
        before = len(rig.sink.story)
        for n in range(400):
            rig.server.put("t", float(n))
            await asyncio.sleep(0.5)
        assert rig.link.counts.gaps == 0
        assert len(rig.sink.story) == before + 400

    play(story)


def test_a_server_that_was_never_there_is_told_once() -> None:
    async def story(rig: Rig) -> None:
        await asyncio.sleep(60)
        assert rig.told_links == [False]
        rig.server.up = True
        await until(lambda: rig.told_links == [False, True])

    play(story, connected=False)


def test_a_server_that_comes_up_with_the_plant_was_never_lost() -> None:
    async def story(rig: Rig) -> None:
        assert await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION) <= 1.1
        await asyncio.sleep(3.0)
        assert rig.link.connected is None
        rig.server.up = True
        await until(lambda: rig.link.connected is True)
        await asyncio.sleep(10.0)
        assert rig.told_links == [True]

    play(story, connected=False)


def test_a_lost_link_with_many_attempts_is_told_once() -> None:
    async def story(rig: Rig) -> None:
        rig.server.die()
        await asyncio.sleep(120)
        assert rig.told_links == [True, False]
        assert [tags for kind, tags in rig.sink.story if kind == "QUALITY"] == [[2, 1], [3]]

    play(story)


# --- clocks ----------------------------------------------------------------------------------------------------------

HOUR_NS = 3_600_000_000_000


def test_a_plc_whose_clock_steps_back_is_marked_with_its_own_new_time_when_it_is_lost() -> None:
    async def story(rig: Rig) -> None:
        rig.server.put("t", 21.0, time_ns=rig.clock.now_ns() + HOUR_NS)
        rig.server.put("t", 22.0, time_ns=rig.clock.now_ns())
        lost_ns = rig.clock.now_ns()
        rig.server.die()
        await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION)
        assert abs(rig.sink.current[1][2] - lost_ns) < 1_000_000_000  # and not in an hour

    play(story)


def test_a_step_of_the_hosts_clock_moves_no_deadline_lease_hold_or_watch() -> None:
    async def story(rig: Rig) -> None:
        rig.keeper.hold(HoldLease("mash", (1,), (0.0,), 2.0))
        for step_ns in (HOUR_NS, -2 * HOUR_NS, HOUR_NS):
            rig.clock.step_ns += step_ns
            await asyncio.sleep(1.0)
            assert isinstance(rig.keeper.hold(HoldLease("mash", (1,), (0.0,), 2.0)), Done)
            assert isinstance(await rig.write(2, True, deadline_s=1.0), TagWritten)
        assert rig.link.counts.connects == 1
        assert [what for what in rig.server.writes if what[0] == "t"] == []
        rig.clock.step_ns -= HOUR_NS
        assert 1.9 < await until(lambda: ("t", 0.0) in rig.server.writes) < 2.2
        rig.server.hangs = True
        rig.clock.step_ns += HOUR_NS
        assert await until(lambda: rig.sink.quality(1) == q.BAD_NO_COMMUNICATION) < 2.0
        rig.clock.step_ns -= HOUR_NS
        assert 4.8 < await until(lambda: rig.sink.quality(3) == q.BAD_NO_COMMUNICATION) < 5.2

    play(story)


# --- writes and a second session -------------------------------------------------------------------------------------


def test_a_write_that_waits_for_its_turn_is_not_for_the_next_session() -> None:
    async def story(rig: Rig) -> None:
        rig.server.answering_s = 0.5
        first = asyncio.create_task(rig.write(1, 1.0))
        second = asyncio.create_task(rig.write(1, 2.0))
        await asyncio.sleep(0.1)
        rig.server.die()
        rig.server.up = True
        await until(lambda: rig.link.counts.connects == 2)
        assert isinstance(await second, WriteNotSent)
        assert not isinstance(await first, WriteNotSent)
        await asyncio.sleep(5)
        assert rig.server.writes == [("t", 1.0)]

    play(story)


def test_a_link_that_is_stopped_in_the_moment_of_a_loss_stops() -> None:
    loop = TurnedLoop()

    async def live() -> None:
        rig = Rig(loop)
        life = asyncio.create_task(rig.link.run())
        await until(lambda: rig.sink.quality(1) == q.GOOD)
        for device in list(rig.server.devices):
            device.lose("connection reset")
        for _ in range(2):  # the loss is under way in its tasks
            await asyncio.sleep(0)
        life.cancel()
        await until(life.done, limit_s=5.0)

    try:
        loop.run_until_complete(live())
    finally:
        loop.close()
