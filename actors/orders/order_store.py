"""The store of all orders: their texts, their logs, snapshots of those that run, and their services as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import msgspec

from tagwerk.actors.orders.logic.life import Life, ServiceRun, pack_life, unpack_life
from tagwerk.actors.orders.logic.records import Record, pack_record, unpack_record, words_of
from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.orders import LogEntry, OrderRow, ServiceRow
from tagwerk.runtime.outbox import Outbox
from tagwerk.runtime.store import open_store

FILE: Final = "orders.db"
LAYOUT: Final = 1
SNAPSHOT_EVERY: Final = 200
"""Records after which an order is stored as it is: a restart takes no more than so many of each."""
PAGE_BYTES: Final = 2 << 20
"""Of what one answer shows, unless its first part alone is larger."""
_ORDER: Final = "id, name, state, priority, by, started_ns, ended_ns, reason, finished, running, waiting, unknown"
_SCHEMA: Final = """
CREATE TABLE orders (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, run_id TEXT NOT NULL,
    name TEXT NOT NULL, text TEXT, state TEXT NOT NULL, priority INTEGER NOT NULL, by TEXT NOT NULL,
    started_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, reason TEXT NOT NULL, finished INTEGER NOT NULL,
    running INTEGER NOT NULL, waiting INTEGER NOT NULL, unknown INTEGER NOT NULL, over INTEGER NOT NULL,
    seq INTEGER NOT NULL, life BLOB, life_seq INTEGER NOT NULL) STRICT;
CREATE INDEX orders_live ON orders (over) WHERE over = 0;
CREATE TABLE log (number INTEGER NOT NULL, seq INTEGER NOT NULL, time_ns INTEGER NOT NULL, service INTEGER NOT NULL,
    record BLOB NOT NULL, PRIMARY KEY (number, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE synced (one INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT;
CREATE TABLE services (number INTEGER NOT NULL, service INTEGER NOT NULL, row BLOB NOT NULL,
    PRIMARY KEY (number, service)) STRICT, WITHOUT ROWID;
"""


class Stored(NamedTuple):
    """An order as it is stored. `text`: None if another dispatcher says what is to be done."""

    number: int
    id: str
    run_id: str
    name: str
    text: str | None
    priority: int
    by: str
    started_ns: int
    seq: int
    life: Life | None
    records: tuple[tuple[int, Record], ...]  # after the snapshot: (UTC ns, record)


@final
class OrderStore:
    """The store; what is written is there after `commit`, and only then.

    Args:
        path: The file.

    Raises:
        ConfigError: It is there, but cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = open_store(path, "the orders", _SCHEMA, LAYOUT)
        self.outbox: Final = Outbox(self._connection)
        self._syncs = True
        self._is_synced = True

    def close(self) -> None:
        """Let go of the file; what was not committed is gone."""
        self._connection.close()

    def begin(self, *, must_sync: bool = True) -> sqlite3.Connection:
        """Open a transaction, if none is open.

        Args:
            must_sync: It has to outlive a power cut; else only the death of the process.
        """
        connection = self._connection
        if connection.in_transaction and must_sync and not self._syncs:
            connection.execute("COMMIT")  # the setting below is refused inside a transaction
        if not connection.in_transaction:
            self._syncs = must_sync
            connection.execute(f"PRAGMA synchronous = {'FULL' if must_sync else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
        return connection

    def commit(self) -> bool:
        """Make lasting all that was written. True: all of it outlives a power cut, too."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")
            self._is_synced = self._syncs
        return self._is_synced

    def sync(self) -> None:
        """Have what was committed outlive a power cut."""
        if not self._is_synced:
            self.begin().execute("INSERT OR REPLACE INTO synced VALUES (1, 0)")  # what writes nothing syncs nothing
            self.commit()

    def create(
        self, stem: str, run_token: str, name: str, text: str | None, priority: int, by: str, now_ns: int
    ) -> Stored:
        """Make a new order; give it with its id."""
        made = self.begin().execute(
            "INSERT INTO orders (id, run_id, name, text, state, priority, by, started_ns, ended_ns, reason, finished,"
            " running, waiting, unknown, over, seq, life_seq)"
            " VALUES (?, '', ?, ?, 'RUNNING', ?, ?, ?, 0, '', 0, 0, 0, 0, 0, 0, 0)",
            (f"new {run_token}", name, text, priority, by, now_ns),
        )
        number = int(made.lastrowid or 0)
        order_id, run_id = f"{stem}_{number}", f"{stem}_{number}/{run_token}"
        self._connection.execute("UPDATE orders SET id = ?, run_id = ? WHERE number = ?", (order_id, run_id, number))
        return Stored(number, order_id, run_id, name, text, priority, by, now_ns, 0, None, ())

    def append(self, number: int, seq: int, now_ns: int, service: int, record: Record, *, must_sync: bool) -> None:
        """Write the next record of an order."""
        row = (number, seq, now_ns, service, pack_record(record))
        self.begin(must_sync=must_sync).execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)

    def update(self, number: int, seq: int, life: Life, now_ns: int, touched: Iterable[ServiceRun]) -> None:
        """Write how an order stands after its records up to `seq`."""
        connection = self.begin(must_sync=False)
        states = [one.state for one in life.services.values()]
        ended_ns = 0 if life.state == "RUNNING" else now_ns
        connection.execute(
            "UPDATE orders SET state = ?, reason = ?, finished = ?, running = ?, waiting = ?, unknown = ?, over = ?,"
            " seq = ?, ended_ns = CASE WHEN ? = 0 THEN 0 WHEN ended_ns = 0 THEN ? ELSE ended_ns END WHERE number = ?",
            (
                life.shown, life.reason, life.finished, states.count("SENT"), states.count("WAITING"), life.unknown,
                int(life.over), seq, ended_ns, ended_ns, number,
            ),
        )  # fmt: skip
        rows = [(number, one.number, msgspec.msgpack.encode(one)) for one in touched]
        connection.executemany("INSERT OR REPLACE INTO services VALUES (?, ?, ?)", rows)
        if seq % SNAPSHOT_EVERY == 0 or life.state != "RUNNING":
            # An order that has ended may be tried again, from here.
            connection.execute(
                "UPDATE orders SET life = ?, life_seq = ? WHERE number = ?", (pack_life(life), seq, number)
            )

    def live(self) -> list[Stored]:
        """Give the orders for which something is left to be done.

        Raises:
            ConfigError: One cannot be read.
        """
        rows = self._connection.execute("SELECT number FROM orders WHERE over = 0 ORDER BY number").fetchall()
        return [self._stored(number) for (number,) in rows]

    def find(self, order_id: str) -> Stored | None:
        """Give an order by its id; None if there is none."""
        row = self._connection.execute("SELECT number FROM orders WHERE id = ?", (order_id,)).fetchone()
        return None if row is None else self._stored(row[0])

    def _stored(self, number: int) -> Stored:
        order_id, run_id, name, text, priority, by, started_ns, seq, life, life_seq = self._connection.execute(
            "SELECT id, run_id, name, text, priority, by, started_ns, seq, life, life_seq FROM orders WHERE number = ?",
            (number,),
        ).fetchone()
        try:
            records = tuple(
                (time_ns, unpack_record(data))
                for time_ns, data in self._connection.execute(
                    "SELECT time_ns, record FROM log WHERE number = ? AND seq > ? ORDER BY seq", (number, life_seq)
                )
            )
            known = None if life is None else unpack_life(life)
        except msgspec.DecodeError as error:
            expected = "the file as it was; without it, orders that run are forgotten"
            message = f"the log of order {order_id} cannot be read: {error}"
            raise ConfigError(message, file=str(self._path), expected=expected) from error
        return Stored(number, order_id, run_id, name, text, priority, by, started_ns, seq, known, records)

    def rows(self, limit: int, *, ended: bool) -> tuple[OrderRow, ...]:
        """Give the newest orders, newest first."""
        which = "" if ended else "WHERE ended_ns = 0 OR unknown > 0"
        query = f"SELECT {_ORDER} FROM orders {which} ORDER BY number DESC LIMIT ?"
        return tuple(OrderRow(*row) for row in self._connection.execute(query, (limit,)))

    def row(self, order_id: str) -> OrderRow | None:
        """Give one order; None if there is none."""
        found = self._connection.execute(f"SELECT {_ORDER} FROM orders WHERE id = ?", (order_id,)).fetchone()
        return None if found is None else OrderRow(*found)

    def services(self, number: int, after: int, limit: int) -> tuple[list[ServiceRow], bool]:
        """Give services of an order, by number: no more than a message takes; and whether there are later ones."""
        rows = self._connection.execute(
            "SELECT row FROM services WHERE number = ? AND service > ? ORDER BY service LIMIT ?",
            (number, after, limit + 1),
        )
        page, more = _page(rows, limit)
        return [_service_row(msgspec.msgpack.decode(row, type=ServiceRun)) for (row,) in page], more

    def service_of(self, number: int, uuid: str) -> ServiceRow | None:
        """Give the newest service of an order with this uuid; None if it has none."""
        rows = self._connection.execute(
            "SELECT row FROM services WHERE number = ? AND instr(row, CAST(? AS BLOB)) > 0 ORDER BY service DESC",
            (number, uuid),
        )
        found = (_service_row(msgspec.msgpack.decode(row, type=ServiceRun)) for (row,) in rows)
        return next((one for one in found if one.uuid == uuid), None)

    def log(self, number: int, after: int, limit: int) -> tuple[list[LogEntry], bool]:
        """Give what happened to an order: no more than a message takes; and whether more happened."""
        rows = self._connection.execute(
            "SELECT seq, time_ns, service, record FROM log WHERE number = ? AND seq > ? ORDER BY seq LIMIT ?",
            (number, after, limit + 1),
        )
        entries: list[LogEntry] = []
        page, more = _page(rows, limit)
        for seq, time_ns, service, data in page:
            record = unpack_record(data)
            kind, by, host, what = words_of(record)
            uuid = getattr(record, "service_uuid", "") or getattr(record, "task_uuid", "")
            entries.append(LogEntry(seq, time_ns, kind, by, host, service, what, uuid))
        return entries, more

    def prune(self, before_ns: int, limit: int) -> int:
        """Remove orders that ended before this; at most so many at once. Give how many."""
        found = self._connection.execute(
            "SELECT number FROM orders WHERE over = 1 AND ended_ns > 0 AND ended_ns < ? LIMIT ?", (before_ns, limit)
        ).fetchall()
        connection = self.begin(must_sync=False) if found else self._connection
        for number in found:
            for table in ("log", "services", "orders"):
                connection.execute(f"DELETE FROM {table} WHERE number = ?", number)
        return len(found)


def _page(rows: Iterable[tuple[Any, ...]], limit: int) -> tuple[list[tuple[Any, ...]], bool]:
    """Give the first rows, so many and so large at most, at least one; and whether there are more. Bytes come last."""
    page: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        size += len(row[-1])
        if page and (len(page) == limit or size > PAGE_BYTES):
            return page, True
        page.append(row)
    return page, False


def _service_row(one: ServiceRun) -> ServiceRow:
    return ServiceRow(
        one.number, one.uuid, one.name, one.task, one.attempt, one.state, one.resource, one.url, one.why, one.phase,
        one.started_ns, one.queued_ns, one.called_ns, one.ended_ns, one.inputs, one.given, one.reason,
    )  # fmt: skip


def variables_of(life: Life, root: str) -> Mapping[str, Any]:
    """Give the variables of an order's first task."""
    if life.run is not None and root in life.run.tasks:
        return life.run.tasks[root].variables
    return {name: one.value for name, one in life.scopes.get(life.root, {}).items()}
