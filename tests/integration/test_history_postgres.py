"""History in PostgreSQL, a real one: the same answers as from files, whatever the layout; and what only it can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import test_history_asking as asking
import test_history_import as importing
import test_history_store as contract
from postgres_server import Server, missing

from tagwerk.actors.historian.days import day_name
from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.interface import StoreDown
from tagwerk.actors.historian.logic.arrived import of_batches
from tagwerk.actors.historian.upkeep import Retention
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.samples import ValueType, make
from tagwerk.protocols.tags import PositionMark

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

# The tests that any store must pass, here with the fixtures of this file.
CONTRACT: tuple[Callable[..., None], ...] = (
    asking.test_a_float_in_buckets,
    asking.test_a_long_trend_is_made_in_steps_and_sees_one_moment,
    asking.test_a_trend_begins_with_what_held_before,
    asking.test_counters_switches_and_texts_in_buckets,
    asking.test_nothing_is_held_beyond_now,
    asking.test_the_answers_that_are_being_made_are_bounded,
    contract.test_a_full_disk_costs_the_oldest_days_but_not_the_last_ones,
    contract.test_a_reading_goes_on_with_what_came_meanwhile,
    contract.test_an_error_undoes_the_transaction_and_the_counts,
    contract.test_equal_times_stay_in_the_order_of_arrival,
    contract.test_long_texts_come_in_pages,
    contract.test_newest_gives_the_last_of_the_span,
    contract.test_the_span_is_half_open_and_bounds_look_beyond_it,
    contract.test_values_come_back_exactly,
)
globals().update({test.__name__: test for test in CONTRACT})

LAYOUTS = ("chunks", "rows")
SCHEMAS = (f"tagwerk_{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def schema() -> str:
    return next(SCHEMAS)


def opened(server: Server, schema: str, layout: str, *more: tuple[int, str, str, str], first: int = 1) -> Any:
    from tagwerk.actors.historian.postgres.opening import open_database

    store: Any = open_database(server.url, schema, layout, [(first, "mash.temp", "float", "degC"), *more]).store
    if layout == "rows":
        store.seal_all = lambda: None
    return store


@pytest.fixture
def store(server: Server, schema: str, layout: str) -> Iterator[Any]:
    store = opened(server, schema, layout)
    yield store
    store.close()


@pytest.fixture
def rig(store: Any) -> asking.Rig:
    return asking.Rig(store)


@pytest.mark.parametrize(("tag", "values"), [(1, [1.5, -0.0, None]), (4, ["a", "", "ä"])])
def test_what_is_imported_again_changes_nothing(store: Any, tag: int, values: list[Any]) -> None:
    importing.test_what_is_sent_again_changes_nothing(importing.Rig(store), tag, values, True)


def test_what_comes_live_while_an_import_is_compared_is_seen(store: Any) -> None:
    importing.test_what_comes_live_while_an_import_is_compared_is_seen(importing.Rig(store))


def test_what_was_committed_is_found_again(server: Server, schema: str, layout: str) -> None:
    store = opened(server, schema, layout)
    place = PositionMark(2**64 - 1, 3, 10)
    with store.transaction():
        store.append(of_batches([make(ValueType.FLOAT, [1], [1.0], 1)]))
        store.catalog.set_position("cvt/0", place)
        store.catalog.set_aside("cvt/0", PositionMark(1, 2, 3), "no\0msgpack", b"\xc1")
        store.outbox.put(Event(1, "", "", "hole", "cvt/0"))
    store.catalog.session.execute("BEGIN")
    store.append(of_batches([make(ValueType.FLOAT, [1], [2.0], 2)]))
    store.catalog.set_position("cvt/0", PositionMark(7, 3, 11))
    store.outbox.put(Event(2, "", "", "hole", "cvt/0"))
    store.close()  # as a kill would: what was not committed is gone
    after = opened(server, schema, layout)
    assert after.catalog.position("cvt/0") == place
    assert after.catalog.positions() == (("cvt/0", 10),)
    assert (after.rows, after.outbox.pending, after.outbox.dirty) == (1, 1, True)
    assert after.outbox.box == store.outbox.box
    assert contract.read(after, 1, ValueType.FLOAT) == [(1, 1.0)]
    [(reason, frame)] = after.catalog.session.rows("SELECT reason, frame FROM set_aside")
    assert (reason, frame) == ("no\\0msgpack", b"\xc1")
    after.close()


def test_long_histories_come_in_pages(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagwerk.actors.historian.reading.PAGE_ROWS", 100)
    with store.transaction():
        store.append(of_batches([make(ValueType.INT, [1] * 950, range(950), [t // 3 for t in range(950)])]))
    store.seal_all()
    assert [value for _, value in contract.read(store, 1, ValueType.INT)] == list(range(950))
    newest = [value for _, value in contract.read(store, 1, ValueType.INT, newest=True, limit=940)]
    assert newest[-99:] == list(range(851, 950))


def test_old_days_go_as_a_whole(store: Any) -> None:
    contract.add(store, *((tag, day * DAY_NS, 1.0) for tag in (1, 2) for day in range(10)))
    store.seal_all()
    retention = Retention(store, 3.0)
    dropped = []
    while (gone := retention.expire(9 * DAY_NS)) is not None:
        dropped.append((gone.date, gone.rows))
    assert dropped == [(day_name(day), 2) for day in range(6)]
    assert store.rows == 8
    assert [time_ns // DAY_NS for time_ns, _ in contract.read(store, 1, ValueType.FLOAT)] == [6, 7, 8, 9]


def test_a_day_that_is_dropped_goes_in_steps_and_late_samples_do_not_bring_it_back(
    server: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagwerk.actors.historian.postgres.chunk_table.REMOVE_CHUNKS", 1)
    store = opened(server, schema, "chunks")
    contract.add(store, *((tag, day * DAY_NS, 1.0) for tag in range(1, 5) for day in range(2)))
    store.seal_all()
    assert store.drop(0) == 4
    assert store.rows == 4
    assert contract.read(store, 1, ValueType.FLOAT) == [(DAY_NS, 1.0)]
    assert store.work(0, lambda: 0, 0)  # one step of it
    store.close()
    after = opened(server, schema, "chunks")
    contract.add(after, (1, 5, 2.0))
    after.seal_all()
    assert contract.read(after, 1, ValueType.FLOAT) == [(5, 2.0), (DAY_NS, 1.0)]
    assert after.rows == 5
    assert after.catalog.session.rows("SELECT count(*) FROM chunks") == [(5,)]
    contract.work(after, 0)
    assert after.oldest_day().day == 0
    after.close()


def test_an_outbox_gives_each_event_until_it_is_received(store: Any) -> None:
    with store.transaction():
        for number in range(5):
            store.outbox.put(Event(number, "", "", "kind", "target"))
    box = store.outbox.box
    assert [event.time_ns for _, event in store.outbox.page(0, 2).events] == [0, 1]
    assert [number for number, _ in store.outbox.page(2, 9, box).events] == [3, 4, 5]
    assert store.outbox.pending == 3
    assert [number for number, _ in store.outbox.page(4, 9, "another").events] == [3, 4, 5]


def test_a_second_historian_of_a_plant_does_not_write(server: Server, store: Any, schema: str, layout: str) -> None:
    with pytest.raises(StoreDown, match=f"another historian writes to the schema {schema}: process"):
        opened(server, schema, layout)
    opened(server, next(SCHEMAS), layout).close()  # one of another plant does
    store.close()
    opened(server, schema, layout).close()


def test_a_schema_of_a_newer_layout_or_another_form_is_refused(server: Server, schema: str, layout: str) -> None:
    store = opened(server, schema, layout)
    with pytest.raises(StoreDown):
        opened(server, schema, layout)
    store.close()
    other = "rows" if layout == "chunks" else "chunks"
    with pytest.raises(ConfigError, match="in another form") as refused:
        opened(server, schema, other)
    assert layout in refused.value.expected
    store = opened(server, schema, layout)
    store.catalog.session.execute("UPDATE about SET layout = 99")
    store.close()
    with pytest.raises(ConfigError, match="another layout") as refused:
        opened(server, schema, layout)
    assert (refused.value.value, refused.value.expected) == ("99", "1")


def test_handles_of_another_home_are_refused(server: Server, schema: str, layout: str) -> None:
    opened(server, schema, layout, (7, "old", "float", "")).close()
    for first, more, words in (
        (1, [(7, "new", "float", "")], "there tag 7 is old"),
        (2, [], "there mash.temp is tag 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            opened(server, schema, layout, *more, first=first)
    opened(server, schema, layout, (7, "old", "float", ""), (8, "new", "int", "bar")).close()


def test_rows_can_be_read_with_sql(server: Server, schema: str) -> None:
    store = opened(server, schema, "rows")
    contract.add(store, (1, 1_700_000_000_123_456_789, 64.5), (1, 1_700_000_001_000_000_000, None), (2, 5, "a\0ä"))
    contract.add(store, (3, 7, 2**53 + 1), (4, 8, "plain ä"))
    found = store.catalog.session.rows("SELECT tag, at::text, value, whole, text FROM history ORDER BY time_ns")
    assert found == [
        ("2", "1970-01-01 00:00:00+00", None, None, "a\\000\\303\\244"),
        ("3", "1970-01-01 00:00:00+00", 2.0**53, 2**53 + 1, None),
        ("4", "1970-01-01 00:00:00+00", None, None, "plain ä"),
        ("mash.temp", "2023-11-14 22:13:20.123456+00", 64.5, None, None),
        ("mash.temp", "2023-11-14 22:13:21+00", None, None, None),
    ]
    store.close()
