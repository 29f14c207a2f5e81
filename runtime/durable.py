"""A durable consumer of a shard: pulls journal pages, each once, in order; the shard's bell only says when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tagwerk.protocols.codec import MAX_FRAME_BYTES, unpack
from tagwerk.protocols.errors import Refused, RemoteProtocolError
from tagwerk.protocols.tags import JournalPage, JournalTaken, PositionMark, ReadJournal
from tagwerk.runtime.reactor import SECOND_NS
from tagwerk.runtime.watcher import Bell

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.actor import Actor
    from tagwerk.runtime.control import Outcome

RETRY_S: Final = 0.05
IDLE_S: Final = 1.0
"""Without a bell a shard is asked so often: a lost bell costs a second, no more."""

SAMPLES: Final = 0
BIRTH: Final = 1
LOSS: Final = 2
HISTORY_ONLY: Final = 3


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One record of a shard's journal; `kind` is one of SAMPLES, BIRTH, LOSS, HISTORY_ONLY of this module."""

    n: int
    kind: int
    revision: int
    incarnation: int
    writer: str
    sequence: int
    received_ns: int
    frame: bytes


def read_record(body: bytes) -> JournalRecord:
    """A record's bytes to the record.

    Raises:
        RemoteProtocolError: Not a record.
    """
    value = unpack(body, max_bytes=2 * MAX_FRAME_BYTES, max_depth=None)
    if type(value) is not list or len(value) < 8:
        msg = "a journal record has 8 fields"
        raise RemoteProtocolError(msg)
    return JournalRecord(*value[:8])


class DurableReader:
    """Pulls one shard's journal for one consumer.

    Args:
        actor: Who reads; its name is the consumer's.
        shard: The shard's actor name.
        after: The place after which to start: what this consumer has committed. None: from the first record.
        on_page: Called with each page and its records, in order. The consumer commits data and `page.position`
            together, then calls `taken`.
        min_interval_s: At least so long between two pulls that found the end: lets commits be grouped.
    """

    def __init__(
        self,
        actor: Actor,
        shard: str,
        after: PositionMark | None,
        on_page: Callable[[JournalPage, list[JournalRecord]], None],
        min_interval_s: float = 0.0,
    ) -> None:
        self.shard = shard
        self.after = after
        self.live = False
        """True once the end was reached: what comes then is not replay."""
        self._actor = actor
        self._on_page = on_page
        self._min_ns = int(min_interval_s * SECOND_NS)
        self._asking = False
        self._again = False
        self._scheduled = False
        self._at_end_calls: list[Callable[[], None]] = []
        self._next_calls: list[Callable[[], None]] = []
        self._last_ns = 0
        self._bell = Bell(shard, actor.reactor, actor.directory, self._rang)
        actor.every(IDLE_S, self._rang)
        self._pull()

    def taken(self, position: PositionMark) -> None:
        """Everything up to here is synced at this consumer: the shard may let go of it."""
        self._actor.tell(self.shard, JournalTaken(self._actor.name, position))

    def catch_up(self, then: Callable[[], None]) -> None:
        """Call `then` once all that the shard has acknowledged by now was handed to `on_page`."""
        if self._asking:
            self._next_calls.append(then)  # the pull that is out may have been answered before this question
            self._again = True
        else:
            self._at_end_calls.append(then)
            self._pull()

    def _rang(self) -> None:
        if self._asking:
            self._again = True
            return
        wait_ns = self._last_ns + self._min_ns - self._actor.clock.mono_ns()
        if wait_ns <= 0:
            self._pull()
        elif not self._scheduled:
            self._scheduled = True
            self._actor.after(wait_ns / SECOND_NS, self._later)

    def _later(self) -> None:
        self._scheduled = False
        if not self._asking:
            self._pull()

    def _pull(self) -> None:
        self._asking = True
        self._again = False
        self._actor.ask(self.shard, ReadJournal(self._actor.name, self.after), self._answered, 10.0)

    def _records(self, page: JournalPage) -> list[JournalRecord]:
        records: list[JournalRecord] = []
        for body in page.records:
            try:
                records.append(read_record(body))
            except RemoteProtocolError as error:  # it would come again for ever
                self._actor.log.error("%s: a record is left out: %s", self.shard, error)
        return records

    def _answered(self, outcome: Outcome) -> None:
        if not isinstance(outcome, JournalPage):
            self._asking = False
            if isinstance(outcome, Refused):
                self._actor.log.warning("%s gives no journal: %s", self.shard, outcome)
            self._actor.after(RETRY_S, self._later)
            return
        # An empty page at the end is a beat: no later record is older, so timers may run up to it.
        if outcome.records or outcome.hole is not None or outcome.at_end:
            self._on_page(outcome, self._records(outcome))
        self.after = outcome.position
        self._asking = False
        if not outcome.at_end:
            self._pull()
            return
        self.live = True
        self._last_ns = self._actor.clock.mono_ns()
        calls, self._at_end_calls = self._at_end_calls, self._next_calls
        self._next_calls = []
        for call in calls:
            call()
        if self._at_end_calls:
            self._pull()
        elif self._again:
            self._rang()
