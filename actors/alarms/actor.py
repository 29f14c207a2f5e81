"""`alarms/0`: reads the shards' journals, keeps the state of all alarms, takes acknowledgements."""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING, Final

from tagwerk.actors.alarms.logic import system
from tagwerk.actors.alarms.logic.book import Book
from tagwerk.actors.alarms.logic.definition import AlarmDef, AlarmType
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
    OccurrenceList,
    ResetAlarm,
)
from tagwerk.protocols.errors import ConfigError, Refused, RefusedCode, RemoteProtocolError
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.names import NAME_LIMIT
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.samples import TYPE_NAMES
from tagwerk.protocols.tags import ReadTags, TagStates
from tagwerk.runtime.actor import Actor, Later, Sender
from tagwerk.runtime.durable import LOSS, SAMPLES, DurableReader, JournalRecord
from tagwerk.runtime.states import PeerState

if TYPE_CHECKING:
    from tagwerk.protocols.samples import Samples
    from tagwerk.protocols.tags import JournalPage, PositionMark, TagDef
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.plantfile_models import AlarmConfig

COMMIT_S: Final = 1.0
"""A position alone is committed so often at most: what is read again after a death is no more than that."""
LOOK_S: Final = 1.0
"""The gauge page is looked at so often."""
READ_LIMIT: Final = 10_000
"""Tags in one question to a shard."""
LOAD_LIMIT_S: Final = 60.0
LOOK_CLOSELY_S: Final = 0.005
"""Shortest time between two looks into a journal: at a thousand samples a second one page carries many."""
LOOK_IDLY_S: Final = 1.0
NORMAL: Final = "A"
_NEAR_LIMIT: Final = 2_000  # alarms among which a near name is looked for: it takes 10 us each
_NS_PER_S: Final = 1_000_000_000


class Alarms(Actor):
    """The owner of all alarms of a plant."""

    def __init__(self, context: ActorContext) -> None:
        super().__init__(context)
        self._positions: dict[str, PositionMark] = {}
        self._moved: set[str] = set()
        self._readers: dict[str, DurableReader] = {}
        self._events: list[Event] = []
        self._clocks: dict[int, int] = {}
        self._committed_mono_ns = 0

    def on_start(self) -> None:
        """Load all states, then read on in each journal where the last commit left off."""
        with self.busy("load the alarms", LOAD_LIMIT_S):
            self._load()
        alarmed = {config.tag for config in self.context.plant.alarms.values()}
        watched = [tag for name, tag in self.definitions.by_name.items() if name in alarmed]
        for number in range(self.context.plant.plant.shards):
            # Also of shards without an alarm: a place that never moves would keep their journals from being cut.
            shard = f"cvt/{number}"
            page = partial(self._on_page, number)
            every_s = LOOK_CLOSELY_S if any(tag.shard == number for tag in watched) else LOOK_IDLY_S
            self._readers[shard] = DurableReader(self, shard, self._positions.get(shard), page, every_s)
        self._look()
        self.every(LOOK_S, self._look)
        self.ready()

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """See `protocols/alarms.py`."""
        match message:
            case GetAlarms():
                return self._list(message)
            case GetOccurrences():
                self._commit()  # the answer is read from the store
                return OccurrenceList(self._store.occurrences(message.name, message.limit))
            case AckAlarm():
                return self._acknowledge(message)
            case ResetAlarm():
                return self._reset(message)
            case _:
                return super().on_message(message, sender)

    def on_flush(self) -> None:
        """Commit what an operator sees at once, before any reply; bare progress once a second."""
        waited_ns = self.clock.mono_ns() - self._committed_mono_ns
        if self._book.urgent or self._events or (self._moved and waited_ns >= COMMIT_S * _NS_PER_S):
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

    def _on_page(self, shard: int, page: JournalPage, records: list[JournalRecord]) -> None:
        name = f"cvt/{shard}"
        if page.hole is not None:
            self._note("hole", name, str(page.hole[0]), str(page.hole[1]), "these journal records were lost unread")
            self._evaluator.lost(shard)
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
            self._note("record_skipped", shard, str(record.n), "", str(error))
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
        system.forget_gone(self._book, actors, now_ns)

    # --- people ------------------------------------------------------------------------------------------------------

    def _list(self, message: GetAlarms) -> Message:
        names = message.names or (*self._evaluator.definitions, *system.raised_names(self._book))
        if unknown := [name for name in message.names if not self._is_known(name)]:
            return self._unknown(unknown[0])
        rows = [self._row(name) for name in names]
        return AlarmList(tuple(row for row in rows if not message.only_open or row.letter != NORMAL))

    def _acknowledge(self, message: AckAlarm) -> Message:
        if not self._is_known(message.name):
            return self._unknown(message.name)
        before, now_ns = self._row(message.name), self.clock.now_ns()
        refusal = self._book.acknowledge(message.name, message.occurrence, message.by, message.comment, now_ns)
        return refusal or AlarmAcked(self._audited("ack", message, before, now_ns))

    def _reset(self, message: ResetAlarm) -> Message:
        if not self._is_known(message.name):
            return self._unknown(message.name)
        before = self._row(message.name)
        return self._book.reset(message.name) or AlarmReset(
            self._audited("reset", message, before, self.clock.now_ns())
        )

    def _audited(self, kind: str, message: AckAlarm | ResetAlarm, before: AlarmRow, now_ns: int) -> AlarmRow:
        after = self._row(message.name)
        self._events.append(
            Event(now_ns, message.by, message.host, kind, message.name, before.letter, after.letter, message.comment)
        )
        return after

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

    def _commit(self) -> None:
        moved = {shard: self._positions[shard] for shard in sorted(self._moved)}
        self._store.commit(
            moved, self._book.take_states(), self._book.take_occurrences(), self._evaluator.columns.take_blocks(),
            self._events,
        )  # fmt: skip
        self._events.clear()
        self._moved.clear()
        self._committed_mono_ns = self.clock.mono_ns()
        # Only now may a shard cut its journal there.
        for shard, position in moved.items():
            if shard in self._readers:
                self._readers[shard].taken(position)


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
    if name.startswith(system.PREFIX):
        raise ConfigError(
            "the name is taken", key=f"alarm.{name}", expected=f"one that begins not with {system.PREFIX}"
        )
    return AlarmDef(
        name=name, type=AlarmType(config.type), limit=config.limit, tag=tag.name, handle=tag.handle, shard=tag.shard,
        kind=TYPE_NAMES[tag.type], unit=tag.unit, deadband=config.deadband,
        on_delay_ns=round(config.on_delay_s * _NS_PER_S), off_delay_ns=round(config.off_delay_s * _NS_PER_S),
        priority=config.priority, severity=config.severity, latch=config.latch, area=config.area or tag.area,
        text=config.text, key=key.key,
    )  # fmt: skip
