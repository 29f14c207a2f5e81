"""History in a database that may go and come back, as the historian sees it: one store, there or not.

Each time it comes back everything is read anew: the database alone knows what was committed. What looks at the store of
before finds it closed. Connecting, which may hang in ways that have no timeout, is done in a thread that does nothing
else; it hands over a store that is ready, and touches nothing of the actor.
"""

from __future__ import annotations

import contextlib
import random
import threading
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.interface import StoreDown
from tagwerk.actors.historian.logic.series import empty
from tagwerk.actors.historian.postgres.outage import OutageFile
from tagwerk.actors.historian.postgres.session import DOWN

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tagwerk.actors.historian.catalog import Day
    from tagwerk.actors.historian.hot import Hot
    from tagwerk.actors.historian.interface import DaysToRead, Places
    from tagwerk.actors.historian.logic.arrived import Arrived
    from tagwerk.actors.historian.logic.series import Series
    from tagwerk.actors.historian.postgres.opening import Opened
    from tagwerk.actors.historian.postgres.outage import Outage
    from tagwerk.actors.historian.postgres.outbox import Outbox
    from tagwerk.protocols.samples import ValueType
    from tagwerk.runtime.clock import Clock

LOOK_S: Final = 0.05
"""Between two looks at whether it is open now."""

FIRST_S: Final = 2.0
"""How long the start waits for it."""

PING_S: Final = 5.0
"""A database that nobody has spoken to is spoken to."""

RETRY_S: Final = (0.25, 15.0)
"""Between two tries to connect: at first, and at last."""

CLOSE_S: Final = 1.0
"""How long the thread that connects may take to end when all ends."""


@final
class PostgresHistory:
    """See `HistoryStore`. All of it raises `StoreDown` while the database is not there.

    Args:
        opener: Gives a store that is ready, or raises `StoreDown`; called in a thread.
        directory: The historian's own.
        after: Calls back after so many seconds, in the historian's thread.
        clock: The time.
        log: Where it says how things are.

    Attributes:
        newest: See `HistoryStore`.
    """

    def __init__(
        self,
        opener: Callable[[], Opened],
        directory: Path,
        after: Callable[[float, Callable[[], None]], object],
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._opener = opener
        self._after = after
        self._clock = clock
        self._log = log
        self._file = OutageFile(directory)
        self._opened: Opened | None = None
        self._results: SimpleQueue[Opened | Exception] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._taken = False
        """What the thread found has been taken from it."""
        self.newest: Callable[[int, ValueType], Series] = lambda _, kind: empty(kind)
        self._readings = 0
        self._tries = 0
        self._said = ""
        self._why = "it was not reached yet"

    # --- there or not ------------------------------------------------------------------------------------------------

    def begin(self, there: Callable[[], None], gone: Callable[[], None]) -> None:
        """Connect, and stay connected. If that is done at once, it is there when this returns.

        Args:
            there: Called each time that the database is there, before anything else asks for it.
            gone: Called each time that it is not there any more.
        """
        self._there, self._gone = there, gone
        self._connect()
        with contextlib.suppress(Empty):
            self._take(self._results.get(timeout=FIRST_S))

    def settle(self, tell: Callable[[Outage], None]) -> None:
        """Have an outage told that nobody was told of, in a transaction that remembers it.

        Args:
            tell: Called in that transaction.
        """
        outage, here = self._file.outage, self._here()
        if outage is None:
            return
        with here.store.transaction():
            told = "UPDATE about SET told_ns = %s WHERE told_ns <> %s RETURNING told_ns"
            if here.session.rows(told, (outage.since_ns, outage.since_ns)):
                tell(outage)
        self._file.end()

    def _here(self) -> Opened:
        opened = self._opened
        if opened is not None and not opened.session.gone:
            return opened
        if opened is not None:
            self._lose(opened.session.gone)
        raise StoreDown(DOWN + self._why)

    def _lose(self, why: str) -> None:
        self._opened = None
        self._miss(why)
        self._gone()
        self._try_later()

    def _try_later(self) -> None:
        wait_s = min(RETRY_S[0] * 2.0 ** min(self._tries, 16), RETRY_S[1])
        self._after(wait_s * random.uniform(0.8, 1.2), self._connect)

    def _miss(self, why: str) -> None:
        """Remember why it is not there: what was first, so that it is said once."""
        self._file.begin(self._clock.now_ns(), why)
        if not self._said:
            self._why = self._said = why
        elif why != self._said:
            self._said = why
            self._log.info("the database of history, still not there: %s", why)

    def _connect(self) -> None:
        if self._closing.is_set() or self._opened is not None:
            return
        self._tries += 1
        self._taken = False
        self._thread = threading.Thread(target=self._open, name="connect", daemon=True)
        self._thread.start()
        self._after(LOOK_S, self._look)

    def _open(self) -> None:
        result: Opened | Exception
        try:
            result = self._opener()
        except Exception as error:  # it is the actor's, whatever it is
            result = error
        self._results.put(result)
        if self._closing.is_set():
            self._discard()

    def _look(self) -> None:
        if self._taken or self._closing.is_set():
            return
        try:
            self._take(self._results.get_nowait())
        except Empty:
            self._after(LOOK_S, self._look)

    def _take(self, result: Opened | Exception) -> None:
        self._taken = True
        if isinstance(result, StoreDown):
            self._miss(str(result))
            self._try_later()
        elif isinstance(result, Exception):
            raise result
        else:
            self._arrive(result)

    def _arrive(self, opened: Opened) -> None:
        for warning in opened.warnings:
            self._log.warning("%s", warning)
        opened.store.readings = self._readings
        self._opened = opened
        self._said = ""
        try:
            self._there()
        except StoreDown as error:  # gone again, or it takes nothing
            opened.store.close()
            if self._opened is opened:
                self._lose(str(error).removeprefix(DOWN))
            return
        self._tries = 0
        self._after(PING_S, partial(self._watch, opened))

    def _watch(self, opened: Opened) -> None:
        """Notice that the database is gone, though nobody asks it anything."""
        if self._opened is not opened or self._closing.is_set():
            return
        with contextlib.suppress(StoreDown):
            if opened.session.idle_s >= PING_S:
                opened.session.execute("SELECT 1")
        with contextlib.suppress(StoreDown):
            self._here()
            self._after(PING_S, partial(self._watch, opened))

    def _discard(self) -> None:
        while True:
            try:
                left = self._results.get_nowait()
            except Empty:
                return
            if not isinstance(left, Exception):
                left.store.close()

    # --- the store ---------------------------------------------------------------------------------------------------

    @property
    def readings(self) -> int:
        """How many readings go on in steps."""
        return self._readings

    @readings.setter
    def readings(self, count: int) -> None:
        self._readings = count
        if self._opened is not None:
            self._opened.store.readings = count

    @property
    def catalog(self) -> Places:
        """See `HistoryStore`."""
        return self._here().store.catalog

    @property
    def days(self) -> DaysToRead:
        """See `HistoryStore`."""
        return self._here().store.days

    @property
    def hot(self) -> Hot:
        """See `HistoryStore`."""
        return self._here().store.hot

    @property
    def outbox(self) -> Outbox:
        """See `HistoryStore`."""
        return self._here().store.outbox

    @property
    def rows(self) -> int:
        """See `HistoryStore`."""
        return self._here().store.rows

    def transaction(self) -> AbstractContextManager[None]:
        """See `HistoryStore`."""
        return self._here().store.transaction()

    def append(self, samples: Arrived) -> None:
        """See `HistoryStore`."""
        self._here().store.append(samples)

    def work(self, now_ns: int, mono_ns: Callable[[], int], budget_ns: int) -> bool:
        """See `HistoryStore`."""
        return self._here().store.work(now_ns, mono_ns, budget_ns)

    def keep_pace(self, now_ns: int, mono_ns: Callable[[], int]) -> None:
        """See `HistoryStore`."""
        self._here().store.keep_pace(now_ns, mono_ns)

    def note_damage(self, day: int, reason: str) -> None:
        """See `HistoryStore`."""
        self._here().store.note_damage(day, reason)

    def new_damages(self) -> list[tuple[str, str]]:
        """See `HistoryStore`."""
        return self._here().store.new_damages()

    def oldest_day(self) -> Day | None:
        """See `HistoryStore`."""
        return self._here().store.oldest_day()

    def drop(self, day: int) -> int:
        """See `HistoryStore`."""
        return self._here().store.drop(day)

    def close(self) -> None:
        """Let go of it. What was not committed is gone."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        self._discard()
        if self._opened is not None:
            self._opened.store.close()
            self._opened = None
