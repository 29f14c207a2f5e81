"""Samples in, alarms out: the columns find what turns, the delays decide whether it counts, the book records it.

Time here is the shards' `received_ns` alone, so that a replay of the journal finds what a live run would have found,
wherever its pages end. An alarm has one tag and a tag one shard, so each shard is a stream of its own: nothing has to
be merged over shards.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from tagwerk.actors.alarms.logic.book import AlarmState, Book, row
from tagwerk.actors.alarms.logic.columns import Columns, Step
from tagwerk.actors.alarms.logic.states import Phase, Turn, next_phase
from tagwerk.protocols.quality import BAD, BAD_WAITING_FOR_INITIAL_DATA
from tagwerk.protocols.samples import Samples, Value, ValueType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tagwerk.actors.alarms.logic.definition import AlarmDef
    from tagwerk.protocols.alarms import AlarmRow
    from tagwerk.protocols.tags import TagState


class Evaluator:
    """All alarms of the plant that watch tags.

    A new one replays: it becomes live, shard by shard, with `caught_up`.

    Args:
        definitions: In the order of the plant file, each with its key.
        book: Where states and occurrences are kept.
        size: More than the highest key ever given.
        blocks: Last values, as `columns.take_blocks` gave them.
        fresh: Keys of alarms whose stored last value is not theirs: they are new, or watch another tag now.
    """

    def __init__(
        self,
        definitions: Sequence[AlarmDef],
        book: Book,
        size: int,
        blocks: Mapping[int, bytes] | None = None,
        fresh: Iterable[int] = (),
    ) -> None:
        self.book = book
        self.definitions = {alarm.name: alarm for alarm in definitions}
        self.columns = Columns(definitions, size)
        self._by_key = {alarm.key: alarm for alarm in definitions}
        self._live: set[int] = set()
        self._due: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for block, stored in (blocks or {}).items():
            self.columns.load_block(block, stored)
        # An alarm that was out of the plant file for a while has missed samples: its last value is no longer one.
        missing = set(range(size)) - self._by_key.keys()
        self.columns.forget(np.array(sorted(missing.union(fresh)), np.intp))
        for alarm in definitions:
            self._restore(alarm)

    def apply(self, shard: int, received_ns: int, batches: Iterable[Samples]) -> None:
        """Take what a shard received at one time."""
        self.advance(shard, received_ns)
        for batch in batches:
            for step in self.columns.take(batch):
                self._step(step, received_ns)

    def advance(self, shard: int, now_ns: int) -> None:
        """A shard's clock shows `now_ns`: delays that have run out end, in the order in which they do."""
        due = self._due[shard]
        while due and due[0][0] <= now_ns:
            at_ns, key = heapq.heappop(due)
            alarm = self._by_key[key]
            state = self.book.state(alarm.name)
            # What is Bad ends no delay: the first usable sample will decide.
            if state.phase.pending and _due_ns(alarm, state) == at_ns and self.columns.quality[key] < BAD:
                self._elapse(alarm, at_ns)

    def awaits(self, shard: int) -> bool:
        """Say whether a delay runs out as soon as the shard's clock shows its end."""
        return bool(self._due[shard])

    def caught_up(self, shard: int, beat_ns: int) -> bool:
        """The end of the shard's journal is reached: from here on live.

        What was found in the replay and still stands is no longer late. Values that rest are compared again, because a
        limit may have been edited since; with unchanged limits that finds nothing.

        Returns:
            Whether this ended a replay.
        """
        self.advance(shard, beat_ns)
        if shard in self._live:
            return False
        self._live.add(shard)
        keys = self._keys_of(shard)
        self._settle(keys, self.columns.value[keys], self.columns.quality[keys], beat_ns)
        for key in keys.tolist():
            name = self._by_key[key].name
            state = self.book.state(name)
            if state.found_in_replay:
                self.book.put(name, replace(state, found_in_replay=False))
        return True

    def lost(self, shard: int) -> None:
        """A part of the shard's journal is gone: its last values may have changed there. Replays from here."""
        self.columns.forget(self._keys_of(shard))
        self._live.discard(shard)

    def without_value(self, shard: int) -> tuple[int, ...]:
        """Give the handles of watched tags of which no value is known: new alarms, or after a hole."""
        keys = self._keys_of(shard)
        return tuple(sorted({self._by_key[key].handle for key in self._unknown(keys).tolist()}))

    def handles(self, shard: int) -> tuple[int, ...]:
        """Give the handles of all watched tags of a shard."""
        return tuple(sorted({self._by_key[key].handle for key in self._keys_of(shard).tolist()}))

    def look(self, shard: int, states: Sequence[TagState], now_ns: int) -> None:
        """Compare what a shard shows now, while its journal takes nothing.

        A live shard only: in a replay what the journal has comes first.

        Args:
            shard: Its number.
            states: Of watched tags.
            now_ns: The shard's clock.
        """
        if shard in self._live:
            self.advance(shard, now_ns)
            keys = self._keys_of(shard)
            self._compare([(key, state) for key, state in self._found(keys, states) if state.time_ns > 0], now_ns)

    def adopt(self, shard: int, states: Sequence[TagState], now_ns: int) -> None:
        """Take the shard's current values for alarms that still have none: a tag at rest brings no sample."""
        self.advance(shard, now_ns)
        found = self._found(self._unknown(self._keys_of(shard)), states)
        self._compare([(key, structs.replace(state, time_ns=now_ns)) for key, state in found], now_ns)

    def row(self, name: str) -> AlarmRow:
        """Give an alarm as outsiders see it.

        Raises:
            KeyError: There is no such alarm.
        """
        alarm = self.definitions[name]
        value = self._shown(alarm, float(self.columns.value[alarm.key]))
        return row(alarm, self.book.state(name), value, int(self.columns.quality[alarm.key]))

    # --- one alarm ---------------------------------------------------------------------------------------------------

    def _step(self, step: Step, received_ns: int) -> None:
        alarm = self._by_key[step.key]
        state = self.book.state(alarm.name)
        if step.beyond is not None:
            phase = next_phase(state.phase, Turn.BEYOND if step.beyond else Turn.WITHIN)
            state = self._put(alarm, replace(state, phase=phase))
        elif state.phase is not Phase.FALLING:
            # An on-delay that was interrupted by Bad quality counts on: rather an alarm too many.
            if state.phase is Phase.RISING and _due_ns(alarm, state) <= received_ns:
                self._elapse(alarm, received_ns)
            return
        # A delay begins; an off-delay that was interrupted by Bad quality begins anew.
        if state.phase.pending:
            value = self._shown(alarm, step.value)
            state = replace(state, since_ns=received_ns, since_time_ns=step.time_ns, since_value=value)
            self._put(alarm, state)
            if (due_ns := _due_ns(alarm, state)) <= received_ns:
                self._elapse(alarm, received_ns)
            else:
                heapq.heappush(self._due[alarm.shard], (due_ns, alarm.key))

    def _elapse(self, alarm: AlarmDef, received_ns: int) -> None:
        before = self.book.state(alarm.name)
        state = self._put(alarm, replace(before, phase=next_phase(before.phase, Turn.ELAPSED)))
        at_ns = _recorded_ns(state, received_ns)
        replaying = alarm.shard not in self._live
        if state.phase is Phase.ON:
            self.book.raise_(alarm.name, at_ns, state.since_value, latch=alarm.latch, in_replay=replaying)
        else:
            self.book.clear(alarm.name, at_ns, late=replaying and state.found_in_replay)

    def _put(self, alarm: AlarmDef, state: AlarmState) -> AlarmState:
        self.columns.beyond[alarm.key] = state.phase.beyond
        self.columns.pending[alarm.key] = state.phase.pending
        self.book.put(alarm.name, state)
        return state

    def _restore(self, alarm: AlarmDef) -> None:
        state = self.book.state(alarm.name)
        self.columns.beyond[alarm.key] = state.phase.beyond
        self.columns.pending[alarm.key] = state.phase.pending
        if state.phase.pending:
            heapq.heappush(self._due[alarm.shard], (_due_ns(alarm, state), alarm.key))

    # --- many alarms -------------------------------------------------------------------------------------------------

    def _settle(
        self, keys: NDArray[np.intp], values: NDArray[np.float64], quality: NDArray[np.uint32], now_ns: int
    ) -> None:
        times = np.full(len(keys), now_ns, np.int64)
        for step in self.columns.compare(keys, values, times, quality):
            self._step(step, now_ns)

    def _found(self, keys: NDArray[np.intp], states: Sequence[TagState]) -> list[tuple[int, TagState]]:
        by_handle = {state.handle: state for state in states if not isinstance(state.value, str)}
        return [(key, by_handle[handle]) for key in keys.tolist() if (handle := self._by_key[key].handle) in by_handle]

    def _compare(self, found: list[tuple[int, TagState]], now_ns: int) -> None:
        values = [np.nan if isinstance(state.value, str | None) else float(state.value) for _, state in found]
        steps = self.columns.compare(
            np.array([key for key, _ in found], np.intp),
            np.array(values, np.float64),
            np.array([state.time_ns for _, state in found], np.int64),
            np.array([state.quality for _, state in found], np.uint32),
        )
        for step in steps:
            self._step(step, now_ns)

    def _keys_of(self, shard: int) -> NDArray[np.intp]:
        return np.array([key for key, alarm in self._by_key.items() if alarm.shard == shard], np.intp)

    def _unknown(self, keys: NDArray[np.intp]) -> NDArray[np.intp]:
        waiting: NDArray[np.bool_] = self.columns.quality[keys] == BAD_WAITING_FOR_INITIAL_DATA
        return keys[waiting]

    def _shown(self, alarm: AlarmDef, value: float) -> Value:
        if np.isnan(value):
            return None
        if alarm.kind is ValueType.BOOL:
            return bool(value)
        return int(value) if alarm.kind is ValueType.INT else value


def _due_ns(alarm: AlarmDef, state: AlarmState) -> int:
    return state.since_ns + (alarm.on_delay_ns if state.phase is Phase.RISING else alarm.off_delay_ns)


def _recorded_ns(state: AlarmState, received_ns: int) -> int:
    """Give the time that is written down: the sample's own, unless it lies before the alarm's last change.

    A source may go back in time (a reconnect delivers a value that is hours old); an occurrence never does.
    """
    if state.since_time_ns >= state.last_ns:
        return state.since_time_ns
    return max(received_ns, state.last_ns)
