"""The load, in processes of its own: writers that write down what they do, watchers that keep a table, a commander.

Each is started as `python -m tagwerk.runtime.chaos.load TASK`, TASK in JSON; it ends at SIGTERM, or with its parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from tagwerk.protocols.errors import NotJournaled, TagwerkError, Unavailable
from tagwerk.protocols.quality import BAD_WAITING_FOR_INITIAL_DATA
from tagwerk.protocols.samples import Samples, ValueType, make
from tagwerk.runtime.attach import Plant, attach
from tagwerk.runtime.chaos.commander import Commander
from tagwerk.runtime.chaos.numbers import (
    ACKNOWLEDGED,
    ATTEMPT,
    FAILED,
    STEP_NS,
    Ledger,
    WriterSpec,
    read_ledger,
    values_of,
)
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page
from tagwerk.runtime.process import die_with_parent

UNDER_WAY_LIMIT: Final = 64
"""Batches of a writer that are not acknowledged; past it the writer waits. Below the window of the link, so that what
is published goes out in its order."""
ACKNOWLEDGE_S: Final = 120.0
"""A batch that is not acknowledged for so long counts as not acknowledged."""
GOODBYE_S: Final = 30.0
"""A writer that is told to end waits so long for what is under way."""
ATTACH_S: Final = 90.0
LOOK_S: Final = 0.1
"""A watcher looks so often whether its table is wanted."""


class Task(msgspec.Struct, frozen=True):
    """What one of the processes has to do.

    Args:
        home: The plant's home.
        parent: The pid of who started it.
        seed: Of the run.
        ledger: Where a writer writes down what it does.
        writer: A writer; None: a watcher, or the commander.
        until_full: The writer writes without a rate, until a journal takes no more.
        watch: What a watcher watches; nothing: the commander.
        every: It looks at each sample; else at the newest of each tag.
        table: Where a watcher puts its table when `table` + ".wanted" says so.
    """

    home: str
    parent: int
    seed: int
    ledger: str = ""
    writer: WriterSpec | None = None
    until_full: bool = False
    watch: tuple[str, ...] = ()
    every: bool = False
    table: str = ""


class Book:
    """The file in which a writer writes down each batch before it publishes it, and each acknowledgement.

    Args:
        path: It is made if it is not there; a last line that is not whole is cut.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        text = path.read_bytes()
        os.ftruncate(self._file, text.rfind(b"\n") + 1)
        self.ledger: Ledger = read_ledger(text)

    def attempt(self, first: int, count: int, base_ns: int) -> None:
        """This batch is about to be published."""
        os.write(self._file, b"%s %d %d %d\n" % (ATTEMPT, first, count, base_ns))

    def acknowledged(self, first: int) -> None:
        """This batch is acknowledged."""
        os.write(self._file, b"%s %d\n" % (ACKNOWLEDGED, first))

    def failed(self, first: int, error: BaseException) -> None:
        """This batch is not, and the writer was told why."""
        words = " ".join(f"{type(error).__name__} {getattr(error, 'code', '')}".split())
        os.write(self._file, b"%s %d %s\n" % (FAILED, first, words.encode()))


def attached(home: Path, writer: str | None, stopped: Callable[[], bool]) -> Plant | None:
    """Attach, again while the plant is just being restarted; None if the process was told to end meanwhile.

    Raises:
        Unavailable: It did not come for `ATTACH_S`.
    """
    deadline = time.monotonic() + ATTACH_S
    while not stopped():
        try:
            return attach(writer=writer, home=home)
        except (TagwerkError, OSError) as error:
            if time.monotonic() > deadline:
                msg = f"the plant did not come for {ATTACH_S:g} s: {error}"
                raise Unavailable(msg) from error
            time.sleep(0.05)
    return None


class WriterProcess:
    """Publishes numbered samples until it is told to end.

    Args:
        plant: Where.
        task: What.
        book: Its memory; it goes on behind the last number in it.
        stopped: Tells whether to end.
    """

    def __init__(self, plant: Plant, task: Task, spec: WriterSpec, book: Book, stopped: Callable[[], bool]) -> None:
        self._plant = plant
        self._seed = task.seed
        self._spec = spec
        self._book = book
        self._stopped = stopped
        self._until_full = task.until_full
        self._full = False
        self._room = threading.Semaphore(UNDER_WAY_LIMIT)
        self._handles = np.array([plant.definition(tag).handle for tag in spec.tag_names], np.uint32)
        self._next = book.ledger.next_number
        self._last_ns = book.ledger.last_ns

    def run(self) -> None:
        """Write at the rate until told to end, then wait for what is under way."""
        period_s = 0.0 if self._until_full else self._spec.batch / self._spec.rate
        due_s = time.monotonic()
        while not self._stopped() and not self._full:
            if not self._room.acquire(timeout=LOOK_S):
                continue
            self._publish()
            now_s = time.monotonic()
            due_s = max(due_s + period_s, now_s - 1.0)  # what a pause has cost is caught up for a second, not for ever
            time.sleep(max(0.0, due_s - now_s))
        deadline = time.monotonic() + GOODBYE_S
        for _ in range(UNDER_WAY_LIMIT):
            self._room.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def _publish(self) -> None:
        count = self._spec.batch
        numbers = np.arange(self._next, self._next + count, dtype=np.int64)
        base_ns = max(time.time_ns(), self._last_ns + STEP_NS)
        times = base_ns + np.arange(count, dtype=np.int64) * STEP_NS
        values = values_of(self._spec, self._seed, numbers, times)
        batch = make(ValueType.FLOAT, self._handles[numbers % self._spec.tags], values, times)
        first = self._next
        self._next += count
        self._last_ns = base_ns + count * STEP_NS
        self._book.attempt(first, count, base_ns)
        self._plant.publish_soon(batch, timeout_s=ACKNOWLEDGE_S).add_done_callback(partial(self._done, first))

    def _done(self, first: int, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._book.acknowledged(first)
        else:
            self._book.failed(first, error)
            self._full = self._until_full and isinstance(error, NotJournaled)
        self._room.release()


class Table:
    """The last value, time and quality of each tag, as a watcher has seen them.

    Args:
        plant: Gives the tags.
    """

    def __init__(self, plant: Plant) -> None:
        tags = [tag for tag in plant.definitions("chaos.*") if tag.type == "float"]
        self._names = {tag.handle: tag.name for tag in tags}
        size = 1 + max((tag.handle for tag in plant.definitions()), default=0)
        self._values = np.full(size, np.nan)
        self._times = np.zeros(size, np.int64)
        self._quality = np.full(size, BAD_WAITING_FOR_INITIAL_DATA, np.uint32)

    def take(self, batch: Samples) -> None:
        """Apply a batch; of a tag that is in it twice the last one stays."""
        if batch.kind not in (ValueType.FLOAT, ValueType.QUALITY):
            return
        if batch.values is not None:
            numbers = ~np.isnan(batch.values)
            self._values[batch.tags[numbers]] = batch.values[numbers]
        self._times[batch.tags] = batch.times
        self._quality[batch.tags] = batch.quality

    def rows(self) -> dict[str, tuple[float | None, int, int]]:
        """Give what is known of each tag of the writers, by name."""
        return {
            name: (
                None if np.isnan(self._values[handle]) else float(self._values[handle]),
                int(self._times[handle]),
                int(self._quality[handle]),
            )
            for handle, name in self._names.items()
        }


def watch(plant: Plant, task: Task, stopped: Callable[[], bool]) -> None:
    """Keep a table until told to end; put it down whenever it is wanted."""
    table = Table(plant)
    path, wanted = Path(task.table), Path(f"{task.table}.wanted")
    answered = ""
    look_s = time.monotonic()
    watching = plant.watch(*task.watch, mode="every" if task.every else "latest")
    while not stopped():
        batch = watching.get(LOOK_S)
        if batch is not None:
            table.take(batch)
        if time.monotonic() < look_s:
            continue
        look_s = time.monotonic() + LOOK_S
        asked = wanted.read_text() if wanted.exists() else ""
        if asked != answered:
            new = path.with_suffix(".new")
            new.write_text(json.dumps({"asked": asked, "rows": table.rows()}))
            new.replace(path)
            answered = asked
    watching.close()


def _page(home: Path) -> Page:
    return Page.open(Home(home).file("node/main", "page"))


def main(arguments: list[str]) -> int:
    """Do one task. Gives the exit code."""
    task = msgspec.json.decode(arguments[0], type=Task)
    die_with_parent(task.parent)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))

    def stopped() -> bool:
        return bool(told)

    spec = task.writer
    named = f"chaos_{spec.name}" if spec is not None and spec.named else None
    plant = attached(Path(task.home), named, stopped)
    if plant is None:
        return 0
    with plant:
        if spec is not None:
            WriterProcess(plant, task, spec, Book(Path(task.ledger)), stopped).run()
        elif task.watch:
            watch(plant, task, stopped)
        else:
            Commander(plant, Path(task.ledger), _page(Path(task.home)), stopped).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
