"""Chaos without a process: the plan, the numbers, the ledger, and an oracle that sees what is wrong."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tagwerk.protocols.alarms import Occurrence
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.samples import Samples, ValueType, make
from tagwerk.runtime.chaos import oracle
from tagwerk.runtime.chaos.additions import Device, edited
from tagwerk.runtime.chaos.commands import (
    COMMAND,
    MACHINE,
    NOT_SENT,
    PULSE,
    SAFE,
    SECOND_NS,
    TAKEN,
    UNKNOWN,
    UNTOLD,
    Blow,
    Command,
    Execution,
    check_leases,
    read_commands,
    read_executions,
    wrong_commands,
)
from tagwerk.runtime.chaos.numbers import SLOT_NS, STEP_NS, WriterSpec, read_ledger, values_of, writers_for
from tagwerk.runtime.chaos.oracle import Transition, compare_alarms, compare_tag, differing, transitions_of, valued
from tagwerk.runtime.chaos.plan import NAMES, How, names_of, plan
from tagwerk.runtime.chaos.report import Verdict

SPEC = WriterSpec("a", True, 4, 2, 6, 100.0)
SEED = 5
BASE_NS = 1_700_000_000_000_000_000
LEDGER = b"A 1 6 1000000\nK 1\nA 7 6 2000000\nA 13 6 3000000\nF 7 Timeout\nK 13\nA 19 6 40"

KEYS = (
    "kept seed seconds acknowledged in_history lost duplicated alarms_expected alarms_recorded alarms_missed"
    " watchers_differing leftovers kills recovery_ms"
)


# --- the plan -----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan(3, 60, NAMES) == plan(3, 60, NAMES)
    assert plan(3, 60, NAMES) != plan(4, 60, NAMES)


def test_each_name_is_killed_before_chance_decides() -> None:
    strikes = plan(1, 120, NAMES)
    assert {strike.name for strike in strikes[: len(NAMES)]} == set(NAMES)
    assert all(strike.how is How.KILL for strike in strikes[: len(NAMES)])
    assert {strike.how for strike in strikes} == set(How)


def test_supervision_is_never_asked_to_stop() -> None:
    strikes = plan(2, 2_000, ("node", "supervisord"))
    assert strikes
    assert all(strike.how is not How.RESTART for strike in strikes)


def test_a_plan_keeps_to_the_time_and_to_the_names() -> None:
    strikes = plan(9, 30, ("cvt", "writer"))
    assert all(0 < strike.at_s < 30 and strike.name in ("cvt", "writer") for strike in strikes)
    assert plan(9, 30, ()) == ()


def test_names_of_kill() -> None:
    assert names_of("all") == NAMES
    assert names_of("writer, cvt") == ("cvt", "writer")


@pytest.mark.parametrize("text", ["cvt,pumps", "", ","])
def test_a_name_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        names_of(text)
    assert refused.value.key == "--kill"


# --- the numbers --------------------------------------------------------------------------------------------------


def test_the_writers_share_the_rate() -> None:
    assert sum(spec.rate for spec in writers_for(20_000)) == pytest.approx(20_000)
    assert {(spec.named, spec.batch == 1) for spec in writers_for(20_000)} == {
        (True, False), (True, True), (False, False), (False, True),
    }  # fmt: skip


def test_a_ledger_is_read_up_to_its_last_whole_line() -> None:
    ledger = read_ledger(LEDGER)
    assert ledger.firsts.tolist() == [1, 7, 13]
    assert ledger.acked.tolist() == [True, False, True]
    assert ledger.acknowledged == 12
    assert ledger.next_number == 19
    assert ledger.last_ns == 3_000_000 + 6 * STEP_NS
    assert ledger.failures == {"Timeout": 1}


def test_a_new_ledger_begins_at_one() -> None:
    assert read_ledger(b"").next_number == 1


def test_the_tags_of_a_ledger_have_each_number_once() -> None:
    ledger = read_ledger(LEDGER)
    columns = [ledger.of_tag(SPEC, place) for place in range(SPEC.tags)]
    assert sorted(np.concatenate([numbers for numbers, _, _ in columns]).tolist()) == list(range(1, 19))
    numbers, times, acked = columns[0]
    assert numbers.tolist() == [4, 8, 12, 16]
    assert times.tolist() == [1_003_000, 2_001_000, 2_005_000, 3_003_000]
    assert acked.tolist() == [True, False, False, True]


def test_a_tag_with_an_alarm_changes_sides_and_another_does_not() -> None:
    numbers = np.arange(1, 4_001, dtype=np.int64)
    values = values_of(SPEC, SEED, numbers, BASE_NS + numbers * (SLOT_NS // 10))
    assert (np.abs(values) == numbers).all()
    watched = numbers % SPEC.tags < SPEC.alarms
    assert (values[~watched] > 0).all()
    assert 0.4 < (values[watched] > 0).mean() < 0.6


# --- the oracle: history ------------------------------------------------------------------------------------------


def written(count: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    numbers = np.arange(1, count + 1, dtype=np.int64)
    return numbers, BASE_NS + numbers * STEP_NS, numbers.astype(np.float64), np.ones(count, np.bool_)


def stored(rows: list[int]) -> Samples:
    _, times, values, _ = written()
    return make(ValueType.FLOAT, np.ones(len(rows)), values[rows], times[rows])


def test_a_history_that_has_all_of_it_once_is_right() -> None:
    found = compare_tag("t", *written(), stored(list(range(10))))
    assert found == oracle.Found(10, 0, 0, 0)


def test_a_lost_sample_is_seen() -> None:
    found = compare_tag("t", *written(), stored([0, 1, 2, 4, 5, 6, 7, 8, 9]))
    assert (found.lost, found.duplicated, found.strange) == (1, 0, 0)
    assert found.evidence == ("t: number 4 is lost",)


def test_a_doubled_sample_is_seen() -> None:
    found = compare_tag("t", *written(), stored([*range(10), 3, 3]))
    assert (found.lost, found.duplicated, found.strange) == (0, 2, 0)


@pytest.mark.parametrize(("rows", "duplicated"), [([], 0), ([9], 0), ([9, 9], 1)])
def test_what_was_not_acknowledged_may_be_there_once(rows: list[int], duplicated: int) -> None:
    numbers, times, values, acked = written()
    acked[9] = False
    found = compare_tag("t", numbers, times, values, acked, stored([*range(9), *rows]))
    assert (found.lost, found.duplicated, found.strange) == (0, duplicated, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda batch: replace(batch, values=np.where(np.arange(10) == 3, -4.0, batch.values)),
        lambda batch: replace(batch, times=batch.times + (np.arange(10) == 3)),
        lambda batch: replace(batch, quality=np.where(np.arange(10) == 3, np.uint32(0x80000000), batch.quality)),
    ],
)
def test_another_value_time_or_quality_is_lost_and_strange(spoil: Callable[[Samples], Samples]) -> None:
    found = compare_tag("t", *written(), spoil(stored(list(range(10)))))
    assert (found.lost, found.duplicated, found.strange) == (1, 0, 1)


def test_a_number_that_nobody_wrote_is_strange() -> None:
    numbers, times, values, acked = (column[:5] for column in written())
    found = compare_tag("t", numbers, times, values, acked, stored(list(range(10))))
    assert (found.lost, found.strange) == (0, 5)


def test_a_tag_that_was_never_written_is_empty() -> None:
    numbers, times, values, acked = written(0)
    assert compare_tag("t", numbers, times, values, acked, stored([])) == oracle.Found(0, 0, 0, 0)
    assert compare_tag("t", numbers, times, values, acked, stored([1])).strange == 1


def test_rows_of_which_only_the_quality_changed_do_not_count() -> None:
    lost = make(ValueType.FLOAT, [1, 1], [np.nan, 2.0], BASE_NS)
    assert valued(lost).values.tolist() == [2.0]
    assert len(valued(make(ValueType.QUALITY, [1], None, BASE_NS))) == 0


# --- the oracle: alarms -------------------------------------------------------------------------------------------


def levels(*values: float) -> Samples:
    return make(ValueType.FLOAT, np.ones(len(values)), values, BASE_NS + np.arange(len(values)))


def test_an_alarm_comes_above_its_limit_and_goes_at_it() -> None:
    assert transitions_of("x", levels(-1, 2, 3, -4, 5)) == [
        Transition("x", "raised", BASE_NS + 1), Transition("x", "cleared", BASE_NS + 3),
        Transition("x", "raised", BASE_NS + 4),
    ]  # fmt: skip
    assert transitions_of("x", levels(1)) == [Transition("x", "raised", BASE_NS)]
    assert transitions_of("x", levels()) == []


def test_alarms_that_are_missed_unfounded_or_twice_are_seen() -> None:
    up, down, other = (Transition("x", what, at) for what, at in (("raised", 1), ("cleared", 2), ("raised", 3)))
    assert compare_alarms([up, down], [up, down]).missed == ()
    assert compare_alarms([up, down], [up]).missed == (down,)
    assert compare_alarms([up], [up, up]).unfounded == (up,)
    assert compare_alarms([up], [other]) == oracle.AlarmFindings(1, 1, (up,), (other,))


def test_an_occurrence_that_lasts_has_only_come() -> None:
    done = Occurrence("x-1", "x", 1, 2, None, "", "", 1.0)
    lasts = Occurrence("x-2", "x", 3, None, None, "", "", 1.0)
    assert oracle.transitions_in([done, lasts]) == [
        Transition("x", "raised", 1), Transition("x", "cleared", 2), Transition("x", "raised", 3),
    ]  # fmt: skip


def test_a_watcher_that_differs_is_seen() -> None:
    shard: dict[str, oracle.Row] = {"a": (1.0, 5, 0), "b": (None, 6, 0x80000000)}
    assert differing(shard, dict(shard)) == []
    assert len(differing(shard, {"a": (1.0, 5, 0)})) == 1
    assert len(differing(shard, {**shard, "a": (1.0, 4, 0)})) == 1


def test_what_no_journal_had_is_a_stretch_in_which_alarms_are_not_compared() -> None:
    second = 1_000_000_000
    lines = [b"A %d 2 %d" % (1 + 2 * n, base * second) for n, base in enumerate([10, 11, 12, 40, 50])]
    text = b"\n".join([*lines, b"F 3 NotJournaled", b"F 5 NotJournaled", b"F 7 Timeout", b"F 9 NotJournaled"]) + b"\n"
    stretches = read_ledger(text).live_only
    assert stretches == [(11 * second, 12 * second + 2 * STEP_NS), (50 * second, 50 * second + 2 * STEP_NS)]
    turns = [Transition("a", "raised", at) for at in (10 * second, 11 * second, 30 * second, 50 * second)]
    assert [one.at_ns for one in oracle.outside(turns, stretches)] == [10 * second, 30 * second]
    stored = np.array([10, 30, 31]) * second
    longer = oracle.to_first_stored(stretches, stored)
    assert longer == [(11 * second, 30 * second), stretches[1]]
    assert [one.at_ns for one in oracle.outside(turns, longer)] == [10 * second]


# --- commands and leases --------------------------------------------------------------------------------------------


def at(seconds: float) -> int:
    return round(seconds * SECOND_NS)


@pytest.mark.parametrize(
    ("outcome", "times", "wrong"),
    [
        (TAKEN, (1.0,), 0),
        (TAKEN, (), 1),
        (TAKEN, (1.0, 1.1), 1),
        (UNKNOWN, (), 0),
        (UNKNOWN, (1.0,), 0),
        (UNKNOWN, (1.0, 1.1), 1),
        (UNTOLD, (1.0,), 0),
        (NOT_SENT, (), 0),
        (NOT_SENT, (1.0,), 1),
        (UNKNOWN, (3.0,), 1),
    ],
)
def test_a_command_is_judged_by_what_the_device_did(outcome: str, times: tuple[float, ...], wrong: int) -> None:
    done = [Execution(at(time), COMMAND, 7.0) for time in times]
    assert len(wrong_commands([Command(7, at(2.0), outcome)], done, ())) == wrong


def test_a_device_that_stood_still_may_be_late_and_nobody_else() -> None:
    command, done = Command(7, at(2.0), UNKNOWN), [Execution(at(5.0), COMMAND, 7.0)]
    assert not wrong_commands([command], done, [Blow("plc", "external/chaos", at(1.5), at(4.9))])
    assert len(wrong_commands([command], done, [Blow("opcua", "opcua/chaos", at(1.5), at(4.9))])) == 1


def test_what_nobody_asked_for_is_seen() -> None:
    assert len(wrong_commands([], [Execution(at(1.0), COMMAND, 9.0)], ())) == 1


@pytest.mark.parametrize(
    ("after", "others", "seen"),
    [
        ([(12.2, SAFE)], [], (1, 1, 0)),
        ([(11.0, 5.0)], [], (0, 0, 0)),  # it was gone for less than its lease
        ([(18.0, SAFE)], [], (1, 0, 1)),
        ([(14.0, 5.0)], [], (1, 0, 1)),
        ([], [], (1, 0, 1)),
        ([(18.0, SAFE)], [Blow("opcua", "opcua/chaos", at(11.0), at(17.0))], (1, 0, 0)),
        ([(18.0, SAFE)], [Blow("cvt", "cvt/0", at(11.0), at(17.0))], (1, 0, 1)),
    ],
)
def test_a_machine_that_is_gone_leaves_its_safe_value(
    after: list[tuple[float, float]], others: list[Blow], seen: tuple[int, int, int]
) -> None:
    pulses = [Execution(at(time), PULSE, value) for time, value in [(9.8, 4.0), *after]]
    found = check_leases(pulses, [Blow("machines", MACHINE, at(10.0), at(10.1)), *others])
    assert (found.due, found.fired, len(found.missed)) == seen


def test_a_machine_that_did_not_run_owes_nothing() -> None:
    pulses = [Execution(at(5.0), PULSE, 4.0)]
    assert check_leases(pulses, [Blow("machines", MACHINE, at(10.0), at(10.1))]).due == 0


def test_the_books_of_commands_are_read_to_their_last_whole_line() -> None:
    assert read_commands(b"A 1 50\nR 1 taken\nA 2 60\nR 2 no") == [Command(1, 50, TAKEN), Command(2, 60, UNTOLD)]
    one = Execution(5, PULSE, 0.5)
    assert read_executions(one.line() + b"6 pul") == [one]


# --- the verdict and the plant file ---------------------------------------------------------------------------------


def verdict(**changes: object) -> Verdict:
    fine = Verdict(
        seed=1, seconds=15.0, acknowledged=10, in_history=10, lost=0, duplicated=0, strange=0, alarms_expected=2,
        alarms_recorded=2, alarms_missed=0, alarms_unfounded=0, watchers_differing=0, leftovers=(), kills={"cvt": 1},
        blows={("cvt", "kill"): 1}, recovery_ms=(10.0, 20.0), failures={}, findings=(), evidence=(),
        commands={"taken": 3}, wrong_commands=0, leases_due=1, leases_fired=1, leases_missed=0,
    )  # fmt: skip
    return dataclasses.replace(fine, **changes)  # type: ignore[arg-type]


def test_a_verdict_has_the_keys_of_the_interface() -> None:
    assert list(verdict().as_json()) == KEYS.split()
    assert verdict().as_json()["recovery_ms"] == {"p50": 15.0, "p95": 19.5, "max": 20.0}
    assert verdict(recovery_ms=()).as_json()["recovery_ms"] == {"p50": None, "p95": None, "max": None}


@pytest.mark.parametrize(
    "broken",
    [
        {"lost": 1}, {"duplicated": 1}, {"strange": 1}, {"alarms_missed": 1}, {"alarms_unfounded": 1},
        {"watchers_differing": 1}, {"wrong_commands": 1}, {"leases_missed": 1},
        {"leftovers": ("x",)}, {"findings": ("x",)}, {"acknowledged": 0},
    ],
)  # fmt: skip
def test_one_broken_promise_is_enough(broken: dict[str, object]) -> None:
    assert verdict().kept
    assert not verdict(**broken).kept
    assert "BROKEN" in {mark for _, _, mark in verdict(**broken).rows()}


@pytest.mark.parametrize(
    "text",
    [
        '[plant]\nname = "x"\n',
        '[node.main]\nrestarts = 3\nhang_after_s = 4.0\n\n[plant]\nname = "x"\n',
        '[plant]\nname = "x"\n[journal]\ncap_bytes = 9\nsync = "always"\n[node.main]\n',
        '[plant]\nname = "x"\n\n[node.main]  # ours\nhang_after_s = 4.0\n[node.main.needs]\n"a/b" = ["cvt/0"]\n',
    ],
)
def test_the_plant_gets_the_tags_and_a_node_that_never_gives_up(text: str) -> None:
    tables = tomllib.loads(edited(text, [SPEC], None, Device(4999, Path("device.log"))))
    assert tables["plant"] == {"name": "x"}
    assert tables["node"]["main"]["restarts"] == 1_000
    assert tables["node"]["main"].get("hang_after_s", 4.0) == 4.0
    assert tables["journal"]["cap_bytes"] == 16 << 20
    assert tables["journal"].get("sync", "always") == "always"
    assert set(SPEC.tag_names) < set(tables["tag"])
    assert tables["tag"]["chaos.device.command"]["writable"] is True
    assert tables["external"]["chaos"]["command"][-4:] == ["--port", "4999", "--log", "device.log"]
    assert {alarm["tag"] for alarm in tables["alarm"].values()} == set(SPEC.tag_names[: SPEC.alarms])
