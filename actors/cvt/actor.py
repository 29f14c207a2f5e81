"""A shard of the current value table: the actor's shell around table, writers, feed and journal."""

from __future__ import annotations

import contextlib
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from sqlite_utils import Database

from tagwerk.actors.cvt.explain import explain
from tagwerk.actors.cvt.feed import Feed
from tagwerk.actors.cvt.ingest import IngestDesk
from tagwerk.actors.cvt.logic.table import Applied, Table, quality_only
from tagwerk.actors.cvt.logic.writers import Writer, Writers
from tagwerk.actors.cvt.store import Memory
from tagwerk.actors.cvt.writes import WriteDesk
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import NotJournaled, Refused
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.samples import Samples, ValueType, encode, make, split
from tagwerk.protocols.tags import (
    ExplainTag,
    GetSnapshot,
    JournalPage,
    JournalTaken,
    OpenView,
    PositionMark,
    ReadJournal,
    ReadTags,
    TagState,
    TagStates,
    ViewOpened,
    ViewSnapshot,
    WriteTag,
)
from tagwerk.runtime.actor import Actor, Later, Sender
from tagwerk.runtime.durable import HISTORY_ONLY, LOSS, SAMPLES
from tagwerk.runtime.journal import Journal, Position
from tagwerk.runtime.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.transport import Transport

READ_LIMIT: Final = 100_000
PAGE_LIMIT_BYTES: Final = 8 << 20
STALE_LOOK_S: Final = 1.0


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
        self._dead = np.zeros(1, np.bool_)
        self._dead_as_of = -1
        self._journaled = True
        self._appended = False
        self._pending_ns = 0
        self._promised_ns = 0

    # --- start and stop ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Come back from snapshot and journal, then serve."""
        self.table = Table(self.definitions.of_shard(self.number))
        recovery = self.journal.open()
        if recovery.torn_bytes or recovery.set_aside:
            self.log.warning("journal: %d torn bytes, set aside: %s", recovery.torn_bytes, recovery.set_aside)
        self.memory = Memory(self.journal, self.context.home.actor_data(self.name) / "table.snapshot")
        applied = self.memory.restore(self.table, self.writers, self.log)
        self.log.info("%d tags, %d records applied", len(self.table), applied)
        for row, tag in enumerate(self.table.tags):
            if tag.source:
                name = tag.source.removeprefix("writer/")
                self.table.required[row] = self.writers.get(name, named=True).index
        self._open_outbox()
        revision = self.definitions.revision
        port = self._transport.publisher(self.context.home.socket(self.name, "feed"))
        names = [tag.name for tag in self.table.tags]
        self.feed = Feed(port, names, self.context.incarnation, revision)
        self.reactor.add(port, self._subscriptions)
        self.desk = IngestDesk(
            self.name, self.ingest_port, self.clock, self.writers, self._take, self._append, self._lose,
            self.dead_letters,
        )  # fmt: skip
        self.write_desk = WriteDesk(self)
        for writer in self.writers.by_name.values():  # one lease to be born again
            writer.heard_ns = self.clock.mono_ns()
            writer.lost_ns = self.clock.now_ns()
        self.table.heard[:] = self.clock.now_ns()  # and the tags a period to be heard of
        limits = {row: tag.stale_after_s for row, tag in enumerate(self.table.tags) if tag.stale_after_s is not None}
        self._stale_rows = np.array(list(limits), np.intp)
        self._stale_ns = np.array(list(limits.values()), "<f8") * 1e9
        self._first_values()
        self.every(1.0, self._second)
        self.flush_now()
        self.ready()

    def _open_outbox(self) -> None:
        path = self.context.home.actor_data(self.name) / "outbox.db"
        self._outbox_db = sqlite3.connect(path)
        database = Database(self._outbox_db)
        database.execute("PRAGMA synchronous=FULL")
        database.enable_wal()
        self.outbox = Outbox(self._outbox_db)

    def _first_values(self) -> None:
        now_ns = self.clock.now_ns()
        for row, tag in enumerate(self.table.tags):
            if tag.default is not None and not self.table.has_value[row] and not tag.source:
                kind = ValueType(int(self.table.types[row]))
                value = float(tag.default) if kind is ValueType.FLOAT else tag.default
                self.own([make(kind, [tag.handle], [value], now_ns, q.UNCERTAIN_INITIAL)])

    def on_stop(self) -> None:
        """Leave a snapshot, so that the next start has nothing to apply."""
        self.on_flush()
        with contextlib.suppress(OSError):  # a start without it takes longer, no more
            self.memory.snapshot(self.table, self.writers)
        self.journal.close()
        self._outbox_db.close()

    # --- ingest ------------------------------------------------------------------------------------------------------

    def on_ingest(self, frames: list[bytes]) -> None:
        """One message of a writer."""
        self.desk.receive(frames)

    def _take(
        self, writer: Writer, number: int, batches: list[Samples], frame: bytes, backfill: bool
    ) -> list[tuple[int, int, str]]:
        now_ns = self.clock.now_ns()
        if backfill:
            return self._backfill(writer, number, batches, now_ns)
        if self._dead_as_of != self.writers.changes:
            self._count_dead()
        current: list[Samples] = []
        refused: list[tuple[int, int, str]] = []
        untouched = True
        offset = 0
        for batch in batches:
            done = self.table.apply(
                batch, writer.index, writer.birth, now_ns, self._dead, clock_known_wrong=writer.clock_wrong
            )
            untouched = untouched and done.untouched
            refused.extend((offset + row, handle, code) for row, handle, code in done.refused)
            offset += len(batch)
            self._note_clock(writer, done)
            current.extend(done.current)
            self._changed(done, now_ns)
            for group in split(done.history_only):
                self._append(HISTORY_ONLY, writer.name, 0, encode(group), now_ns)
        self._record(writer, number, current, frame if untouched else None, now_ns)
        return refused

    def _record(self, writer: Writer, number: int, current: list[Samples], frame: bytes | None, now_ns: int) -> None:
        if frame is not None:
            self._append(SAMPLES, writer.name, number, frame, now_ns)
            return
        groups = [encode(group) for group in split(current)] or [encode([])]
        for group in groups[:-1]:  # only the last one uses the number up: a torn tail is sent again whole
            self._append(SAMPLES, writer.name, 0, group, now_ns)
        self._append(SAMPLES, writer.name, number, groups[-1], now_ns)

    def _backfill(self, writer: Writer, number: int, batches: list[Samples], now_ns: int) -> list[tuple[int, int, str]]:
        refused: list[tuple[int, int, str]] = []
        kept: list[Samples] = []
        offset = 0
        for batch in batches:
            done = self.table.backfill(batch)
            refused.extend((offset + row, handle, code) for row, handle, code in done.refused)
            offset += len(batch)
            kept.extend(done.history_only)
        for group in split(kept):
            self._append(HISTORY_ONLY, writer.name, 0, encode(group), now_ns)
        self._append(HISTORY_ONLY, writer.name, number, encode([]), now_ns)
        return refused

    def _note_clock(self, writer: Writer, done: Applied) -> None:
        if done.clock_step is None:
            writer.clock_wrong = writer.clock_wrong and not done.current
            return
        if not writer.clock_wrong and self.outbox is not None:
            handle, step_ns = done.clock_step
            name = self.definitions.name_of(handle)
            why = f"the time of {name} steps by {step_ns / 1e9:+.1f} s"
            self._audit(Event(self.clock.now_ns(), "", "", "clock", writer.name, "", "", why))
        # A clock that is ahead stays ahead: told once. One that went back is right again at once.
        writer.clock_wrong = done.clock_step[1] >= 0

    def _changed(self, done: Applied, now_ns: int) -> None:
        for batch, rows in zip(done.current, done.rows, strict=True):
            self.feed.add(batch, rows, now_ns)

    def _append(self, kind: int, writer: str, number: int, frame: bytes, received_ns: int | None = None) -> None:
        at_ns = max(self._promised_ns, self.clock.now_ns() if received_ns is None else received_ns)
        if not self._appended:
            self._pending_ns = at_ns
        self.journal.append(kind, writer, number, at_ns, frame)
        self.memory.note(len(frame))
        self._appended = True

    def own(self, batches: Sequence[Samples]) -> None:
        """Make values of the shard's own tags current: what was written to a tag without a device."""
        now_ns = self.clock.now_ns()
        for batch in batches:
            rows = self.table.rows(batch.tags)
            self.table.put(batch, rows, 0, 0, now_ns)
            self.feed.add(batch, rows, now_ns)
            for group in split([batch]):
                self._append(SAMPLES, "", 0, encode(group), now_ns)

    # --- losses ------------------------------------------------------------------------------------------------------

    def _lose(self, writer: Writer, clean: bool) -> None:
        now_ns = self.clock.now_ns()
        self.writers.gone(writer, now_ns)
        self.log.log(20 if clean else 30, "writer %s %s", writer.name, "said goodbye" if clean else "is lost")
        rows = self.table.owned_by(writer.index)
        code = q.UNCERTAIN_NO_COMMUNICATION if clean else q.BAD_NO_COMMUNICATION
        holds = np.array([self.table.tags[row].hold_s for row in rows.tolist()])
        for hold_s in np.unique(holds).tolist():
            mine = rows[holds == hold_s]
            if hold_s == 0 or clean:
                self._degrade(mine, code, now_ns, writer)
            else:
                self.after(hold_s, partial(self._held_long_enough, writer, mine, code, now_ns))
        if not len(rows):
            self._append(LOSS, writer.name, 0, encode([]), now_ns)

    def _held_long_enough(self, writer: Writer, rows: NDArray[np.intp], code: int, lost_ns: int) -> None:
        if not writer.alive and writer.lost_ns == lost_ns:
            self._degrade(rows[self.table.owner[rows] == writer.index], code, lost_ns, writer)

    def _degrade(self, rows: NDArray[np.intp], code: int, time_ns: int, writer: Writer | None) -> None:
        if not len(rows):
            return
        now_ns = self.clock.now_ns()
        batch = quality_only(self.table.handles[rows], code, time_ns)
        self.table.lose(batch, rows, now_ns)
        self.feed.add(batch, rows, now_ns)
        for group in split([batch]):
            self._append(LOSS, writer.name if writer is not None else "", 0, encode(group), now_ns)

    def _count_dead(self) -> None:
        dead = np.zeros(self.writers.size, np.bool_)
        for writer in self.writers.by_name.values():
            dead[writer.index] = not writer.alive
        self._dead = dead
        self._dead_as_of = self.writers.changes

    def _second(self) -> None:
        now_ns, mono_ns = self.clock.now_ns(), self.clock.mono_ns()
        self.desk.beat()
        self.feed.beat(mono_ns)
        for writer in self.writers.forget(now_ns):
            self.table.disown(writer.index)
        rows = self._stale_rows
        stale = q.good_mask(self.table.quality[rows]) & (now_ns - self.table.heard[rows] > self._stale_ns)
        self._degrade(rows[stale], q.UNCERTAIN_LAST_USABLE, now_ns, None)
        try:
            self.journal.tick(mono_ns)
        except NotJournaled as error:  # it is tried again; until then a power cut takes more than it should
            self.log.error("%s", error)
            self._audit(Event(now_ns, "", "", "journal", self.name, "synced", "not synced", str(error)))

    # --- flush -------------------------------------------------------------------------------------------------------

    def on_flush(self) -> None:
        """Applied is what the messages brought; now commit, feed, acknowledge, in this order."""
        journaled = True
        if self._appended:
            self._appended = False
            try:
                self.journal.commit()
                self.feed.rung = True
            except NotJournaled as error:
                journaled = False
                if self._journaled:
                    self.log.error("live only: %s", error)
                    self._audit(Event(self.clock.now_ns(), "", "", "journal", self.name, "", "live only", str(error)))
            if journaled and not self._journaled:
                self.log.warning("the journal has room again")
                self._audit(Event(self.clock.now_ns(), "", "", "journal", self.name, "live only", "journaled", ""))
            self._journaled = journaled
        self._commit_outbox()
        self.feed.flush(self.clock.now_ns())
        self.desk.flush(journaled=journaled)
        if journaled and self.memory.due:
            try:
                self.memory.snapshot(self.table, self.writers)
            except OSError as error:
                self.log.error("no snapshot of the table, so the next start takes longer: %s", error)

    def flush_now(self) -> None:
        """Commit what the start itself changed."""
        self.on_flush()

    def _audit(self, event: Event) -> None:
        if self.outbox is None:
            return
        try:
            self.outbox.put(event)
        except sqlite3.OperationalError as error:  # a full disk: the shard goes on live only
            self.log.error("%s is not in the log of events: %s", event, error)

    def _commit_outbox(self) -> None:
        if not self._outbox_db.in_transaction:
            return
        try:
            self._outbox_db.commit()
        except sqlite3.OperationalError as error:
            self._outbox_db.rollback()
            self.log.error("events of this moment are not in the log of events: %s", error)

    def audit(self, event: Event) -> None:
        """Owe an event to the log; it is on disk before anything of this flush is answered."""
        self._audit(event)

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
            return self._read(message)
        if isinstance(message, WriteTag):
            return self.write_desk.write(message, sender)
        if isinstance(message, OpenView):
            view = self.feed.open_view(message.globs, message.lease_s, self.clock.mono_ns())
            return ViewOpened(view.topic, self.context.incarnation)
        if isinstance(message, GetSnapshot):
            return self._snapshot(message.topic)
        if isinstance(message, ReadJournal):
            return self._page(message)
        if isinstance(message, JournalTaken):
            self.journal.consumed(message.consumer, _position(message.position))
            return None
        if isinstance(message, ExplainTag):
            return explain(self, message.handle)
        return super().on_message(message, sender)

    def _read(self, message: ReadTags) -> Message:
        if len(message.handles) > READ_LIMIT:
            raise Refused("NotPermitted", f"{len(message.handles)} tags in one read, at most {READ_LIMIT}")
        states: list[TagState] = []
        names = {writer.index: writer.name for writer in self.writers.by_name.values()}
        for handle in message.handles:
            row = self.table.row(handle)
            if row is None:
                raise Refused("UnknownTag", f"{self.name} has no tag with the handle {handle}")
            states.append(
                TagState(
                    handle,
                    self.table.value(row),
                    int(self.table.quality[row]),
                    int(self.table.times[row]),
                    int(self.table.received[row]),
                    names.get(int(self.table.owner[row]), ""),
                )
            )
        return TagStates(tuple(states))

    def _snapshot(self, topic: bytes) -> Message:
        view = self.feed.view(topic)
        if view is None:
            raise Refused("NotActive", "there is no such view, or its lease is over: open it again")
        frames = tuple(encode(group) for group in split(self.table.state(view.rows)))
        return ViewSnapshot(topic, self.context.incarnation, self.feed.give_position(), self.clock.now_ns(), frames)

    def _page(self, message: ReadJournal) -> Message:
        if message.consumer not in self.journal.consumers():
            self.journal.register(message.consumer)
        after = None if message.after is None else _position(message.after)
        page = self.journal.read(after, limit_bytes=max(1, min(message.limit_bytes, PAGE_LIMIT_BYTES)))
        hole = None if page.hole is None else (page.hole.start.n, page.hole.end.n)
        mark = PositionMark(page.position.journal, page.position.incarnation, page.position.n)
        # No record that is written later may be older than what is promised here, also if the clock steps back.
        beat_ns = self._pending_ns if self._appended else self.clock.now_ns()
        self._promised_ns = max(self._promised_ns, beat_ns)
        return JournalPage(mark, tuple(page.records), page.at_end, self._promised_ns, hole)


def _position(mark: PositionMark) -> Position:
    return Position(mark.journal, mark.incarnation, mark.n)
