"""What the alarms' file keeps."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_occurrence

from tagwerk.actors.alarms import store as module
from tagwerk.actors.alarms.logic.book import AlarmState
from tagwerk.actors.alarms.logic.states import Core, Phase
from tagwerk.actors.alarms.store import AlarmStore, Key
from tagwerk.protocols.alarms import GetOccurrences, Occurrence
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.tags import PositionMark

STATE = AlarmState(
    core=Core.ACKED_LATCHING, phase=Phase.FALLING, since_ns=3, since_time_ns=2, since_value=float("inf"), number=4,
    raised_ns=1_700_000_000_000_000_001, cleared_ns=None, acked_ns=7, acked_by="anna", comment="séen", value=81.25,
    late=True, found_in_replay=True, last_ns=9, level=2,
)  # fmt: skip
POSITION = PositionMark((1 << 64) - 1, 3, 17)


def occurrence(name: str, number: int, **fields: object) -> Occurrence:
    plain: dict[str, object] = {"cleared_ns": None, "acked_ns": None, "acked_by": "", "comment": "", "value": 1.0}
    return Occurrence(f"{name}-{number}", name, number * 10, **plain | fields)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alarms.db"


@pytest.fixture
def store(path: Path) -> Iterator[AlarmStore]:
    opened = AlarmStore(path)
    yield opened
    opened.close()


def test_all_of_a_commit_is_found_again(store: AlarmStore, path: Path) -> None:
    event = Event(1, "anna", "desk", "ack", "a", "B", "C", "seen")
    first = occurrence("a", 1, value=True, late=True)
    store.commit({"cvt/0": POSITION}, {"a": STATE}, [first], [(2, b"block")], [event])
    store.close()
    again = AlarmStore(path)
    assert again.positions() == {"cvt/0": POSITION}
    assert again.states() == {"a": STATE}
    assert again.occurrences(GetOccurrences("", 10)) == (first,)
    assert again.occurrences(GetOccurrences("", 10))[0].value is True
    assert again.blocks() == {2: b"block"}
    assert [found for _, found in again.outbox.page(0, 10).events] == [event]
    assert again.outbox.dirty
    again.close()


def test_a_commit_that_fails_leaves_nothing(store: AlarmStore, path: Path) -> None:
    store.commit({"cvt/0": POSITION}, {"a": STATE}, [], [])
    broken = (None, b"x")  # an iterator that ends badly, as a full disk would in the middle

    def blocks() -> Iterator[tuple[int, bytes]]:
        yield 1, b"one"
        raise sqlite3.OperationalError(str(broken))

    later = PositionMark(1, 4, 18)
    with pytest.raises(sqlite3.OperationalError):
        store.commit({"cvt/0": later}, {"a": replace(STATE, number=5)}, [occurrence("a", 5)], blocks())
    assert store.positions() == {"cvt/0": POSITION}
    assert store.states() == {"a": STATE}
    assert store.occurrences(GetOccurrences("", 10)) == ()
    assert store.blocks() == {}


def test_an_occurrence_is_one_row_however_often_it_changes(store: AlarmStore) -> None:
    store.commit({}, {}, [occurrence("a", 1)], [])
    closed = occurrence("a", 1, cleared_ns=50, acked_ns=60, acked_by="anna", comment="ok")
    store.commit({}, {}, [closed], [])
    assert store.occurrences(GetOccurrences("a", 10)) == (closed,)


def test_occurrences_are_filtered_and_paged(store: AlarmStore) -> None:
    acked = [occurrence("b", 2, cleared_ns=50, acked_ns=60), occurrence("b", 3, cleared_ns=50)]
    # Two that were raised at the same time, as after a replay, and one of another alarm.
    same = replace_occurrence(occurrence("a", 1), occurrence="a-again")
    store.commit({}, {}, [occurrence("a", 1), same, *acked, occurrence("a", 4)], [])

    def names(asked: GetOccurrences) -> list[str]:
        return [one.occurrence for one in store.occurrences(asked)]

    every = ["a-1", "a-again", "b-2", "b-3", "a-4"]
    assert names(GetOccurrences(start_ns=20, end_ns=40)) == ["b-2", "b-3"]
    assert names(GetOccurrences("?", start_ns=-(2**70), end_ns=2**70)) == every
    assert names(GetOccurrences("a*", open=True)) == ["a-1", "a-again", "a-4"]
    assert names(GetOccurrences("b", unacked=True)) == ["b-3"]
    for oldest_first in (False, True):
        found: list[str] = []
        asked = GetOccurrences(limit=1, oldest_first=oldest_first)
        while page := store.occurrences(asked):
            found.append(page[0].occurrence)
            place = (page[0].raised_ns, page[0].name, page[0].occurrence)
            asked = GetOccurrences(limit=1, oldest_first=oldest_first, beyond=place)
        assert found == (every if oldest_first else every[::-1])


def test_the_newest_occurrences_come_oldest_first(store: AlarmStore) -> None:
    store.commit({}, {}, [occurrence("a", 3), occurrence("b", 1), occurrence("a", 2)], [])
    assert [o.occurrence for o in store.occurrences(GetOccurrences("", 2))] == ["a-2", "a-3"]
    assert [o.occurrence for o in store.occurrences(GetOccurrences("a", 5))] == ["a-2", "a-3"]
    assert [o.occurrence for o in store.occurrences(GetOccurrences("", -5))] == ["a-3"]
    assert store.occurrences(GetOccurrences("nobody", 5)) == ()


def test_places_are_for_life(store: AlarmStore, path: Path) -> None:
    assert store.keys({"a": "t", "b": "u"}) == {"a": Key(1, True), "b": Key(2, True)}
    assert store.keys({"b": "u"}) == {"b": Key(2, False)}
    store.close()
    again = AlarmStore(path)
    assert again.keys({"c": "t", "b": "v", "a": "t"}) == {"a": Key(1, False), "b": Key(2, True), "c": Key(3, True)}
    assert again.size() == 4
    again.close()


def test_a_power_cut_takes_nothing_that_was_committed(store: AlarmStore) -> None:
    assert store._rows("PRAGMA synchronous") == [(2,)]
    assert store._rows("PRAGMA journal_mode") == [("wal",)]


def test_another_layout_is_refused(store: AlarmStore, path: Path) -> None:
    store._connection.execute("PRAGMA user_version = 7")
    with pytest.raises(ConfigError, match="another layout"):
        AlarmStore(path)


def test_the_oldest_occurrences_go_at_a_start(store: AlarmStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit({}, {}, [occurrence("a", number) for number in range(1, 6)], [])
    monkeypatch.setattr(module, "OCCURRENCES_LIMIT", 2)
    again = AlarmStore(path)
    assert [o.occurrence for o in again.occurrences(GetOccurrences("", 10))] == ["a-4", "a-5"]
    again.close()


def test_what_is_in_the_log_gets_into_the_file_without_a_commit_that_waits_for_it(
    store: AlarmStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIDY_PAGES", 3)
    for number in range(3):
        store.tidy()  # not enough yet
        store.commit({}, {}, [], [(number, b"block")])
    assert not store._side._pool  # nobody who waits for a commit meets it
    store.tidy()
    alone = tmp_path / "alone.db"  # the file without its log
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        alone.write_bytes(path.read_bytes())
        with closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as connection, suppress(sqlite3.Error):
            if connection.execute("SELECT count(*) FROM last_values").fetchone() == (3,):
                return
        time.sleep(0.01)
    pytest.fail("the file has nothing of what was committed")
