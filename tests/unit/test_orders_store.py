"""The store of orders: what is written is there after a commit, what had to be is synced, and logs are found again."""

from __future__ import annotations

from pathlib import Path

from tagwerk.actors.orders.logic.order import Order
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.records import Assigned, Begun, Progressed, Record
from tagwerk.actors.orders.order_store import PAGE_BYTES, SNAPSHOT_EVERY, OrderStore

TEXT = "Task productionTask\n    Cut\nEnd\n"


def test_a_log_is_there_after_its_commit(tmp_path: Path) -> None:
    store = OrderStore(tmp_path / "orders.db")
    stored = store.create("cut", "token", "Cut it", TEXT, 3, "anna", 1)
    assert (stored.id, stored.run_id) == ("cut_1", "cut_1/token")
    order = Order(stored.run_id, read(TEXT))

    def take(seq: int, record: Record) -> None:
        change = order.apply(record, seq)
        store.append(stored.number, seq, seq, 0, record, must_sync=seq == 1)
        store.update(stored.number, seq, order.life, seq, change.touched)

    take(1, Begun({}, "anna", "host", "why not"))
    assert store.commit() is True
    uuid = next(iter(order.life.services))
    for seq in range(2, SNAPSHOT_EVERY + 10):
        take(seq, Progressed(uuid, "CALLED"))
    assert store.commit() is False  # a power cut may still take it
    store.sync()
    assert store.commit() is True
    take(SNAPSHOT_EVERY + 10, Assigned(uuid, "resource/a", "", "", False))
    store.close()  # a kill: what was not committed is gone

    again = OrderStore(tmp_path / "orders.db")
    (found,) = again.live()
    assert (found.id, found.priority, found.by, len(found.records)) == ("cut_1", 3, "anna", 9)
    assert found.seq == SNAPSHOT_EVERY + 9
    assert found.life is not None
    assert list(found.life.services) == [uuid]
    entries, more = again.log(found.number, 0, 2)
    assert ([one.kind for one in entries], more) == (["begun", "progressed"], True)
    services, more = again.services(found.number, 0, 10)
    assert ([one.name for one in services], more) == (["Cut"], False)
    known = again.service_of(found.number, uuid)
    assert known is not None
    assert (known.uuid, again.service_of(found.number, uuid[:-1])) == (uuid, None)
    row = again.row("cut_1")
    assert row is not None
    assert (row.state, row.waiting, again.find("cut_2"), again.rows(10, ended=False)) == ("RUNNING", 1, None, (row,))
    assert again.prune(1 << 62, 10) == 0  # it has not ended
    again.close()


def test_what_is_large_is_shown_in_parts(tmp_path: Path) -> None:
    store = OrderStore(tmp_path / "orders.db")
    number = store.create("cut", "token", "Cut it", TEXT, 0, "anna", 1).number
    for seq in range(1, 5):
        store.append(number, seq, seq, 0, Begun({"text": "x" * (PAGE_BYTES // 2 - 1_000)}, "anna"), must_sync=False)
    shown: list[int] = []
    more = True
    while more:
        entries, more = store.log(number, shown[-1] if shown else 0, 1_000)
        assert 1 <= len(entries) <= 2
        shown += [one.seq for one in entries]
    assert shown == [1, 2, 3, 4]
    store.close()
