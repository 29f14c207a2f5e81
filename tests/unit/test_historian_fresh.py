"""Questions that wait for the newest samples."""

from __future__ import annotations

from collections.abc import Callable

from tagwerk.actors.historian.fresh import FRESH_S, WAITING_LIMIT, Fresh


class Timer:
    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.call = call
        self.live = True

    def cancel(self) -> None:
        self.live = False


class Rig:
    """A shard that answers when told, and timers that fire when told."""

    def __init__(self) -> None:
        self.rounds: list[Callable[[], None]] = []
        self.timers: list[Timer] = []
        self.answers: list[bool] = []
        self.fresh = Fresh(self.rounds.append, self._after)

    def _after(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, call))
        return self.timers[-1]

    def ask(self) -> None:
        self.fresh.wait(self.answers.append)

    def fire(self, seconds: float) -> None:
        due = [timer for timer in self.timers if timer.live and timer.seconds == seconds]
        for timer in due:
            timer.live = False
            timer.call()


def test_a_question_waits_for_a_round_that_began_after_it() -> None:
    rig = Rig()
    rig.ask()
    rig.ask()  # the first round is out already: it may have been answered before this question
    rig.rounds.pop()()
    assert rig.answers == [False]
    rig.fire(0)
    rig.rounds.pop()()
    assert rig.answers == [False, False]
    assert rig.rounds == []
    rig.fire(FRESH_S)
    assert rig.answers == [False, False]


def test_an_overdue_round_answers_all_and_the_next_at_once() -> None:
    rig = Rig()
    rig.ask()
    rig.ask()
    rig.fire(FRESH_S)
    assert rig.answers == [True, True]
    rig.ask()
    assert rig.answers == [True, True, True]
    assert len(rig.rounds) == 1  # one closure waits at the reader, however long the shard is down
    rig.rounds.pop()()
    rig.ask()
    rig.rounds.pop()()
    assert rig.answers == [True, True, True, False]


def test_the_waiting_questions_are_bounded() -> None:
    rig = Rig()
    for _ in range(WAITING_LIMIT + 2):
        rig.ask()
    assert rig.answers == [True]
