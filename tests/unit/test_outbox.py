"""The outbox: an event exists exactly if its cause was committed, and is handed out until its receipt."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tagwerk.protocols.message import decode_message, encode_message
from tagwerk.protocols.plantwide import Event
from tagwerk.runtime.outbox import Outbox


def event(n: int) -> Event:
    return Event(n, "anna", "hmi1", "ack", f"alarm{n}", "", "acked", "seen")


@pytest.fixture(params=["autocommit", "implicit"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "x.db", isolation_level=None if request.param == "autocommit" else "DEFERRED")


def test_events_come_in_order_and_stay_until_the_receipt(connection: sqlite3.Connection) -> None:
    outbox = Outbox(connection)
    connection.execute("BEGIN")
    for n in range(5):
        outbox.put(event(n))
    connection.commit()
    page = outbox.page(0, 3)
    assert page.box == outbox.box
    assert page.events == ((1, event(0)), (2, event(1)), (3, event(2)))
    assert outbox.page(0, 3) == page  # the asker died before its commit
    assert [seq for seq, _ in outbox.page(3, 100).events] == [4, 5]
    assert outbox.pending == 2
    assert outbox.page(5, 100).events == ()
    assert outbox.pending == 0
    assert not connection.in_transaction
    connection.close()


def test_a_rollback_takes_the_event_with_it(connection: sqlite3.Connection) -> None:
    outbox = Outbox(connection)
    connection.execute("BEGIN")
    outbox.put(event(1))
    connection.rollback()
    assert outbox.page(0, 10).events == ()
    connection.close()


def test_numbers_never_repeat_after_removal_and_restart(tmp_path: Path) -> None:
    first = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    outbox = Outbox(first)
    outbox.put(event(1))
    outbox.page(1, 10)
    first.close()
    second = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    again = Outbox(second)
    assert again.box == outbox.box
    assert not again.dirty
    again.put(event(2))
    assert again.page(1, 10).events == ((2, event(2)),)
    second.close()
    third = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    assert Outbox(third).dirty  # the bell may not have rung before the death
    third.close()


def test_a_receipt_for_another_box_removes_nothing(connection: sqlite3.Connection) -> None:
    outbox = Outbox(connection)
    connection.execute("BEGIN")
    outbox.put(event(1))
    connection.commit()
    assert outbox.page(57, 10, box="lost with its store").events == ((1, event(1)),)
    assert outbox.page(1, 10, box=outbox.box).events == ()
    connection.close()


def test_a_page_inside_a_transaction_leaves_it_open(connection: sqlite3.Connection) -> None:
    outbox = Outbox(connection)
    connection.execute("BEGIN")
    outbox.put(event(1))
    outbox.page(1, 10)
    assert connection.in_transaction
    connection.rollback()
    connection.close()


def test_past_the_limit_events_are_counted_and_the_count_is_told(connection: sqlite3.Connection) -> None:
    outbox = Outbox(connection, limit=3)
    connection.execute("BEGIN")
    for n in range(5):
        outbox.put(event(n))
    connection.commit()
    assert outbox.pending == 3
    outbox.page(3, 10)
    connection.execute("BEGIN")
    outbox.put(event(9))
    connection.commit()
    (_, lost), (_, last) = outbox.page(3, 10).events
    assert (lost.kind, lost.after) == ("events_lost", "2")
    assert last == event(9)
    connection.close()


def test_a_page_travels() -> None:
    connection = sqlite3.connect(":memory:")
    outbox = Outbox(connection)
    outbox.put(event(1))
    page = outbox.page(0, 10)
    assert decode_message(encode_message(page)) == page
    connection.close()


def test_without_room_events_are_given_and_removed_later(connection: sqlite3.Connection) -> None:
    outbox = Outbox(connection)
    for n in range(3):
        outbox.put(event(n))
    connection.commit()
    connection.execute("PRAGMA query_only = ON")  # as on a full disk: what writes fails
    assert [seq for seq, _ in outbox.page(1, 100).events] == [2, 3]
    assert not connection.in_transaction
    assert outbox.pending == 3
    connection.execute("PRAGMA query_only = OFF")
    assert [seq for seq, _ in outbox.page(2, 100).events] == [3]
    assert outbox.pending == 1
    connection.close()
