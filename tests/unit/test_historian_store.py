"""The history store: what was committed is there exactly once, and is read back as it came."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tagwerk.actors.historian.logic import Columns
from tagwerk.actors.historian.reading import PAGE_ROWS, Reading
from tagwerk.actors.historian.store import Store
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.history import GetHistory, HistoryPage
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.samples import Value, ValueType, decode
from tagwerk.protocols.tags import PositionMark
from tagwerk.runtime.outbox import Outbox

ALWAYS = (-(2**63), 2**63 - 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "history.db")
    yield store
    store.close()


def columns(*rows: tuple[int, int, Value, int]) -> Columns:
    """Rows of (tag, time, value, quality)."""
    result = Columns()
    for tag, time_ns, value, quality in rows:
        result.tags.append(tag)
        result.times.append(time_ns)
        result.values.append(value)
        result.quality.append(quality)
        result.received.append(time_ns + 1)
    return result


def add(store: Store, *rows: tuple[int, int, Value, int]) -> None:
    with store.transaction():
        store.append(columns(*rows))


def move(store: Store) -> None:
    after = -1
    for last in store.slices(2):
        with store.transaction():
            store.move(after, last)
        after = last
    assert store.recent_rows == 0


def rows_of(page: HistoryPage) -> list[tuple[int, Any]]:
    rows: list[tuple[int, Any]] = []
    for frame in page.frames:
        for batch in decode(frame):
            values: Any = [None] * len(batch) if batch.values is None else list(batch.values)
            rows += zip(batch.times.tolist(), values, strict=True)
    return rows


def read(
    store: Store, tag: int, kind: ValueType, start: int = ALWAYS[0], end: int = ALWAYS[1], **more: Any
) -> list[Any]:
    """All pages, one after the other, each from a reader that remembers nothing."""
    got: list[Any] = []
    after = 0
    while True:
        page = Reading(store.connection).page(GetHistory(tag, start, end, after=after, **more), kind)
        got += rows_of(page)
        if page.next_after is None:
            return got
        after = page.next_after


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ValueType.FLOAT, [0.1, 5.0, float("inf"), None, -0.0]),
        (ValueType.INT, [2**62 + 1, -(2**63), 2**63 - 1, 0, None]),
        (ValueType.BOOL, [True, False, None, True]),
        (ValueType.STR, ["12", "1e3", "", "ä\0b", None]),
    ],
)
def test_values_come_back_exactly(store: Store, kind: ValueType, values: list[Any], moved: bool) -> None:
    add(store, *((1, i, value, 0) for i, value in enumerate(values)))
    if moved:
        move(store)
    assert read(store, 1, kind) == list(enumerate(values))


def test_equal_times_stay_in_order_across_the_move(store: Store) -> None:
    add(store, (1, 5, 1.0, 0), (1, 5, 2.0, 0), (2, 5, 9.0, 0), (1, 4, 0.0, 0))
    move(store)
    add(store, (1, 5, 3.0, 0), (1, 3, -1.0, 0), (1, 5, 4.0, 0))
    want = [(3, -1.0), (4, 0.0), (5, 1.0), (5, 2.0), (5, 3.0), (5, 4.0)]
    assert read(store, 1, ValueType.FLOAT) == want
    move(store)
    assert read(store, 1, ValueType.FLOAT) == want
    for limit in range(1, 8):
        assert read(store, 1, ValueType.FLOAT, limit=limit) == want


def test_the_span_is_half_open_and_bounds_look_beyond_it(store: Store) -> None:
    add(store, *((1, t, float(t), 0) for t in (10, 20, 30)))
    move(store)
    add(store, *((1, t, float(t), 0) for t in (40, 50)))

    def times(start: int, end: int, **more: Any) -> list[int]:
        return [time for time, _ in read(store, 1, ValueType.FLOAT, start, end, **more)]

    assert times(20, 40) == [20, 30]
    assert times(20, 40, bounds=True) == [10, 20, 30, 40]
    assert times(20, 40, bounds=True, limit=1) == [10, 20, 30, 40]
    assert times(25, 26, bounds=True) == [20, 30]
    assert times(0, 10, bounds=True) == [10]
    assert times(51, 60, bounds=True) == [50]
    assert times(40, 20) == []
    assert times(-(2**70), 2**70) == [10, 20, 30, 40, 50]


def test_newest_gives_the_last_of_the_span(store: Store) -> None:
    add(store, *((1, t, float(t), 0) for t in range(6)))
    move(store)
    add(store, *((1, t, float(t), 0) for t in range(6, 10)))

    def newest(limit: int, end: int = 100) -> list[int]:
        page = Reading(store.connection).page(GetHistory(1, 0, end, limit=limit, newest=True), ValueType.FLOAT)
        assert page.next_after is None
        return [time for time, _ in rows_of(page)]

    assert newest(3) == [7, 8, 9]
    assert newest(1, end=9) == [8]
    assert newest(99) == list(range(10))
    assert newest(0) == list(range(10))


def test_long_histories_come_in_pages(store: Store) -> None:
    count = PAGE_ROWS + 10
    add(store, *((1, t // 3, t, 0) for t in range(count)))
    first = Reading(store.connection).page(GetHistory(1, *ALWAYS), ValueType.INT)
    assert first.next_after is not None
    assert len(rows_of(first)) == PAGE_ROWS
    assert [value for _, value in read(store, 1, ValueType.INT)] == list(range(count))
    newest = [value for _, value in read(store, 1, ValueType.INT, newest=True, limit=count - 1)]
    assert newest == list(range(1, count))


def test_long_texts_come_in_pages(store: Store) -> None:
    texts = [f"{n:06}" + "x" * 20_000 for n in range(300)]
    add(store, *((1, n, text, 0) for n, text in enumerate(texts)))
    page = Reading(store.connection).page(GetHistory(1, *ALWAYS), ValueType.STR)
    assert 0 < len(rows_of(page)) < 300
    assert [value for _, value in read(store, 1, ValueType.STR)] == texts


def test_a_reading_goes_on_with_what_came_meanwhile(store: Store) -> None:
    add(store, *((1, t, t, 0) for t in range(4)))
    reading = Reading(store.connection)
    page = reading.page(GetHistory(1, 0, 100, limit=2), ValueType.INT)
    add(store, (1, 0, 77, 0), (1, 9, 9, 0))
    move(store)
    assert page.next_after is not None
    rest = reading.page(GetHistory(1, 0, 100, after=page.next_after), ValueType.INT)
    assert [value for _, value in rows_of(rest)] == [2, 3, 9]


def test_position_rows_and_event_stand_or_fall_together(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    outbox = Outbox(store.connection)
    first = PositionMark(2**64 - 1, 3, 10)
    with store.transaction():
        store.append(columns((1, 1, 1.0, 0)))
        store.set_position("cvt/0", first)
    store.connection.execute("BEGIN IMMEDIATE")
    store.append(columns((1, 2, 2.0, 0)))
    outbox.put(Event(1, "", "", "hole", "cvt/0"))
    store.set_position("cvt/0", PositionMark(first.journal, 3, 11))
    # kill -9: what is on the disk now is what the next process finds
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"history.db{suffix}", tmp_path / f"after.db{suffix}")
    after = Store(tmp_path / "after.db")
    assert after.position("cvt/0") == first
    assert after.rows == 1
    assert Outbox(after.connection).pending == 0
    assert read(after, 1, ValueType.FLOAT) == [(1, 1.0)]
    assert after.positions() == (("cvt/0", 10),)
    assert after.position("cvt/1") is None
    after.close()
    store.close()


def test_an_error_undoes_the_transaction_and_the_counts(store: Store) -> None:
    add(store, (1, 1, 1.0, 0))

    def fail() -> None:
        with store.transaction():
            store.append(columns((1, 2, 2.0, 0)))
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert (store.rows, store.recent_rows) == (1, 1)
    add(store, (1, 2, 3.0, 0))
    assert read(store, 1, ValueType.FLOAT) == [(1, 1.0), (2, 3.0)]


def test_counts_survive_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    add(store, *((tag, 1, 1.0, 0) for tag in range(5)))
    move(store)
    with store.transaction():
        assert store.delete_before(3, 2, 10) == 1
    add(store, (9, 1, 1.0, 0))
    store.close()
    again = Store(tmp_path / "history.db")
    assert (again.rows, again.recent_rows) == (5, 1)
    again.close()


def test_a_broken_record_is_kept_aside(store: Store) -> None:
    with store.transaction():
        store.set_aside("cvt/0", PositionMark(1, 2, 3), "not msgpack", b"\xc1")
    assert list(store.db.query("SELECT n, reason, frame FROM set_aside")) == [
        {"n": 3, "reason": "not msgpack", "frame": b"\xc1"}
    ]


def test_a_store_of_another_layout_is_refused(tmp_path: Path) -> None:
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ConfigError, match="another layout"):
        Store(tmp_path / "newer.db")
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(ConfigError, match="not usable"):
        Store(tmp_path / "text.db")
