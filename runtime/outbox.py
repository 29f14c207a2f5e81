"""The outbox: what an actor owes to the log of events, kept in the transaction that made it so.

`events/0` pulls: it asks for the numbers after the last one that it has committed, and that question is also the
receipt for all before. So an event exists exactly if its cause was committed, and is logged exactly once.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Final, Protocol, final

import msgspec

from tagwerk.protocols.codec import pack, unpack
from tagwerk.protocols.plantwide import Event, OutboxPage

EVENTS_LIMIT: Final = 100_000
"""Events that wait to be fetched. Past it new ones are only counted, and the count becomes an event."""

PAGE_LIMIT: Final = 1_000
"""Events in one page, whatever is asked for."""

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS outbox_box (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, lost INTEGER"
    " NOT NULL)",
)


class EventBox(Protocol):
    """An outbox, wherever it lies.

    Attributes:
        dirty: Something was put since this was last set to False. True at the start if something waits.
    """

    dirty: bool

    @property
    def pending(self) -> int:
        """Events that wait to be fetched or for the receipt."""
        ...

    def put(self, event: Event) -> None:
        """Add an event, in the caller's transaction."""
        ...

    def page(self, after: int, limit: int, box: str = "") -> OutboxPage:
        """The events after number `after`, oldest first; those up to it are removed."""
        ...


@final
class Outbox:
    """Events of one actor, in order, until `events/0` has committed them.

    Its tables live in the actor's own store, so that `put` is part of the actor's transaction. `page` must be answered
    after that transaction is committed, as the replies of an actor are.

    Args:
        connection: The actor's store. A transaction that is open is left open.
        limit: Events that may wait.

    Attributes:
        box: The random name of this outbox; another one if the store was lost.
        dirty: Something was put since this was last set to False. True at the start if something waits.
    """

    def __init__(self, connection: sqlite3.Connection, limit: int = EVENTS_LIMIT) -> None:
        self._connection = connection
        self._limit = limit
        was_open = connection.in_transaction
        for table in _TABLES:
            connection.execute(table)
        connection.execute("INSERT OR IGNORE INTO outbox_box VALUES (1, ?, 0)", (secrets.token_hex(8),))
        self._close(was_open)
        self.box: Final[str] = connection.execute("SELECT id FROM outbox_box").fetchone()[0]
        self.dirty = self.pending > 0

    @property
    def pending(self) -> int:
        """Events that wait to be fetched or for the receipt."""
        # Numbers are removed from the front only, so the ends tell the count without a scan.
        first, last = self._connection.execute("SELECT min(seq), max(seq) FROM outbox").fetchone()
        return 0 if first is None else last - first + 1

    def put(self, event: Event) -> None:
        """Add an event, in the caller's transaction; it is there when that commits, and only then."""
        room = self._limit - self.pending
        lost: int = self._connection.execute("SELECT lost FROM outbox_box").fetchone()[0]
        if room <= 0 or (lost and room < 2):
            self._connection.execute("UPDATE outbox_box SET lost = lost + 1")
            return
        if lost:
            reason = f"more than {self._limit} waited for events/0"
            self._insert(Event(event.time_ns, "", "", "events_lost", "outbox", "", str(lost), reason))
            self._connection.execute("UPDATE outbox_box SET lost = 0")
        self._insert(event)
        self.dirty = True

    def page(self, after: int, limit: int, box: str = "") -> OutboxPage:
        """The events after number `after`, oldest first; those up to it are removed, as they are committed elsewhere.

        Args:
            after: The last number that the asker has committed.
            limit: How many it takes.
            box: The outbox that `after` belongs to. One of another outbox counts as 0: nothing is removed.
        """
        if box not in ("", self.box):
            after = 0
        after = max(0, min(after, (1 << 63) - 1))
        was_open = self._connection.in_transaction
        if after and self.pending:
            self._remove(after, was_open)
        rows = self._connection.execute(
            "SELECT seq, event FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (after, max(1, min(limit, PAGE_LIMIT)))
        ).fetchall()
        return OutboxPage(self.box, tuple((seq, msgspec.convert(unpack(event), Event)) for seq, event in rows))

    def _remove(self, upto: int, was_open: bool) -> None:
        try:
            self._connection.execute("DELETE FROM outbox WHERE seq <= ?", (upto,))
            self._close(was_open)
        except sqlite3.OperationalError:  # a full disk: a later question removes them, and they are not given again
            if self._connection.in_transaction and not was_open:
                self._connection.rollback()

    def _insert(self, event: Event) -> None:
        self._connection.execute("INSERT INTO outbox (event) VALUES (?)", (pack(msgspec.to_builtins(event)),))

    def _close(self, was_open: bool) -> None:
        """Commit what sqlite3 opened for a statement of ours (its default), never what the caller opened."""
        if self._connection.in_transaction and not was_open:
            self._connection.commit()
