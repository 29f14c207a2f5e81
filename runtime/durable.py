"""A durable consumer of a shard: pulls journal pages, each once, in order; the shard's bell only says when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from tagwerk.protocols.codec import MAX_FRAME_BYTES, unpack
from tagwerk.protocols.errors import LocalProtocolError, Refused, RemoteProtocolError, Unavailable
from tagwerk.protocols.tags import JournalPage, JournalTaken, PositionMark, ReadJournal
from tagwerk.runtime.home import file_form
from tagwerk.runtime.reactor import SECOND_NS
from tagwerk.runtime.stumbles import Stumbles
from tagwerk.runtime.watcher import Bell

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.actor import Actor
    from tagwerk.runtime.control import Outcome
    from tagwerk.runtime.reactor import Timer

RETRY_S: Final = 0.05
NOT_TAKEN_S: Final = 1.0
"""A page that could not be stored is asked for again after this."""
PAGE_BYTES: Final = 1 << 20
IDLE_S: Final = 1.0
"""Without a bell a shard is asked so often: a lost bell costs a second, no more."""

RECENT_NS: Final = 600_000_000
"""A shard that gave a page so short a time ago is not asked without a bell, if nothing waits for its clock."""

SAMPLES: Final = 0
BIRTH: Final = 1
LOSS: Final = 2
HISTORY_ONLY: Final = 3


_TYPES: Final = (int, int, int, int, str, int, int, bytes)


class NotTaken(Unavailable):
    """A consumer could not store a page, and nothing of it: the same page comes again."""


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
    if type(value) is not list or tuple(map(type, value[:8])) != _TYPES:
        msg = "a journal record has 8 fields"
        raise RemoteProtocolError(msg)
    return JournalRecord(*value[:8])


@dataclass(frozen=True, slots=True)
class Aside:
    """A record that is left out: its place, its bytes as they are in the journal, and why."""

    place: PositionMark
    body: bytes
    reason: str


OnPage: TypeAlias = "Callable[[JournalPage, list[JournalRecord], list[Aside]], None]"


def hole_words(taken: PositionMark | None, page: JournalPage) -> tuple[str, str, str]:
    """Give a page's hole for its event: the last record before it, the first behind it, and what it is."""
    if page.hole is None:
        msg = "a page without a hole"
        raise LocalProtocolError(msg)
    first, last = map(str, page.hole)
    if taken is None or taken.journal == page.position.journal:
        return first, last, "the records between them were gone before they were read"
    journals = f"journal {page.position.journal:016x} in the place of {taken.journal:016x}"
    return first, last, f"{journals}: what was behind the first was gone before it was read"


class DurableReader:
    """Pulls one shard's journal for one consumer.

    Args:
        actor: Who reads; its name is the consumer's.
        shard: The shard's actor name.
        after: The place after which to start: what this consumer has committed. None: from the first record.
        on_page: Called with each page, its records in order, and those that are left out: they cannot be read, or the
            consumer has died of them. It commits data, events and `page.position` together, then calls `taken`. It
            may raise `NotTaken`.
        min_interval_s: At least so long between two pulls that found the end, on average: lets commits be grouped. From
            `IDLE_S` on there is no need of a bell.
        at_once: So many pulls, saved up while there were few, need not wait for it.
        awaits: Says whether something waits for the shard's clock, which each page at the end shows. While nothing
            does, a shard that has just given a page is asked again after `IDLE_S` or a bell, not with the next look.
            None: something may always wait.
        wanted: False if it needs none of this shard's records: its place goes on all the same, so that the shard may
            let go of them.
    """

    def __init__(
        self,
        actor: Actor,
        shard: str,
        after: PositionMark | None,
        on_page: OnPage,
        min_interval_s: float = 0.0,
        *,
        at_once: int = 1,
        awaits: Callable[[], bool] | None = None,
        wanted: bool = True,
    ) -> None:
        self.shard = shard
        self._wanted = wanted
        self.after = after
        self.live = False
        """True once the end was reached: what comes then is not replay."""
        self._actor = actor
        self._on_page = on_page
        self._awaits = awaits
        self._idle: Timer | None = None
        self._min_ns = int(min_interval_s * SECOND_NS)
        self._saved_ns = (at_once - 1) * self._min_ns
        self._asking = False
        self._again = False
        self._scheduled = False
        self._outdated = False
        """The page that is under way was asked for from another place."""
        self._held = False
        """A page could not be stored: no bell makes us ask for it before its time."""
        self._at_end_calls: list[Callable[[], None]] = []
        self._next_calls: list[Callable[[], None]] = []
        self._last_ns = 0
        """When the end was found last."""
        self._taken: PositionMark | None = None
        """What the shard has not been told of yet, as far as its answers show."""
        self._told: PositionMark | None = None
        self._next_ns = 0
        """Of the monotonic clock: the next pull that finds the end waits for it."""
        name = f"{file_form(shard)}.stumbles"
        self._stumbles = Stumbles(actor.context.home.actor_data(actor.name) / name)
        if min_interval_s < IDLE_S:
            self._bell = Bell(shard, actor.reactor, actor.directory, self._rang)
        actor.every(IDLE_S, self._look)
        self._pull()

    def taken(self, position: PositionMark) -> None:
        """Everything up to here is synced at this consumer: with the next question the shard may let go of it."""
        self._taken = position

    def restart(self, after: PositionMark | None) -> None:
        """Go on behind this place, which is what the consumer has committed; a page that is under way is dropped."""
        self.after = after
        self._taken = None  # it was said of a store that may be another one now
        self._outdated = self._asking
        self._held = False

    def catch_up(self, then: Callable[[], None]) -> None:
        """Call `then` once all that the shard has acknowledged by now was handed to `on_page`."""
        if self._asking:
            self._next_calls.append(then)  # the pull that is out may have been answered before this question
            self._again = True
        else:
            self._at_end_calls.append(then)
            self._pull()

    def _look(self) -> None:
        if self._asking or self._held:
            pass
        elif (quiet_ns := self._actor.clock.mono_ns() - self._last_ns) > RECENT_NS or self._is_awaited():
            self._pull()
        elif self._idle is None:  # not now: most probably a bell rings before it is time
            self._idle = self._actor.after(IDLE_S - quiet_ns / SECOND_NS, self._quiet)
        if not self._asking and self._idle is None and self._taken is not None:  # it asks for nothing now
            self._actor.tell(self.shard, JournalTaken(self._actor.name, self._taken))
            self._taken = None

    def _is_awaited(self) -> bool:
        return self._awaits is None or self._awaits()

    def _quiet(self) -> None:
        self._idle = None
        if not self._asking and not self._held:
            self._pull()

    def _rang(self) -> None:
        if self._asking:
            self._again = True
            return
        if self._held:
            return
        wait_ns = self._next_ns - self._actor.clock.mono_ns()
        if wait_ns <= 0:
            self._pull()
        elif not self._scheduled:
            self._scheduled = True
            self._actor.after(wait_ns / SECOND_NS, self._later)

    def _release(self) -> None:
        self._held = False
        self._later()

    def _later(self) -> None:
        self._scheduled = False
        if not self._asking:
            self._pull()

    def _pull(self) -> None:
        self._asking = True
        self._again = False
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        limit_bytes = self._stumbles.page_bytes(self.after, PAGE_BYTES)
        self._told = self._taken
        question = ReadJournal(self._actor.name, self.after, limit_bytes, not self._wanted, self._told)
        self._actor.ask(self.shard, question, self._answered, 10.0)

    def _answered(self, outcome: Outcome) -> None:
        if self._outdated:
            self._outdated = self._asking = False
            self._pull()
            return
        if not isinstance(outcome, JournalPage):
            self._asking = False
            if isinstance(outcome, Refused):
                self._actor.log.warning("%s gives no journal: %s", self.shard, outcome)
            self._actor.after(RETRY_S, self._later)
            return
        if self._taken == self._told:
            self._taken = None
        # An empty page at the end is a beat: no later record is older, so timers may run up to it.
        if outcome.records or outcome.hole is not None or outcome.at_end:
            try:
                self._hand_over(outcome)
            except NotTaken:
                self._asking = False
                self._held = True
                self._actor.after(NOT_TAKEN_S, self._release)
                return
        self.after = outcome.position
        self._asking = False
        if not outcome.at_end:
            self._pull()
            return
        self.live = True
        self._last_ns = self._actor.clock.mono_ns()
        # Pulls that did not wait for it do not put it off further.
        self._next_ns = min(max(self._next_ns, self._last_ns - self._saved_ns), self._last_ns) + self._min_ns
        calls, self._at_end_calls = self._at_end_calls, self._next_calls
        self._next_calls = []
        for call in calls:
            call()
        if self._at_end_calls:
            self._pull()
        elif self._again:
            self._rang()

    def _hand_over(self, page: JournalPage) -> None:
        """Have the consumer take a page, and remember it if that kills it."""
        if not page.records:
            self._on_page(page, [], [])
            return
        journal, last_n = page.position.journal, page.position.n
        if self._stumbles.condemns(journal, last_n):
            why = f"{self._actor.name} died of it again and again"
            self._on_page(page, [], [Aside(page.position, page.records[-1], why)])
            self._stumbles.end()
            return
        self._stumbles.begin(journal, last_n - len(page.records) + 1, last_n)
        try:
            records, aside = _readable(page)
            self._on_page(page, records, aside)
        except (NotTaken, OSError, MemoryError):  # the world's fault, not the record's
            self._stumbles.end()
            raise
        except Exception:  # counted against the record; then the actor's failure policy has it
            self._stumbles.failed()
            raise
        self._stumbles.end()


def _readable(page: JournalPage) -> tuple[list[JournalRecord], list[Aside]]:
    records: list[JournalRecord] = []
    aside: list[Aside] = []
    # Inside a page the numbers have no gap: it is of one segment.
    for n, body in enumerate(page.records, page.position.n - len(page.records) + 1):
        try:
            records.append(read_record(body))
        except RemoteProtocolError as error:  # it would come again for ever
            aside.append(Aside(PositionMark(page.position.journal, page.position.incarnation, n), body, str(error)))
    return records, aside
