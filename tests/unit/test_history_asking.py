"""Trends and tables as they are asked for: what is refused, and answers in steps between which samples are taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagwerk.actors.historian import answers
from tagwerk.actors.historian.asking import ANSWERS_LIMIT, TABLE_ROWS, Asking, Question
from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.logic.arrived import of_batches
from tagwerk.actors.historian.store import Store
from tagwerk.protocols import quality as q
from tagwerk.protocols.history import GetHistory, GetTable, GetTrend, HistoryPage, HistoryTable, TableColumn
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.samples import DTYPES, ValueType, decode, make
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.actor import Later

S = 1_000_000_000
DAYS = 12
TAGS = {
    1: TagDef(1, "a.float", "float", 0),
    2: TagDef(2, "a.int", "int", 0),
    3: TagDef(3, "a.bool", "bool", 0),
    4: TagDef(4, "a.text", "str", 0),
}


class Timer:
    def cancel(self) -> None:
        raise AssertionError("no timer of an answer is cancelled")


class Rig:
    """A store, and timers that fire when told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.due: list[Callable[[], None]] = []
        self.now_ns = 100 * DAY_NS
        self.asking = Asking(self.store, TAGS.get, lambda _shard: None, self._after, lambda: self.now_ns)

    def _after(self, _seconds: float, call: Callable[[], None]) -> Timer:
        self.due.append(call)
        return Timer()

    def add(self, tag: int, values: list[Any], times: Any, quality: Any = None) -> None:
        kind = {1: ValueType.FLOAT, 2: ValueType.INT, 3: ValueType.BOOL, 4: ValueType.STR}[tag]
        with self.store.transaction():
            self.store.append(of_batches([make(kind, [tag] * len(values), values, times, quality)]))

    def finish(self) -> None:
        self.store.seal_all()
        while self.store.work(self.now_ns, time.monotonic_ns, 10**9):
            pass

    def begin(self, asked: Question) -> list[Message]:
        answer = self.asking.answer(asked)
        assert isinstance(answer, Later)
        told: list[Message] = []
        answer.bind(told.append)
        return told

    def ask(self, asked: Question, meanwhile: Callable[[], None] | None = None) -> Any:
        told = self.begin(asked)
        while self.due:
            if meanwhile is not None:
                meanwhile()
            self.due.pop(0)()
        assert len(told) == 1
        assert self.store.readings == 0
        return told[0]

    def refused(self, asked: Question) -> str:
        answer = self.asking.answer(asked)
        assert isinstance(answer, Refusal)
        return answer.code


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(Store(tmp_path / "history"))
    yield rig
    rig.store.close()


def cells(column: TableColumn) -> list[Any]:
    there = np.frombuffer(column.present, np.bool_).tolist()
    values: Any = column.texts
    if column.kind != ValueType.STR:
        values = np.frombuffer(column.values, DTYPES[ValueType(column.kind)]).tolist()
    return [value if known else None for value, known in zip(values, there, strict=True)]


def table(rig: Rig, tag: int, *names: str, end_s: int = 40, wrap: float | None = None) -> dict[str, list[Any]]:
    found = rig.ask(GetTable(tag, 0, end_s * S, 10 * S, names, wrap))
    assert isinstance(found, HistoryTable)
    return {column.name: cells(column) for column in found.columns}


@pytest.mark.parametrize("finished", [False, True])
def test_a_float_in_buckets(rig: Rig, finished: bool) -> None:
    rig.add(1, [0.0, 10.0, 20.0, 5.0, 0.0], np.array([-5, 5, 10, 20, 35]) * S, [0, 0, 0, q.BAD, 0])
    if finished:
        rig.finish()
    found = table(rig, 1, "value", "interpolated", "average", "min", "max", "count", "known")
    assert found["value"] == [0.0, 20.0, None, None]
    assert found["interpolated"] == [5.0, 20.0, None, None]
    assert found["average"] == [5.0, 20.0, None, 0.0]
    assert found["min"] == [0.0, 20.0, None, 0.0]
    assert found["max"] == [10.0, 20.0, None, 0.0]
    assert found["count"] == [1, 1, 0, 1]
    assert found["known"] == [10.0, 10.0, 0.0, 5.0]


@pytest.mark.parametrize("finished", [False, True])
def test_counters_switches_and_texts_in_buckets(rig: Rig, finished: bool) -> None:
    huge = 2**62 + 1
    rig.add(2, [huge, 95, 98, 3, 4], np.array([-9, 1, 5, 15, 39]) * S)
    rig.add(3, [True, False, True], np.array([2, 6, 25]) * S)
    rig.add(4, ["mash", "boil"], np.array([0, 20]) * S)
    if finished:
        rig.finish()
    assert table(rig, 2, "value")["value"] == [huge, 98, 3, 3]
    assert table(rig, 2, "delta", wrap=100.0)["delta"][1:] == [5.0, 0.0, 1.0]
    assert table(rig, 2, "delta")["delta"][1:] == [3.0, 0.0, 1.0]
    assert table(rig, 3, "on_time")["on_time"] == [4.0, 0.0, 5.0, 10.0]
    assert table(rig, 4, "value", "count") == {"value": ["mash", "mash", "boil", "boil"], "count": [1, 0, 1, 0]}


def test_nothing_is_held_beyond_now(rig: Rig) -> None:
    rig.add(1, [1.0], [0])
    rig.now_ns = 15 * S
    assert len(table(rig, 1, "value", end_s=1000)["value"]) == 2


@pytest.mark.parametrize("finished", [False, True])
def test_a_long_trend_is_made_in_steps_and_sees_one_moment(
    rig: Rig, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "PARTS_A_STEP", 2)
    values = np.sin(np.arange(DAYS * 500) / 90)
    values[1234], values[4321] = 9.0, -9.0
    times = np.arange(DAYS * 500) * (DAY_NS // 500)
    rig.add(1, values.tolist(), times, np.where(np.arange(DAYS * 500) // 40 == 70, q.BAD, 0))
    rig.store.seal_all()
    if finished:
        rig.finish()

    def meanwhile() -> None:  # sealed while the answer is made: seen neither twice nor for the first time
        rig.add(1, [77.0], [3 * DAY_NS + 7])
        rig.store.seal_all()
        assert rig.store.oldest_day() is None

    page = rig.ask(GetTrend(1, -S, DAYS * DAY_NS, 200), meanwhile)
    assert isinstance(page, HistoryPage)
    batches = [batch for frame in page.frames for batch in decode(frame)]
    shown = np.concatenate([batch.values for batch in batches])
    assert 100 < len(shown) < 220
    assert (shown.min(), shown.max()) == (-9.0, 9.0)
    bad = np.concatenate([batch.quality for batch in batches]) >= q.BAD
    stamps = np.concatenate([batch.times for batch in batches])
    assert stamps[bad].tolist() == [times[2800], times[2839]]
    assert (np.diff(stamps) > 0).all()


def test_a_trend_begins_with_what_held_before(rig: Rig) -> None:
    rig.add(1, [1.0, 2.0, 3.0], np.array([0, 10, 20]) * S)
    page = rig.ask(GetTrend(1, 5 * S, 15 * S, 100, bounds=True))
    assert [value for frame in page.frames for batch in decode(frame) for value in batch.values] == [1.0, 2.0]
    assert rig.ask(GetTrend(1, 50 * S, 60 * S, 100)).frames == ()


@pytest.mark.parametrize(
    "asked",
    [
        GetTrend(4, 0, 1, 100), GetTrend(1, 0, 1, 1), GetTrend(1, 0, 1, 10**9),
        GetTable(1, 0, S, 0, ("value",)), GetTable(1, S, S, S, ("value",)), GetTable(1, 0, S, S, ()),
        GetTable(1, 0, (TABLE_ROWS + 1) * S, S, ("value",)), GetTable(1, -(2**80), S, S, ("value",)),
        GetTable(1, 0, S, S, ("median",)), GetTable(1, 0, S, S, ("on_time",)), GetTable(2, 0, S, S, ("interpolated",)),
        GetTable(4, 0, S, S, ("average",)), GetTable(2, 0, S, S, ("delta",), -1.0), GetHistory(1, 0, 1, -1),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(rig: Rig, asked: Question) -> None:
    assert rig.refused(asked) == "BadValue"


def test_a_tag_that_nobody_knows_is_refused(rig: Rig) -> None:
    assert rig.refused(GetTrend(9, 0, 1)) == "UnknownTag"


def test_the_answers_that_are_being_made_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PARTS_A_STEP", 1)
    rig.add(1, [1.0] * 4, np.arange(4) * DAY_NS)
    rig.store.seal_all()
    asked = GetTrend(1, 0, 9 * DAY_NS, 100)
    told = [rig.begin(asked) for _ in range(ANSWERS_LIMIT)]
    assert rig.refused(asked) == "Conflict"
    while rig.due:
        rig.due.pop(0)()
    assert [len(answer) for answer in told] == [1] * ANSWERS_LIMIT
    assert rig.ask(asked).frames
