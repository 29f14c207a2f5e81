"""Imported samples: each goes in once, however often and in whatever parts it is sent, and is marked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.importing import LOOKS_A_STEP, Importing
from tagwerk.actors.historian.logic.arrived import Arrived, of_batches
from tagwerk.actors.historian.past import FIRST_NS, LAST_NS, Past
from tagwerk.actors.historian.store import Store
from tagwerk.protocols import quality as q
from tagwerk.protocols.history import ImportSamples, ImportTaken
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.samples import TYPE_NAMES, ValueType, make
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.actor import Later

S = 1_000_000_000
TAGS = {
    1: TagDef(1, "a.float", "float", 0),
    2: TagDef(2, "a.int", "int", 0),
    4: TagDef(4, "a.text", "str", 0),
    5: TagDef(5, "a.unlogged", "float", 0, log=False),
}


class Timer:
    def cancel(self) -> None:
        raise AssertionError("no timer of an import is cancelled")


class Rig:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.due: list[Callable[[], None]] = []
        self.why_not = ""
        self.importing = Importing(self.store, TAGS.get, self._after, self._keep)

    def _after(self, _seconds: float, call: Callable[[], None]) -> Timer:
        self.due.append(call)
        return Timer()

    def _keep(self, samples: Arrived) -> str:
        if not self.why_not:
            with self.store.transaction():
                self.store.append(samples)
        return self.why_not

    def live(self, tag: int, values: list[Any], times: Any) -> None:
        samples = of_batches([make(TYPE_NAMES[TAGS[tag].type], [tag] * len(values), values, times)])
        with self.store.transaction():
            self.store.append(samples)
        self.importing.saw(samples)

    def seal(self) -> None:
        self.store.seal_all()
        while self.store.work(100 * DAY_NS, time.monotonic_ns, 10**9):
            pass

    def send(self, asked: ImportSamples, meanwhile: Callable[[], None] | None = None) -> Message:
        answer = self.importing.take(asked)
        if not isinstance(answer, Later):
            return answer
        told: list[Message] = []
        answer.bind(told.append)
        while self.due:
            if meanwhile is not None:
                meanwhile()
            self.due.pop(0)()
        assert self.store.readings == 0
        return told[0]

    def rows(self, tag: int) -> list[tuple[int, Any, int]]:
        found = Past(self.store, tag, TYPE_NAMES[TAGS[tag].type]).parts(FIRST_NS, LAST_NS)
        past = Past(self.store, tag, TYPE_NAMES[TAGS[tag].type])
        rows: list[tuple[int, Any, int]] = []
        for part in found:
            series = past.load(part)
            values = [v if known else None for v, known in zip(series.values.tolist(), series.valued, strict=True)]
            rows += zip((series.times // S).tolist(), values, series.quality.tolist(), strict=True)
        return rows


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(Store(tmp_path / "history"))
    yield rig
    rig.store.close()


def message(tag: int, values: list[Any], seconds: Any, quality: Any = 0) -> ImportSamples:
    kind = TYPE_NAMES[TAGS[tag].type]
    count = len(values)
    kinds = np.array([ValueType.QUALITY if value is None else kind for value in values], "u1")
    texts: tuple[str, ...] = ()
    filled = [0 if value is None else value for value in values]
    if kind is ValueType.STR:
        texts = tuple(str(value) for value in values)
        bits = np.arange(count)
    else:
        bits = np.array(filled, np.float64 if kind is ValueType.FLOAT else np.int64).view(np.int64)
    codes = np.broadcast_to(np.array(quality, "<u4"), count)
    times = np.array(seconds, np.int64) * S
    handles = np.full(count, tag, "<u4")
    return ImportSamples(handles.tobytes(), times.tobytes(), bits.tobytes(), codes.tobytes(), kinds.tobytes(), texts)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(("tag", "values"), [(1, [1.5, -0.0, None]), (2, [1, 2**62, None]), (4, ["a", "", "ä"])])
def test_what_is_sent_again_changes_nothing(rig: Rig, tag: int, values: list[Any], sealed: bool) -> None:
    codes = [0, q.UNCERTAIN, q.BAD_NO_COMMUNICATION]
    asked = message(tag, values, [10, 20, 20], codes)
    assert rig.send(asked) == ImportTaken(3, 0)
    if sealed:
        rig.seal()
    before = rig.rows(tag)
    assert rig.send(asked) == ImportTaken(0, 3)
    assert rig.rows(tag) == before
    assert [value for _, value, _ in before] == values
    assert [code for _, _, code in before] == [code | q.BACKFILLED for code in codes]


@pytest.mark.parametrize("sealed", [False, True])
def test_what_came_live_is_not_added_again(rig: Rig, sealed: bool) -> None:
    rig.live(1, [1.0, 2.0, 3.0], np.array([10, 20, 30]) * S)
    if sealed:
        rig.seal()
    assert rig.send(message(1, [1.0, 2.5, 3.0, 4.0], [10, 20, 30, 40])) == ImportTaken(2, 2)
    assert rig.rows(1) == [
        (10, 1.0, 0), (20, 2.0, 0), (20, 2.5, q.BACKFILLED), (30, 3.0, 0), (40, 4.0, q.BACKFILLED),
    ]  # fmt: skip


def test_equal_samples_of_one_message_are_one(rig: Rig) -> None:
    assert rig.send(message(2, [5, 5, 6, 5], [10, 10, 10, 11])) == ImportTaken(3, 1)
    assert rig.rows(2) == [(10, 5, q.BACKFILLED), (10, 6, q.BACKFILLED), (11, 5, q.BACKFILLED)]


def test_what_comes_live_while_an_import_is_compared_is_seen(rig: Rig) -> None:
    days = [day * 86_400 for day in range(3 * LOOKS_A_STEP)]
    last = days[-1]
    came: list[int] = []

    def meanwhile() -> None:
        if not came:
            came.append(1)
            rig.live(1, [7.0, 8.0], np.array([0, last]) * S)

    values = [7.0] * (len(days) - 1) + [9.0]
    assert rig.send(message(1, values, days), meanwhile) == ImportTaken(len(days) - 1, 1)
    found = rig.rows(1)
    assert came == [1]
    assert len(found) == len(days) + 1
    assert found[0] == (0, 7.0, 0)
    assert found[-2:] == [(last, 8.0, 0), (last, 9.0, q.BACKFILLED)]


def test_one_import_at_a_time(rig: Rig) -> None:
    days = [day * 86_400 for day in range(2 * LOOKS_A_STEP)]
    answers: list[Message | Later] = []
    asked = message(1, [1.0] * len(days), days)
    rig.send(asked, lambda: answers.append(rig.importing.take(asked)))
    assert [answer.code for answer in answers if isinstance(answer, Refusal)] == ["Conflict"] * len(answers)
    assert answers


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (message(5, [1.0], [10]), "NotPermitted"),
        (ImportSamples(b"\1\0\0\0", b"", b"", b"", b""), "BadValue"),
        (ImportSamples(b"\1\0\0", b"", b"", b"", b""), "BadValue"),
        (ImportSamples(b"\1\0\0\0", bytes(8), bytes(8), bytes(4), b"\2"), "WrongType"),
        (ImportSamples(b"\4\0\0\0", bytes(8), bytes(8), bytes(4), b"\4"), "BadValue"),
        (ImportSamples(b"\1\0\0\0", bytes(8), bytes(8), bytes(4), b"\7"), "BadValue"),
        (ImportSamples(b"\3\0\0\0", bytes(8), bytes(8), bytes(4), b"\1"), "UnknownTag"),
        (message(1, [float("nan")], [10]), "BadValue"),
    ],
)
def test_what_is_wrong_is_refused_whole(rig: Rig, asked: ImportSamples, code: str) -> None:
    answer = rig.send(asked)
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert rig.store.rows == 0


def test_a_full_disk_refuses_and_the_next_try_takes_it(rig: Rig) -> None:
    rig.why_not = "no room"
    assert rig.send(message(1, [1.0], [10])) == Refusal("NotPermitted", "no room")
    rig.why_not = ""
    assert rig.send(message(1, [1.0], [10])) == ImportTaken(1, 0)
