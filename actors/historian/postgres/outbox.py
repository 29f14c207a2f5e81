"""The outbox in a database: see `runtime.outbox`. What is put is part of the historian's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import msgspec

from tagwerk.actors.historian.interface import StoreDown
from tagwerk.protocols.codec import pack, unpack
from tagwerk.protocols.plantwide import Event, OutboxPage
from tagwerk.runtime.outbox import EVENTS_LIMIT, PAGE_LIMIT

if TYPE_CHECKING:
    from tagwerk.actors.historian.postgres.session import Session


@final
class Outbox:
    """Events of the historian, in order, until `events/0` has committed them.

    Args:
        session: The connection.
        limit: Events that may wait; past it new ones are counted.

    Attributes:
        box: The random name of this outbox.
        dirty: See `EventBox`.
    """

    def __init__(self, session: Session, limit: int = EVENTS_LIMIT) -> None:
        self._session = session
        self._limit = limit
        self.box: Final[str] = session.rows("SELECT id FROM outbox_box")[0][0]
        self.dirty = self.pending > 0

    @property
    def pending(self) -> int:
        """Events that wait to be fetched or for the receipt."""
        [(first, last)] = self._session.rows("SELECT min(seq), max(seq) FROM outbox")
        return 0 if first is None else int(last - first + 1)

    def put(self, event: Event) -> None:
        """Add an event, in the caller's transaction; it is there when that commits, and only then."""
        room = self._limit - self.pending
        [(lost,)] = self._session.rows("SELECT lost FROM outbox_box")
        if room <= 0 or (lost and room < 2):
            self._session.execute("UPDATE outbox_box SET lost = lost + 1")
            return
        if lost:
            reason = f"more than {self._limit} waited for events/0"
            self._insert(Event(event.time_ns, "", "", "events_lost", "outbox", "", str(lost), reason))
            self._session.execute("UPDATE outbox_box SET lost = 0")
        self._insert(event)
        self.dirty = True

    def page(self, after: int, limit: int, box: str = "") -> OutboxPage:
        """The events after number `after`, oldest first; those up to it are removed, as they are committed elsewhere.

        Nothing while the database does not answer: a later question gets them.
        """
        after = max(0, min(after, (1 << 63) - 1)) if box in ("", self.box) else 0
        try:
            if after:
                self._session.execute("DELETE FROM outbox WHERE seq <= %s", (after,))
            rows = self._session.rows(
                "SELECT seq, event FROM outbox WHERE seq > %s ORDER BY seq LIMIT %s",
                (after, max(1, min(limit, PAGE_LIMIT))),
            )
        except StoreDown:
            return OutboxPage(self.box, ())
        return OutboxPage(self.box, tuple((seq, msgspec.convert(unpack(event), Event)) for seq, event in rows))

    def _insert(self, event: Event) -> None:
        # Without gaps, unlike a sequence: the ends tell the count. They never come again.
        self._session.execute(
            "WITH next AS (UPDATE outbox_box SET last_seq = last_seq + 1 RETURNING last_seq)"
            " INSERT INTO outbox SELECT last_seq, %b FROM next",
            (pack(msgspec.to_builtins(event)),),
        )
