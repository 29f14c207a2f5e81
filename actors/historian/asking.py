"""Questions about the past: checked, made to wait until history is as new as they are, and answered in short steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from tagwerk.actors.historian import answers
from tagwerk.actors.historian.interface import HistoryStore, StoreDown
from tagwerk.actors.historian.logic.series import NUMBERS, frames_of, joined
from tagwerk.actors.historian.logic.table import COLUMNS, ONLY_OF, Grid
from tagwerk.actors.historian.logic.trend import LEAST_POINTS
from tagwerk.actors.historian.past import FIRST_NS, Past
from tagwerk.actors.historian.reading import Reading, clamp
from tagwerk.protocols.errors import RefusedCode
from tagwerk.protocols.history import GetHistory, GetTable, GetTrend, HistoryPage, HistoryTable
from tagwerk.protocols.message import Refusal
from tagwerk.protocols.samples import TYPE_NAMES, ValueType
from tagwerk.runtime.actor import Later

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tagwerk.actors.historian.fresh import Cancels, Fresh
    from tagwerk.protocols.message import Message
    from tagwerk.protocols.tags import TagDef

Question = GetHistory | GetTrend | GetTable

TABLE_ROWS: Final = 100_000
"""Buckets in one answer."""

TREND_POINTS: Final = 60_000
ANSWERS_LIMIT: Final = 16
"""Answers that are being made in steps; the next question is refused."""


@final
class Asking:
    """Answers from a store.

    Args:
        store: The store.
        tag_of: Gives the definition of a handle, or None.
        fresh_of: Gives what makes history as new as a question, for a shard; None if nothing does.
        after: Calls back after so many seconds.
        now_ns: Gives the time, ns since 1970.
    """

    def __init__(
        self,
        store: HistoryStore,
        tag_of: Callable[[int], TagDef | None],
        fresh_of: Callable[[str], Fresh | None],
        after: Callable[[float, Callable[[], None]], Cancels],
        now_ns: Callable[[], int],
    ) -> None:
        self._store = store
        self._reading = Reading(store)
        self._tag_of = tag_of
        self._fresh_of = fresh_of
        self._after = after
        self._now_ns = now_ns

    def answer(self, asked: Question) -> Message | Later:
        """The answer, now or later."""
        tag = self._tag_of(asked.handle)
        if tag is None:
            return Refusal(RefusedCode.UNKNOWN_TAG, f"no tag has the handle {asked.handle}")
        kind = TYPE_NAMES[tag.type]
        wrong = _wrong(asked, kind)
        if wrong:
            return Refusal(RefusedCode.BAD_VALUE, wrong, tag.name)
        if self._store.readings >= ANSWERS_LIMIT:
            return Refusal(RefusedCode.CONFLICT, f"{ANSWERS_LIMIT} questions are being answered; ask again", tag.name)
        later = Later()
        if isinstance(asked, GetHistory) and asked.skip:  # the rest of a reading: its first page was fresh
            self._begin(asked, kind, later, behind=False)
            return later
        fresh = self._fresh_of(f"cvt/{tag.shard}")
        if fresh is None:
            self._begin(asked, kind, later, behind=True)
        else:
            fresh.wait(lambda behind: self._begin(asked, kind, later, behind=behind))
        return later

    def _begin(self, asked: Question, kind: ValueType, later: Later, *, behind: bool) -> None:
        if isinstance(asked, GetHistory):
            try:
                later.reply(self._reading.page(asked, kind, behind=behind))
            except StoreDown as error:
                later.reply(not_there(error))
            return
        making = self._trend(asked, kind, behind) if isinstance(asked, GetTrend) else self._table(asked, kind, behind)
        self._store.readings += 1
        self._step(making, later)

    def _step(self, making: Generator[None, None, Message], later: Later) -> None:
        try:
            next(making)
        except StopIteration as done:
            self._store.readings -= 1
            later.reply(done.value)
        except StoreDown as error:
            self._store.readings -= 1
            later.reply(not_there(error))
        except BaseException:
            self._store.readings -= 1
            raise
        else:
            self._after(0.0, lambda: self._step(making, later))

    def _trend(self, asked: GetTrend, kind: ValueType, behind: bool) -> Generator[None, None, Message]:
        past = Past(self._store, asked.handle, kind)
        start_ns, end_ns = clamp(asked.start_ns), clamp(asked.end_ns)
        found = yield from answers.trend_of(past, kind, start_ns, end_ns, asked.points)
        if asked.bounds:
            found = joined([past.last(FIRST_NS, start_ns), found], kind)
        return HistoryPage(frames_of(asked.handle, found), None, behind)

    def _table(self, asked: GetTable, kind: ValueType, behind: bool) -> Generator[None, None, Message]:
        past = Past(self._store, asked.handle, kind)
        # What is to come is not known: no value is held beyond now.
        end_ns = max(min(asked.end_ns, self._now_ns()), asked.start_ns + 1)
        grid = Grid(asked.start_ns, asked.step_ns, -(-(end_ns - asked.start_ns) // asked.step_ns))
        if kind is ValueType.STR:
            columns = yield from answers.texts_of(past, grid, asked.columns)
        else:
            columns = yield from answers.table_of(past, kind, grid, asked.columns, asked.wrap)
        return HistoryTable(grid.start_ns, grid.step_ns, grid.rows, columns, behind)


def not_there(error: StoreDown) -> Refusal:
    """The answer to any question while the store is not there."""
    return Refusal(RefusedCode.NO_COMMUNICATION, str(error))


def _wrong(asked: Question, kind: ValueType) -> str:
    """Why a question cannot be answered; "" if it can."""
    if isinstance(asked, GetHistory):
        return f"a limit of {asked.limit} samples; at least 0" if asked.limit < 0 else ""
    if isinstance(asked, GetTrend):
        if kind not in NUMBERS:
            return "a trend is of numbers"
        fits = LEAST_POINTS <= asked.points <= TREND_POINTS
        return "" if fits else f"a trend of {asked.points} points; {LEAST_POINTS} to {TREND_POINTS}"
    return _wrong_span(asked) or _wrong_columns(asked, kind)


def _wrong_span(asked: GetTable) -> str:
    if asked.step_ns <= 0 or asked.start_ns >= asked.end_ns or clamp(asked.start_ns) != asked.start_ns:
        return "a table needs a step and a span, each more than nothing"
    rows = -(-(asked.end_ns - asked.start_ns) // asked.step_ns)
    return "" if rows <= TABLE_ROWS and clamp(asked.end_ns) == asked.end_ns else f"more than {TABLE_ROWS} rows"


def _wrong_columns(asked: GetTable, kind: ValueType) -> str:
    known: set[Any] = {"value", "count"} if kind is ValueType.STR else {*COLUMNS, "delta"}
    for name in asked.columns:
        if name not in known or kind not in ONLY_OF.get(name, {kind}):
            of = kind.name.lower()
            return f"a tag of type {of} has no column {name[:60]!r}"
    if not asked.columns:
        return "a table needs a column"
    return "" if asked.wrap is None or asked.wrap > 0 else f"a counter that wraps at {asked.wrap}; more than 0"
