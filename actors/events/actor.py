"""The events actor: fetches what all actors owe to the log, each event exactly once."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.events.logic import CLOCK_DRIFT_NS, CLOCK_STEP_NS, clock_event, fatal_events, may_have_outbox
from tagwerk.actors.events.store import Fetched, Store
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.plantwide import EventList, GetEvents, HoldStill, OutboxBell, OutboxPage, ReadOutbox
from tagwerk.runtime.actor import Actor, Later
from tagwerk.runtime.hold import Hold
from tagwerk.runtime.process import boot_hash
from tagwerk.runtime.states import PeerState

if TYPE_CHECKING:
    from tagwerk.protocols.message import Message
    from tagwerk.runtime.actor import Outcome, Sender
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.transport import Transport

POLL_S: Final = 10.0
"""Without a bell an outbox is asked so often."""

RETRY_S: Final = 0.5
"""Time until an outbox is asked again after a bell, if it did not answer."""

LEVELS_S: Final = 1.0
PAGE_EVENTS: Final = 500
SOURCES_LIMIT: Final = 10_000
"""Outboxes known; actors made at run time make themselves known by their bell."""


@dataclass(slots=True)
class _Source:
    name: str
    fetched: Fetched
    asking: bool = False
    rang: bool = False
    """A bell came after the question that is out, or that question failed: there is something to fetch."""
    refused: bool = False


@final
class Events(Actor):
    """Keeps the log of events.

    Args:
        context: Who it is and where it lives.
        transport: See `Actor`.
    """

    def __init__(self, context: ActorContext, transport: Transport | None = None) -> None:
        super().__init__(context, transport)
        self._sources: dict[str, _Source] = {}
        self._counts: dict[str, int] = {}
        self._full = False

    def on_start(self) -> None:
        """Open the store, then ask every outbox what came while nobody listened."""
        directory = self.context.home.actor_data(self.name)
        with self.busy("open the store", limit_s=60):  # after a kill SQLite reads its write-ahead log again
            self._store = Store(directory / "events.db")
        for name in self.context.plant.actors():
            if may_have_outbox(name):
                self._add(name)
        self._boot = f"{boot_hash():016x}"
        self._clock_ns = self._store.clock(self._boot)
        self._hold = Hold(self.after, end=self._poll)
        self.ready()
        self._poll()
        self._look()
        self.every(POLL_S, self._poll)
        self.every(LEVELS_S, self._look)

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """Hear bells, answer questions."""
        if isinstance(message, OutboxBell):
            self._heard(sender.name)
            return None
        if isinstance(message, GetEvents):
            return EventList(self._store.find(message))
        if isinstance(message, HoldStill):
            return self._hold.answer(message)
        return super().on_message(message, sender)

    def on_stop(self) -> None:
        """Close the store."""
        self._store.close()

    # --- outboxes ----------------------------------------------------------------------------------------------------

    def _add(self, name: str) -> _Source:
        source = self._sources[name] = _Source(name, self._store.fetched(name))
        return source

    def _poll(self) -> None:
        for source in self._sources.values():
            if not source.asking:
                self._ask(source)

    def _heard(self, name: str) -> None:
        source = self._sources.get(name)
        if source is None:
            if not may_have_outbox(name) or len(self._sources) >= SOURCES_LIMIT:
                self.log.warning("a bell from %s, which has no outbox", name)
                return
            source = self._add(name)
        source.rang = True
        if not source.asking:
            self._ask(source)

    def _ask(self, source: _Source) -> None:
        if self._hold.held:  # what a backup finds in the outboxes goes on from what it has found here
            return
        # One question at a time: its number is also the receipt for all that was committed before.
        rang, source.rang, source.asking = source.rang, False, True
        question = ReadOutbox(source.fetched.seq, PAGE_EVENTS, source.fetched.box)
        self.ask(source.name, question, partial(self._answered, source, rang))

    def _answered(self, source: _Source, rang: bool, outcome: Outcome) -> None:
        source.asking = False
        if isinstance(outcome, OutboxPage):
            source.refused = False
            try:
                source.fetched = self._store.take(source.name, outcome)
            except sqlite3.OperationalError as error:
                self._wait_for_room(error)
                self.after(LEVELS_S, partial(self._heard, source.name))
                return
            self._full = False
            if outcome.events or source.rang:  # until a page is empty: the last question takes the receipt there
                self._ask(source)
        elif isinstance(outcome, Refused):
            if not source.refused:
                self.log.info("%s has no outbox: %s", source.name, outcome)
            source.refused = True
        elif rang or source.rang:
            self.after(RETRY_S, partial(self._heard, source.name))

    # --- levels ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            self._look_at_levels()
            self._look_at_clock()
        except sqlite3.OperationalError as error:
            self._wait_for_room(error)

    def _look_at_clock(self) -> None:
        """The wall clock against the monotonic one: what it was set by becomes one event, whoever was down then."""
        now_ns = self.clock.now_ns()
        offset_ns = now_ns - self.clock.mono_ns()
        known_ns = offset_ns if self._clock_ns is None else self._clock_ns
        step_ns = offset_ns - known_ns
        if self._clock_ns is not None and abs(step_ns) < CLOCK_DRIFT_NS:
            return
        event = clock_event(step_ns, now_ns) if abs(step_ns) >= CLOCK_STEP_NS else None
        self._store.take_clock(self._boot, offset_ns, event)
        self._clock_ns = offset_ns

    def _wait_for_room(self, error: sqlite3.OperationalError) -> None:
        """Nothing was stored and nothing is lost: what was to be stored is looked at again."""
        if not self._full:
            self.log.error("events wait where they are: %s", error)
        self._full = True

    def _look_at_levels(self) -> None:
        page = self.context.page
        for name in page.names():
            view = page.slot(name).read()
            if view.fatal_count == self._counts.get(name, 0) or view.node_state is PeerState.UNKNOWN:
                continue
            reason = view.reason if view.fatal else ""
            stored = self._store.last_count(name)
            events = fatal_events(name, stored, view.fatal_count, reason, self.clock.now_ns())
            if events:
                self._store.take_fatal(name, events)
            self._counts[name] = view.fatal_count
