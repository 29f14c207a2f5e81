"""The historian actor: pulls the shards' journals into the store, and answers questions about the past."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.asking import Asking, not_there
from tagwerk.actors.historian.fresh import Fresh
from tagwerk.actors.historian.importing import Importing
from tagwerk.actors.historian.interface import TROUBLE, StoreDown
from tagwerk.actors.historian.logic.arrived import gather
from tagwerk.actors.historian.logic.intake import DiskLevel, TagTable, is_new
from tagwerk.actors.historian.opening import open_for
from tagwerk.actors.historian.rules import Rules, rules_of
from tagwerk.actors.historian.upkeep import DISK_LOOK_S, Disk, Retention, used_pct
from tagwerk.protocols import history as h
from tagwerk.protocols.errors import RefusedCode
from tagwerk.protocols.history import GetHistorianState, GetHistory, GetTable, GetTrend, HistorianState
from tagwerk.protocols.message import Done, Refusal
from tagwerk.protocols.plantwide import Event, HoldStill, ReadOutbox
from tagwerk.protocols.tags import PositionMark
from tagwerk.runtime import levels
from tagwerk.runtime.actor import Actor, Later
from tagwerk.runtime.durable import IDLE_S, Aside, DurableReader, NotTaken, hole_words
from tagwerk.runtime.hold import Hold

if TYPE_CHECKING:
    from tagwerk.actors.historian.logic.arrived import Arrived
    from tagwerk.actors.historian.postgres.outage import Outage
    from tagwerk.actors.historian.upkeep import Dropped
    from tagwerk.protocols.message import Message
    from tagwerk.protocols.tags import JournalPage
    from tagwerk.runtime.actor import Sender
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.durable import JournalRecord
    from tagwerk.runtime.transport import Transport

COMMIT_S: Final = 1.0
"""Time between two commits of what a shard brings: a commit waits for the disk once, however much is in it."""

OPEN_LIMIT_S: Final = 3_600.0
"""How long opening may take: a store of the layout before this one is written anew."""

UPKEEP_S: Final = 1.0
DISK_LEVELS: Final = MappingProxyType(
    {
        DiskLevel.ROOM: levels.DISK_ROOM,
        DiskLevel.WARN: levels.DISK_WARN,
        DiskLevel.STOP: levels.DISK_STOP,
    }
)
"""As the gauge page has them: `alarms/0` raises a system alarm, whoever is down."""
NEXT_WORK_S: Final = 0.02
"""Between two rounds of work in the store: the line is served in between."""

WORK_NS: Final = 8_000_000
"""One such round; a step of it may take a few ms more."""

_FULL: Final = "the disk of history is too full; see disk_stop_pct in [history]"


class _Reader(DurableReader):
    """Asks for nothing while the disk is too full; what was acknowledged waits in the journal.

    Args:
        historian: Who reads.
        shard: The shard's actor name.
    """

    def __init__(self, historian: Historian, shard: str) -> None:
        self._historian = historian
        tags = historian.definitions.tags
        wanted = bool((tags.logged & (tags.shards == int(shard.partition("/")[2]))).any())
        after = historian.position_now(shard)
        super().__init__(
            historian, shard, after, partial(historian.take, shard), COMMIT_S if wanted else IDLE_S, wanted=wanted
        )

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
        self._shard_ns: dict[str, int] = {}
        self._stuck_by = ""
        self._keeping_up = False
        """There is more to do than one round, and the next one is under way."""

    def on_start(self) -> None:
        """Open the store, answer from it, and go on in each journal where the last commit ended."""
        history = self.context.plant.history
        directory = self.context.home.actor_data(self.name)
        # After a kill SQLite reads its write-ahead log again, and what is hot comes back from the catalog.
        with self.busy("open the store", limit_s=OPEN_LIMIT_S):
            self._store, self._database = open_for(self, directory)
        self._retention = Retention(self._store, history.retention_days)
        self._disk = Disk(history.disk_warn_pct, history.disk_stop_pct, partial(used_pct, str(directory)))
        self._asking = Asking(self._store, self.definitions.find, self._fresh.get, self.after, self.clock.now_ns)
        self._importing = Importing(self._store, self.definitions.find, self.after, self._import)
        self._table = TagTable(self.definitions.tags)
        self._hold = Hold(self.after, partial(self._reading, 1), partial(self._reading, -1))
        if self._database is None:
            self._there()
            self._look_at_disk()
            self.every(DISK_LOOK_S, self._look_at_disk)
        else:  # it comes when it can; what is acknowledged meanwhile waits in the journals
            self._database.begin(self._there, self._gone)
        for number in range(self.context.plant.plant.shards):
            self._follow(f"cvt/{number}")
        self.every(UPKEEP_S, self._keep_up)
        self.ready()

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """Answer questions about the past."""
        try:
            answer = self._answer_from_store(message)
        except StoreDown as error:
            return not_there(error)
        if answer is not None:
            return answer
        if isinstance(message, h.BeginImport):
            return self._begin_import(message)
        if isinstance(message, HoldStill):
            return self._hold.answer(message)
        return super().on_message(message, sender)

    def _answer_from_store(self, message: Message) -> Message | Later | None:
        if isinstance(message, (GetHistory, GetTrend, GetTable)):
            return self._asking.answer(message)
        if isinstance(message, (GetHistorianState, ReadOutbox)):  # without an outbox there is no store
            return HistorianState(self._store.rows, self._store.catalog.positions())
        if isinstance(message, h.ImportSamples):
            return self._importing.take(message)
        return self._end_import(message) if isinstance(message, h.EndImport) else None

    def on_stop(self) -> None:
        """Close the store; all that was told as taken is committed."""
        self._store.close()

    @property
    def disk_full(self) -> bool:
        """True while the disk is so full that nothing more is taken."""
        return self._disk.level is DiskLevel.STOP

    def _reading(self, more: int) -> None:
        """A backup reads the files: like any reading it must find in them what it found in the catalog."""
        self._store.readings += more

    # --- a store that comes and goes --------------------------------------------------------------------------------

    def _there(self) -> None:
        """The store is there: what it holds decides where each journal is read on, whatever was known before."""
        self.outbox = self._store.outbox
        self._rules = Rules(self._store.catalog, rules_of(self.definitions.tags, self.context.plant.alarms))
        self._store.newest = self._rules.newest
        if self._database is not None:
            self._database.settle(self._tell_outage)
        for shard, reader in self._readers.items():
            place = self._store.catalog.position(shard)
            reader.restart(place)
            if place is not None:
                reader.taken(place)

    def _gone(self) -> None:
        self.outbox = None
        self._importing.give_up()

    def _tell_outage(self, outage: Outage) -> None:
        lasted_s = (self.clock.now_ns() - outage.since_ns) / 1e9
        reason = f"not there for {lasted_s:.1f} s: {outage.why}"
        self._event("history_database", self.name, "down", "up", reason)

    def position_now(self, shard: str) -> PositionMark | None:
        """Up to where a journal is in the store; None also while that is not there: see `_there`."""
        try:
            return self._store.catalog.position(shard)
        except StoreDown:
            return None

    def _position(self, shard: str) -> PositionMark | None:
        try:
            return self._store.catalog.position(shard)
        except StoreDown as error:
            self._stuck(str(error))
            raise NotTaken(f"history is not stored: {error}") from error

    # --- taking ------------------------------------------------------------------------------------------------------

    def _follow(self, shard: str) -> None:
        reader = self._readers[shard] = _Reader(self, shard)
        self._fresh[shard] = Fresh(reader.catch_up, self.after)

    def take(self, shard: str, page: JournalPage, records: list[JournalRecord], aside: list[Aside]) -> None:
        """Rows, position and events in one transaction; only then may the shard let go of its records.

        Raises:
            NotTaken: There is no room on the disk, or no database; nothing was stored.
        """
        self._shard_ns[shard] = page.beat_ns
        taken = self._position(shard)
        if page.hole is None and page.position == taken:
            return
        journal = page.position.journal
        samples, late, broken = gather([record for record in records if is_new(record, journal, taken)], self._table)
        left_out = [
            *((one.place, one.body, one.reason) for one in aside),
            *((PositionMark(journal, one.incarnation, one.n), one.frame, reason) for one, reason in broken),
        ]
        try:
            with self._store.transaction():
                kept = self._rules.take(samples, late)
                self._store.append(kept)
                for place, content, reason in left_out:
                    self._store.catalog.set_aside(shard, place, reason, content)
                    self._event("record_set_aside", shard, after=str(place.n), reason=reason)
                if page.hole is not None:
                    self._event("hole", shard, *hole_words(taken, page))
                self._store.catalog.set_position(shard, page.position)
        except TROUBLE as error:
            self._stuck(str(error))
            raise NotTaken(f"history is not stored: {error}") from error
        self._rules.settle()
        self._stuck("")
        self._importing.saw(samples)  # also what a rule holds back: it may be stored yet
        self._readers[shard].taken(page.position)
        self._keep_pace()

    def _keep_pace(self) -> None:
        try:
            self._store.keep_pace(self._now_ns(), self.clock.mono_ns)
        except TROUBLE as error:  # what was taken is stored; it is sealed when there is room
            self._stuck(str(error))

    def _stuck(self, why: str) -> None:
        if why != self._stuck_by:
            self._stuck_by = why
            self.log.error("history waits in the journals: %s", why) if why else self.log.warning("history goes on")

    def _event(
        self,
        kind: str,
        target: str,
        before: str = "",
        after: str = "",
        reason: str = "",
        by: tuple[str, str] = ("", ""),
    ) -> None:
        """Log it, and put it into the outbox; inside a transaction. `by`: the user and the host, if it was somebody."""
        self.log.warning("%s %s: %s %s %s", kind, target, before, after, reason)
        if self.outbox is not None:
            user, host = by[0], by[1] or self.name
            self.outbox.put(Event(self.clock.now_ns(), user, host, kind, target, before, after, reason))

    # --- importing ---------------------------------------------------------------------------------------------------

    def _begin_import(self, asked: h.BeginImport) -> Message:
        kept_from = self._retention.kept_from(self._now_ns())
        if kept_from is not None and asked.start_ns < kept_from:
            days = self.context.plant.history.retention_days
            return Refusal(RefusedCode.OUT_OF_RANGE, f"history is kept for {days:g} days; older samples would not stay")
        return Refusal(RefusedCode.NOT_PERMITTED, _FULL) if self.disk_full else Done()

    def _import(self, samples: Arrived) -> str:
        """Commit imported samples; gives why it could not be done."""
        if self.disk_full:
            return _FULL
        try:
            with self._store.transaction():
                self._store.append(samples)
        except TROUBLE as error:
            return f"history cannot be stored: {error}"
        self._keep_pace()
        return ""

    def _end_import(self, asked: h.EndImport) -> Message:
        reason = f"{asked.added} samples added, {asked.known} were known"
        try:
            with self._store.transaction():
                self._event("history_imported", asked.file, reason=reason, by=(asked.user, asked.host))
        except TROUBLE as error:
            return Refusal(RefusedCode.NOT_PERMITTED, f"history cannot be stored: {error}")
        return Done()

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def _now_ns(self) -> int:
        """The time by which days are over; it does not follow a wall clock that is set wrong by years."""
        known = len(self._shard_ns) == len(self._readers)
        return min(self.clock.now_ns(), *self._shard_ns.values()) if known else 0

    def _keep_up(self) -> None:
        if not self._keeping_up:
            self._work()

    def _work(self) -> None:
        more = False
        try:
            more = self._store.work(self._now_ns(), self.clock.mono_ns, WORK_NS)
            self._drop(self._retention.expire(self._now_ns()), "")
            for date, reason in self._store.new_damages():
                with self._store.transaction():
                    self._event("history_damaged", date, reason=reason)
        except TROUBLE as error:  # no room even to seal or remove: what is stored stays as it is
            self._stuck(str(error))
        self._keeping_up = more and not self._stuck_by
        if self._keeping_up:
            self.after(NEXT_WORK_S, self._work)

    def _look_at_disk(self) -> None:
        level = self._disk.look()
        self.context.slot.write_counter(levels.DISK_COUNTER, DISK_LEVELS[self._disk.level])
        reason = f"the file system of history is {self._disk.seen_pct:.1f} % full"
        try:
            if level is not None:
                with self._store.transaction():
                    self._event("history_disk", self.name, after=level.value, reason=reason)
            if self.disk_full:
                self._hold.let_go()
                self._drop(self._retention.make_room(self._now_ns()), reason)
        except TROUBLE as error:  # no room for the event either: answering goes on, the log has it
            self.log.error("%s, and not even an event can be stored: %s", reason, error)

    def _drop(self, dropped: Dropped | None, reason: str) -> None:
        """Tell of a day that was removed: an event if a full disk has cost it, a line in the log if it was time."""
        if dropped is None:
            return
        if not reason:
            self.log.info("history of %s is removed, %s samples", dropped.date, dropped.rows)
            return
        with self._store.transaction():
            self._event("history_dropped", dropped.date, str(dropped.rows), reason=reason)
