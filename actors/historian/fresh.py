"""Questions that wait until history has all that their shard has acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Callable

Answer: TypeAlias = "Callable[[bool], None]"
"""Called once; True if the newest samples may be missing."""

FRESH_S: Final = 2.0
"""How long one round may take before those that wait for it are answered without it."""

WAITING_LIMIT: Final = 1_000
"""Questions that wait; the next one is answered at once."""


class Cancels(Protocol):
    """A timer."""

    def cancel(self) -> None:
        """It will not fire any more."""
        ...


@final
class Fresh:
    """Asks one shard for the end of its journal, one round for all questions that came before the round.

    A question waits for at most two rounds, each of at most `FRESH_S`. While a round is overdue (the shard is down, or
    far ahead), questions are answered at once.

    Args:
        catch_up: Calls back once all that the shard has acknowledged by now is in the store.
        after: Calls back after so many seconds.
    """

    def __init__(
        self,
        catch_up: Callable[[Callable[[], None]], None],
        after: Callable[[float, Callable[[], None]], Cancels],
    ) -> None:
        self._catch_up = catch_up
        self._after = after
        self._this_round: list[Answer] = []
        self._next_round: list[Answer] = []
        self._asking = False
        self._overdue = False
        self._timer: Cancels | None = None

    def wait(self, answer: Answer) -> None:
        """Call `answer` when history is as new as this question, or when that took too long."""
        if self._overdue or len(self._next_round) >= WAITING_LIMIT:
            answer(True)
            return
        self._next_round.append(answer)
        if not self._asking:
            self._start()

    def _start(self) -> None:
        self._asking = True
        self._this_round, self._next_round = self._next_round, []
        self._timer = self._after(FRESH_S, self._late)
        self._catch_up(self._done)

    def _late(self) -> None:
        self._overdue = True
        answers = self._this_round + self._next_round
        self._this_round, self._next_round = [], []
        for answer in answers:
            answer(True)

    def _done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._overdue = False
        answers, self._this_round = self._this_round, []
        for answer in answers:
            answer(False)
        if self._next_round:
            self._after(0, self._start)  # not from inside the reader's own round
        else:
            self._asking = False
