"""Historian and alarms in real processes: whoever is killed, whatever is lost or full, each record counts once."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from brewery import Brewery, _page, wait_for
from counting_writer import ALARMS, COUNTS, read_ledger

import tagwerk
from tagwerk.protocols.alarms import GetOccurrences, Occurrence, OccurrenceList
from tagwerk.protocols.history import GetHistorianState, HistorianState
from tagwerk.protocols.plantwide import Event, EventList, GetEvents
from tagwerk.runtime import definitions
from tagwerk.runtime.durable import HISTORY_ONLY
from tagwerk.runtime.home import Home
from tagwerk.runtime.journal_segments import HEAD, encode_record

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TAGS = (*COUNTS, *ALARMS, "idle.a", "busy.a")
Start = Callable[..., Brewery]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    plants: list[Brewery] = []

    def start(script: str = "", plant: str = "") -> Brewery:
        rows = "".join(f"{name},float\n" for name in TAGS)
        (tmp_path / "tags.csv").write_text(f"name,type\n{rows}")
        alarms = "".join(f'[alarm."{tag}"]\ntag = "{tag}"\ntype = "HI"\nlimit = 1.5\n' for tag in (*ALARMS, *TAGS[-2:]))
        head = '[plant]\nname = "consumers"\nshards = 2\ntag_files = ["tags.csv"]\n[node.main]\nrestarts = 1000\n'
        path = tmp_path / "plant.toml"
        path.write_text(f"{head}{plant}{alarms}")
        program = [HERE / script] if script else ["-m", "tagwerk.runtime.node"]
        home = tmp_path / "home"
        node = subprocess.Popen([sys.executable, *program, "--home", str(home), "--plant", str(path)])
        rig = Brewery(tmp_path, home, 0, node)
        plants.append(rig)
        wait_for("the gauge page", lambda: _page(home) is not None, 60)
        page = _page(home)
        assert page is not None
        rig.page = page
        wait_for("all actors RUNNING", rig.all_running, 60)
        return rig

    yield start
    for plant in plants:
        plant.stop()


# --- what a client sees ----------------------------------------------------------------------------------------------


def values(plant: tagwerk.Plant, *tags: str) -> dict[str, list[float]]:
    found = plant.history(tags, 0, time.time_ns() + 3600 * 10**9)
    measured = {tag: found[tag].values[~np.isnan(found[tag].values)] for tag in tags}  # a gap is a NaN with its quality
    return {tag: [float(value) for value in measured[tag]] for tag in tags}


def occurrences(plant: tagwerk.Plant) -> list[Occurrence]:
    found = plant.call("alarms/0", GetOccurrences(limit=10_000), 5.0)
    assert isinstance(found, OccurrenceList)
    return list(found.occurrences)


def events(plant: tagwerk.Plant, kind: str) -> list[Event]:
    found = plant.call("events/0", GetEvents(limit=1_000), 5.0)
    assert isinstance(found, EventList)
    return [event for _, event in found.events if event.kind == kind]


def journal_of(rig: Brewery, shard: str) -> Path:
    return rig.home / "data" / shard.replace("/", "-") / "journal"


def _shard(rig: Brewery, tag: str) -> str:
    return f"cvt/{definitions.load(Home(rig.home)).by_name[tag].shard}"


def stop(rig: Brewery, *names: str) -> None:
    for name in names:
        rig.ask_node("stop", name)


def go(rig: Brewery, *names: str) -> None:
    for name in names:
        rig.ask_node("start", name)
    wait_for(f"{names} running", rig.all_running, 30)


# --- kills -----------------------------------------------------------------------------------------------------------


class Writer:
    """The counting writer, started again after each kill."""

    def __init__(self, rig: Brewery) -> None:
        self.ledger = rig.folder / "ledger"
        self._command = [sys.executable, str(HERE / "counting_writer.py"), str(rig.home), str(self.ledger)]
        self._process = subprocess.Popen(self._command)

    def acknowledged(self) -> list[int]:
        return read_ledger(self.ledger)[1]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def again(self) -> None:
        self._process = subprocess.Popen(self._command)


def strike(rig: Brewery, seed: int, seconds: float) -> Writer:
    """Kill combinations of writer, shards, historian and alarms, each as soon as the plant moves again."""
    rng = random.Random(seed)
    writer = Writer(rig)
    end = time.monotonic() + seconds
    rounds = 0
    victims = ("writer", "cvt/0", "cvt/1", "historian/0", "alarms/0")
    while time.monotonic() < end:
        count = len(writer.acknowledged()) + rng.randrange(5, 60)
        wait_for("progress", lambda count=count: len(writer.acknowledged()) >= count, 40)  # type: ignore[misc]
        struck = rng.sample(victims, rng.randrange(1, 4))
        before = {name: rig.kill(name) for name in struck if name != "writer"}
        if "writer" in struck:
            writer.kill()
            writer.again()
        if rng.random() < 0.7:  # else the next one comes while these are still on their way
            for name, peer in before.items():
                wait_for(f"{name} again", lambda name=name, peer=peer: rig.reborn(name, peer), 30)  # type: ignore[misc]
        rounds += 1
    wait_for("all again", rig.all_running, 30)
    assert rounds >= seconds / 3, f"only {rounds} rounds"
    last = len(writer.acknowledged()) + 10
    wait_for("progress at the end", lambda: len(writer.acknowledged()) >= last, 40)
    writer.kill()
    return writer


def check_once(rig: Brewery, writer: Writer) -> None:
    tried, acknowledged = read_ledger(writer.ledger)
    with rig.attach(timeout_s=20.0) as plant:
        for tag, found in values(plant, *COUNTS).items():
            counted = Counter(found)
            assert [n for n in acknowledged if counted[float(n)] != 1] == [], f"{tag}: lost or doubled"
            assert [n for n, times in counted.items() if times > 1] == [], f"{tag}: doubled"
            assert set(counted) <= {float(n) for n in tried}
            assert found == sorted(found)
        wait_for("the alarms at the end", lambda: _caught_up(rig, plant), 20)
        raised = Counter((one.name, one.value) for one in occurrences(plant))
        expected = {(tag, float(n)) for tag in ALARMS for n in acknowledged[-1_000:] if n % 2 == 0}
        assert sorted(one for one in expected if raised[one] != 1) == [], "occurrences lost or doubled"
        assert [one for one, times in raised.items() if times > 1] == []


def _caught_up(rig: Brewery, plant: tagwerk.Plant) -> bool:
    """The alarms have what the historian has, of each shard."""
    state = plant.call("historian/0", GetHistorianState(), 5.0)
    assert isinstance(state, HistorianState)
    even = [n for n in read_ledger(rig.folder / "ledger")[1] if n % 2 == 0]
    return {one.name for one in occurrences(plant) if one.value == even[-1]} == set(ALARMS)


def test_each_sample_and_each_alarm_counts_once_whoever_is_killed(start: Start) -> None:
    rig = start()
    check_once(rig, strike(rig, 11, 8.0))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_the_same_for_longer(start: Start, seed: int) -> None:
    rig = start()
    check_once(rig, strike(rig, seed, 60.0))


# --- outages ---------------------------------------------------------------------------------------------------------


def test_what_came_and_went_while_nobody_looked_is_told_once(start: Start) -> None:
    rig = start()
    went, stays = ALARMS[0], ALARMS[1]
    with rig.attach(writer="outage") as plant:
        plant.publish(plant.samples([went, stays], [0.0, 0.0]))
        wait_for("both seen", lambda: plant.alarms(names=(went,))[0].value == 0.0)
        stop(rig, "alarms/0")
        times = [time.time_ns() + n * 1_000_000 for n in range(3)]
        plant.publish(plant.samples([went], [7.0], times[0]))
        plant.publish(plant.samples([stays], [8.0], times[1]))
        plant.publish(plant.samples([went], [0.0], times[2]))
        for _ in range(2):  # the second start finds nothing more
            go(rig, "alarms/0")
            wait_for("both told", lambda: len(occurrences(plant)) >= 2)
            found = {one.name: (one.raised_ns, one.cleared_ns, one.value, one.late) for one in occurrences(plant)}
            assert found == {went: (times[0], times[2], 7.0, True), stays: (times[1], None, 8.0, False)}
            assert len(occurrences(plant)) == 2
            peer = rig.kill("alarms/0")
            wait_for("alarms again", lambda peer=peer: rig.reborn("alarms/0", peer))  # type: ignore[misc]


def test_neither_an_idle_shard_nor_a_dead_one_holds_the_others_up(start: Start) -> None:
    rig = start()
    tag = ALARMS[0]
    other = next(shard for shard in ("cvt/0", "cvt/1") if shard != _shard(rig, tag))
    with rig.attach(writer="w") as plant:
        for turn in ("idle", "dead"):
            if turn == "dead":
                stop(rig, other)
            for value, active in ((9.0, True), (0.0, False)):
                began = time.monotonic()
                plant.publish(plant.samples([tag], [value]))
                wait_for("the alarm", lambda active=active: plant.alarms(names=(tag,))[0].active is active)  # type: ignore[misc]
                assert time.monotonic() - began < 5.0, turn
        go(rig, other)


# --- poison ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", [666.0, pytest.param(667.0, marks=pytest.mark.long)])
def test_a_record_that_kills_its_consumers_is_set_aside_alone(start: Start, poison: float) -> None:
    rig = start("poisoned_node.py")
    tag = ALARMS[0]
    with rig.attach(writer="w") as plant:
        for value in (1.0, 2.0, poison, 1.0, 3.0):
            plant.publish(plant.samples([tag], [value]))
        wait_for("two set aside", lambda: len(events(plant, "record_set_aside")) >= 2, 60)
        assert {event.target for event in events(plant, "record_set_aside")} == {_shard(rig, tag)}
        wait_for("the alarms", lambda: len(occurrences(plant)) == 2, 20)
        assert [one.value for one in occurrences(plant)] == [2.0, 3.0]
        wait_for("history", lambda: values(plant, tag)[tag] == [1.0, 2.0, 1.0, 3.0], 20)
        assert len(events(plant, "record_set_aside")) == 2
        wait_for("all RUNNING", rig.all_running, 30)


def test_a_frame_on_the_disk_that_cannot_be_read_is_set_aside_alone(start: Start) -> None:
    rig = start()
    tag = COUNTS[0]
    shard = _shard(rig, tag)
    with rig.attach(writer="w") as plant:
        plant.publish(plant.samples([tag], [2.0]))
        wait_for("history", lambda: values(plant, tag)[tag] == [2.0])
        stop(rig, "historian/0", shard)
        (segment,) = sorted(journal_of(rig, shard).glob("*.seg"))[-1:]
        last = _last_record(segment)
        parts, _ = encode_record((last[0] + 1, HISTORY_ONLY, 0, last[3], "w", 0, last[6]), b"\xc1 is no frame")
        with segment.open("ab") as file:
            file.write(b"".join(map(bytes, parts)))
        go(rig, shard, "historian/0")
        plant.publish(plant.samples([tag], [3.0]))
        wait_for("it is set aside", lambda: len(events(plant, "record_set_aside")) == 1)
        assert [event.after for event in events(plant, "record_set_aside")] == [str(last[0] + 1)]
        assert values(plant, tag)[tag] == [2.0, 3.0]


def _last_record(segment: Path) -> list[Any]:
    data, place, found = segment.read_bytes(), 40, []
    while place < len(data):
        length, _ = HEAD.unpack_from(data, place)
        found = msgpack.unpackb(data[place + HEAD.size : place + HEAD.size + length])
        place += HEAD.size + length
    return list(found)


# --- holes -----------------------------------------------------------------------------------------------------------


def test_a_journal_that_is_gone_is_a_hole_and_its_successor_is_read_from_the_start(start: Start) -> None:
    rig = start()
    tag = ALARMS[0]
    shard = _shard(rig, tag)
    with rig.attach(writer="w") as plant:
        plant.publish(plant.samples([tag], [2.0]))
        wait_for("the alarm", lambda: len(occurrences(plant)) == 1)
        wait_for("history", lambda: values(plant, tag)[tag] == [2.0])
        stop(rig, shard)
        shutil.rmtree(journal_of(rig, shard))
        go(rig, shard)
        plant.publish(plant.samples([tag], [0.0]))
        plant.publish(plant.samples([tag], [3.0]))
        wait_for("the alarms", lambda: len(occurrences(plant)) == 2)
        assert values(plant, tag)[tag] == [2.0, 0.0, 3.0]
        wait_for("both holes", lambda: len(events(plant, "hole")) == 2)
        assert {(event.target, event.after) for event in events(plant, "hole")} == {(shard, "1")}
        assert all(int(event.before) >= 1 and "in the place of" in event.reason for event in events(plant, "hole"))


def test_a_truncated_part_is_a_hole_with_both_ends(start: Start) -> None:
    rig = start(plant="[journal]\ncap_bytes = 2000000\n")
    tag = ALARMS[0]
    shard = _shard(rig, tag)
    with rig.attach(writer="w") as plant:
        plant.publish(plant.samples([tag], [0.5]))
        wait_for("history", lambda: values(plant, tag)[tag] == [0.5])
        stop(rig, "historian/0")
        for number in range(300):
            plant.publish(plant.samples([tag] * 200, [float(number % 2)] * 200))
        stop(rig, shard)
        segments = sorted(journal_of(rig, shard).glob("*.seg"))
        assert len(segments) > 2
        segments[0].unlink()
        first_left = int(segments[1].stem, 16)
        go(rig, shard, "historian/0")
        wait_for("the hole", lambda: len(events(plant, "hole")) == 1)
        (hole,) = events(plant, "hole")
        assert (hole.target, hole.after) == (shard, str(first_left))
        assert 0 < int(hole.before) < first_left
        found = values(plant, tag)[tag]
        assert found[0] == 0.5
        assert 0 < len(found) - 1 < 300 * 200


# --- full disk -------------------------------------------------------------------------------------------------------


def test_history_waits_for_room_and_loses_and_doubles_nothing(start: Start) -> None:
    rig = start()
    tag = COUNTS[0]
    with rig.attach(writer="w", timeout_s=10.0) as plant:
        plant.publish(plant.samples([tag], [0.0]))
        wait_for("history", lambda: values(plant, tag)[tag] == [0.0])
        historian, alarms = rig.peer("historian/0"), rig.peer("alarms/0")
        for peer in (historian, alarms):  # none of their files may grow, but the logs
            resource.prlimit(peer.pid, resource.RLIMIT_FSIZE, (16_384, resource.RLIM_INFINITY))
        for number in range(1, 60):
            plant.publish(plant.samples([tag, ALARMS[0]], [float(number), float(number % 2) * 2]))
        wait_for("it says so", lambda: "history waits in the journals" in rig.log("historian/0"))
        assert len(values(plant, tag)[tag]) == 1
        for peer in (historian, alarms):
            resource.prlimit(peer.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for("history", lambda: values(plant, tag)[tag] == [float(n) for n in range(60)], 20)
        wait_for("the alarms", lambda: len(occurrences(plant)) == 30, 20)
        assert rig.peer("historian/0").incarnation == historian.incarnation, "it died of it"
        assert rig.peer("alarms/0").incarnation == alarms.incarnation, "it died of it"


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.long  # the link takes its time to come back; the rest of it stands in tests/unit/test_alarms_actor.py
def test_a_lost_device_is_one_alarm_not_one_a_tag(tmp_path: Path) -> None:
    rig = Brewery.start(tmp_path)
    name = "system.opcua/plc.link"

    def letter(plant: tagwerk.Plant) -> str:
        return next((row.letter for row in plant.alarms() if row.name == name), "A")

    try:
        with rig.attach() as plant:
            before = len(occurrences(plant))
            rig.ask_node("stop", "external/plc")
            wait_for("the alarm", lambda: letter(plant) == "B", 30)
            assert [one.name for one in occurrences(plant)[before:]] == [name]
            peer = rig.kill("alarms/0")
            wait_for("alarms again", lambda: rig.reborn("alarms/0", peer))
            assert letter(plant) == "B"
            rig.ask_node("start", "external/plc")
            wait_for("it is connected again", lambda: letter(plant) == "D", 30)
            assert [one.name for one in occurrences(plant)].count(name) == 1
    finally:
        rig.stop()
