"""Which value is current: by the owner's order within its session, not by the clock."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tagwerk.actors.cvt.logic.table import Applied, Table
from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Samples, ValueType, make
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import TagDef

FLOAT, INT, BOOL, STR, QUALITY = ValueType.FLOAT, ValueType.INT, ValueType.BOOL, ValueType.STR, ValueType.QUALITY
TEMP, LEVEL, COUNT, OPEN, NOTE, BAND, INT_BAND = 1, 2, 3, 4, 5, 8, 9
TAGS = [
    TagDef(TEMP, "temp", "float", 0),
    TagDef(LEVEL, "level", "float", 0),
    TagDef(COUNT, "count", "int", 0),
    TagDef(OPEN, "open", "bool", 0),
    TagDef(NOTE, "note", "str", 0),
    TagDef(BAND, "band", "float", 0, deadband=1.0),
    TagDef(INT_BAND, "int_band", "int", 0, low=0.0, high=200.0, deadband_pct=1.0),
]
S = 1_000_000_000
NOW = 1_700_000_000 * S
ERP, MES = 1, 2
NAN = math.nan


class Bench:
    """A table with a writer that is born."""

    def __init__(self) -> None:
        self.table = Table(TagRows.of(TAGS))
        self.dead = np.zeros(4, np.bool_)
        self.births = {ERP: 1, MES: 1}

    def apply(self, batch: Samples, writer: int = ERP, *, now: int = NOW, known: bool = False) -> Applied:
        return self.table.apply(batch, writer, self.births[writer], now, self.dead, clock_known_wrong=known)

    def put(self, handle: int, value: Any, time_ns: int = NOW, quality: int = 0, writer: int = ERP) -> Applied:
        kind = {COUNT: INT, INT_BAND: INT, OPEN: BOOL, NOTE: STR}.get(handle, FLOAT)
        return self.apply(make(kind, [handle], [value], time_ns, quality), writer)

    def row(self, handle: int) -> int:
        row = self.table.row(handle)
        assert row is not None
        return row

    def value(self, handle: int) -> Any:
        return self.table.value(self.row(handle))

    def quality(self, handle: int) -> int:
        return int(self.table.quality[self.row(handle)])

    def time(self, handle: int) -> int:
        return int(self.table.times[self.row(handle)])


@pytest.fixture
def bench() -> Bench:
    return Bench()


def rows(batches: list[Samples]) -> list[tuple[int, Any, int, int]]:
    return [
        (int(tag), None if batch.values is None else batch.values[row], int(batch.times[row]), int(batch.quality[row]))
        for batch in batches
        for row, tag in enumerate(batch.tags)
    ]


class TestFirstOfAll:
    def test_no_value_yet(self, bench: Bench) -> None:
        assert bench.value(TEMP) is None
        assert bench.quality(TEMP) == q.BAD_WAITING_FOR_INITIAL_DATA
        state = bench.table.state(np.arange(len(TAGS)))
        assert [(batch.kind, len(batch)) for batch in state] == [(QUALITY, len(TAGS))]

    @pytest.mark.parametrize(
        ("handle", "value"),
        [(TEMP, 1.5), (TEMP, math.inf), (COUNT, -(2**63)), (COUNT, 2**63 - 1), (OPEN, True), (NOTE, "ü")],
    )
    def test_every_type_keeps_its_value(self, bench: Bench, handle: int, value: Any) -> None:
        done = bench.put(handle, value)
        assert done.untouched
        assert bench.value(handle) == value
        assert type(bench.value(handle)) is type(value)
        assert rows(bench.table.state(np.array([bench.row(handle)])))[0][:2] == (handle, value)

    def test_the_first_sample_of_a_session_is_current_whatever_its_time(self, bench: Bench) -> None:
        bench.put(TEMP, 1.0)
        bench.births[ERP] += 1
        done = bench.put(TEMP, 2.0, NOW - 7_200 * S)
        assert (bench.value(TEMP), bench.quality(TEMP), done.clock_step) == (2.0, q.GOOD, None)
        assert done.untouched


class TestTimes:
    def test_a_newer_one_is_current(self, bench: Bench) -> None:
        bench.put(TEMP, 1.0)
        assert bench.put(TEMP, 2.0, NOW + 1).untouched
        assert bench.value(TEMP) == 2.0

    def test_an_equal_time_replaces(self, bench: Bench) -> None:
        bench.put(TEMP, 1.0)
        bench.put(TEMP, 2.0)
        assert bench.value(TEMP) == 2.0

    def test_a_late_one_among_others_is_history_only(self, bench: Bench) -> None:
        bench.apply(make(FLOAT, [TEMP, LEVEL], [1.0, 1.0], [NOW, NOW]))
        done = bench.apply(make(FLOAT, [TEMP, LEVEL], [2.0, 2.0], [NOW - 1, NOW + 1]))
        assert (bench.value(TEMP), bench.value(LEVEL)) == (1.0, 2.0)
        assert rows(done.history_only) == [(TEMP, 2.0, NOW - 1, 0)]
        assert rows(done.current) == [(LEVEL, 2.0, NOW + 1, 0)]
        assert not done.untouched
        assert done.clock_step is None

    @pytest.mark.parametrize("back_ns", [1, 10 * S - 1])
    def test_a_batch_that_is_late_in_every_tag_is_a_wrong_clock(self, bench: Bench, back_ns: int) -> None:
        bench.apply(make(FLOAT, [TEMP, LEVEL], [1.0, 1.0], NOW))
        done = bench.apply(make(FLOAT, [TEMP, LEVEL, TEMP], [2.0, 2.0, 3.0], NOW - back_ns))
        assert rows(done.current) == [
            (TEMP, 2.0, NOW - back_ns, q.UNCERTAIN),
            (LEVEL, 2.0, NOW - back_ns, q.UNCERTAIN),
            (TEMP, 3.0, NOW - back_ns, q.GOOD),
        ]
        assert done.history_only == []
        assert done.clock_step == (TEMP, -back_ns)
        assert (bench.value(TEMP), bench.time(TEMP)) == (3.0, NOW - back_ns)

    def test_a_large_step_back_is_a_wrong_clock(self, bench: Bench) -> None:
        bench.apply(make(FLOAT, [TEMP, LEVEL], [1.0, 1.0], NOW))
        done = bench.apply(make(FLOAT, [TEMP, LEVEL], [2.0, 2.0], [NOW - 10 * S, NOW + 1]))
        assert (bench.quality(TEMP), bench.quality(LEVEL)) == (q.UNCERTAIN, q.GOOD)
        assert done.clock_step == (TEMP, -10 * S)
        assert bench.put(TEMP, 3.0, NOW - 9 * S).untouched  # it goes on from there

    def test_a_time_ahead_of_the_shard_is_a_wrong_clock(self, bench: Bench) -> None:
        assert bench.put(TEMP, 1.0, NOW + 10 * S).untouched
        done = bench.put(LEVEL, 1.0, NOW + 10 * S + 1)
        assert bench.quality(LEVEL) == q.UNCERTAIN
        assert done.clock_step == (LEVEL, 10 * S + 1)

    def test_a_clock_that_is_known_to_be_wrong_is_not_marked_again(self, bench: Bench) -> None:
        done = bench.apply(make(FLOAT, [TEMP], [1.0], NOW + 60 * S), known=True)
        assert (bench.value(TEMP), bench.quality(TEMP)) == (1.0, q.GOOD)
        assert done.clock_step == (TEMP, 0)

    def test_a_mark_makes_nothing_better(self, bench: Bench) -> None:
        bench.put(TEMP, 1.0, NOW + 60 * S, q.BAD)
        assert bench.quality(TEMP) == q.BAD

    @pytest.mark.parametrize("time_ns", [2**63 - 1, -(2**63), 0, -1])
    def test_impossible_times_do_no_harm(self, bench: Bench, time_ns: int) -> None:
        bench.put(TEMP, 1.0)
        bench.put(TEMP, 2.0, time_ns)
        assert (bench.value(TEMP), bench.quality(TEMP)) == (2.0, q.UNCERTAIN)
        bench.put(TEMP, 3.0)
        assert bench.value(TEMP) == 3.0

    def test_a_tag_twice_the_last_position_wins_and_all_are_logged(self, bench: Bench) -> None:
        done = bench.apply(make(FLOAT, [TEMP, LEVEL, TEMP], [1.0, 5.0, 2.0], [NOW, NOW, NOW - 5]))
        assert (bench.value(TEMP), bench.time(TEMP)) == (2.0, NOW - 5)
        assert done.untouched
        assert len(rows(done.current)) == 3

    def test_what_the_shard_wrote_is_no_measure_for_the_sources_time(self, bench: Bench) -> None:
        """A tag was marked stale at the shard's time; the source's clock is a little behind."""
        bench.put(TEMP, 1.0, NOW - S)
        row = np.array([bench.row(TEMP)])
        bench.table.lose(make(ValueType.QUALITY, [TEMP], None, NOW, q.UNCERTAIN_LAST_USABLE), row, NOW)
        done = bench.put(TEMP, 2.0, NOW - 1)
        assert (bench.value(TEMP), bench.quality(TEMP), done.clock_step) == (2.0, q.GOOD, None)


class TestWithoutAValue:
    def test_nan_is_bad_and_keeps_the_value(self, bench: Bench) -> None:
        done = bench.apply(make(FLOAT, [TEMP, LEVEL, TEMP], [1.0, 2.0, NAN], [NOW, NOW, NOW + 1]))
        assert (bench.value(TEMP), bench.quality(TEMP), bench.time(TEMP)) == (1.0, q.BAD, NOW + 1)
        assert bench.quality(LEVEL) == q.GOOD
        assert rows(done.current) == [(TEMP, 1.0, NOW, 0), (LEVEL, 2.0, NOW, 0), (TEMP, None, NOW + 1, q.BAD)]
        assert not done.untouched

    def test_nan_between_two_values_keeps_the_order(self, bench: Bench) -> None:
        bench.apply(make(FLOAT, [TEMP, TEMP, TEMP], [NAN, 1.0, NAN], NOW))
        assert (bench.value(TEMP), bench.quality(TEMP)) == (1.0, q.BAD)
        bench.apply(make(FLOAT, [TEMP, TEMP], [NAN, 2.0], NOW))
        assert (bench.value(TEMP), bench.quality(TEMP)) == (2.0, q.GOOD)

    def test_a_reason_that_came_with_it_stays(self, bench: Bench) -> None:
        bench.put(TEMP, NAN, quality=q.BAD_SENSOR_FAILURE)
        assert bench.quality(TEMP) == q.BAD_SENSOR_FAILURE
        bench.put(TEMP, NAN, quality=q.UNCERTAIN)
        assert bench.quality(TEMP) == q.BAD

    def test_what_turned_bad_is_never_late(self, bench: Bench) -> None:
        bench.apply(make(FLOAT, [TEMP, LEVEL], [1.0, 1.0], [NOW + 2 * S, NOW - S]))
        done = bench.apply(make(QUALITY, [TEMP, LEVEL], None, NOW, q.BAD_NO_COMMUNICATION))
        assert [bench.quality(handle) for handle in (TEMP, LEVEL)] == [q.BAD_NO_COMMUNICATION] * 2
        assert [bench.value(handle) for handle in (TEMP, LEVEL)] == [1.0, 1.0]
        assert done.history_only == []
        assert done.untouched

    def test_neither_is_a_nan_among_late_ones(self, bench: Bench) -> None:
        bench.apply(make(FLOAT, [TEMP, LEVEL], [1.0, 1.0], NOW))
        done = bench.apply(make(FLOAT, [LEVEL, TEMP], [2.0, NAN], NOW - 1))
        assert (bench.quality(TEMP), bench.value(LEVEL)) == (q.BAD, 1.0)
        assert rows(done.history_only) == [(LEVEL, 2.0, NOW - 1, 0)]

    def test_a_late_run_beside_a_nan_is_no_wrong_clock(self, bench: Bench) -> None:
        """The batch is judged as a whole, not run by run."""
        bench.apply(make(FLOAT, [TEMP, LEVEL], [1.0, 1.0], NOW))
        done = bench.apply(make(FLOAT, [TEMP, LEVEL, LEVEL], [2.0, NAN, 3.0], [NOW - 1, NOW + 1, NOW + 2]))
        assert (bench.value(TEMP), bench.value(LEVEL)) == (1.0, 3.0)
        assert done.clock_step is None


class TestRefused:
    def test_neighbours_pass(self, bench: Bench) -> None:
        done = bench.apply(make(FLOAT, [TEMP, COUNT, 77, LEVEL, 6], [1.0] * 5, NOW))
        assert done.refused == [(1, COUNT, "WrongType"), (2, 77, "UnknownTag"), (4, 6, "UnknownTag")]
        assert (bench.value(TEMP), bench.value(LEVEL), bench.value(COUNT)) == (1.0, 1.0, None)
        assert rows(done.current) == [(TEMP, 1.0, NOW, 0), (LEVEL, 1.0, NOW, 0)]

    def test_an_int_is_no_float_and_a_bool_no_int(self, bench: Bench) -> None:
        assert bench.apply(make(INT, [TEMP], [1], NOW)).refused == [(0, TEMP, "WrongType")]
        assert bench.apply(make(BOOL, [COUNT], [True], NOW)).refused == [(0, COUNT, "WrongType")]

    def test_quality_alone_fits_every_type(self, bench: Bench) -> None:
        assert bench.apply(make(QUALITY, [TEMP, NOTE], None, NOW, q.BAD)).refused == []

    def test_a_handle_beyond_all_is_unknown(self, bench: Bench) -> None:
        assert bench.apply(make(FLOAT, [2**32 - 1], [1.0], NOW)).refused == [(0, 2**32 - 1, "UnknownTag")]
        assert bench.table.row(-1) is None
        assert bench.table.row(2**40) is None

    def test_a_table_without_tags(self) -> None:
        table = Table(TagRows.of([]))
        done = table.apply(make(FLOAT, [1], [1.0], NOW), 1, 1, NOW, np.zeros(2, np.bool_))
        assert done.refused == [(0, 1, "UnknownTag")]
        assert table.state(np.zeros(0, np.intp)) == []

    def test_an_empty_batch(self, bench: Bench) -> None:
        done = bench.apply(make(FLOAT, [], [], NOW))
        assert (done.current, done.refused, done.untouched) == ([], [], True)


class TestOwners:
    def test_a_live_owner_keeps_its_tag(self, bench: Bench) -> None:
        bench.put(TEMP, 1.0)
        assert bench.put(TEMP, 2.0, writer=MES).refused == [(0, TEMP, "NotOwner")]
        assert bench.put(LEVEL, 2.0, writer=MES).refused == []
        assert bench.table.owned_by(MES).tolist() == [bench.row(LEVEL)]

    def test_a_dead_one_does_not(self, bench: Bench) -> None:
        bench.put(TEMP, 1.0)
        bench.dead[ERP] = True
        assert bench.put(TEMP, 2.0, NOW - 60 * S, writer=MES).refused == []
        assert (bench.value(TEMP), bench.quality(TEMP)) == (2.0, q.GOOD)  # the first of its session

    def test_neither_does_one_that_is_forgotten(self, bench: Bench) -> None:
        bench.put(TEMP, 1.0)
        bench.table.disown(ERP)
        assert bench.put(TEMP, 2.0, writer=MES).refused == []

    def test_a_tag_with_a_source_takes_nobody_else(self, bench: Bench) -> None:
        bench.table.required[bench.row(TEMP)] = MES
        assert bench.put(TEMP, 1.0).refused == [(0, TEMP, "NotOwner")]
        assert bench.put(TEMP, 1.0, writer=MES).refused == []


class TestDeadband:
    def test_small_changes_are_swallowed_and_heard(self, bench: Bench) -> None:
        bench.put(BAND, 10.0)
        done = bench.apply(make(FLOAT, [BAND], [10.9], NOW + S), now=NOW + S)
        assert (done.current, done.refused) == ([], [])
        assert (bench.value(BAND), bench.time(BAND)) == (10.0, NOW)
        assert int(bench.table.heard[bench.row(BAND)]) == NOW + S
        bench.put(BAND, 11.0, NOW + 2 * S)
        assert bench.value(BAND) == 11.0

    def test_a_change_of_quality_passes(self, bench: Bench) -> None:
        bench.put(BAND, 10.0)
        bench.put(BAND, 10.1, NOW + 1, q.UNCERTAIN)
        assert (bench.value(BAND), bench.quality(BAND)) == (10.1, q.UNCERTAIN)

    def test_a_wrong_clock_passes_and_is_marked(self, bench: Bench) -> None:
        bench.put(BAND, 10.0)
        done = bench.put(BAND, 10.1, NOW - 60 * S)
        assert bench.quality(BAND) == q.UNCERTAIN
        assert done.clock_step == (BAND, -60 * S)

    def test_inside_a_batch_each_is_compared_with_the_one_before(self, bench: Bench) -> None:
        bench.put(BAND, 0.0)
        done = bench.apply(make(FLOAT, [BAND] * 5 + [TEMP], [0.6, 1.2, 1.8, 2.4, 2.5, 1.0], NOW))
        assert [row[1] for row in rows(done.current) if row[0] == BAND] == [1.2, 2.4]
        assert bench.value(TEMP) == 1.0

    def test_positions_rule_inside_a_batch_with_a_band_too(self, bench: Bench) -> None:
        done = bench.apply(make(FLOAT, [BAND, BAND], [1.0, 5.0], [NOW, NOW - S]))
        assert (bench.value(BAND), bench.quality(BAND), done.clock_step) == (5.0, q.GOOD, None)

    def test_per_cent_of_the_range_and_integers_that_would_wrap(self, bench: Bench) -> None:
        bench.put(INT_BAND, 10)
        bench.put(INT_BAND, 11)
        assert bench.value(INT_BAND) == 10
        bench.put(INT_BAND, -(2**63))
        bench.put(INT_BAND, 2**63 - 1)
        assert bench.value(INT_BAND) == 2**63 - 1

    def test_infinity_is_no_trouble(self, bench: Bench) -> None:
        bench.put(BAND, math.inf)
        bench.put(BAND, math.inf, NOW + 1)
        assert bench.value(BAND) == math.inf


class TestBackfill:
    def test_nothing_becomes_current(self, bench: Bench) -> None:
        batch = make(FLOAT, [TEMP, COUNT, TEMP, 77], [1.0, 2.0, NAN, 3.0], 5)
        done = bench.table.backfill(batch, ERP, bench.dead)
        assert done.refused == [(1, COUNT, "WrongType"), (3, 77, "UnknownTag")]
        marks = (q.BACKFILLED, q.BAD | q.BACKFILLED)
        assert rows(done.history_only) == [(TEMP, 1.0, 5, marks[0]), (TEMP, None, 5, marks[1])]
        assert bench.value(TEMP) is None

    def test_it_comes_from_the_owner_or_from_nobody_elses(self, bench: Bench) -> None:
        bench.put(TEMP, 1.0)
        old = make(FLOAT, [TEMP], [0.5], 5)
        assert bench.table.backfill(old, MES, bench.dead).refused == [(0, TEMP, "NotOwner")]
        bench.dead[ERP] = True
        assert bench.table.backfill(old, MES, bench.dead).refused == []


def test_a_loss_keeps_values_and_owners(bench: Bench) -> None:
    bench.put(TEMP, 1.0)
    batch = make(ValueType.QUALITY, [TEMP], None, NOW + S, q.BAD_NO_COMMUNICATION)
    bench.table.lose(batch, np.array([bench.row(TEMP)]), NOW + S)
    assert (bench.value(TEMP), bench.quality(TEMP), bench.time(TEMP)) == (1.0, q.BAD_NO_COMMUNICATION, NOW + S)
    assert bench.table.owned_by(ERP).tolist() == [bench.row(TEMP)]
    bench.births[ERP] += 1
    bench.put(TEMP, 2.0, NOW - 3_600 * S)
    assert (bench.value(TEMP), bench.quality(TEMP)) == (2.0, q.GOOD)
