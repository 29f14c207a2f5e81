"""Upkeep of history in slices, and questions that wait for the newest samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tagwerk.actors.historian.fresh import FRESH_S, WAITING_LIMIT, Fresh
from tagwerk.actors.historian.logic import Columns, DiskLevel
from tagwerk.actors.historian.store import Store
from tagwerk.actors.historian.upkeep import DELETE_ROWS, NS_PER_DAY, SWEEP_S, Disk, Upkeep, used_pct

DAY = NS_PER_DAY


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "history.db")
    yield store
    store.close()


def add(store: Store, tags: int, days: range, each: int = 1) -> None:
    for tag in range(tags):
        times = [day * DAY for day in days for _ in range(each)]
        count = len(times)
        with store.transaction():
            store.append(Columns([tag] * count, times, [1.0] * count, [0] * count, [0] * count))


def turn(upkeep: Upkeep, now_ns: int, mono_ns: int = 0) -> int:
    """Turns until nothing is left to do; gives how many rows were deleted."""
    deleted = 0
    while True:
        if upkeep.moving:
            upkeep.move()
        else:
            deleted += upkeep.sweep(now_ns, mono_ns)
        if not upkeep.moving and not upkeep.sweeping:
            return deleted


def test_recent_rows_are_moved_when_there_are_many(store: Store) -> None:
    upkeep = Upkeep(store, None, recent_rows=10)
    add(store, 3, range(3))
    assert not upkeep.moving
    add(store, 1, range(1))
    assert upkeep.moving
    turn(upkeep, 0)
    assert (store.recent_rows, store.rows) == (0, 10)


def test_old_rows_are_deleted_also_of_a_quiet_plant(store: Store) -> None:
    add(store, 40, range(10))
    upkeep = Upkeep(store, 3.0)
    assert turn(upkeep, now_ns=9 * DAY) == 40 * 6
    assert store.rows == 40 * 4
    rows = store.connection.execute("SELECT count(*), min(time) FROM samples").fetchone()
    assert rows == (40 * 4, 6 * DAY)


def test_a_slice_is_bounded_and_the_sweep_goes_on(store: Store) -> None:
    add(store, 2, range(1), each=DELETE_ROWS + 5)
    upkeep = Upkeep(store, 1.0)
    upkeep.sweep(9 * DAY, 0)
    while upkeep.moving:
        upkeep.move()
    assert upkeep.sweep(9 * DAY, 0) == DELETE_ROWS
    assert upkeep.sweep(9 * DAY, 0) == DELETE_ROWS
    assert turn(upkeep, 9 * DAY) == 10
    assert store.rows == 0


def test_the_next_sweep_waits(store: Store) -> None:
    upkeep = Upkeep(store, 1.0)
    assert turn(upkeep, 9 * DAY) == 0
    add(store, 1, range(1))
    assert turn(upkeep, 9 * DAY) == 0
    assert turn(upkeep, 9 * DAY, mono_ns=int(SWEEP_S * 1e9)) == 1


def test_without_retention_nothing_is_deleted(store: Store) -> None:
    add(store, 1, range(1))
    assert turn(Upkeep(store, None), 999 * DAY) == 0
    assert store.rows == 1


def test_the_disk_is_told_once_a_level(tmp_path: Path) -> None:
    used = 50.0
    disk = Disk(80.0, 95.0, lambda: used)
    assert disk.look() is None
    used = 97.0
    assert disk.look() is DiskLevel.STOP
    assert disk.look() is None
    assert 0.0 < used_pct(str(tmp_path)) <= 100.0


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
