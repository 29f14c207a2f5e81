"""History survives a kill between any two steps: what was committed is there once, and it goes on from there."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tagwerk.actors.historian import sealing
from tagwerk.actors.historian import store as history
from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.logic.arrived import Arrived, of_batches
from tagwerk.actors.historian.past import FIRST_NS, LAST_NS, Past
from tagwerk.actors.historian.store import Store
from tagwerk.protocols.samples import ValueType, make
from tagwerk.protocols.tags import PositionMark

pytestmark = pytest.mark.slow

SHARED_MEMORY = Path("/dev/shm")
DAY = 20_000
TAGS = (1, 2, 70_000)
PAGES = 16
RANDOM_KILLS = 8


class Killed(BaseException):
    """The process is gone here."""


def page(n: int) -> Arrived:
    """What the n-th page of the journal brings: values tell the page; some are late, by a day or by a little."""
    base = (DAY + n // 8) * DAY_NS + n * 1_000
    late = base - DAY_NS if n % 5 == 0 else base - 2_500
    values = make(ValueType.FLOAT, TAGS, [n, n + 0.25, n + 0.5], [base, late, base])
    return of_batches([values, make(ValueType.QUALITY, [1], None, base, 0x8031_0000)])


def expected(pages: int) -> dict[int, list[tuple[int, float | None]]]:
    found: dict[int, list[tuple[int, float | None]]] = {tag: [] for tag in TAGS}
    for n in range(1, pages + 1):
        arrived = page(n)
        for row, tag in enumerate(arrived.tags.tolist()):
            valued = arrived.kinds[row] == ValueType.FLOAT
            value = float(arrived.bits.view("f8")[row]) if valued else None
            found[tag].append((int(arrived.times[row]), value))
    return {tag: sorted(rows, key=lambda row: row[0]) for tag, rows in found.items()}


def content(store: Store) -> dict[int, list[tuple[int, float | None]]]:
    found: dict[int, list[tuple[int, float | None]]] = {}
    for tag in TAGS:
        past = Past(store, tag, ValueType.FLOAT)
        rows: list[tuple[int, float | None]] = []
        for part in past.parts(FIRST_NS, LAST_NS):
            series = past.load(part)
            columns = zip(series.times.tolist(), series.values.tolist(), series.valued.tolist(), strict=True)
            rows += [(time_ns, value if valued else None) for time_ns, value, valued in columns]
        found[tag] = rows
    return found


def go_on(store: Store, upto: int = PAGES) -> None:
    """Take the rest of the journal; between any two commits there is work to do."""
    taken = store.catalog.position("cvt/0")
    for n in range(1 if taken is None else taken.n + 1, upto + 1):
        with store.transaction():
            store.append(page(n))
            store.catalog.set_position("cvt/0", PositionMark(7, 1, n))
        now_ns = (DAY + n // 8) * DAY_NS
        while store.work(now_ns, time.monotonic_ns, 0):
            pass
    while store.work((DAY + 9) * DAY_NS, time.monotonic_ns, 10**9):
        pass


@pytest.fixture
def memory(tmp_path: Path) -> Generator[Path]:
    """A directory where a sync costs nothing, if this host has one: thousands are made here."""
    if not SHARED_MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory:
        yield Path(directory)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SEAL_ROWS", 12)
    monkeypatch.setattr(history, "MERGE_CHUNKS", 2)
    monkeypatch.setattr(sealing, "MERGE_CHUNKS", 2)


@contextmanager
def dying_at(step: int, count: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """From the given step on nothing reaches the disk any more."""

    def check() -> None:
        if count() >= step:
            raise Killed

    class Mortal(sqlite3.Connection):
        def execute(self, *given: Any) -> sqlite3.Cursor:
            check()
            return super().execute(*given)

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            check()
            return function(*given, **more)

        return call

    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *given, **more: connect(*given, factory=Mortal, **more))
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, mortal(getattr(Path, name)))
        patch.setattr(os, "fsync", mortal(os.fsync))
        yield


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.long)])
def test_a_kill_between_any_two_steps_loses_and_doubles_nothing(
    memory: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return steps

    with dying_at(1 << 30, count, monkeypatch):
        whole = Store(memory / "whole")
        go_on(whole)
        total = steps
        assert content(whole) == expected(PAGES)
        whole.close()
    assert total > 300
    for step in range(1, total, stride):
        steps = 0
        directory = memory / "dead"
        with dying_at(step, count, monkeypatch), pytest.raises(Killed):
            go_on(Store(directory))
        shutil.copytree(directory, memory / "after")  # what is on the disk now is what the next process finds
        after = Store(memory / "after")
        taken = after.catalog.position("cvt/0")
        assert content(after) == expected(0 if taken is None else taken.n), f"killed before step {step}"
        go_on(after)
        assert content(after) == expected(PAGES), f"went on after step {step}"
        assert after.rows == 4 * PAGES
        after.close()
        for name in ("dead", "after"):
            shutil.rmtree(memory / name)


CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
import test_history_kill as t
from pathlib import Path
t.history.SEAL_ROWS, t.history.MERGE_CHUNKS, t.sealing.MERGE_CHUNKS = 12, 2, 2
store = t.Store(Path({directory!r}))
print("up", flush=True)
t.go_on(store, 100_000)
"""


@pytest.mark.long
def test_a_killed_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    code = CHILD.format(tests=str(Path(__file__).parent), directory=str(tmp_path / "store"))
    for number in range(RANDOM_KILLS):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            time.sleep(0.1 + 0.13 * number)  # the moment is what the test varies
            child.send_signal(signal.SIGKILL)
        store = Store(tmp_path / "store")
        taken = store.catalog.position("cvt/0")
        assert taken is not None
        assert content(store) == expected(taken.n)
        store.close()
