"""`alarms/0`: reads the shards' journals, keeps the state of all alarms, takes acknowledgements."""

from __future__ import annotations

import difflib
import gc
import sqlite3
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from tagwerk.actors.alarms.logic import system
from tagwerk.actors.alarms.logic.book import AlarmState, Book
from tagwerk.actors.alarms.logic.definition import SYSTEM, AlarmDef, AlarmType
from tagwerk.actors.alarms.logic.evaluator import Evaluator
from tagwerk.actors.alarms.store import AlarmStore, Key
from tagwerk.protocols import samples
from tagwerk.protocols.alarms import (
    AckAlarm,
    AlarmAcked,
    AlarmList,
    AlarmReset,
    AlarmRow,
    GetAlarms,
    GetOccurrences,
    Occurrence,
    OccurrenceList,
    ResetAlarm,
)
from tagwerk.protocols.errors import ConfigError, Refused, RefusedCode, RemoteProtocolError
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.names import NAME_LIMIT
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.samples import TYPE_NAMES
from tagwerk.protocols.tags import ReadTags, TagStates
from tagwerk.runtime import levels
from tagwerk.runtime.actor import Actor, Later, Outcome, Sender
from tagwerk.runtime.durable import LOSS, SAMPLES, Aside, DurableReader, JournalRecord, NotTaken, hole_words
from tagwerk.runtime.states import PeerState

if TYPE_CHECKING:
    from tagwerk.actors.alarms.logic.columns import Columns
    from tagwerk.protocols.samples import Samples
    from tagwerk.protocols.tags import JournalPage, PositionMark, TagDef
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.plantfile_models import AlarmConfig
    from tagwerk.runtime.transport import Transport

COMMIT_S: Final = 1.0
"""A position alone is committed so often at most: what is read again after a death is no more than that."""
LOOK_S: Final = 1.0
"""The gauge page is looked at so often."""
TIDY_S: Final = 1.0
"""It is seen so often whether the store's log is to be moved into its file."""
READ_LIMIT: Final = 10_000
"""Tags in one question to a shard."""
LOAD_LIMIT_S: Final = 60.0
OWED_LIMIT: Final = 100_000
"""Occurrences that wait for room on the disk; past it the journals keep what comes."""
LOOK_CLOSELY_S: Final = 0.002
"""Time between two looks into a journal, on average: at a thousand samples a second one page carries many."""
LOOKS_AT_ONCE: Final = 16
"""So many looks wait for nothing if there were few before: whoever crosses a limit waits for no other's samples."""
LOOK_IDLY_S: Final = 1.0
NORMAL: Final = "A"
_NEAR_LIMIT: Final = 2_000  # alarms among which a near name is looked for: it takes 10 us each
_NS_PER_S: Final = 1_000_000_000


@dataclass(slots=True)
class _Owed:
    """What has changed and is not stored yet: more than one commit's worth while the disk is full."""

    states: dict[str, AlarmState] = field(default_factory=dict[str, AlarmState])
    occurrences: dict[str, Occurrence] = field(default_factory=dict[str, Occurrence])
    blocks: dict[int, bytes] = field(default_factory=dict[int, bytes])

    def gather(self, book: Book, columns: Columns) -> None:
        """Add what has changed since the last time."""
        self.states |= book.take_states()
        self.occurrences |= {one.occurrence: one for one in book.take_occurrences()}
        self.blocks |= dict(columns.take_blocks())


class Alarms(Actor):
    """The owner of all alarms of a plant.

    Args:
        context: Who it is and where it lives.
        transport: See `Actor`.
    """

    def __init__(self, context: ActorContext, transport: Transport | None = None) -> None:
        super().__init__(context, transport)
        self._positions: dict[str, PositionMark] = {}
        self._moved: set[str] = set()
        self._readers: dict[str, DurableReader] = {}
        self._events: list[Event] = []
        self._clocks: dict[int, int] = {}
        self._looking: set[int] = set()
        self._committed_mono_ns = 0
        self._owed = _Owed()
        self._stuck_by = ""

    def on_start(self) -> None:
        """Load all states, then read on in each journal where the last commit left off."""
        with self.busy("load the alarms", LOAD_LIMIT_S):
            self._load()
        gc.freeze()  # the definitions stay: to look through a hundred thousand of them takes longer than a flush may
        for number in range(self.context.plant.plant.shards):
            # Also of shards without an alarm: a place that never moves would keep their journals from being cut.
            shard = f"cvt/{number}"
            page = partial(self._on_page, number)
            wanted = number in self._watched
            every_s = LOOK_CLOSELY_S if wanted else LOOK_IDLY_S
            awaits = partial(self._evaluator.awaits, number)
            self._readers[shard] = DurableReader(
                self,
                shard,
                self._positions.get(shard),
                page,
                every_s,
                at_once=LOOKS_AT_ONCE,
                awaits=awaits,
                wanted=wanted,
            )
        self._look()
        self.every(LOOK_S, self._look)
        self.every(TIDY_S, self._store.tidy)
        self.ready()

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """See `protocols/alarms.py`."""
        match message:
            case GetAlarms():
                return self._list(message)
            case GetOccurrences():
                self._commit()  # the answer is read from the store
                return OccurrenceList(self._store.occurrences(message))
            case AckAlarm():
                return self._acknowledge(message)
            case ResetAlarm():
                return self._reset(message)
            case _:
                return super().on_message(message, sender)

    def on_flush(self) -> None:
        """Commit what an operator sees at once, before any reply; bare progress once a second."""
        waited_ns = self.clock.mono_ns() - self._committed_mono_ns
        seen = (self._book.urgent or self._events) and not self._stuck_by
        owed = self._moved or self._stuck_by
        if seen or (owed and waited_ns >= COMMIT_S * _NS_PER_S):
            self._commit()

    def on_stop(self) -> None:
        """Leave nothing to be read again."""
        self._commit()
        self._store.close()

    # --- start -------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        configs = self.context.plant.alarms
        self._store = AlarmStore(self.context.home.actor_data(self.name) / "alarms.db")
        self.outbox = self._store.outbox
        keys = self._store.keys({name: config.tag for name, config in configs.items()})
        tags = self.definitions.by_name
        defined = [define(name, config, tags.get(config.tag), keys[name]) for name, config in configs.items()]
        self._book = Book(self._store.states())
        self._evaluator = Evaluator(
            defined,
            self._book,
            self._store.size(),
            self._store.blocks(),
            {key.key for key in keys.values() if key.fresh},
        )
        self._positions = self._store.positions()
        self._watched = frozenset(alarm.shard for alarm in defined)

    # --- samples -----------------------------------------------------------------------------------------------------

    def _on_page(self, shard: int, page: JournalPage, records: list[JournalRecord], aside: list[Aside]) -> None:
        if self._stuck_by and len(self._owed.occurrences) >= OWED_LIMIT:
            raise NotTaken(f"{len(self._owed.occurrences)} occurrences wait to be stored")
        name = f"cvt/{shard}"
        if page.hole is not None:
            self._note("hole", name, *hole_words(self._positions.get(name), page))
            self._evaluator.lost(shard)
        for one in aside:
            self._note("record_set_aside", name, "", str(one.place.n), one.reason)
        if shard in self._watched:
            for record in records:
                if record.kind in (SAMPLES, LOSS):
                    self._evaluator.apply(shard, record.received_ns, self._batches(name, record))
        if page.at_end:
            self._clocks[shard] = page.beat_ns
            if self._evaluator.caught_up(shard, page.beat_ns):
                self._ask_values(shard)
        if self._positions.get(name) != page.position:
            self._positions[name] = page.position
            self._moved.add(name)

    def _batches(self, shard: str, record: JournalRecord) -> list[Samples]:
        try:
            return samples.decode(record.frame)
        except RemoteProtocolError as error:
            self._note("record_set_aside", shard, "", str(record.n), str(error))
            return []

    def _ask_values(self, shard: int) -> None:
        handles = self._evaluator.without_value(shard)
        for start in range(0, len(handles), READ_LIMIT):
            question = ReadTags(handles[start : start + READ_LIMIT])
            self.ask_until(f"cvt/{shard}", question, partial(self._adopt, shard))

    def _adopt(self, shard: int, answer: Message | Refused) -> None:
        if isinstance(answer, TagStates):
            self._evaluator.adopt(shard, answer.states, self._clocks[shard])
        else:
            self.log.warning("cvt/%d gives no values for new alarms, their first samples will: %s", shard, answer)

    def _look(self) -> None:
        page = self.context.page
        if page.superseded:
            return
        now_ns = self.clock.now_ns()
        actors = page.names()
        for actor in actors:
            seen = page.slot(actor).read()
            if seen.node_state is not PeerState.UNKNOWN:
                system.watch_fatal(self._book, actor, fatal=seen.fatal, count=seen.fatal_count, now_ns=now_ns)
            if seen.state is PeerState.RUNNING:  # the gauges of one that starts say nothing yet
                self._look_at_gauges(actor, seen.counters, now_ns)
        system.forget_gone(self._book, actors, now_ns)

    def _look_at_gauges(self, actor: str, counters: tuple[int, ...], now_ns: int) -> None:
        kind = actor.partition("/")[0]
        if kind in ("opcua", "resource", "observer") and (link := counters[levels.LINK_COUNTER]) != levels.LINK_UNKNOWN:
            system.watch_level(self._book, actor, system.Trouble.LINK, active=link == levels.LINK_DOWN, now_ns=now_ns)
        elif kind == "historian" and (disk := counters[levels.DISK_COUNTER]) != levels.DISK_UNKNOWN:
            system.watch_level(self._book, actor, system.Trouble.DISK, active=disk >= levels.DISK_WARN, now_ns=now_ns)
        elif kind == "cvt":
            trouble = system.Trouble.JOURNAL
            stands = self._book.state(system.alarm_name(actor, trouble)).core.active
            limit = levels.JOURNAL_ROOM if stands else levels.JOURNAL_WARN
            used = counters[levels.JOURNAL_COUNTER]
            system.watch_level(self._book, actor, trouble, active=used >= limit, now_ns=now_ns)
            if used >= levels.JOURNAL_FULL:
                self._look_at_values(int(actor.partition("/")[2]))

    def _look_at_values(self, shard: int) -> None:
        """A shard that is live only journals nothing: alarms look at what it shows, as often as at the gauges."""
        if shard not in self._looking:
            self._looking.add(shard)
            self._readers[f"cvt/{shard}"].catch_up(partial(self._ask_shown, shard))  # what it did journal comes first

    def _ask_shown(self, shard: int) -> None:
        self._looking.discard(shard)
        handles = self._evaluator.handles(shard)
        for start in range(0, len(handles), READ_LIMIT):
            question = ReadTags(handles[start : start + READ_LIMIT])
            self.ask(f"cvt/{shard}", question, partial(self._looked, shard), LOOK_S)

    def _looked(self, shard: int, answer: Outcome) -> None:
        # Not if it journals again meanwhile: the journal tells it all, in order. No answer: the next look asks again.
        if isinstance(answer, TagStates) and answer.live_only:
            self._evaluator.look(shard, answer.states, self._clocks[shard])

    # --- people ------------------------------------------------------------------------------------------------------

    def _list(self, message: GetAlarms) -> Message:
        names = message.names or (*self._evaluator.definitions, *system.raised_names(self._book))
        if unknown := [name for name in message.names if not self._is_known(name)]:
            return self._unknown(unknown[0])
        if message.only_open:  # before the rows are made: they are few among many
            names = tuple(name for name in names if self._book.state(name).core.letter != NORMAL)
        return AlarmList(tuple(self._row(name) for name in names))

    def _acknowledge(self, message: AckAlarm) -> Message:
        if not self._is_known(message.name):
            return self._unknown(message.name)
        before, now_ns = self._row(message.name), self.clock.now_ns()
        stored = self._book.state(message.name)
        refusal = self._book.acknowledge(message.name, message.occurrence, message.by, message.comment, now_ns)
        return refusal or self._audited("ack", message, before, stored, now_ns) or AlarmAcked(self._row(message.name))

    def _reset(self, message: ResetAlarm) -> Message:
        if not self._is_known(message.name):
            return self._unknown(message.name)
        before, now_ns = self._row(message.name), self.clock.now_ns()
        stored = self._book.state(message.name)
        refusal = self._book.reset(message.name) or self._audited("reset", message, before, stored, now_ns)
        return refusal or AlarmReset(self._row(message.name))

    def _audited(
        self, kind: str, message: AckAlarm | ResetAlarm, before: AlarmRow, stored: AlarmState, now_ns: int
    ) -> Refusal | None:
        """Store what an operator did, with the record of it; if there is no room it was not done."""
        after = self._row(message.name)
        event = Event(
            now_ns, message.by, message.host, kind, message.name, before.letter, after.letter, message.comment
        )
        self._events.append(event)
        if self._commit():
            return None
        self._events.remove(event)
        self._book.take_back(message.name, stored)
        return Refusal(RefusedCode.NOT_PERMITTED.value, f"nothing was done: {self._stuck_by}", message.name)

    def _is_known(self, name: str) -> bool:
        return name in self._evaluator.definitions or name in system.raised_names(self._book)

    def _unknown(self, name: str) -> Refusal:
        known = (*self._evaluator.definitions, *system.raised_names(self._book))
        near = difflib.get_close_matches(name[:NAME_LIMIT], known[:_NEAR_LIMIT], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        name = name[:NAME_LIMIT]
        return Refusal(RefusedCode.UNKNOWN_TAG.value, f"there is no alarm {name!r}{hint}", name)

    def _row(self, name: str) -> AlarmRow:
        if name in self._evaluator.definitions:
            return self._evaluator.row(name)
        return system.system_row(self._book, name)

    # --- storing -----------------------------------------------------------------------------------------------------

    def _note(self, kind: str, target: str, before: str, after: str, reason: str) -> None:
        self._events.append(Event(self.clock.now_ns(), self.name, "", kind, target, before, after, reason))

    def _commit(self) -> bool:
        """Store all that has changed; on a full disk it waits, and alarms go on in memory and in the journals."""
        self._owed.gather(self._book, self._evaluator.columns)
        moved = {shard: self._positions[shard] for shard in sorted(self._moved)}
        self._committed_mono_ns = self.clock.mono_ns()
        try:
            self._store.commit(
                moved, self._owed.states, tuple(self._owed.occurrences.values()), self._owed.blocks.items(),
                self._events,
            )  # fmt: skip
        except sqlite3.OperationalError as error:
            if not self._stuck_by:
                self.log.error("alarms are not stored: %s", error)
            self._stuck_by = str(error)
            return False
        self._stuck_by = ""
        self._owed = _Owed()
        self._events.clear()
        self._moved.clear()
        # Only now may a shard cut its journal there.
        for shard, position in moved.items():
            if shard in self._readers:
                self._readers[shard].taken(position)
        return True


def define(name: str, config: AlarmConfig, tag: TagDef | None, key: Key) -> AlarmDef:
    """Give the definition of an alarm of the plant file.

    Raises:
        ConfigError: It watches a tag that there is not, or it has no limit, or a name that belongs to the system.
    """
    if tag is None:
        raise ConfigError("there is no such tag", key=f"alarm.{name}.tag", value=config.tag, expected="a tag's name")
    if config.limit is None:
        raise ConfigError(
            "the key is missing", key=f"alarm.{name}.limit", expected=f"a limit in {tag.unit or 'the unit'}"
        )
    if name.startswith(SYSTEM):
        raise ConfigError("the name is taken", key=f"alarm.{name}", expected=f"one that begins not with {SYSTEM}")
    return AlarmDef(
        name=name, type=AlarmType(config.type), limit=config.limit, tag=tag.name, handle=tag.handle, shard=tag.shard,
        kind=TYPE_NAMES[tag.type], unit=tag.unit, deadband=config.deadband,
        on_delay_ns=round(config.on_delay_s * _NS_PER_S), off_delay_ns=round(config.off_delay_s * _NS_PER_S),
        priority=config.priority, severity=config.severity, latch=config.latch, area=config.area or tag.area,
        text=config.text, key=key.key,
    )  # fmt: skip
