"""The store of events: each exactly once, whoever dies in between."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagwerk.actors.events.logic import MISSED_LIMIT, fatal_events, may_have_outbox
from tagwerk.actors.events.store import Fetched, Store
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.plantwide import Event, GetEvents, OutboxPage
from tagwerk.runtime.outbox import Outbox


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "events.db")
    yield store
    store.close()


def event(n: int, target: str = "kettle") -> Event:
    return Event(n, "anna", "hmi1", "ack", target, "unacked", "acked", f"reason {n}")


def page(box: str, *numbers: int) -> OutboxPage:
    return OutboxPage(box, tuple((n, event(n)) for n in numbers))


def times(store: Store, asked: GetEvents) -> list[int]:
    return [found.time_ns for _, found in store.find(asked)]


def test_a_page_that_comes_again_changes_nothing(store: Store) -> None:
    assert store.fetched("alarms/0") == Fetched()
    assert store.take("alarms/0", page("b1", 1, 2)) == Fetched("b1", 2)
    assert store.take("alarms/0", page("b1", 1, 2)) == Fetched("b1", 2)
    assert store.take("alarms/0", page("b1", 2, 3)) == Fetched("b1", 3)
    assert store.take("alarms/0", page("b1")) == Fetched("b1", 3)
    assert times(store, GetEvents()) == [1, 2, 3]
    assert store.find(GetEvents())[0][1] == event(1)


def test_a_new_box_starts_again_and_sources_do_not_mix(store: Store) -> None:
    store.take("alarms/0", page("b1", 1, 2))
    assert store.take("alarms/0", page("b2", 1)) == Fetched("b2", 1)
    store.take("cvt/0", page("b1", 1))
    assert times(store, GetEvents()) == [1, 2, 1, 1]
    assert store.fetched("cvt/0") == Fetched("b1", 1)


def test_a_kill_before_the_commit_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "events.db")
    store.take("cvt/0", page("b", 1))
    store.connection.execute("BEGIN IMMEDIATE")
    store.connection.execute("DELETE FROM events")
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"events.db{suffix}", tmp_path / f"after.db{suffix}")
    after = Store(tmp_path / "after.db")
    assert times(after, GetEvents()) == [1]
    assert after.fetched("cvt/0") == Fetched("b", 1)
    after.close()
    store.close()


@pytest.mark.parametrize("dies", ["nobody", "before the commit", "after the commit"])
def test_from_outbox_to_store_exactly_once(store: Store, dies: str) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    outbox = Outbox(connection)
    for n in range(1, 8):
        outbox.put(event(n))
    for turn in range(9):
        fetched = store.fetched("cvt/0")
        answer = outbox.page(fetched.seq, 3, fetched.box)
        if dies == "before the commit" and turn % 2 == 0:
            continue
        store.take("cvt/0", answer)
        if dies == "after the commit":
            store.take("cvt/0", answer)
    assert times(store, GetEvents()) == list(range(1, 8))
    assert outbox.pending == 0
    connection.close()


def test_a_lost_outbox_loses_nothing_new(store: Store) -> None:
    store.take("cvt/0", page("old", *range(1, 60)))
    connection = sqlite3.connect(":memory:", isolation_level=None)
    outbox = Outbox(connection)
    outbox.put(event(100))
    fetched = store.fetched("cvt/0")
    store.take("cvt/0", outbox.page(fetched.seq, 500, fetched.box))
    assert times(store, GetEvents(limit=1)) == [100]
    connection.close()


def test_the_newest_are_found_and_the_follower_misses_none(store: Store) -> None:
    store.take("cvt/0", page("b", *range(1, 11)))
    assert times(store, GetEvents(limit=3)) == [8, 9, 10]
    after_id = 0
    seen: list[int] = []
    while found := store.find(GetEvents(limit=4, after_id=max(1, after_id))):
        after_id = found[-1][0]
        seen += [one.time_ns for _, one in found]
    assert seen == list(range(2, 11))


def test_events_are_filtered(store: Store) -> None:
    store.take("cvt/0", OutboxPage("b", tuple((n, event(n, f"tank{n % 2}")) for n in range(1, 9))))
    assert times(store, GetEvents(start_ns=3, end_ns=6)) == [3, 4, 5]
    assert times(store, GetEvents(target="tank1")) == [1, 3, 5, 7]
    assert times(store, GetEvents(target="tank1", start_ns=2**70)) == []
    assert times(store, GetEvents(limit=-5)) == [8]
    assert times(store, GetEvents(after_id=2**70)) == []


def test_events_of_kinds_and_users_and_globs(store: Store) -> None:
    names = [
        ("write", "anna", "a.b"),
        ("ack", "ben", "a.c"),
        ("history_disk", "", "historian/0"),
        ("hole", "", "[a].b"),
    ]
    events = tuple((n, Event(n, user, "", kind, target)) for n, (kind, user, target) in enumerate(names, 1))
    store.take("cvt/0", OutboxPage("b", events))
    assert times(store, GetEvents(kinds=("write", "h*"))) == [1, 3, 4]
    assert times(store, GetEvents(user="ben")) == [2]
    assert times(store, GetEvents(target="a.?")) == [1, 2]
    assert times(store, GetEvents(target="[a]*")) == [4]
    assert times(store, GetEvents(target="a.*", kinds=("ack",), user="anna")) == []


def test_events_are_paged_back_and_from_the_first_on(store: Store) -> None:
    store.take("cvt/0", page("b", *range(1, 11)))
    assert times(store, GetEvents(limit=4)) == [7, 8, 9, 10]
    assert times(store, GetEvents(limit=4, before_id=7)) == [3, 4, 5, 6]
    assert times(store, GetEvents(limit=4, oldest_first=True)) == [1, 2, 3, 4]
    assert times(store, GetEvents(limit=4, after_id=4, oldest_first=True)) == [5, 6, 7, 8]


def test_each_fatal_count_is_one_event(store: Store) -> None:
    for _ in range(2):  # the second time events/0 was restarted
        events = fatal_events("cvt/0", store.last_count("cvt/0"), 2, "no space", 5)
        store.take_fatal("cvt/0", events)
    assert [(one.target, one.after) for _, one in store.find(GetEvents())] == [
        ("cvt/0", "happened while events/0 was not running"),
        ("cvt/0", "no space"),
    ]
    assert fatal_events("cvt/0", 2, 2, "", 5) == []
    assert fatal_events("cvt/0", 5, 2, "", 5) == []
    assert [n for n, _ in fatal_events("x", 0, 1_000, "", 5)] == list(range(1_001 - MISSED_LIMIT, 1_001))


def test_who_may_have_an_outbox() -> None:
    names = ["plant/0", "cvt/3", "external/plc", "events/0", "machine/mash", "node/main"]
    assert [name for name in names if may_have_outbox(name)] == ["plant/0", "cvt/3", "machine/mash"]


def test_a_store_of_another_layout_is_refused(tmp_path: Path) -> None:
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ConfigError, match="another layout"):
        Store(tmp_path / "newer.db")
