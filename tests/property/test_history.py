"""History against plain lists: chunks without loss, pages of a sorted list, buckets that a loop computes."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagwerk.actors.historian import answers, sealing
from tagwerk.actors.historian import chunks as codec
from tagwerk.actors.historian import store as history
from tagwerk.actors.historian.chunks import decode_chunk, encode_chunk
from tagwerk.actors.historian.logic import trend
from tagwerk.actors.historian.logic.arrived import of_batches
from tagwerk.actors.historian.logic.series import COLUMN_TYPES, Series, in_order
from tagwerk.actors.historian.logic.table import Grid
from tagwerk.actors.historian.past import FIRST_NS, LAST_NS, Past
from tagwerk.actors.historian.reading import Reading
from tagwerk.actors.historian.store import Store
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.history import GetHistory
from tagwerk.protocols.samples import DTYPES, ValueType, decode, make

HOUR_NS = 3_600_000_000_000
TAG = 7
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A sync costs nothing there."""
WHOLE = st.integers(-(2**63), 2**63 - 1)
VALUES: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.FLOAT: st.one_of(
        st.floats(),
        st.floats(width=32),
        st.sampled_from([0.0, -0.0, 0.1, 1e300, math.inf]),
        st.integers(0, 9).map(float),
    ),
    ValueType.INT: st.one_of(WHOLE, st.integers(0, 9)),
    ValueType.BOOL: st.booleans(),
    ValueType.STR: st.text(max_size=9),
    ValueType.QUALITY: st.just(0),
}
CODES = st.sampled_from([q.GOOD, q.GOOD, q.GOOD, q.UNCERTAIN, q.BAD, q.BAD_NO_COMMUNICATION, 0xFFFF_FFFF])


def _evenly(first: int, step: int, count: int) -> list[int]:
    return [first + number * (step % 10**12) for number in range(count)]


def _times(count: int) -> st.SearchStrategy[list[int]]:
    jitter = st.lists(st.integers(0, 99), min_size=count, max_size=count)
    return st.one_of(
        st.lists(WHOLE, min_size=count, max_size=count),
        st.builds(_evenly, st.integers(0, 99), WHOLE, st.just(count)),
        jitter.map(lambda late: [number * 10**9 + by for number, by in enumerate(late)]),
    )


@st.composite
def series(draw: st.DrawFn) -> Series:
    kind = draw(st.sampled_from(list(VALUES)))
    count = draw(st.one_of(st.integers(1, 12), st.integers(20, 80)))
    pool = draw(st.lists(VALUES[kind], min_size=1, max_size=count))
    values = np.empty(count, COLUMN_TYPES[kind])
    values[:] = [pool[draw(st.integers(0, len(pool) - 1))] for _ in range(count)]
    all_of_them = st.just([True] * count)
    some_of_them = st.lists(st.booleans(), min_size=count, max_size=count)
    valued = np.array(draw(st.one_of(all_of_them, some_of_them)))
    if kind is ValueType.QUALITY:
        valued = np.zeros(count, np.bool_)
    quality = np.array(draw(st.lists(CODES, min_size=count, max_size=count)), np.uint32)
    times = np.array(draw(_times(count)), np.int64)
    return in_order(Series(kind, times, values, quality, valued))


def exact(found: Series) -> list[tuple[int, Any, int]]:
    """Rows whose values are compared as bits."""
    values: list[Any] = found.values.view(np.int64).tolist() if found.kind is ValueType.FLOAT else found.values.tolist()
    columns = zip(found.times.tolist(), values, found.valued.tolist(), found.quality.tolist(), strict=True)
    return [(time_ns, value if valued else None, code) for time_ns, value, valued, code in columns]


@settings(deadline=None, max_examples=80)
@given(series(), st.booleans())
def test_a_chunk_gives_back_what_it_took(samples: Series, tight: bool) -> None:
    found = decode_chunk(encode_chunk(samples, tight=tight))
    assert found.kind is samples.kind
    assert exact(found) == exact(samples)


@settings(deadline=None, max_examples=80)
@given(st.one_of(st.binary(max_size=60), st.tuples(series(), st.integers(0, 10**6), st.integers(1, 255)).map(
    lambda given: _changed(encode_chunk(given[0], tight=True), given[1], given[2]))))  # fmt: skip
def test_any_bytes_are_samples_or_an_error_of_their_writer(content: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        decode_chunk(content)


def _changed(chunk: bytes, place: int, mask: int) -> bytes:
    body = bytearray(chunk)
    body[place % len(body)] ^= mask
    return bytes(body)


# --- the store against a list ---------------------------------------------------------------------------------------

Step = tuple[str, Any]
TIME = st.integers(0, 60).map(lambda hour: hour * HOUR_NS)
ROWS = st.lists(st.tuples(TIME, st.one_of(st.none(), st.integers(0, 99))), min_size=1, max_size=12)
STEP: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("add"), ROWS),
    st.tuples(st.just("seal"), st.none()),
    st.tuples(st.just("work"), st.integers(0, 5)),
    st.tuples(st.just("die"), st.none()),
)
STEPS = st.lists(STEP, min_size=1, max_size=14)


class Model:
    """A store in a directory, and what should be in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store(directory)
        self.rows: list[tuple[int, int | None]] = []

    def do(self, step: Step) -> None:
        what, given = step
        if what == "add":
            batches = [
                make(ValueType.QUALITY, [TAG], None, time_ns, q.BAD)
                if value is None
                else make(ValueType.INT, [TAG], [value], time_ns)
                for time_ns, value in given
            ]
            with self.store.transaction():
                self.store.append(of_batches(batches))
            self.rows += given
        elif what == "seal":
            self.store.seal_all()
        elif what == "work":  # in single steps, and not always to the end
            for _ in range(4 * given * given):
                self.store.work(100 * 24 * HOUR_NS, lambda: 0, 0)
        else:
            dead = self.directory.with_name("dead")
            shutil.copytree(self.directory, dead)
            self.store.close()
            shutil.rmtree(self.directory)
            dead.rename(self.directory)
            self.store = Store(self.directory)

    @property
    def expected(self) -> list[tuple[int, int | None]]:
        return sorted(self.rows, key=lambda row: row[0])


def rows_of(frames: tuple[bytes, ...]) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for frame in frames:
        for batch in decode(frame):
            values: Any = [None] * len(batch) if batch.values is None else batch.values.tolist()
            found += zip(batch.times.tolist(), values, strict=True)
    return found


@pytest.fixture(autouse=True, scope="module")
def small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "SEAL_ROWS", 30)
        patch.setattr(history, "MERGE_CHUNKS", 2)
        patch.setattr(sealing, "MERGE_CHUNKS", 2)
        patch.setattr(sealing, "CHUNK_ROWS", 8)
        patch.setattr(sealing, "_SMALL", 4)
        patch.setattr(sealing, "GROUP_ROWS", 16)
        patch.setattr(codec, "_SHORT", 4)
        patch.setattr(answers, "_FEW", 2)
        patch.setattr(answers, "NODES_LIMIT", 10)
        yield


@settings(deadline=None, max_examples=25)
@given(STEPS, st.integers(1, 9), TIME, TIME, st.integers(1, 30))
def test_pages_are_those_of_a_sorted_list(steps: list[Step], limit: int, start: int, end: int, newest: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        model = Model(Path(directory) / "history")
        try:
            for step in steps:
                model.do(step)
            _compare(model, limit, start, end, newest)
        finally:
            model.store.close()


def _compare(model: Model, limit: int, start: int, end: int, newest: int) -> None:
    assert model.store.rows == len(model.rows)
    end = max(start, end)
    got: list[tuple[int, Any]] = []
    after: int | None = 0
    skip = 0
    while after is not None:
        asked = GetHistory(TAG, start, end, limit, after, skip=skip)
        page = Reading(model.store).page(asked, ValueType.INT)
        found = rows_of(page.frames)
        assert len(found) <= limit
        got += found
        after, skip = page.next_after, page.skip
    inside = [row for row in model.expected if start <= row[0] < end]
    assert got == inside
    last = Reading(model.store).page(GetHistory(TAG, start, end, newest, newest=True), ValueType.INT)
    assert rows_of(last.frames) == inside[-newest:]
    around = Reading(model.store).page(GetHistory(TAG, start, end, bounds=True), ValueType.INT)
    before = [row for row in model.expected if row[0] < start][-1:]
    behind = [row for row in model.expected if row[0] >= end][:1]
    assert rows_of(around.frames) == [*before, *inside, *behind]


# --- buckets and trends against a loop ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    STEPS, st.integers(0, 50).map(lambda hour: hour * HOUR_NS), st.integers(1, 40), st.integers(1, 12),
    st.sampled_from([None, 100.0]),
)  # fmt: skip
def test_buckets_are_those_of_a_loop(
    steps: list[Step], start: int, half_hours: int, rows: int, wrap: float | None
) -> None:
    grid = Grid(start, half_hours * HOUR_NS // 2, rows)
    names = ("value", "average", "min", "max", "count", "delta", "known")
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        model = Model(Path(directory) / "history")
        try:
            for step in steps:
                model.do(step)
            past = Past(model.store, TAG, ValueType.INT)
            columns = _finish(answers.table_of(past, ValueType.INT, grid, names, wrap))
        finally:
            model.store.close()
    for column in columns:
        values = np.frombuffer(column.values, DTYPES[ValueType(column.kind)]).tolist()
        present = np.frombuffer(column.present, np.bool_).tolist()
        got = [value if there else None for value, there in zip(values, present, strict=True)]
        want = [_bucket(model.expected, grid, row, wrap)[column.name] for row in range(rows)]
        assert got == pytest.approx(want), column.name


def _bucket(rows: list[tuple[int, int | None]], grid: Grid, row: int, wrap: float | None) -> dict[str, Any]:
    start = grid.start_ns + row * grid.step_ns
    end = start + grid.step_ns
    held = next((value for time_ns, value in reversed(rows) if time_ns <= start), None)
    inside = [(time_ns, value) for time_ns, value in rows if start <= time_ns < end]
    changes = [(start, held), *(change for change in inside if change[0] > start), (end, None)]
    spans = [(value, (after[0] - time_ns) / 1e9) for (time_ns, value), after in pairwise(changes)]
    known = sum(seconds for value, seconds in spans if value is not None)
    area = sum(value * seconds for value, seconds in spans if value is not None)
    seen = [value for _, value in inside if value is not None]
    extremes = seen if held is None else [*seen, held]
    delta = 0.0
    last = next((value for time_ns, value in reversed(rows) if time_ns < start and value is not None), None)
    for value in seen:
        if last is not None:
            step = value - last
            delta += step if step >= 0 else (step + wrap if wrap else value)
        last = value
    return {
        "value": held,
        "average": area / known if known else None,
        "min": min(extremes, default=None),
        "max": max(extremes, default=None),
        "count": len(seen),
        "delta": delta if extremes else None,
        "known": known,
    }


def _finish(making: Any) -> Any:
    while True:
        try:
            next(making)
        except StopIteration as done:
            return done.value


@settings(deadline=None, max_examples=30)
@given(STEPS, st.integers(16, 24))
def test_a_trend_keeps_extremes_and_gaps(steps: list[Step], points: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        model = Model(Path(directory) / "history")
        try:
            for step in steps:
                model.do(step)
            past = Past(model.store, TAG, ValueType.INT)
            found = _finish(answers.trend_of(past, ValueType.INT, FIRST_NS, LAST_NS, points))
        finally:
            model.store.close()
    columns = zip(found.times.tolist(), found.values.tolist(), found.valued.tolist(), strict=True)
    shown = [(time_ns, value if valued else None) for time_ns, value, valued in columns]
    _is_part_of(shown, model.expected)
    values = [value for _, value in model.expected if value is not None]
    seen = [value for _, value in shown if value is not None]
    assert (min(seen, default=None), max(seen, default=None)) == (min(values, default=None), max(values, default=None))
    assert found.usable.all() == (None not in [value for _, value in model.expected])


def _is_part_of(some: list[Any], rows: list[Any]) -> None:
    """In order of time; what stands at one time may come in any order."""
    assert Counter(some) <= Counter(rows)
    assert [time_ns for time_ns, _ in some] == sorted(time_ns for time_ns, _ in some)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(100, 3_000), st.integers(16, 200), st.integers(0, 9))
def test_each_stretch_keeps_its_least_and_greatest(seed: int, count: int, points: int, gaps: int) -> None:
    random = np.random.default_rng(seed)
    times = np.cumsum(random.integers(0, 5_000_000_000, count))
    values = random.normal(size=count)
    quality = np.zeros(count, np.uint32)
    for begin in random.integers(0, count, gaps):
        quality[begin : begin + 5] = q.BAD
    whole = Series(ValueType.FLOAT, times, values, quality, np.ones(count, np.bool_))
    found = trend.thinned(whole, points)
    usable, kept = whole.take(whole.usable), found.take(found.usable)
    stretches = points // 4
    if not len(usable) or len(usable) <= points:
        assert len(kept) == len(usable)
        return
    span = usable.times[-1] - usable.times[0] + 1
    for number in range(stretches):
        low, high = (usable.times[0] + span * edge / stretches for edge in (number, number + 1))
        inside = usable.values[(usable.times >= low) & (usable.times < high)]
        shown = kept.values[(kept.times >= low) & (kept.times < high)]
        if len(inside):
            assert (shown.min(), shown.max()) == (inside.min(), inside.max())
    bad = ~whole.usable
    begins = np.flatnonzero(bad & np.append(True, ~bad[:-1]))
    if len(begins) <= stretches:
        assert set(times[begins].tolist()) <= set(found.times[~found.usable].tolist())
