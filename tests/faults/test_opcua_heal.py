"""A link on a real server, through a cable: whatever happens to either, every item comes back."""

from __future__ import annotations

import asyncio
import random
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opcua_rig import HANDLES, LATER, PROMPT, PlcProcess, Rig, hang, rig, wake
from shown import until

from tagwerk.protocols import quality as q
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.plantwide import Event, EventList, GetEvents
from tagwerk.protocols.tags import TagWritten, WriteNotSent, WriteUnknown
from tagwerk.runtime.attach import Plant, attach
from tagwerk.runtime.home import Home

pytestmark = pytest.mark.slow

BACK_S = 15.0
"""A node that the server has is asked for at least every 10 s."""


@pytest.fixture(scope="module")
def shared() -> Iterator[PlcProcess]:
    process = PlcProcess()
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
def plc(shared: PlcProcess) -> PlcProcess:
    """One that runs as it should. Only what a session of before has done to it may be left."""
    if not shared.runs:
        shared.start()
    shared.tell("clock 0")
    shared.tell("quiet off")
    return shared


@pytest.fixture
def new_plc(shared: PlcProcess) -> PlcProcess:
    """One without late nodes."""
    shared.kill()
    shared.start()
    return shared


def play(plc: PlcProcess, story: Callable[[Rig], Awaitable[None]], names: list[str] = PROMPT, **options: Any) -> None:
    """Run a story beside a link that serves."""

    async def live() -> None:
        async with rig(plc, names, **options) as made:
            await until(lambda: made.shown.quality(PROMPT[-1]) == q.GOOD)
            await story(made)

    asyncio.run(live())


def counters(made: Rig, name: str) -> list[Any]:
    return [value for tag, value, _, _ in made.shown.samples if tag == name and value is not None]


# --- nothing is lost while the session lives -------------------------------------------------------------------------


def test_lost_notifications_are_asked_for_again_and_come_in_order(plc: PlcProcess) -> None:
    async def story(made: Rig) -> None:
        await made.told("lose 3")
        await made.fresh(PROMPT, BACK_S)
        await asyncio.sleep(0.5)
        values = counters(made, "n0")
        steps = [after - before for before, after in pairwise(values)]
        assert min(steps) > 0  # in order, none twice
        assert max(steps) < 250, steps  # the server writes every 100 ms: no step is left out
        assert made.link.counts.gaps == 0

    play(plc, story)


def test_what_the_server_has_no_more_is_a_counted_gap_and_is_not_asked_for_without_end(plc: PlcProcess) -> None:
    async def story(made: Rig) -> None:
        await made.told("forget")
        await made.told("lose 2")
        await until(lambda: made.link.counts.gaps == 1)
        await made.fresh(PROMPT, BACK_S)
        assert made.link.counts.connects == 1

    play(plc, story)


def test_a_node_of_which_the_server_tells_nothing_any_more_is_found_and_told_of_again(plc: PlcProcess) -> None:
    async def story(made: Rig) -> None:
        await made.told("deaf n7")
        await made.fresh(["n7"], BACK_S)
        assert made.link.counts.connects == 1
        before = made.shown.value("n7")
        await until(lambda: counters(made, "n7")[-10:].count(before) == 0)  # it flows again, and not once a comparison
        assert made.link.counts.gaps == 1

    play(plc, story, compare_s=1.0)


# --- marks and times -------------------------------------------------------------------------------------------------


def test_a_late_node_with_a_value_from_before_is_current_not_late(new_plc: PlcProcess) -> None:
    async def story(made: Rig) -> None:
        await until(lambda: made.shown.quality("kept") == q.BAD_NODE_ID_UNKNOWN)
        births = made.shown.births
        await made.told("kept 4")
        await until(lambda: made.shown.quality("kept") == q.GOOD)
        assert made.shown.value("kept") == 42.0
        # Its time is older than that of the mark: only a birth makes it current in the shards.
        assert made.shown.births == births + 1

    play(new_plc, story, [*PROMPT, "kept"])


# --- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_step_of_the_plcs_clock_breaks_no_session_and_freezes_no_value(plc: PlcProcess, step_s: int) -> None:
    async def story(made: Rig) -> None:
        since = len(made.shown.samples)
        await made.told(f"clock {step_s}")
        took = await made.fresh(PROMPT, 3.0)
        await asyncio.sleep(2.5)  # the channel is renewed meanwhile, by the stepped clock's token
        await made.fresh(PROMPT, 1.0)
        await made.told("clock 0")
        await made.fresh(PROMPT, 1.0)
        assert made.link.counts.connects == 1, took
        assert {quality for _, _, quality, _ in made.shown.samples[since:]} == {q.GOOD}
        lost_ns = time.time_ns()
        made.plc.kill()
        await until(lambda: made.shown.quality("n0") == q.BAD_NO_COMMUNICATION)
        assert abs(made.shown.now[HANDLES["n0"]][2] - lost_ns) < 2_000_000_000  # not in an hour

    play(plc, story, channel_s=1.0)


def test_a_server_that_starts_with_another_clock_is_taken_as_it_is(plc: PlcProcess) -> None:
    async def story(made: Rig) -> None:
        await made.told("clock -7200")
        made.cable.reset()
        await made.fresh(PROMPT, 5.0)
        await asyncio.sleep(3.0)
        await made.fresh(PROMPT, 1.0)
        assert made.link.counts.connects == 2

    play(plc, story, channel_s=1.0)


PLANT = """
[plant]
name = "t"
shards = 1
[opcua.plc]
url = "opc.tcp://127.0.0.1:{port}/"
"""
TAG = """
[tag."p.{name}"]
type = "{type}"
source = "opcua/plc"
node = "nsu=urn:tagwerk:test;s={name}"
"""
ALARM = """
[alarm."p.{name}.high"]
tag = "p.{name}"
type = "HI"
limit = 0
"""
NODE = """
import sys
from pathlib import Path
from tagwerk.runtime.home import Home
from tagwerk.runtime.node import run_node
sys.exit(run_node(Home(Path(sys.argv[1])), Path(sys.argv[2])))
"""


@contextmanager
def node(plc: PlcProcess, tmp_path: Path) -> Generator[Plant]:
    """A whole plant on this PLC: 50 tags, an alarm on each."""
    text = PLANT.format(port=plc.port)
    for number, name in enumerate(PROMPT):
        text += TAG.format(name=name, type="int" if number % 2 else "float") + ALARM.format(name=name)
    (tmp_path / "plant.toml").write_text(text)
    home = tmp_path / "home"
    arguments = [sys.executable, "-c", NODE, str(home), str(tmp_path / "plant.toml")]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert reached(lambda: (home / "run").exists() and Home(home).file("opcua/plc", "lock").exists(), 60.0)
            with attach(home=home, timeout_s=20.0) as plant:
                yield plant
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0


def events(plant: Plant, kind: str) -> list[Event]:
    found = plant.query("events/0", GetEvents(1000), EventList).events
    return [event for _, event in found if event.kind == kind]


def reached(condition: Callable[[], bool], limit_s: float = 20.0) -> bool:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_in_a_plant_a_stepped_plc_clock_is_told_and_a_lost_link_is_one_event_and_one_alarm(
    plc: PlcProcess, tmp_path: Path
) -> None:
    def flows(plant: Plant) -> bool:
        before = plant.read("p.n3").value

        def moved() -> bool:
            now = plant.read("p.n3")
            return now.good and now.value != before

        return reached(moved, 3.0)

    def alarms(plant: Plant) -> dict[str, tuple[bool, str]]:
        return {alarm.name: (alarm.active, alarm.occurrence) for alarm in plant.alarms()}

    with node(plc, tmp_path) as plant:
        assert reached(lambda: plant.read("p.n3").good)
        for step_s in (3600, -3600):
            known = len(events(plant, "clock"))
            plc.tell(f"clock {step_s}")
            assert flows(plant)
            plc.tell("clock 0")
            assert flows(plant)
            assert flows(plant)
            # Told, and not once a tag or a batch.
            assert reached(lambda: known < len(events(plant, "clock")) <= known + 1)  # noqa: B023  called at once
        before = alarms(plant)
        assert len([name for name, (active, _) in before.items() if active]) == len(PROMPT)
        plc.kill()
        assert reached(lambda: plant.read("p.n3").quality == q.BAD_NO_COMMUNICATION)
        assert reached(lambda: events(plant, "link")[-1].after == "lost")
        time.sleep(3.0)  # many attempts
        assert [event.after for event in events(plant, "link")] == ["connected", "lost"]
        after = alarms(plant)
        assert [name for name in after if name.startswith("system.opcua/")] == ["system.opcua/plc.link"]
        assert after["system.opcua/plc.link"][0]
        assert {name: after[name] for name in before} == before


# --- writes ----------------------------------------------------------------------------------------------------------


def test_the_end_of_the_connection_is_no_answer_to_a_write(plc: PlcProcess) -> None:
    """What ends a connection has a status, too (Part 6, 7.1.2.5): that is no refusal, the server may have written."""

    async def story(made: Rig) -> None:
        assert isinstance(await made.writer.write(made.tags["n0"], 1.0, 0, lambda: None), TagWritten)
        hang(made.plc)
        writing = asyncio.create_task(made.writer.write(made.tags["n0"], 2.0, 0, lambda: None))
        await asyncio.sleep(0.05)
        bad_secure_channel_closed = 0x8086_0000
        made.cable.say_to_link(struct.pack("<4sIII", b"ERRF", 20, bad_secure_channel_closed, 4) + b"over")
        answer = await writing
        wake(made.plc)
        assert isinstance(answer, WriteUnknown), answer

    play(plc, story)


def test_writes_during_faults_are_done_once_or_never_and_nothing_is_written_by_a_reconnect(plc: PlcProcess) -> None:
    async def story(made: Rig) -> None:
        await made.told("quiet on")
        answers: dict[int, Message] = {}

        async def write_on() -> None:
            for number in range(1, 100_000):
                answers[number] = await made.writer.write(made.tags["n1"], number, 0, lambda: None)
                await asyncio.sleep(0.01)

        writing = asyncio.create_task(write_on())
        for _ in range(3):
            await asyncio.sleep(0.3)
            made.cable.reset()
            await until(lambda: made.shown.quality("n1") == q.GOOD)
        hang(made.plc)
        await asyncio.sleep(2.5)
        wake(made.plc)
        await until(lambda: made.link.device is not None)
        await asyncio.sleep(0.5)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        report = await made.asked("writes n1")
        taken = [number for number, answer in answers.items() if isinstance(answer, TagWritten)]
        never = {number for number, answer in answers.items() if isinstance(answer, WriteNotSent | Refusal)}
        written = [int(text) for text in report.split()]
        assert len(set(written)) == len(written)  # at most once
        assert written == sorted(written)  # in order
        assert set(taken) <= set(written)
        assert not never & set(written)
        assert len(taken) > 20

    play(plc, story)


# --- random cycles ---------------------------------------------------------------------------------------------------


async def kill(made: Rig, dice: random.Random) -> None:
    made.plc.kill()
    await asyncio.sleep(dice.uniform(0, 1.5))
    await asyncio.to_thread(made.plc.start)
    await made.told("late")


async def stop_for_a_while(made: Rig, dice: random.Random) -> None:
    hang(made.plc)
    await asyncio.sleep(4.0)
    wake(made.plc)


async def restart(made: Rig, dice: random.Random) -> None:
    made.plc.kill()
    await asyncio.to_thread(made.plc.start)
    await made.told("late")


async def restart_with_late_nodes(made: Rig, dice: random.Random) -> None:
    made.plc.kill()
    await asyncio.to_thread(made.plc.start)
    await asyncio.sleep(dice.uniform(0, 3))
    await made.told("late")


async def cut(made: Rig, dice: random.Random) -> None:
    if dice.random() < 0.5:
        made.cable.reset()
        return
    await made.cable.cut()
    await asyncio.sleep(dice.uniform(0, 3))
    await made.cable.plug()


async def hang_then_kill(made: Rig, dice: random.Random) -> None:
    hang(made.plc)
    await asyncio.sleep(dice.uniform(0, 3))
    await kill(made, dice)


FAULTS = (kill, stop_for_a_while, restart, restart_with_late_nodes, cut, hang_then_kill)


def heals(plc: PlcProcess, cycles: int, seed: int) -> list[tuple[str, float]]:
    """Play random faults; each may come while the link is still busy with the one before."""
    dice = random.Random(seed)
    took: list[tuple[str, float]] = []

    async def live() -> None:
        async with rig(plc, [*PROMPT, *LATER]) as made:
            await made.told("late")
            await made.fresh([*PROMPT, *LATER], BACK_S)
            faults = list(FAULTS)
            for cycle in range(cycles):
                if cycle % len(faults) == 0:
                    dice.shuffle(faults)
                fault = faults[cycle % len(faults)]
                await fault(made, dice)
                took.append((fault.__name__, await made.fresh([*PROMPT, *LATER], BACK_S)))
                if dice.random() < 0.5:
                    await asyncio.sleep(dice.uniform(0, 1))

    asyncio.run(live())
    return took


def test_every_item_is_back_after_each_of_five_random_faults(new_plc: PlcProcess) -> None:
    assert len(heals(new_plc, 5, seed=1)) == 5


@pytest.mark.long
def test_every_item_is_back_after_each_of_three_hundred_random_faults(new_plc: PlcProcess) -> None:
    assert len(heals(new_plc, 300, seed=int(time.time()))) == 300
