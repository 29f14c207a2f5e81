"""The history store: what was committed is there exactly once, is read back as it came, and old days go as a whole."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tagwerk.actors.historian import migration, reading
from tagwerk.actors.historian import store as history
from tagwerk.actors.historian.days import day_name
from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.logic.arrived import of_batches
from tagwerk.actors.historian.logic.intake import DiskLevel
from tagwerk.actors.historian.migration import KEPT
from tagwerk.actors.historian.reading import PAGE_ROWS, Reading
from tagwerk.actors.historian.sealing import MERGE_CHUNKS
from tagwerk.actors.historian.store import CATALOG, CHECK_S, DAYS, Store, open_history
from tagwerk.actors.historian.upkeep import KEPT_DAYS, Disk, Retention, used_pct
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.history import GetHistory, HistoryPage
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.samples import Samples, Value, ValueType, decode, make
from tagwerk.protocols.tags import PositionMark
from tagwerk.runtime.outbox import Outbox

ALWAYS = (-(2**63), 2**63 - 1)
LATER = 400 * DAY_NS
STAGES = ("hot", "sealed", "finished")
KINDS = {bool: ValueType.BOOL, float: ValueType.FLOAT, int: ValueType.INT, str: ValueType.STR}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "history")
    yield store
    store.close()


def add(store: Store, *rows: tuple[int, int, Value]) -> None:
    """Rows of (tag, time, value)."""
    batches: list[Samples] = []
    for tag, time_ns, value in rows:
        if value is None:
            batches.append(make(ValueType.QUALITY, [tag], None, time_ns, q.BAD))
        else:
            batches.append(make(KINDS[type(value)], [tag], [value], time_ns))
    with store.transaction():
        store.append(of_batches(batches))


def bring(store: Store, stage: str) -> None:
    """What is in the store goes as far as this stage."""
    if stage != "hot":
        store.seal_all()
    if stage == "finished":
        work(store)


def oldest(store: Store) -> int:
    day = store.oldest_day()
    assert day is not None
    return day.day


def work(store: Store, now_ns: int = LATER) -> None:
    while store.work(now_ns, time.monotonic_ns, 10**9):
        pass


def rows_of(page: HistoryPage) -> list[tuple[int, Any]]:
    rows: list[tuple[int, Any]] = []
    for frame in page.frames:
        for batch in decode(frame):
            column: Any = batch.values
            values: Any = [None] * len(batch) if column is None else list(column)
            values = values if isinstance(column, list) or column is None else column.tolist()
            rows += zip(batch.times.tolist(), values, strict=True)
    return rows


def read(store: Store, tag: int, kind: ValueType, start: int = ALWAYS[0], end: int = ALWAYS[1], **more: Any) -> Any:
    """All pages, one after the other."""
    got: list[Any] = []
    after = skip = 0
    while True:
        page = Reading(store).page(GetHistory(tag, start, end, after=after, skip=skip, **more), kind)
        got += rows_of(page)
        if page.next_after is None:
            return got
        after, skip = page.next_after, page.skip


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ValueType.FLOAT, [0.1, 5.0, float("inf"), None, -0.0]),
        (ValueType.INT, [2**62 + 1, -(2**63), 2**63 - 1, 0, None]),
        (ValueType.BOOL, [True, False, None, True]),
        (ValueType.STR, ["12", "1e3", "", "ä\0b", None]),
    ],
)
def test_values_come_back_exactly(store: Store, kind: ValueType, values: list[Any], stage: str) -> None:
    add(store, *((1, i, value) for i, value in enumerate(values)))
    bring(store, stage)
    assert repr(read(store, 1, kind)) == repr(list(enumerate(values)))


@pytest.mark.parametrize("stage", STAGES)
def test_equal_times_stay_in_the_order_of_arrival(store: Store, stage: str) -> None:
    add(store, (1, 5, 1.0), (1, 5, 2.0), (2, 5, 9.0), (1, 4, 0.0))
    bring(store, stage)
    add(store, (1, 5, 3.0), (1, 3, -1.0), (1, 5, 4.0))
    want = [(3, -1.0), (4, 0.0), (5, 1.0), (5, 2.0), (5, 3.0), (5, 4.0)]
    for then in STAGES:
        bring(store, then)
        assert read(store, 1, ValueType.FLOAT) == want
        for limit in range(1, 8):
            assert read(store, 1, ValueType.FLOAT, limit=limit) == want
            assert read(store, 1, ValueType.FLOAT, limit=limit, newest=True)[-limit:] == want[-limit:]


@pytest.mark.parametrize("stage", STAGES)
def test_the_span_is_half_open_and_bounds_look_beyond_it(store: Store, stage: str) -> None:
    day = DAY_NS
    add(store, *((1, t * day // 2, float(t)) for t in (10, 20, 30)))
    bring(store, stage)
    add(store, *((1, t * day // 2, float(t)) for t in (40, 50)))

    def times(start: float, end: float, **more: Any) -> list[int]:
        span = (int(start * day // 2), int(end * day // 2))
        return [2 * time_ns // day for time_ns, _ in read(store, 1, ValueType.FLOAT, *span, **more)]

    assert times(20, 40) == [20, 30]
    assert times(20, 40, bounds=True) == [10, 20, 30, 40]
    assert times(20, 40, bounds=True, limit=1) == [10, 20, 30, 40]
    assert times(25, 26, bounds=True) == [20, 30]
    assert times(0, 10, bounds=True) == [10]
    assert times(51, 60, bounds=True) == [50]
    assert times(40, 20) == []
    assert times(-(2**60), 2**60) == [10, 20, 30, 40, 50]


def test_newest_gives_the_last_of_the_span(store: Store) -> None:
    add(store, *((1, t * DAY_NS // 3, float(t)) for t in range(6)))
    store.seal_all()
    add(store, *((1, t * DAY_NS // 3, float(t)) for t in range(6, 10)))

    def newest(limit: int, end: int = 100) -> list[float]:
        page = Reading(store).page(GetHistory(1, 0, end * DAY_NS // 3, limit=limit, newest=True), ValueType.FLOAT)
        assert page.next_after is None
        return [value for _, value in rows_of(page)]

    assert newest(3) == [7, 8, 9]
    assert newest(1, end=9) == [8]
    assert newest(99) == list(range(10))
    assert newest(0) == list(range(10))


@pytest.mark.parametrize("stage", STAGES)
def test_long_histories_come_in_pages(store: Store, stage: str) -> None:
    count = PAGE_ROWS + 10
    batch = make(ValueType.INT, [1] * count, range(count), [t // 3 for t in range(count)])
    with store.transaction():
        store.append(of_batches([batch]))
    bring(store, stage)
    first = Reading(store).page(GetHistory(1, *ALWAYS), ValueType.INT)
    assert first.next_after is not None
    assert len(rows_of(first)) == PAGE_ROWS
    assert [value for _, value in read(store, 1, ValueType.INT)] == list(range(count))
    newest = [value for _, value in read(store, 1, ValueType.INT, newest=True, limit=count - 1)]
    assert newest == list(range(1, count))


@pytest.mark.parametrize("stage", ["hot", "sealed"])
def test_long_texts_come_in_pages(store: Store, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE_TEXT_BYTES", 50_000)
    texts = [f"{n:06}" + "x" * 2_000 for n in range(100)]
    add(store, *((1, n, text) for n, text in enumerate(texts)))
    bring(store, stage)
    page = Reading(store).page(GetHistory(1, *ALWAYS), ValueType.STR)
    assert 0 < len(rows_of(page)) <= 26
    assert [value for _, value in read(store, 1, ValueType.STR)] == texts


def test_a_reading_goes_on_with_what_came_meanwhile(store: Store) -> None:
    add(store, *((1, t, t) for t in range(4)))
    page = Reading(store).page(GetHistory(1, 0, 100, limit=2), ValueType.INT)
    add(store, (1, 0, 77), (1, 1, 78), (1, 9, 9))
    store.seal_all()
    assert page.next_after is not None
    rest = Reading(store).page(GetHistory(1, 0, 100, after=page.next_after, skip=page.skip), ValueType.INT)
    assert [value for _, value in rows_of(rest)] == [78, 2, 3, 9]


def test_position_samples_and_event_stand_or_fall_together(tmp_path: Path) -> None:
    store = Store(tmp_path / "history")
    outbox = Outbox(store.connection)
    first = PositionMark(2**64 - 1, 3, 10)
    with store.transaction():
        store.append(of_batches([make(ValueType.FLOAT, [1], [1.0], 1)]))
        store.catalog.set_position("cvt/0", first)
    store.connection.execute("BEGIN IMMEDIATE")
    store.append(of_batches([make(ValueType.FLOAT, [1], [2.0], 2)]))
    outbox.put(Event(1, "", "", "hole", "cvt/0"))
    store.catalog.set_position("cvt/0", PositionMark(first.journal, 3, 11))
    shutil.copytree(tmp_path / "history", tmp_path / "after")  # kill -9: what is on the disk is what is found
    after = Store(tmp_path / "after")
    assert after.catalog.position("cvt/0") == first
    assert after.rows == 1
    assert Outbox(after.connection).pending == 0
    assert read(after, 1, ValueType.FLOAT) == [(1, 1.0)]
    assert after.catalog.positions() == (("cvt/0", 10),)
    assert after.catalog.position("cvt/1") is None
    after.close()
    store.close()


def test_an_error_undoes_the_transaction_and_the_counts(store: Store) -> None:
    add(store, (1, 1, 1.0))

    def fail() -> None:
        with store.transaction():
            store.append(of_batches([make(ValueType.FLOAT, [1], [2.0], 2)]))
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert store.rows == 1
    add(store, (1, 2, 3.0))
    assert read(store, 1, ValueType.FLOAT) == [(1, 1.0), (2, 3.0)]


def test_a_past_day_is_one_file_and_takes_late_samples(store: Store, tmp_path: Path) -> None:
    for n in range(3):
        add(store, (1, DAY_NS + n, float(n)))
        store.seal_all()
    work(store)
    assert [path.name for path in (tmp_path / "history" / DAYS).iterdir()] == ["1970-01-02.db"]
    assert len(store.days.file(1, frozen=True).chunks(1, 99)) == 1
    add(store, (1, DAY_NS + 1, 9.0))
    want = [(DAY_NS, 0.0), (DAY_NS + 1, 1.0), (DAY_NS + 1, 9.0), (DAY_NS + 2, 2.0)]
    for stage in STAGES:
        bring(store, stage)
        assert read(store, 1, ValueType.FLOAT) == want
    assert len(store.days.file(1, frozen=True).chunks(1, 99)) == 1


def test_small_chunks_of_a_day_that_goes_on_are_merged(store: Store) -> None:
    for n in range(MERGE_CHUNKS + 1):
        assert len(store.days.file(0).chunks(1, 99)) == n
        add(store, (1, n, float(n)))
        store.seal_all()
    work(store, now_ns=0)
    assert len(store.days.file(0).chunks(1, 99)) == 1
    assert [value for _, value in read(store, 1, ValueType.FLOAT)] == list(range(MERGE_CHUNKS + 1))


def test_what_is_hot_is_sealed_by_count_commits_and_age(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    mono_ns = 0

    def left() -> int:
        while store.work(0, lambda: mono_ns, 1):
            pass
        return store.hot.rows

    monkeypatch.setattr(history, "SEAL_ROWS", 3)
    add(store, (1, 1, 1.0), (1, 2, 1.0))
    assert left() == 2
    add(store, (1, 3, 1.0))
    assert left() == 0
    monkeypatch.setattr(history, "SEAL_COMMITS", 2)
    add(store, (1, 4, 1.0))
    assert left() == 1
    add(store, (1, 5, 1.0))
    assert left() == 0
    add(store, (1, 6, 1.0))
    assert left() == 1
    mono_ns = int(history.SEAL_S * 1e9)
    assert left() == 0
    assert store.rows == 6
    assert store.connection.execute("SELECT count(*) FROM hot").fetchone() == (0,)


def test_old_days_go_as_a_whole(store: Store, tmp_path: Path) -> None:
    add(store, *((tag, day * DAY_NS, 1.0) for tag in (1, 2) for day in range(10)))
    store.seal_all()
    work(store, 0)
    retention = Retention(store, 3.0)
    dropped = []
    while (gone := retention.expire(9 * DAY_NS)) is not None:
        dropped.append((gone.date, gone.rows))
    assert dropped == [(day_name(day), 2) for day in range(6)]
    assert store.rows == 8
    assert [time_ns // DAY_NS for time_ns, _ in read(store, 1, ValueType.FLOAT)] == [6, 7, 8, 9]
    assert len(list((tmp_path / "history" / DAYS).glob("*.db"))) == 4
    assert Retention(store, None).expire(LATER) is None


def test_a_full_disk_costs_the_oldest_days_but_not_the_last_ones(store: Store) -> None:
    add(store, *((1, day * DAY_NS, 1.0) for day in range(10)))
    store.seal_all()
    work(store, 0)
    now_ns = 10 * DAY_NS
    retention = Retention(store, None)
    first = retention.make_room(now_ns)
    assert first is not None
    assert (first.date, first.rows) == ("1970-01-01", 1)
    while retention.make_room(now_ns) is not None:
        pass
    assert oldest(store) == 10 - KEPT_DAYS
    store.readings = 1  # somebody reads in steps: nothing may go under his hands
    assert Retention(store, 1.0).make_room(now_ns) is None
    store.readings = 0
    while Retention(store, 1.0).make_room(now_ns) is not None:
        pass
    assert oldest(store) == 9


def test_damage_is_a_gap_and_is_told_once(store: Store, tmp_path: Path) -> None:
    add(store, *((1, day * DAY_NS + n, 1.0) for day in range(3) for n in range(2)))
    store.seal_all()
    work(store)
    store.days.release(1)
    changed = sqlite3.connect(tmp_path / "history" / DAYS / "1970-01-02.db")
    changed.execute("UPDATE bodies SET body = zeroblob(40)")
    changed.commit()
    changed.close()
    store.days.release(2)
    (tmp_path / "history" / DAYS / "1970-01-03.db").write_bytes(b"not a database " * 400)
    lost = GetHistory(1, 0, 3 * DAY_NS)
    Reading(store).page(lost, ValueType.FLOAT)
    page = Reading(store).page(lost, ValueType.FLOAT)
    assert rows_of(page) == [(0, 1.0), (1, 1.0), (DAY_NS, None), (2 * DAY_NS, None)]
    assert decode(page.frames[0])[-1].quality.tolist() == [q.BAD_DATA_LOST] * 2
    assert [date for date, _ in store.new_damages()] == ["1970-01-02", "1970-01-03"]
    assert store.new_damages() == []


def test_past_days_are_read_whole_now_and_then(store: Store, tmp_path: Path) -> None:
    add(store, *((1, day * DAY_NS, 1.0) for day in range(2)))
    store.seal_all()
    work(store)
    store.days.release(1)
    changed = sqlite3.connect(tmp_path / "history" / DAYS / "1970-01-02.db")
    changed.execute("UPDATE bodies SET body = zeroblob(40)")
    changed.commit()
    changed.close()
    mono_ns = time.monotonic_ns()
    for hour in range(4):
        now_ns = mono_ns + int(hour * CHECK_S * 1e9)
        while store.work(LATER, partial(int, now_ns), 1):
            pass
    assert [date for date, _ in store.new_damages()] == ["1970-01-02"]


def test_a_day_whose_file_is_gone_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "history")
    add(store, (1, 0, 1.0), (1, DAY_NS, 2.0))
    store.seal_all()
    store.close()
    (tmp_path / "history" / DAYS / "1970-01-01.db").unlink()
    again = Store(tmp_path / "history")
    assert [date for date, _ in again.new_damages()] == ["1970-01-01"]
    assert (again.rows, read(again, 1, ValueType.FLOAT)) == (1, [(DAY_NS, 2.0)])
    again.close()


def test_a_broken_record_is_kept_aside(store: Store) -> None:
    with store.transaction():
        store.catalog.set_aside("cvt/0", PositionMark(1, 2, 3), "not msgpack", b"\xc1")
    assert list(store.catalog.db.query("SELECT n, reason, frame FROM set_aside")) == [
        {"n": 3, "reason": "not msgpack", "frame": b"\xc1"}
    ]


@pytest.mark.parametrize("file", [CATALOG, f"{DAYS}/1970-01-01.db"])
def test_a_store_of_a_newer_layout_is_refused(tmp_path: Path, file: str) -> None:
    store = Store(tmp_path / "history")
    add(store, (1, 0, 1.0))
    store.seal_all()
    store.close()
    newer = sqlite3.connect(tmp_path / "history" / file)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ConfigError, match="another layout") as refused:
        Reading(Store(tmp_path / "history")).page(GetHistory(1, 0, 1), ValueType.FLOAT)
    assert refused.value.value == "99"
    assert refused.value.expected in ("1", "3")


ROW_STORE = """
CREATE TABLE samples (tag INTEGER NOT NULL, time INTEGER NOT NULL, seq INTEGER NOT NULL, value ANY,
    quality INTEGER NOT NULL, received INTEGER NOT NULL, PRIMARY KEY (tag, time, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE recent (seq INTEGER PRIMARY KEY, tag INTEGER NOT NULL, time INTEGER NOT NULL, value ANY,
    quality INTEGER NOT NULL, received INTEGER NOT NULL) STRICT;
CREATE TABLE positions (shard TEXT PRIMARY KEY, journal TEXT NOT NULL, incarnation INTEGER NOT NULL,
    n INTEGER NOT NULL) STRICT;
CREATE TABLE set_aside (shard TEXT NOT NULL, journal TEXT NOT NULL, incarnation INTEGER NOT NULL, n INTEGER NOT NULL,
    reason TEXT NOT NULL, frame BLOB NOT NULL) STRICT;
INSERT INTO samples VALUES (1, 5, 1, 1.5, 0, 9), (1, 5, 3, 2.5, 0, 9), (2, 7, 2, NULL, 2147483648, 9),
    (2, 8, 5, 9007199254740993, 0, 9), (3, 1, 6, 1, 0, 9);
INSERT INTO recent VALUES (7, 1, 5, 3.5, 0, 9), (8, 4, 86400000000000, 'ä', 1073741824, 9), (9, 3, 2, 0, 0, 9);
INSERT INTO positions VALUES ('cvt/0', '18446744073709551615', 3, 10);
INSERT INTO set_aside VALUES ('cvt/0', '1', 2, 3, 'why', x'c1');
PRAGMA user_version = 1;
"""


def row_store(directory: Path) -> None:
    directory.mkdir()
    old = sqlite3.connect(directory / "history.db", isolation_level=None)
    old.executescript(ROW_STORE)
    outbox = Outbox(old)
    outbox.put(Event(1, "", "", "fetched", ""))
    outbox.put(Event(2, "", "", "owed", ""))
    outbox.page(1, 1)
    old.close()


def test_the_store_with_rows_is_migrated_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "history"
    row_store(directory)
    for _ in range(2):
        store = open_history(directory)
        outbox = Outbox(store.connection)
        assert read(store, 1, ValueType.FLOAT) == [(5, 1.5), (5, 2.5), (5, 3.5)]
        assert read(store, 2, ValueType.INT) == [(7, None), (8, 2**53 + 1)]
        assert read(store, 3, ValueType.BOOL) == [(1, True), (2, False)]
        assert read(store, 4, ValueType.STR) == [(DAY_NS, "ä")]
        assert (store.rows, store.hot.rows) == (8, 0)
        assert store.catalog.position("cvt/0") == PositionMark(2**64 - 1, 3, 10)
        assert [(seq, event.kind) for seq, event in outbox.page(0, 9).events] == [(2, "owed")]
        store.close()
    assert not (directory / "history.db").exists()
    assert sqlite3.connect(directory / KEPT).execute("SELECT count(*) FROM recent").fetchone() == (3,)


def test_a_migration_that_was_interrupted_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "history"
    row_store(directory)

    def die(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(migration, "copy_tables", die)
        with pytest.raises(OSError, match="killed"):
            open_history(directory)
    store = open_history(directory)
    assert store.rows == 8
    assert read(store, 1, ValueType.FLOAT) == [(5, 1.5), (5, 2.5), (5, 3.5)]
    store.close()


def test_a_row_store_of_another_layout_is_refused(tmp_path: Path) -> None:
    row_store(tmp_path / "history")
    other = sqlite3.connect(tmp_path / "history" / "history.db")
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(ConfigError, match="another layout"):
        open_history(tmp_path / "history")
    assert (tmp_path / "history" / "history.db").exists()


def test_the_disk_is_told_once_a_level(tmp_path: Path) -> None:
    used = 50.0
    disk = Disk(80.0, 95.0, lambda: used)
    assert disk.look() is None
    used = 97.0
    assert disk.look() is DiskLevel.STOP
    assert disk.look() is None
    assert 0.0 < used_pct(str(tmp_path)) <= 100.0
