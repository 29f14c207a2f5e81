"""What of a journal goes to history, and how a tag's samples become frames again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tagwerk.actors.historian.logic.arrived import Arrived, by_tag, concatenate, from_bytes, gather, to_bytes
from tagwerk.actors.historian.logic.intake import DiskLevel, TagTable, disk_level, is_new
from tagwerk.actors.historian.logic.series import COLUMN_TYPES, Series, empty, frames_of
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.samples import Samples, ValueType, decode, encode, make
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import PositionMark, TagDef
from tagwerk.runtime.durable import JournalRecord

TAGS = [
    TagDef(1, "a.float", "float", 0),
    TagDef(2, "a.int", "int", 0),
    TagDef(3, "a.bool", "bool", 0),
    TagDef(4, "a.str", "str", 0),
    TagDef(5, "a.unlogged", "float", 0, log=False),
]
TABLE = TagTable(TagRows.of(TAGS))


def record(n: int, *batches: Samples, kind: int = 0, incarnation: int = 1, frame: bytes | None = None) -> JournalRecord:
    return JournalRecord(n, kind, 0, incarnation, "w", n, 1000 + n, encode(batches) if frame is None else frame)


def values_of(arrived: Arrived) -> list[Any]:
    """One value a sample, None where there is none."""
    found: list[Any] = []
    for row, kind in enumerate(arrived.kinds.tolist()):
        series = arrived.series(slice(row, row + 1), ValueType(kind))
        found.append(series.values.tolist()[0] if series.valued[0] else None)
    return found


def test_columns_keep_the_order_of_the_journal() -> None:
    first = record(1, make(ValueType.FLOAT, [1, 1], [1.5, 2.5], 10), make(ValueType.QUALITY, [1], None, 11, q.BAD))
    second = record(2, make(ValueType.INT, [2], [2**62 + 1], 5, q.UNCERTAIN), make(ValueType.STR, [4], ["ä"], 6))
    third = record(3, make(ValueType.STR, [4], ["ö"], 7))
    arrived, _, broken = gather([first, second, third], TABLE)
    for found in (
        arrived,
        from_bytes(to_bytes(arrived)),
        concatenate([arrived.take(slice(0, 4)), arrived.take(slice(4, 9))]),
    ):
        assert found.tags.tolist() == [1, 1, 1, 2, 4, 4]
        assert values_of(found) == [1.5, 2.5, None, 2**62 + 1, "ä", "ö"]
        assert found.times.tolist() == [10, 10, 11, 5, 6, 7]
        assert found.quality.tolist() == [0, 0, q.BAD, q.UNCERTAIN, 0, 0]
    assert broken == []


def test_only_what_is_logged_and_was_accepted_goes_to_history() -> None:
    batch = make(ValueType.FLOAT, [1, 5, 2, 3, 4, 77, 2**32 - 1], np.arange(7.0), 1)
    arrived, _, _ = gather([record(1, batch)], TABLE)
    assert arrived.tags.tolist() == [1, 77, 2**32 - 1]  # not: unlogged, wrong types; handles unknown as yet are kept
    arrived, _, _ = gather([record(1, make(ValueType.INT, [1, 2, 3], [7, 8, 9], 1))], TABLE)
    assert arrived.tags.tolist() == [1, 2]  # an integer fits into a float
    arrived, _, _ = gather([record(1, make(ValueType.QUALITY, [1, 4, 5], None, 1, q.BAD))], TABLE)
    assert arrived.tags.tolist() == [1, 4]
    arrived, _, _ = gather([record(1, make(ValueType.STR, [1, 4], ["no", "yes"], 1))], TABLE)
    assert arrived.texts == ["yes"]
    assert gather([record(1, batch)], TagTable(TagRows.of([])))[0].tags.tolist() == batch.tags.tolist()
    assert len(gather([], TABLE)[0]) == 0


def test_nan_is_a_gap_of_bad_quality() -> None:
    batch = make(ValueType.FLOAT, [1, 1, 1], [1.0, np.nan, np.nan], 1, [0, 0, q.BAD_SENSOR_FAILURE])
    arrived, _, _ = gather([record(1, batch)], TABLE)
    assert values_of(arrived) == [1.0, None, None]
    assert arrived.quality.tolist() == [0, q.BAD, q.BAD_SENSOR_FAILURE]


def test_births_are_passed_and_broken_frames_are_told() -> None:
    good = make(ValueType.BOOL, [3], [True], 1)
    records = [record(1, kind=1, frame=b""), record(2, frame=b"\xc1"), record(3, good, kind=2), record(4, good, kind=3)]
    arrived, _, broken = gather(records, TABLE)
    assert arrived.tags.tolist() == [3, 3]
    assert [(bad.n, bool(reason)) for bad, reason in broken] == [(2, True)]


def test_a_record_of_a_newer_version_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="version 9, this is version 1"):
        from_bytes(b"\x97\x09\xc4\0\xc4\0\xc4\0\xc4\0\xc4\0\x90")


@pytest.mark.parametrize("top", [9, 65_535, 65_536, 2**32 - 1])
def test_sorting_by_tag_keeps_the_order_of_arrival(top: int) -> None:
    tags = np.random.default_rng(1).integers(0, top, 500, endpoint=True).astype(np.uint32) // max(1, top // 9)
    assert by_tag(tags).tolist() == sorted(range(500), key=lambda row: tags[row])


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
    ("kind", "stored"),
    [
        (ValueType.FLOAT, [1.5, None, None, 2.0]),
        (ValueType.FLOAT, [None, 1.0, None]),
        (ValueType.INT, [2**62 + 1, -(2**63), 2**63 - 1]),
        (ValueType.BOOL, [True, False, None, True]),
        (ValueType.STR, ["", None, "ü", "x" * 40_000, "y" * 40_000]),
    ],
)
def test_a_series_becomes_frames_in_its_order(kind: ValueType, stored: list[Any]) -> None:
    valued = np.array([value is not None for value in stored])
    filler = "" if kind is ValueType.STR else 0
    values = np.array([filler if value is None else value for value in stored], COLUMN_TYPES[kind])
    quality = np.where(valued, 0, q.BAD).astype(np.uint32)
    got = unpacked(frames_of(9, Series(kind, np.full(len(stored), 100), values, quality, valued)))
    assert [value for _, value, _ in got] == stored
    assert [code for _, _, code in got] == quality.tolist()


def test_many_samples_are_split_into_frames() -> None:
    count = 20_000
    times, all_good = np.arange(count), np.zeros(count, np.uint32)
    frames = frames_of(9, Series(ValueType.FLOAT, times, times.astype(float), all_good, np.ones(count, bool)))
    assert len(frames) > 1
    assert [time for time, _, _ in unpacked(frames)] == list(range(count))
    assert frames_of(9, empty(ValueType.FLOAT)) == ()


def test_the_disk_level_does_not_flap() -> None:
    level = DiskLevel.ROOM
    seen: list[str] = []
    for used_pct in (79.9, 80.1, 79.5, 78.9, 96.0, 94.5, 93.9, 79.2, 78.0):
        level = disk_level(level, used_pct, 80.0, 95.0)
        seen.append(level.value)
    assert seen == ["room", "warn", "warn", "room", "stop", "stop", "warn", "warn", "room"]
