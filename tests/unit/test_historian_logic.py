"""What of a journal goes to history, and how rows become frames again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tagwerk.actors.historian.logic import DiskLevel, TagTable, disk_level, frames_of, gather, is_new
from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Samples, ValueType, decode, encode, make
from tagwerk.protocols.tags import PositionMark, TagDef
from tagwerk.runtime.durable import JournalRecord

TAGS = [
    TagDef(1, "a.float", "float", 0),
    TagDef(2, "a.int", "int", 0),
    TagDef(3, "a.bool", "bool", 0),
    TagDef(4, "a.str", "str", 0),
    TagDef(5, "a.unlogged", "float", 0, log=False),
]
TABLE = TagTable(TAGS)


def record(n: int, *batches: Samples, kind: int = 0, incarnation: int = 1, frame: bytes | None = None) -> JournalRecord:
    return JournalRecord(n, kind, 0, incarnation, "w", n, 1000 + n, encode(batches) if frame is None else frame)


def test_columns_keep_the_order_of_the_journal() -> None:
    first = record(1, make(ValueType.FLOAT, [1, 1], [1.5, 2.5], 10), make(ValueType.QUALITY, [1], None, 11, q.BAD))
    second = record(2, make(ValueType.INT, [2], [2**62 + 1], 5, q.UNCERTAIN), make(ValueType.STR, [4], ["ä"], 6))
    columns, broken = gather([first, second], TABLE)
    assert columns.tags == [1, 1, 1, 2, 4]
    assert columns.values == [1.5, 2.5, None, 2**62 + 1, "ä"]
    assert columns.times == [10, 10, 11, 5, 6]
    assert columns.quality == [0, 0, q.BAD, q.UNCERTAIN, 0]
    assert columns.received == [1001, 1001, 1001, 1002, 1002]
    assert broken == []


def test_only_what_is_logged_and_was_accepted_goes_to_history() -> None:
    batch = make(ValueType.FLOAT, [1, 5, 2, 3, 4, 77, 2**32 - 1], np.arange(7.0), 1)
    columns, _ = gather([record(1, batch)], TABLE)
    assert columns.tags == [1, 77, 2**32 - 1]  # not: unlogged, wrong types; handles unknown as yet are kept
    columns, _ = gather([record(1, make(ValueType.INT, [1, 2, 3], [7, 8, 9], 1))], TABLE)
    assert columns.tags == [1, 2]  # an integer fits into a float
    columns, _ = gather([record(1, make(ValueType.QUALITY, [1, 4, 5], None, 1, q.BAD))], TABLE)
    assert columns.tags == [1, 4]
    assert gather([record(1, batch)], TagTable([]))[0].tags == batch.tags.tolist()


def test_nan_is_a_gap_of_bad_quality() -> None:
    batch = make(ValueType.FLOAT, [1, 1, 1], [1.0, np.nan, np.nan], 1, [0, 0, q.BAD_SENSOR_FAILURE])
    columns, _ = gather([record(1, batch)], TABLE)
    assert columns.values == [1.0, None, None]
    assert columns.quality == [0, q.BAD, q.BAD_SENSOR_FAILURE]
    assert all(type(code) is int for code in columns.quality)


def test_births_are_passed_and_broken_frames_are_told() -> None:
    good = make(ValueType.BOOL, [3], [True], 1)
    records = [record(1, kind=1, frame=b""), record(2, frame=b"\xc1"), record(3, good, kind=2), record(4, good, kind=3)]
    columns, broken = gather(records, TABLE)
    assert columns.tags == [3, 3]
    assert [(bad.n, bool(reason)) for bad, reason in broken] == [(2, True)]


@pytest.mark.parametrize(
    ("incarnation", "n", "journal", "new"),
    [(3, 10, 7, False), (3, 11, 7, True), (2, 11, 7, False), (4, 5, 7, True), (1, 1, 8, True)],
)
def test_a_record_is_taken_once(incarnation: int, n: int, journal: int, new: bool) -> None:
    taken = PositionMark(7, 3, 10)
    assert is_new(record(n, kind=1, incarnation=incarnation, frame=b""), journal, taken) is new
    assert is_new(record(n, kind=1, frame=b""), journal, None)


def unpacked(frames: tuple[bytes, ...]) -> list[tuple[int, Any, int]]:
    rows: list[tuple[int, Any, int]] = []
    for frame in frames:
        batches = decode(frame)
        kinds = [batch.kind for batch in batches]
        assert all(first is not ValueType.QUALITY for first, _ in pairwise(kinds))
        for batch in batches:
            values: Any = [None] * len(batch) if batch.values is None else list(batch.values)
            rows += zip(batch.times.tolist(), values, batch.quality.tolist(), strict=True)
    return rows


@pytest.mark.parametrize(
    ("kind", "stored", "shown"),
    [
        (ValueType.FLOAT, [1.5, None, None, 2.0], [1.5, None, None, 2.0]),
        (ValueType.FLOAT, [None, 1, None], [None, 1.0, None]),
        (ValueType.INT, [2**62 + 1, -(2**63), 2**63 - 1], [2**62 + 1, -(2**63), 2**63 - 1]),
        (ValueType.BOOL, [1, 0, None, 1], [True, False, None, True]),
        (ValueType.STR, ["", None, "ü", "x" * 40_000, "y" * 40_000], ["", None, "ü", "x" * 40_000, "y" * 40_000]),
    ],
)
def test_rows_become_frames_in_their_order(kind: ValueType, stored: list[Any], shown: list[Any]) -> None:
    rows = [(100, i, value, q.BAD if value is None else 0) for i, value in enumerate(stored)]
    got = unpacked(frames_of(9, kind, rows))
    assert [value for _, value, _ in got] == shown
    assert [quality for _, _, quality in got] == [row[3] for row in rows]


def test_many_rows_are_split_into_frames() -> None:
    rows = [(i, i, float(i), 0) for i in range(20_000)]
    frames = frames_of(9, ValueType.FLOAT, rows)
    assert len(frames) > 1
    assert [time for time, _, _ in unpacked(frames)] == list(range(20_000))
    assert frames_of(9, ValueType.FLOAT, []) == ()


def test_the_disk_level_does_not_flap() -> None:
    level = DiskLevel.ROOM
    seen: list[str] = []
    for used_pct in (79.9, 80.1, 79.5, 78.9, 96.0, 94.5, 93.9, 79.2, 78.0):
        level = disk_level(level, used_pct, 80.0, 95.0)
        seen.append(level.value)
    assert seen == ["room", "warn", "warn", "room", "stop", "stop", "warn", "warn", "room"]
