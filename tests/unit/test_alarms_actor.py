"""The alarms as an actor, beside real shards and the log of events, on the in-memory twin."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from consumer_rig import NOW_NS, Rig, running
from full_disk import FullDisk, use_full_disk

from tagwerk.actors.alarms.actor import LOOK_CLOSELY_S, LOOKS_AT_ONCE, Alarms
from tagwerk.protocols import quality as q
from tagwerk.protocols.alarms import AckAlarm, AlarmAcked, AlarmList, GetAlarms
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.samples import ValueType, make
from tagwerk.runtime import levels
from tagwerk.runtime.durable import SAMPLES, JournalRecord
from tagwerk.runtime.page import PeerState

PLANT = """
[opcua.plc]
url = "opc.tcp://127.0.0.1:4840"
[alarm.hot]
tag = "s0.t"
type = "HI"
limit = 80.0
[alarm.far]
tag = "s1.t"
type = "HI"
limit = 80.0
"""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with running(tmp_path, monkeypatch, PLANT) as rig:
        yield rig


def opened(rig: Rig) -> list[str]:
    found = rig.ask("alarms/0", GetAlarms(only_open=True))
    assert isinstance(found, AlarmList)
    return [f"{row.name} {row.letter}" for row in found.alarms]


def bounce(rig: Rig, *names: str) -> None:
    rig.kill(*names)
    rig.start(*names)
    rig.run(1.5)


# --- system alarms ---------------------------------------------------------------------------------------------------


def test_an_actor_that_is_given_up_is_one_alarm_and_one_event_whoever_dies(rig: Rig) -> None:
    rig.kill("historian/0")
    rig.say("historian/0", PeerState.FATAL, count=1)
    rig.run(1.5)
    name = "system.historian/0.fatal"
    for _ in range(2):
        assert opened(rig) == [f"{name} B"]
        assert [event.target for event in rig.events("fatal")] == ["historian/0"]
        bounce(rig, "alarms/0", "events/0")
    rig.start("historian/0")
    rig.say("historian/0", PeerState.RUNNING, count=1)
    rig.run(1.5)
    assert opened(rig) == [f"{name} D"]
    bounce(rig, "alarms/0", "events/0")
    assert opened(rig) == [f"{name} D"]
    assert len(rig.occurrences()) == 1
    assert len(rig.events("fatal")) == 1


def test_a_clock_that_was_set_back_does_not_turn_its_times_round(rig: Rig) -> None:
    rig.say("opcua/plc", PeerState.FATAL, count=1)
    rig.run(1.5)
    rig.clock.step(-3_600.0)
    rig.say("opcua/plc", PeerState.BACKOFF, count=1)
    rig.run(1.5)
    (found,) = rig.occurrences()
    assert found.cleared_ns is not None
    assert found.cleared_ns >= found.raised_ns > NOW_NS


def test_a_lost_link_is_one_alarm_whatever_it_feeds(rig: Rig) -> None:
    writer = rig.writer()
    slot = rig.page.slot("opcua/plc")
    slot.attach(pid=9, incarnation=1, mono_ns=1)
    rig.incarnation = 9
    rig.say("opcua/plc", PeerState.RUNNING)
    slot.write_state(PeerState.RUNNING)
    name = "system.opcua/plc.link"
    for level, letters in (
        (levels.LINK_UNKNOWN, []),
        (levels.LINK_UP, []),
        (levels.LINK_DOWN, ["B"]),
        (levels.LINK_UNKNOWN, ["B"]),  # it was restarted and does not know yet
        (levels.LINK_DOWN, ["B"]),
        (levels.LINK_UP, ["D"]),
    ):
        slot.write_counter(levels.LINK_COUNTER, level)
        for shard in range(2):
            bad = q.BAD_NO_COMMUNICATION if level == levels.LINK_DOWN else q.GOOD
            rig.publish(writer, shard, 20.0, bad)
        rig.run(1.5)
        assert opened(rig) == [f"{name} {letter}" for letter in letters], level
        rig.kill("alarms/0")
        rig.start("alarms/0")
    assert len(rig.occurrences()) == 1


def test_a_journal_that_is_nearly_full_is_an_alarm_until_there_is_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard: Any = rig.actors["cvt/0"]
    fill = 0.5
    monkeypatch.setattr(type(shard.journal), "fill", property(lambda journal: fill if journal is shard.journal else 0))
    letters = []
    for fill in (0.5, 0.79, 0.8, 0.76, 0.74, 0.76):  # noqa: B007  the property reads it
        rig.run(2.5)
        letters.append(opened(rig))
    stands, gone = ["system.cvt/0.journal B"], ["system.cvt/0.journal D"]
    assert letters == [[], [], stands, stands, gone, gone]


def test_a_disk_of_history_that_is_nearly_full_is_an_alarm_until_there_is_room(rig: Rig) -> None:
    historian: Any = rig.actors["historian/0"]
    letters = []
    for used_pct in (79.0, 81.0, 96.0, 79.5, 78.0):
        historian._disk._used_pct = lambda used=used_pct: used
        historian._look_at_disk()
        rig.run(1.5)
        letters.append(opened(rig))
    stands, gone = ["system.historian/0.disk B"], ["system.historian/0.disk D"]
    assert letters == [[], stands, stands, stands, gone]


# --- poison and holes ------------------------------------------------------------------------------------------------


def test_a_record_that_kills_twice_is_set_aside_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = rig.writer()
    rig.run(1.5)
    rig.kill("alarms/0")
    for value in (20.0, 90.0, 20.0, 666.0, 20.0, 95.0):
        rig.publish(writer, 0, value)
    decoded = Alarms._batches

    def batches(alarms: Alarms, shard: str, record: JournalRecord) -> Any:
        found = decoded(alarms, shard, record)
        if any(666.0 in batch.values for batch in found):
            raise ZeroDivisionError("poison")
        return found

    monkeypatch.setattr(Alarms, "_batches", batches)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            rig.start("alarms/0")  # reads the journal at once
        rig.kill("alarms/0")
    rig.start("alarms/0")
    rig.run(1.0)
    assert [one.value for one in rig.occurrences()] == [90.0, 95.0]
    assert [(event.target, event.user) for event in rig.events("record_set_aside")] == [("cvt/0", "alarms/0")]


def test_a_frame_that_cannot_be_read_is_set_aside_alone(rig: Rig) -> None:
    writer = rig.writer()
    rig.publish(writer, 0, 20.0)
    shard: Any = rig.actors["cvt/0"]
    shard.recorder.append(SAMPLES, "", 0, b"\xc1")
    rig.publish(writer, 0, 90.0)
    rig.run(1.0)
    assert opened(rig) == ["hot B"]
    assert sorted(event.user for event in rig.events("record_set_aside")) == ["", "alarms/0"]
    assert rig.history(0) == [20.0, 90.0]


# --- a full disk -----------------------------------------------------------------------------------------------------


def test_alarms_go_on_without_room_and_an_acknowledgement_is_done_or_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_full_disk(monkeypatch)
    bounce(rig, "alarms/0")
    writer = rig.writer()
    rig.publish(writer, 0, 90.0)
    rig.run(1.5)
    FullDisk.full = True
    refused = rig.ask("alarms/0", AckAlarm("hot", by="anna"))
    assert isinstance(refused, Refused)
    assert refused.code == "NotPermitted"
    rig.publish(writer, 1, 95.0)
    rig.run(3.0)
    assert opened(rig) == ["hot B", "far B"]
    FullDisk.full = False
    rig.run(2.0)
    assert isinstance(rig.ask("alarms/0", AckAlarm("hot", by="anna")), AlarmAcked)
    bounce(rig, "alarms/0")
    assert opened(rig) == ["hot C", "far B"]
    assert [one.late for one in rig.occurrences()] == [False, False]
    assert [event.target for event in rig.events("ack")] == ["hot"]


def test_the_log_of_events_waits_for_room(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    use_full_disk(monkeypatch)
    bounce(rig, "events/0")
    rig.publish(rig.writer(), 0, 90.0)
    rig.run(1.5)
    FullDisk.full = True
    assert isinstance(rig.ask("alarms/0", AckAlarm("hot", by="anna")), AlarmAcked)
    rig.clock.step(3_600.0)
    rig.run(5.0)
    assert rig.events() == []
    FullDisk.full = False
    rig.run(3.0)
    assert sorted(event.kind for event in rig.events()) == ["ack", "clock_step"]
    rig.run(12.0)
    assert len(rig.events()) == 2


def test_bad_quality_raises_and_clears_nothing(rig: Rig) -> None:
    writer = rig.writer()
    rig.publish(writer, 0, 90.0)
    for _ in range(5):
        rig.publish(writer, 0, 20.0, q.BAD_SENSOR_FAILURE)
        rig.publish(writer, 1, 99.0, q.BAD_SENSOR_FAILURE)
    rig.run(1.0)
    assert opened(rig) == ["hot B"]
    assert len(rig.occurrences()) == 1


def test_what_began_at_one_time_is_listed_in_one_order_whichever_shard_was_read_first(rig: Rig) -> None:
    orders = []
    for first in (0, 1):
        now_ns = rig.clock.now_ns()
        for shard in (first, 1 - first):
            alarms: Any = rig.actors["alarms/0"]
            handle = shard + 1
            alarms._evaluator.apply(shard, now_ns, [make(ValueType.FLOAT, [handle], [90.0], now_ns)])
            alarms._commit()
            alarms._evaluator.apply(shard, now_ns, [make(ValueType.FLOAT, [handle], [20.0], now_ns)])
        alarms._commit()
        orders.append([one.name for one in rig.occurrences()][-2:])
        rig.run(0.1)
    assert orders[0] == orders[1]


def test_a_shard_that_journals_nothing_raises_its_alarms_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = rig.writer()
    rig.publish(writer, 0, 20.0)
    rig.run(1.5)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    shard: Any = rig.actors["cvt/0"]
    monkeypatch.setattr(shard.journal._disk, "write", full)
    for value, seen in ((90.0, ["B"]), (20.0, ["D"]), (95.0, ["B"])):
        rig.publish(writer, 0, value)
        rig.run(3.5)
        assert [letter for name, letter in map(str.split, opened(rig)) if name == "hot"] == seen
    raised = [one.raised_ns for one in rig.occurrences() if one.name == "hot"]
    monkeypatch.undo()
    rig.publish(writer, 0, 95.0)
    rig.run(3.5)
    assert [one.raised_ns for one in rig.occurrences() if one.name == "hot"] == raised
    assert len(raised) == 2


# --- how soon --------------------------------------------------------------------------------------------------------


def test_after_a_quiet_time_no_transition_waits_for_a_look_and_a_flood_is_read_in_pages(rig: Rig) -> None:
    writer = rig.writer()
    rig.run(1.5)
    alarms: Any = rig.actors["alarms/0"]

    def crossed(at: int) -> bool:
        """A value beyond the limit, then one within, a microsecond apart; whether it is seen by then."""
        beyond = at % 2 == 0
        rig.clock.advance(1e-6)
        rig.publish(writer, 0, 100.0 if beyond else 0.0)
        seen: bool = alarms._book.state("hot").core.active
        return seen is beyond

    at_once = [crossed(at) for at in range(2 * LOOKS_AT_ONCE)]
    assert at_once[: LOOKS_AT_ONCE - 1] == [True] * (LOOKS_AT_ONCE - 1)
    assert not all(at_once)
    rig.run(2 * LOOK_CLOSELY_S, LOOK_CLOSELY_S)
    assert len(rig.occurrences()) == LOOKS_AT_ONCE  # and what waited came with the next look: none was left out
    rig.run(LOOK_CLOSELY_S * 2 * LOOKS_AT_ONCE)
    assert [crossed(at) for at in range(4)] == [True] * 4
