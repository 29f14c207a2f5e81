"""The rules of alarms, one at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tagwerk.actors.alarms.logic import system
from tagwerk.actors.alarms.logic.book import COMMENT_LIMIT, AlarmState, Book
from tagwerk.actors.alarms.logic.columns import BLOCK, Columns, Lookup
from tagwerk.actors.alarms.logic.definition import AlarmDef, AlarmType
from tagwerk.actors.alarms.logic.evaluator import Evaluator
from tagwerk.actors.alarms.logic.states import CORE, PHASE, Core, Phase, Trigger, Turn, may, next_core, next_phase
from tagwerk.protocols import quality as q
from tagwerk.protocols.alarms import AlarmRow, Occurrence
from tagwerk.protocols.errors import LocalProtocolError
from tagwerk.protocols.message import Refusal
from tagwerk.protocols.samples import ValueType, make
from tagwerk.protocols.tags import TagState

S = 1_000_000_000
T0 = 1_000 * S
HIGH = AlarmDef("high", AlarmType.HI, 80.0, tag="t", handle=5, unit="degC", deadband=2.0, key=1)


class Rig:
    """One alarm and its tag."""

    def __init__(self, *alarms: AlarmDef, book: Book | None = None) -> None:
        self.book = book or Book({})
        self.alarms = alarms
        self.evaluator = Evaluator(alarms, self.book, 10)
        self.now_ns = T0
        self.log: dict[str, Occurrence] = {}

    def feed(self, *values: float, quality: int = q.GOOD, after_s: float = 1.0, time_ns: int | None = None) -> AlarmRow:
        self.now_ns += round(after_s * S)
        stamp = self.now_ns if time_ns is None else time_ns
        self.evaluator.apply(0, self.now_ns, [make(ValueType.FLOAT, [5] * len(values), values, stamp, quality)])
        return self.row()

    def say(self, quality: int, after_s: float = 1.0) -> AlarmRow:
        self.now_ns += round(after_s * S)
        self.evaluator.apply(0, self.now_ns, [make(ValueType.QUALITY, [5], None, self.now_ns, quality)])
        return self.row()

    def wait(self, seconds: float) -> AlarmRow:
        self.now_ns += round(seconds * S)
        self.evaluator.advance(0, self.now_ns)
        return self.row()

    def row(self) -> AlarmRow:
        return self.evaluator.row(self.alarms[0].name)

    def ack(self, occurrence: str = "", comment: str = "") -> Refusal | None:
        return self.book.acknowledge(self.alarms[0].name, occurrence, "anna", comment, self.now_ns)

    def occurrences(self) -> list[Occurrence]:
        self.log.update({o.occurrence: o for o in self.book.take_occurrences()})
        return list(self.log.values())


# --- tables ----------------------------------------------------------------------------------------------------------


def test_the_core_states_are_the_product_of_three_variables() -> None:
    assert len({core.value for core in Core}) == 8
    assert "".join(core.letter for core in Core) == "ABCDBCEF"


@pytest.mark.parametrize("core", list(Core))
@pytest.mark.parametrize("trigger", list(Trigger))
def test_every_state_answers_every_trigger(core: Core, trigger: Trigger) -> None:
    if (core, trigger) not in CORE:
        assert not may(core, trigger)
        with pytest.raises(LocalProtocolError):
            next_core(core, trigger)
        return
    after = next_core(core, trigger)
    if trigger in (Trigger.RAISE, Trigger.RAISE_LATCHING):
        assert not core.active
        assert after.active
        assert not after.acked
        assert after.latched == (core.latched or trigger is Trigger.RAISE_LATCHING)
    elif trigger is Trigger.CLEAR:
        assert (core.active, after.active) == (True, False)
        assert (core.acked, core.latched) == (after.acked, after.latched)
    elif trigger is Trigger.ACK:
        assert (core.acked, after.acked) == (False, True)
        assert (core.active, core.latched) == (after.active, after.latched)
    else:
        assert (core, after) == (Core.LATCHED_ACKED, Core.NORMAL)


def test_what_raises_and_clears_is_never_missing() -> None:
    for core in Core:
        assert may(core, Trigger.CLEAR) == core.active
        assert may(core, Trigger.RAISE) == may(core, Trigger.RAISE_LATCHING) == (not core.active)
        assert may(core, Trigger.ACK) == (not core.acked)


def test_a_phase_knows_whether_it_is_beyond_and_pending() -> None:
    assert [phase.pending for phase in Phase] == [False, True, False, True]
    for (phase, turn), after in PHASE.items():
        if turn is Turn.ELAPSED:
            assert phase.pending
            assert after.beyond == phase.beyond
        else:
            assert after.beyond == (turn is Turn.BEYOND) != phase.beyond
    with pytest.raises(LocalProtocolError):
        next_phase(Phase.OFF, Turn.ELAPSED)


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "inside", "limit", "beyond", "hysteresis", "back"),
    [
        (AlarmType.HI, 70.0, 80.0, 80.1, 78.1, 78.0),
        (AlarmType.HIHI, 70.0, 80.0, 80.1, 78.1, 78.0),
        (AlarmType.LO, 90.0, 80.0, 79.9, 81.9, 82.0),
        (AlarmType.LOLO, 90.0, 80.0, 79.9, 81.9, 82.0),
    ],
)
def test_a_limit_is_strict_and_the_return_waits_for_the_deadband(
    kind: AlarmType, inside: float, limit: float, beyond: float, hysteresis: float, back: float
) -> None:
    rig = Rig(replace(HIGH, type=kind))
    letters = [rig.feed(value).letter for value in (inside, limit, beyond, hysteresis, limit, back)]
    assert letters == ["A", "A", "B", "B", "B", "D"]


@pytest.mark.parametrize("limit", [True, False])
def test_a_bool_alarm_is_raised_by_its_limit(limit: bool) -> None:
    alarm = AlarmDef("door", AlarmType.BOOL, limit, tag="d", handle=5, kind=ValueType.BOOL, key=1)
    rig = Rig(alarm)
    for value, letter in ((not limit, "A"), (limit, "B"), (not limit, "D")):
        rig.evaluator.apply(0, T0, [make(ValueType.BOOL, [5], [value], T0)])
        assert rig.row().letter == letter
        assert rig.row().value is value


def test_ints_are_compared_and_shown_as_ints() -> None:
    rig = Rig(replace(HIGH, kind=ValueType.INT))
    rig.evaluator.apply(0, T0, [make(ValueType.INT, [5], [81], T0)])
    assert rig.row().value == 81
    assert type(rig.row().value) is int
    assert rig.row().letter == "B"


def test_the_first_value_beyond_raises() -> None:
    row = Rig(HIGH).feed(99.0)
    assert (row.letter, row.active, row.acked, row.occurrence, row.value) == ("B", True, False, "high-1", 99.0)
    assert (row.shelved, row.suppressed, row.out_of_service, row.enabled) == (False, False, False, True)


def test_one_tag_may_have_many_alarms() -> None:
    low = replace(HIGH, name="low", type=AlarmType.LO, limit=10.0, key=2)
    rig = Rig(HIGH, low, replace(HIGH, name="higher", type=AlarmType.HIHI, limit=90.0, key=3))
    rig.feed(95.0, 5.0)
    assert [rig.evaluator.row(name).letter for name in ("high", "low", "higher")] == ["D", "B", "D"]


def test_texts_and_unwatched_tags_are_passed_by() -> None:
    rig = Rig(HIGH)
    rig.evaluator.apply(
        0, T0, [make(ValueType.STR, [5], ["99"], T0), make(ValueType.FLOAT, [4, 900], [99.0, 99.0], T0)]
    )
    assert rig.row().value is None
    assert Rig().evaluator.columns.take(make(ValueType.FLOAT, [1], [1.0], 0)) == []


def test_an_excursion_inside_one_batch_is_an_occurrence() -> None:
    rig = Rig(HIGH)
    assert rig.feed(70.0, 81.0, 70.0, 82.0, 79.0, 70.0).letter == "D"
    assert [(o.occurrence, o.value, o.cleared_ns) for o in rig.occurrences()] == [
        ("high-1", 81.0, rig.now_ns),
        ("high-2", 82.0, rig.now_ns),
    ]


# --- quality ---------------------------------------------------------------------------------------------------------


def test_bad_quality_neither_raises_nor_clears() -> None:
    rig = Rig(HIGH)
    assert rig.feed(99.0, quality=q.BAD_SENSOR_FAILURE).letter == "A"
    assert rig.feed(99.0).letter == "B"
    assert rig.feed(20.0, quality=q.BAD_SENSOR_FAILURE).letter == "B"
    assert rig.say(q.BAD_NO_COMMUNICATION).letter == "B"
    assert rig.feed(float("nan")).letter == "B"
    assert rig.feed(20.0).letter == "D"


def test_uncertain_values_count() -> None:
    assert Rig(HIGH).feed(99.0, quality=q.UNCERTAIN_SENSOR).letter == "B"


def test_a_quality_that_comes_back_brings_the_last_value_back() -> None:
    rig = Rig(HIGH)
    rig.feed(99.0, quality=q.BAD_SENSOR_FAILURE)
    row = rig.say(q.GOOD)
    assert (row.letter, row.value) == ("B", 99.0)


def test_a_good_quality_without_any_value_is_none() -> None:
    row = Rig(HIGH).say(q.GOOD)
    assert (row.letter, row.value, row.quality) == ("A", None, q.BAD)


# --- delays ----------------------------------------------------------------------------------------------------------


def test_a_spike_shorter_than_the_on_delay_leaves_no_trace() -> None:
    rig = Rig(replace(HIGH, on_delay_ns=3 * S))
    rig.feed(81.0)
    rig.wait(2.9)
    rig.feed(70.0, after_s=0.05)
    assert rig.wait(60).letter == "A"
    assert rig.occurrences() == []


def test_the_on_delay_decides_and_the_sample_dates() -> None:
    rig = Rig(replace(HIGH, on_delay_ns=3 * S))
    rig.feed(81.0)
    crossed_ns = rig.now_ns
    rig.feed(85.0)
    assert rig.row().letter == "A"
    row = rig.wait(2.0)
    assert (row.letter, row.raised_ns) == ("B", crossed_ns)
    assert rig.occurrences()[0].value == 81.0


def test_the_off_delay_keeps_the_alarm() -> None:
    rig = Rig(replace(HIGH, off_delay_ns=3 * S))
    rig.feed(81.0)
    rig.feed(70.0)
    rig.feed(81.0, after_s=2.0)
    rig.feed(70.0, after_s=2.0)
    back_ns = rig.now_ns
    assert rig.wait(2.9).letter == "B"
    assert rig.wait(0.1).letter == "D"
    assert [o.cleared_ns for o in rig.occurrences()] == [back_ns]


def test_an_on_delay_waits_out_bad_quality_and_counts_it() -> None:
    rig = Rig(replace(HIGH, on_delay_ns=3 * S))
    rig.feed(81.0)
    rig.say(q.BAD_NO_COMMUNICATION)
    assert rig.wait(60).letter == "A"
    assert rig.feed(82.0).letter == "B"


def test_an_off_delay_begins_anew_after_bad_quality() -> None:
    rig = Rig(replace(HIGH, off_delay_ns=3 * S))
    rig.feed(81.0)
    rig.feed(70.0)
    rig.say(q.BAD_NO_COMMUNICATION)
    assert rig.wait(60).letter == "B"
    assert rig.feed(71.0).letter == "B"
    assert rig.wait(2.9).letter == "B"
    assert rig.wait(0.1).letter == "D"


def test_a_source_that_goes_back_in_time_never_ends_an_alarm_before_it_began() -> None:
    rig = Rig(HIGH)
    raised_ns = rig.feed(81.0).raised_ns
    row = rig.feed(70.0, time_ns=T0 - 3_600 * S)
    assert row.raised_ns == raised_ns
    assert row.cleared_ns == rig.now_ns


# --- operators -------------------------------------------------------------------------------------------------------


def test_acknowledge_while_active_then_return() -> None:
    rig = Rig(HIGH)
    rig.feed(81.0)
    assert rig.ack("high-1", "seen") is None
    row = rig.row()
    assert (row.letter, row.acked_by, row.comment, row.acked_ns) == ("C", "anna", "seen", rig.now_ns)
    assert rig.feed(70.0).letter == "A"
    assert rig.occurrences()[-1].acked_by == "anna"


def test_acknowledge_after_the_return() -> None:
    rig = Rig(HIGH)
    rig.feed(81.0, 70.0)
    assert rig.ack() is None
    assert rig.row().letter == "A"


def test_beyond_again_before_the_acknowledgement_is_a_new_occurrence() -> None:
    rig = Rig(HIGH)
    first_ns = rig.feed(81.0).raised_ns
    rig.feed(70.0)
    row = rig.feed(82.0)
    assert (row.occurrence, row.letter, row.cleared_ns) == ("high-2", "B", None)
    first = rig.occurrences()[0]
    assert (first.occurrence, first.raised_ns, first.acked_ns) == ("high-1", first_ns, None)
    refused = rig.ack("high-1")
    assert refused is not None
    assert refused.code == "Conflict"
    assert rig.row().letter == "B"
    assert rig.ack("high-2") is None


@pytest.mark.parametrize("values", [(70.0,), ()])
def test_nothing_to_acknowledge(values: tuple[float, ...]) -> None:
    rig = Rig(HIGH)
    for value in values:
        rig.feed(value)
    refused = rig.ack()
    assert refused is not None
    assert (refused.code, refused.tag) == ("NotActive", rig.alarms[0].name)


def test_a_second_acknowledgement_is_refused() -> None:
    rig = Rig(HIGH)
    rig.feed(81.0)
    rig.ack()
    refused = rig.ack()
    assert refused is not None
    assert refused.code == "NotActive"


def test_a_comment_has_a_bound() -> None:
    rig = Rig(HIGH)
    rig.feed(81.0)
    refused = rig.ack(comment="x" * (COMMENT_LIMIT + 1))
    assert refused is not None
    assert refused.code == "BadValue"
    assert rig.row().letter == "B"


def test_a_latched_alarm_stays_until_it_is_reset() -> None:
    rig = Rig(replace(HIGH, latch=True))
    assert rig.feed(81.0).latched
    refused = rig.book.reset("high")
    assert refused is not None
    assert (refused.code, "active" in refused.message) == ("Conflict", True)
    assert rig.feed(70.0).letter == "E"
    refused = rig.book.reset("high")
    assert refused is not None
    assert (refused.code, "acknowledged" in refused.message) == ("Conflict", True)
    assert rig.ack() is None
    assert rig.row().letter == "F"
    assert rig.book.reset("high") is None
    assert rig.row().letter == "A"
    refused = rig.book.reset("high")
    assert refused is not None
    assert refused.code == "NotActive"


# --- restarts --------------------------------------------------------------------------------------------------------


def again(rig: Rig, *alarms: AlarmDef, fresh: tuple[int, ...] = ()) -> Rig:
    """The next process, which finds what the last one stored."""
    states: dict[str, AlarmState] = {name: rig.book.state(name) for name in rig.evaluator.definitions}
    blocks = dict(rig.evaluator.columns.take_blocks())
    after = Rig(*alarms, book=Book(states))
    after.evaluator = Evaluator(alarms, after.book, 10, blocks, fresh)
    after.now_ns = rig.now_ns
    return after


def test_state_acknowledgement_and_value_survive_a_restart() -> None:
    rig = Rig(HIGH)
    rig.feed(81.0)
    rig.ack(comment="seen")
    before = rig.row()
    after = again(rig, HIGH)
    assert after.row() == before
    after.evaluator.caught_up(0, after.now_ns)
    assert after.row() == before
    assert after.feed(79.0).letter == "C"
    assert after.feed(78.0).letter == "A"


def test_a_delay_runs_on_over_a_restart() -> None:
    slow = replace(HIGH, on_delay_ns=3 * S)
    rig = Rig(slow)
    rig.feed(81.0)
    rig.wait(1.0)
    after = again(rig, slow)
    assert after.wait(1.9).letter == "A"
    assert after.wait(0.1).letter == "B"


def test_what_was_over_when_found_is_late() -> None:
    rig = Rig(HIGH)
    rig.feed(81.0)
    rig.feed(70.0)
    rig.feed(82.0)
    rig.evaluator.caught_up(0, rig.now_ns)
    rig.feed(70.0)
    rig.feed(83.0)
    rig.feed(70.0)
    assert [(o.occurrence, o.late) for o in rig.occurrences()] == [
        ("high-1", True),
        ("high-2", False),
        ("high-3", False),
    ]


def test_what_was_raised_before_the_restart_is_not_late() -> None:
    rig = Rig(HIGH)
    rig.evaluator.caught_up(0, rig.now_ns)
    rig.feed(81.0)
    after = again(rig, HIGH)
    after.feed(70.0)
    assert [o.late for o in after.occurrences()] == [False]


def test_an_edited_limit_is_compared_with_the_value_at_rest() -> None:
    rig = Rig(HIGH)
    rig.feed(75.0)
    lowered = again(rig, replace(HIGH, limit=70.0))
    assert lowered.row().letter == "A"
    assert lowered.evaluator.caught_up(0, lowered.now_ns + S)
    row = lowered.row()
    assert (row.letter, row.raised_ns) == ("B", lowered.now_ns + S)
    raised = again(lowered, replace(HIGH, limit=90.0))
    raised.evaluator.caught_up(0, raised.now_ns + 2 * S)
    assert raised.row().letter == "D"
    assert not raised.evaluator.caught_up(0, raised.now_ns + 3 * S)


def test_a_new_alarm_adopts_the_value_of_a_tag_at_rest() -> None:
    rig = Rig(HIGH)
    rig.feed(99.0)
    new = replace(HIGH, name="new", key=2)
    after = again(rig, HIGH, new, fresh=(2,))
    after.evaluator.caught_up(0, after.now_ns)
    assert after.evaluator.without_value(0) == (5,)
    after.evaluator.adopt(0, [TagState(5, 99.0, q.GOOD, T0, T0), TagState(6, "text", q.GOOD, T0, T0)], after.now_ns)
    assert after.evaluator.row("new").letter == "B"
    assert after.evaluator.row("high").occurrence == "high-1"
    assert after.evaluator.without_value(0) == ()


def test_an_alarm_that_watches_another_tag_forgets_the_value() -> None:
    rig = Rig(HIGH)
    rig.feed(81.0)
    after = again(rig, replace(HIGH, handle=6), fresh=(1,))
    after.evaluator.caught_up(0, after.now_ns)
    row = after.row()
    assert (row.letter, row.value, row.quality) == ("B", None, q.BAD_WAITING_FOR_INITIAL_DATA)


def test_an_alarm_that_was_away_forgets_its_value() -> None:
    rig = Rig(HIGH)
    rig.feed(75.0)
    back = again(again(rig), HIGH)
    assert back.row().value is None


def test_after_a_hole_no_value_is_believed() -> None:
    rig = Rig(HIGH)
    rig.evaluator.caught_up(0, T0)
    rig.feed(81.0)
    rig.evaluator.lost(0)
    assert (rig.row().value, rig.row().letter) == (None, "B")
    assert rig.evaluator.caught_up(0, rig.now_ns)
    rig.evaluator.adopt(0, [TagState(5, 70.0, q.GOOD, T0, T0)], rig.now_ns)
    assert rig.row().letter == "D"


# --- columns ---------------------------------------------------------------------------------------------------------


def test_lookup_gives_every_alarm_of_every_sample() -> None:
    rows, keys = Lookup([(5, 1), (2, 7), (5, 3)]).find(np.array([5, 9, 2, 4_000_000_000, 5], np.uint32))
    assert rows.tolist() == [0, 0, 2, 4, 4]
    assert keys.tolist() == [1, 3, 7, 1, 3]
    rows, keys = Lookup([(5, 1), (2, 7)]).find(np.array([5, 9, 2, 4_000_000_000, 0, 5], np.uint32))
    assert rows.tolist() == [0, 2, 5]
    assert keys.tolist() == [1, 7, 1]


def test_only_blocks_that_changed_are_stored() -> None:
    alarms = [replace(HIGH, name=f"a{key}", handle=key, key=key) for key in range(3 * BLOCK)]
    columns = Columns(alarms, 3 * BLOCK)
    columns.take(make(ValueType.FLOAT, [BLOCK + 1], [1.5], T0))
    ((block, stored),) = columns.take_blocks()
    assert block == 1
    assert list(columns.take_blocks()) == []
    other = Columns(alarms, 3 * BLOCK)
    other.load_block(block, stored)
    other.load_block(9, stored)
    assert other.value[BLOCK + 1] == 1.5
    assert other.quality[BLOCK + 1] == q.GOOD


# --- system alarms ---------------------------------------------------------------------------------------------------


def seen(book: Book, fatal: bool, count: int, now_ns: int = T0) -> tuple[str, str]:
    system.watch_fatal(book, "cvt/0", fatal=fatal, count=count, now_ns=now_ns)
    row = system.system_row(book, "system.cvt/0.fatal")
    return row.letter, row.occurrence


def test_each_count_is_one_occurrence() -> None:
    book = Book({})
    assert seen(book, False, 0) == ("A", "")
    assert system.raised_names(book) == []
    assert seen(book, True, 1) == ("B", "system.cvt/0.fatal-1")
    assert seen(book, True, 1) == ("B", "system.cvt/0.fatal-1")
    assert seen(book, True, 2) == ("B", "system.cvt/0.fatal-2")
    assert seen(book, False, 2) == ("D", "system.cvt/0.fatal-2")
    assert book.acknowledge("system.cvt/0.fatal", "", "anna", "", T0) is None
    assert seen(book, False, 2) == ("A", "system.cvt/0.fatal-2")
    assert system.raised_names(book) == ["system.cvt/0.fatal"]
    row = system.system_row(book, "system.cvt/0.fatal")
    assert (row.type, row.tag, row.priority, row.value) == ("BOOL", "", "critical", False)


def test_a_failure_that_was_over_when_found_is_late() -> None:
    book = Book({})
    assert seen(book, False, 3) == ("D", "system.cvt/0.fatal-1")
    assert [o.late for o in book.take_occurrences()] == [True]


def test_a_supervisor_that_lost_its_count_raises_nothing() -> None:
    book = Book({})
    seen(book, True, 3)
    assert seen(book, False, 0) == ("D", "system.cvt/0.fatal-1")
    assert seen(book, True, 1) == ("B", "system.cvt/0.fatal-2")


def test_the_alarm_of_an_actor_that_is_no_more_is_cleared() -> None:
    book = Book({})
    seen(book, True, 1)
    system.forget_gone(book, ["cvt/0"], T0)
    assert book.state("system.cvt/0.fatal").core is Core.UNACKED
    system.forget_gone(book, ["cvt/1"], T0)
    assert book.state("system.cvt/0.fatal").core is Core.RETURNED


def test_the_lost_link_of_an_observer_does_not_speak_of_a_device() -> None:
    book = Book({})
    texts: dict[str, str] = {}
    for actor in ("resource/saw", "observer/0"):
        system.watch_level(book, actor, system.Trouble.LINK, active=True, now_ns=T0)
        texts[actor] = system.system_row(book, f"system.{actor}.link").text
    assert texts["resource/saw"] == "resource/saw is not connected to its device: all that it feeds is Bad"
    assert texts["observer/0"].startswith("observer/0 cannot listen")
