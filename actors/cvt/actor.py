"""A shard of the current value table: the actor's shell around table, writers, feed and journal."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, ClassVar, Final

from sqlite_utils import Database

from tagwerk.actors.cvt import reading
from tagwerk.actors.cvt.explain import explain
from tagwerk.actors.cvt.feed import Feed
from tagwerk.actors.cvt.ingest import IngestDesk
from tagwerk.actors.cvt.live_only import LiveOnly
from tagwerk.actors.cvt.logic.table import Table
from tagwerk.actors.cvt.logic.writers import Writers
from tagwerk.actors.cvt.losses import LossDesk
from tagwerk.actors.cvt.recorder import Recorder
from tagwerk.actors.cvt.store import Memory
from tagwerk.actors.cvt.taking import Taker
from tagwerk.actors.cvt.writes import WriteDesk
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import NotJournaled, Refused
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.plantwide import Event, HoldStill
from tagwerk.protocols.samples import ValueType, make
from tagwerk.protocols.tags import (
    ExplainTag,
    GetSnapshot,
    JournalTaken,
    OpenView,
    ReadJournal,
    ReadTags,
    ViewOpened,
    WriteTag,
)
from tagwerk.runtime import levels
from tagwerk.runtime.actor import Actor, Later, Sender
from tagwerk.runtime.durable import SAMPLES
from tagwerk.runtime.hold import Hold
from tagwerk.runtime.journal import Journal
from tagwerk.runtime.outbox import Outbox
from tagwerk.runtime.process import boot_hash
from tagwerk.runtime.steady import SteadyTime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tagwerk.protocols.samples import Samples
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.reactor import Timer
    from tagwerk.runtime.transport import Transport

RESTORE_LIMIT_S: Final = 600.0
"""A start that applies a long journal, because no snapshot could be written, is not hung for so long."""
PER_MILLE: Final = 1_000
PLACES_S: Final = 5.0
"""How often the places of the journal's consumers are written: older ones only keep more of it over a restart."""
SYNC_LEAST_S: Final = 0.001
"""The journal is looked after so often at most, however short its interval is."""


class Cvt(Actor):
    """Owns the current values of its tags alone."""

    takes_samples: ClassVar[bool] = True

    def __init__(self, context: ActorContext, transport: Transport | None = None) -> None:
        super().__init__(context, transport)
        self.number = int(context.name.partition("/")[2])
        settings = context.plant.journal
        self.journal = Journal(
            context.home.actor_data(context.name) / "journal",
            incarnation=context.incarnation,
            clock=context.clock,
            cap_bytes=settings.cap_bytes,
            cap_pct=settings.cap_pct,
            at_cap=settings.at_cap,
            sync=settings.sync,
            sync_interval_s=settings.sync_interval_s,
        )
        self.writers = Writers()
        self._sync_timer: Timer | None = None

    # --- start and stop ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Come back from snapshot and journal, then serve."""
        self.table = Table(self.definitions.of_shard(self.number))
        with self.busy("applies its journal", RESTORE_LIMIT_S):
            self._restore()
        tags = self.table.tags
        for place, source in enumerate(tags.source_names):
            mine = tags.sources == place
            if source and mine.any():
                self.table.required[mine] = self.writers.get(source.removeprefix("writer/"), named=True).index
        self._open_outbox()
        journal = self.journal
        self._hold = Hold(self.after, lambda: journal.hold(True), lambda: journal.hold(False))
        revision = self.definitions.revision
        port = self._transport.publisher(self.context.home.socket(self.name, "feed"))
        self.feed = Feed(port, tags, self.context.incarnation, revision)
        self.reactor.add(port, self._subscriptions)
        self.losses = LossDesk(self)
        self.live_only = LiveOnly(self)
        self.desk = IngestDesk(
            self.name, self.ingest_port, self.clock, self.writers, Taker(self), self.recorder.append,
            self.losses.lose, self.dead_letters,
        )  # fmt: skip
        self.write_desk = WriteDesk(self)
        self.writers.await_again(self.clock.mono_ns(), self.steady.now_ns(), reborn=self.recorder.hole.open)
        self.table.heard[:] = self.steady.now_ns()  # a period to be heard of for the tags, too
        self._first_values()
        self.every(1.0, self._second)
        self.every(PLACES_S, self._keep_places)
        self.on_flush()  # what the start itself changed
        self.ready()

    def _restore(self) -> None:
        recovery = self.journal.open()
        data = self.context.home.actor_data(self.name)
        self.steady = SteadyTime(self.clock, data / "steady", boot_hash(), self.journal.received_ns)
        self.memory = Memory(self.journal, data / "table.snapshot")
        hole = self.context.home.file(self.name, "hole")
        self.recorder = Recorder(self.name, self.journal, self.memory, self.steady, hole)
        applied = self.memory.restore(self.table, self.writers, self.log)
        if recovery.torn_bytes or self.journal.set_aside:
            self.log.warning("journal: %d torn bytes, set aside: %s", recovery.torn_bytes, self.journal.set_aside)
        self.log.info("%d tags, %d records applied", len(self.table), applied)

    def _open_outbox(self) -> None:
        path = self.context.home.actor_data(self.name) / "outbox.db"
        self._outbox_db = sqlite3.connect(path)
        database = Database(self._outbox_db)
        database.execute("PRAGMA synchronous=FULL")
        database.enable_wal()
        self.outbox = Outbox(self._outbox_db)

    def _first_values(self) -> None:
        now_ns = self.clock.now_ns()
        for row in self.table.tags.defaults.tolist():
            tag = self.table.tags[row]
            if not self.table.has_value[row] and not tag.source:
                kind = ValueType(int(self.table.types[row]))
                value = float(tag.default) if kind is ValueType.FLOAT else tag.default
                self.own([make(kind, [tag.handle], [value], now_ns, q.UNCERTAIN_INITIAL)])

    def on_stop(self) -> None:
        """Leave a snapshot, so that the next start has nothing to apply."""
        self.on_flush()
        try:
            self.memory.snapshot(self.table, self.writers)
            self.memory.close()
            self.steady.close()
            self.journal.close()
        except OSError as error:
            self.log.error("what is written is not all on the disk, or the next start takes longer: %s", error)
        self._outbox_db.close()

    # --- ingest ------------------------------------------------------------------------------------------------------

    def on_ingest(self, frames: list[bytes]) -> None:
        """One message of a writer."""
        self.desk.receive(frames)

    def own(self, batches: Sequence[Samples]) -> None:
        """Make values of the shard's own tags current: what was written to a tag without a device."""
        now_ns = self.steady.now_ns()
        for batch in batches:
            rows = self.table.rows(batch.tags)
            self.table.put(batch, rows, 0, 0, now_ns)
            self.feed.add(batch, rows, now_ns)
            self.recorder.batches(SAMPLES, "", [batch])

    # --- once a second -----------------------------------------------------------------------------------------------

    def _second(self) -> None:
        self._sync()  # also if nothing waits: the last one may have failed
        self.desk.beat()
        self.feed.beat(self.clock.mono_ns())
        self.losses.look()
        # A full disk is as bad as a full journal: one alarm tells both.
        used = self.journal.fill if self.recorder.journaled else 1.0
        self.context.slot.write_counter(levels.JOURNAL_COUNTER, round(PER_MILLE * used))
        try:
            self.steady.keep()
        except OSError as error:  # only a restart on a clock that was set meanwhile needs it
            self.log.error("the time is not kept: %s", error)

    def _sync(self) -> None:
        try:
            self.journal.tick(self.clock.mono_ns())
        except NotJournaled as error:  # it is tried again; until then a power cut takes more than it should
            self.log.error("%s", error)
            self.audit(Event(self.clock.now_ns(), "", "", "journal", self.name, "synced", "not synced", str(error)))
            self.commit_outbox()  # it may be the end of a flush

    def _keep_synced(self) -> None:
        """With the flush that finds something waiting for long enough; if none comes, a timer sees to it."""
        if self.journal.unsynced:
            self._sync()
        if not self.journal.unsynced:
            if self._sync_timer is not None:
                self._sync_timer.cancel()
                self._sync_timer = None
        elif self._sync_timer is None:
            after_s = max(SYNC_LEAST_S, self.journal.sync_after_s(self.clock.mono_ns()))
            self._sync_timer = self.after(after_s, self._sync_late)

    def _sync_late(self) -> None:
        self._sync_timer = None  # a flush follows

    def _keep_places(self) -> None:
        try:
            self.journal.keep_places()
        except NotJournaled as error:
            self.log.error("the places of the consumers are not kept: %s", error)

    # --- flush -------------------------------------------------------------------------------------------------------

    def on_flush(self) -> None:
        """Applied is what the messages brought; now commit, feed, acknowledge, in this order."""
        journaled = self.live_only.flush()
        if self.feed.due:
            self.feed.flush(self.steady.now_ns())
        self.desk.flush(journaled=journaled)
        self.write_desk.flush(journaled=journaled)
        self._keep_synced()
        if journaled and self.memory.due:
            try:
                self.memory.snapshot(self.table, self.writers)
            except OSError as error:
                self.log.error("no snapshot of the table, so the next start takes longer: %s", error)

    def audit(self, event: Event) -> bool:
        """Owe an event to the log; it is on disk before anything of this flush is answered. False on a full disk."""
        if self.outbox is None:
            return False
        try:
            self.outbox.put(event)
        except sqlite3.OperationalError as error:  # a full disk: the shard goes on live only
            self.log.error("%s is not in the log of events: %s", event, error)
            return False
        return True

    def commit_outbox(self) -> bool:
        """Put what is owed on the disk; False if that is full."""
        if not self._outbox_db.in_transaction:
            return True
        try:
            self._outbox_db.commit()
        except sqlite3.OperationalError as error:
            self._outbox_db.rollback()
            self.log.error("events of this moment are not in the log of events: %s", error)
            return False
        return True

    def _subscriptions(self) -> None:
        self.feed.subscriptions()
        self.after(0, lambda: None)  # a flush follows, which greets the newcomers

    # --- control -----------------------------------------------------------------------------------------------------

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """See `Actor.on_message`."""
        try:
            return self._answer_message(message, sender)
        except Refused as error:
            return Refusal(error.code, error.message, error.tag)

    def _answer_message(self, message: Message, sender: Sender) -> Message | Later | None:
        if isinstance(message, ReadTags):
            return reading.read_tags(self, message)
        if isinstance(message, WriteTag):
            return self.write_desk.write(message, sender)
        if isinstance(message, OpenView):
            view = self.feed.open_view(message.globs, message.lease_s, self.clock.mono_ns())
            return ViewOpened(view.topic, self.context.incarnation)
        if isinstance(message, GetSnapshot):
            return reading.view_snapshot(self, message.topic)
        if isinstance(message, ReadJournal):
            return reading.journal_page(self, message)
        if isinstance(message, JournalTaken):
            self.journal.consumed(message.consumer, reading.position_of(message.position))
            return None
        if isinstance(message, HoldStill):
            if not self.journal.held:  # it had no room
                self._hold.let_go()
            return self._hold.answer(message)
        if isinstance(message, ExplainTag):
            return explain(self, message.handle)
        return super().on_message(message, sender)
