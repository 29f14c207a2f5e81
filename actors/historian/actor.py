"""The historian actor: pulls the shards' journals into the store, and answers questions about the past."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.fresh import Fresh
from tagwerk.actors.historian.logic import DiskLevel, TagTable, gather, is_new
from tagwerk.actors.historian.reading import Reading
from tagwerk.actors.historian.store import Store
from tagwerk.actors.historian.upkeep import DISK_LOOK_S, Disk, Upkeep, used_pct
from tagwerk.protocols.errors import RefusedCode
from tagwerk.protocols.history import GetHistorianState, GetHistory, HistorianState
from tagwerk.protocols.message import Refusal
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.samples import TYPE_NAMES
from tagwerk.protocols.tags import PositionMark
from tagwerk.runtime.actor import Actor, Later
from tagwerk.runtime.durable import DurableReader
from tagwerk.runtime.outbox import Outbox

if TYPE_CHECKING:
    from tagwerk.protocols.message import Message
    from tagwerk.protocols.tags import JournalPage
    from tagwerk.runtime.actor import Sender
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.durable import JournalRecord
    from tagwerk.runtime.transport import Transport

COMMIT_S: Final = 0.2
"""Time between two commits of what a shard brings: a commit waits for the disk once, however much is in it."""

UPKEEP_S: Final = 1.0
NEXT_SLICE_S: Final = 0.05
"""Between two slices of upkeep: the line is served in between."""


class _Reader(DurableReader):
    """Asks for nothing while the disk is too full; what was acknowledged waits in the journal.

    Args:
        historian: Who reads.
        shard: The shard's actor name.
        after: See `DurableReader`.
    """

    def __init__(self, historian: Historian, shard: str, after: PositionMark | None) -> None:
        self._historian = historian
        super().__init__(historian, shard, after, partial(historian.take, shard), COMMIT_S)

    def _pull(self) -> None:
        if not self._historian.disk_full:
            super()._pull()


@final
class Historian(Actor):
    """Keeps every sample of the tags with `log`, exactly once.

    Args:
        context: Who it is and where it lives.
        transport: See `Actor`.
    """

    def __init__(self, context: ActorContext, transport: Transport | None = None) -> None:
        super().__init__(context, transport)
        self._readers: dict[str, DurableReader] = {}
        self._fresh: dict[str, Fresh] = {}

    def on_start(self) -> None:
        """Open the store, answer from it, and go on in each journal where the last commit ended."""
        history = self.context.plant.history
        directory = self.context.home.actor_data(self.name)
        with self.busy("open the store", limit_s=60):  # after a kill SQLite reads its write-ahead log again
            self._store = Store(directory / "history.db")
            self.outbox = Outbox(self._store.connection)
        self._reading = Reading(self._store.connection)
        self._upkeep = Upkeep(self._store, history.retention_days)
        self._disk = Disk(history.disk_warn_pct, history.disk_stop_pct, partial(used_pct, str(directory)))
        self._table = TagTable(self.definitions.tags)
        self._look_at_disk()
        for number in range(self.context.plant.plant.shards):
            self._follow(f"cvt/{number}")
        self.every(DISK_LOOK_S, self._look_at_disk)
        self.after(UPKEEP_S, self._keep_up)
        self.ready()

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """Answer questions about the past."""
        if isinstance(message, GetHistory):
            return self._history(message)
        if isinstance(message, GetHistorianState):
            return HistorianState(self._store.rows, self._store.positions())
        return super().on_message(message, sender)

    def on_stop(self) -> None:
        """Close the store; all that was told as taken is committed."""
        self._store.close()

    @property
    def disk_full(self) -> bool:
        """True while the disk is so full that nothing more is taken."""
        return self._disk.level is DiskLevel.STOP

    # --- taking ------------------------------------------------------------------------------------------------------

    def _follow(self, shard: str) -> None:
        reader = self._readers[shard] = _Reader(self, shard, self._store.position(shard))
        self._fresh[shard] = Fresh(reader.catch_up, self.after)

    def take(self, shard: str, page: JournalPage, records: list[JournalRecord]) -> None:
        """Rows, position and events in one transaction; only then may the shard let go of its records."""
        taken = self._store.position(shard)
        if page.hole is None and page.position == taken:
            return
        journal = page.position.journal
        columns, broken = gather([record for record in records if is_new(record, journal, taken)], self._table)
        with self._store.transaction():
            self._store.append(columns)
            for record, reason in broken:
                place = PositionMark(journal, record.incarnation, record.n)
                self._store.set_aside(shard, place, reason, record.frame)
                self._event("record_set_aside", shard, after=str(record.n), reason=reason)
            if page.hole is not None:
                first, last = (str(n) for n in page.hole)
                self._event("hole", shard, first, last, "records of the journal were gone before history had them")
            self._store.set_position(shard, page.position)
        self._readers[shard].taken(page.position)

    def _event(self, kind: str, target: str, before: str = "", after: str = "", reason: str = "") -> None:
        """Log it, and put it into the outbox; inside a transaction."""
        self.log.warning("%s %s: %s %s %s", kind, target, before, after, reason)
        if self.outbox is not None:
            self.outbox.put(Event(self.clock.now_ns(), "", self.name, kind, target, before, after, reason))

    # --- answering ---------------------------------------------------------------------------------------------------

    def _history(self, asked: GetHistory) -> Message | Later:
        tag = self.definitions.by_handle.get(asked.handle)
        if tag is None:
            return Refusal(RefusedCode.UNKNOWN_TAG, f"no tag has the handle {asked.handle}")
        if asked.limit < 0:
            return Refusal(RefusedCode.BAD_VALUE, f"a limit of {asked.limit} samples; at least 0", tag.name)
        kind = TYPE_NAMES[tag.type]
        fresh = self._fresh.get(f"cvt/{tag.shard}")
        if asked.after:  # the rest of a reading: its first page was fresh
            return self._reading.page(asked, kind)
        if fresh is None:
            return self._reading.page(asked, kind, behind=True)
        later = Later()
        fresh.wait(lambda behind: later.reply(self._reading.page(asked, kind, behind=behind)))
        return later

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def _keep_up(self) -> None:
        if self._upkeep.moving:
            with self.busy("move recent rows", limit_s=60):
                self._upkeep.move()
        else:
            self._upkeep.sweep(self.clock.now_ns(), self.clock.mono_ns())
        more = self._upkeep.moving or self._upkeep.sweeping
        self.after(NEXT_SLICE_S if more else UPKEEP_S, self._keep_up)

    def _look_at_disk(self) -> None:
        level = self._disk.look()
        if level is None:
            return
        reason = f"the file system of history is {self._disk.seen_pct:.1f} % full"
        try:
            with self._store.transaction():
                self._event("history_disk", self.name, after=level.value, reason=reason)
        except sqlite3.OperationalError as error:  # no room for the event either: answering goes on, the log has it
            self.log.error("%s, and not even an event can be stored: %s", reason, error)
