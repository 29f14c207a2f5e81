"""One actor's slot in a gauge page: written without a system call, read by anyone without asking it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import mmap
from typing import Final, final

from tagwerk.runtime import page_layout as at
from tagwerk.runtime.states import CODES, PeerState, seen_state, state_of

TRIES: Final = 50  # a writer needs about 1 us; one that was killed in the middle never comes to its end
_GAUGES: Final = struct.Struct("<6Q")
_SLOT: Final = struct.Struct(f"<{at.SLOT_WORDS}Q")


@dataclass(frozen=True, slots=True)
class SlotView:
    """A slot at one moment. Times are CLOCK_MONOTONIC in ns, 0 for never."""

    name: str
    state: PeerState  # both halves combined
    node_state: PeerState
    actor_state: PeerState
    pid: int
    start_ticks: int
    since_mono_ns: int
    restarts: int
    fatal_count: int
    fatal: bool
    retry_at_mono_ns: int
    hang_after_ns: int
    reason: str
    actor_pid: int
    incarnation: int
    started_mono_ns: int
    beat_mono_ns: int
    busy_until_mono_ns: int
    busy_reason: str
    inbox_depth: int
    inbox_oldest_mono_ns: int
    handled: int
    deadletters: int
    handler_total_ns: int
    handler_max_ns: int
    counters: tuple[int, ...]
    last_words: str


@final
class Slot:
    """One slot. The actor calls `attach` to `leave_words`, the node `write_node`; both halves are read by `read`.

    Args:
        memory: The whole page.
        words: The same as 8-byte words.
        index: Which slot.
    """

    def __init__(self, memory: mmap, words: memoryview[int], index: int) -> None:
        self._memory = memory
        self._words = words
        self._at = at.slot_word(index)

    # --- the actor's half -------------------------------------------------------------------------------------------

    def attach(self, *, pid: int, incarnation: int, mono_ns: int) -> None:
        """Take the slot over from the actor's last process: STARTING, all gauges 0."""
        words, base = self._words, self._at
        words[base + at.A_PID] = 0  # `Page.look` pairs pid and incarnation: no pid while the pair is not whole
        self._begin(at.A_FIRST, at.A_LAST)
        for word in range(base + at.A_STATE, base + at.A_LAST):
            words[word] = 0
        words[base + at.A_STATE] = CODES[PeerState.STARTING]
        words[base + at.A_INCARNATION] = incarnation
        words[base + at.A_STARTED] = mono_ns
        words[base + at.A_BEAT] = mono_ns
        words[base + at.A_PID] = pid
        self._end(at.A_FIRST, at.A_LAST)

    def write_state(self, state: PeerState) -> None:
        """Say how far the actor is: STARTING, RUNNING (ready to answer) or STOPPING."""
        self._words[self._at + at.A_STATE] = CODES[state]

    def write_beat(self, mono_ns: int) -> None:
        """Say that the actor's own loop turns. One word, so no sequence is needed."""
        self._words[self._at + at.A_BEAT] = mono_ns

    def write_busy(self, reason: str, until_mono_ns: int) -> None:
        """Say that no beat will come before `until_mono_ns`, and why; ("", 0) ends it."""
        self._begin(at.A_FIRST, at.A_LAST)
        self._words[self._at + at.A_BUSY_UNTIL] = until_mono_ns
        self._text(at.A_BUSY_REASON, reason, at.BUSY_REASON_BYTES)
        self._end(at.A_FIRST, at.A_LAST)

    def write_gauges(
        self,
        *,
        beat_mono_ns: int,
        inbox_depth: int,
        inbox_oldest_mono_ns: int,
        handled: int,
        deadletters: int,
        handler_total_ns: int,
        handler_max_ns: int,
    ) -> None:
        """Write the beat and all gauges of the loop: about 1 us."""
        base = self._at
        self._begin(at.A_FIRST, at.A_LAST)
        self._words[base + at.A_BEAT] = beat_mono_ns
        _GAUGES.pack_into(
            self._memory,
            (base + at.A_INBOX_DEPTH) * at.WORD,
            inbox_depth,
            inbox_oldest_mono_ns,
            handled,
            deadletters,
            handler_total_ns,
            handler_max_ns,
        )
        self._end(at.A_FIRST, at.A_LAST)

    def write_counter(self, number: int, value: int) -> None:
        """Write one of the counters 0 to 7, whose meaning is the actor kind's own."""
        if not 0 <= number < at.COUNTERS:
            raise IndexError(f"a slot has {at.COUNTERS} counters, not a counter {number}")
        self._words[self._at + at.A_COUNTERS + number] = value

    def leave_words(self, text: str) -> None:
        """Leave for the node why this process ends; it becomes the reason of the state."""
        self._begin(at.A_FIRST, at.A_LAST)
        self._text(at.A_LAST_WORDS, text, at.REASON_BYTES)
        self._end(at.A_FIRST, at.A_LAST)

    # --- the node's half --------------------------------------------------------------------------------------------

    def write_node(
        self,
        *,
        state: PeerState,
        pid: int,
        start_ticks: int,
        since_mono_ns: int,
        restarts: int,
        fatal_count: int,
        fatal: bool,
        retry_at_mono_ns: int,
        hang_after_ns: int,
        reason: str,
    ) -> None:
        """Write the node's whole half."""
        words, base = self._words, self._at
        self._begin(at.N_FIRST, at.N_LAST)
        words[base + at.N_STATE] = CODES[state]
        words[base + at.N_PID] = pid
        words[base + at.N_START_TICKS] = start_ticks
        words[base + at.N_SINCE] = since_mono_ns
        words[base + at.N_RESTARTS] = restarts
        words[base + at.N_FATAL_COUNT] = fatal_count
        words[base + at.N_FATAL] = fatal
        words[base + at.N_RETRY_AT] = retry_at_mono_ns
        words[base + at.N_HANG_AFTER] = hang_after_ns
        self._text(at.N_REASON, reason, at.REASON_BYTES)
        self._end(at.N_FIRST, at.N_LAST)

    # --- reading ----------------------------------------------------------------------------------------------------

    def is_ready(self, pid: int) -> bool:
        """Say whether exactly this process has written RUNNING."""
        words, base = self._words, self._at
        return words[base + at.A_PID] == pid and words[base + at.A_STATE] == CODES[PeerState.RUNNING]

    def beat_of(self, pid: int) -> tuple[int, int]:
        """Give (beat, busy until) in monotonic ns as this process wrote them, (0, 0) if it has not come so far."""
        words, base = self._words, self._at
        if words[base + at.A_PID] != pid:
            return 0, 0
        return words[base + at.A_BEAT], words[base + at.A_BUSY_UNTIL]

    def read(self) -> SlotView:
        """Read both halves.

        The state is UNKNOWN if the node's half, or the actor's half of an actor that should run, stays torn: its
        writer was killed in the middle of writing.
        """
        node_raw, node_whole = self._read_half(at.N_FIRST, at.N_LAST)
        actor_raw, actor_whole = self._read_half(at.A_FIRST, at.A_LAST)
        start = self._at * at.WORD
        name = at.decoded(self._memory[start : start + at.NAME_BYTES])
        return _view(name, node_raw, node_whole, actor_raw, actor_whole)

    def _read_half(self, first: int, last: int) -> tuple[bytes, bool]:
        words, base = self._words, self._at
        start = base * at.WORD
        raw = b""
        for _ in range(TRIES):
            after = words[base + last]
            raw = self._memory[start : start + at.SLOT_WORDS * at.WORD]
            if words[base + first] == after:
                return raw, True
        return raw, False

    def _begin(self, first: int, last: int) -> None:
        words, base = self._words, self._at
        # A predecessor killed in the middle left the words apart; counting on from the first keeps them growing.
        words[base + first] = max(words[base + first], words[base + last]) + 1

    def _end(self, first: int, last: int) -> None:
        self._words[self._at + last] = self._words[self._at + first]

    def _text(self, word: int, text: str, limit_bytes: int) -> None:
        start = (self._at + word) * at.WORD
        self._memory[start : start + limit_bytes] = at.encoded(text, limit_bytes)


def _view(name: str, node_raw: bytes, node_whole: bool, actor_raw: bytes, actor_whole: bool) -> SlotView:
    node, actor = _SLOT.unpack(node_raw), _SLOT.unpack(actor_raw)
    node_state = state_of(node[at.N_STATE]) if node_whole else PeerState.UNKNOWN
    actor_state = state_of(actor[at.A_STATE]) if actor_whole else PeerState.UNKNOWN
    same_process = node[at.N_PID] == actor[at.A_PID]
    state = seen_state(node_state, actor_state, same_process)
    if same_process and not actor_whole and state is PeerState.RUNNING:
        state = PeerState.UNKNOWN
    return SlotView(
        name=name,
        state=state,
        node_state=node_state,
        actor_state=actor_state,
        pid=node[at.N_PID],
        start_ticks=node[at.N_START_TICKS],
        since_mono_ns=node[at.N_SINCE],
        restarts=node[at.N_RESTARTS],
        fatal_count=node[at.N_FATAL_COUNT],
        fatal=bool(node[at.N_FATAL]),
        retry_at_mono_ns=node[at.N_RETRY_AT],
        hang_after_ns=node[at.N_HANG_AFTER],
        reason=_text_of(node_raw, at.N_REASON, at.REASON_BYTES),
        actor_pid=actor[at.A_PID],
        incarnation=actor[at.A_INCARNATION],
        started_mono_ns=actor[at.A_STARTED],
        beat_mono_ns=actor[at.A_BEAT],
        busy_until_mono_ns=actor[at.A_BUSY_UNTIL],
        busy_reason=_text_of(actor_raw, at.A_BUSY_REASON, at.BUSY_REASON_BYTES),
        inbox_depth=actor[at.A_INBOX_DEPTH],
        inbox_oldest_mono_ns=actor[at.A_INBOX_OLDEST],
        handled=actor[at.A_HANDLED],
        deadletters=actor[at.A_DEADLETTERS],
        handler_total_ns=actor[at.A_HANDLER_TOTAL],
        handler_max_ns=actor[at.A_HANDLER_MAX],
        counters=actor[at.A_COUNTERS : at.A_COUNTERS + at.COUNTERS],
        last_words=_text_of(actor_raw, at.A_LAST_WORDS, at.REASON_BYTES),
    )


def _text_of(raw: bytes, word: int, limit_bytes: int) -> str:
    return at.decoded(raw[word * at.WORD : word * at.WORD + limit_bytes])
