"""History beside what a user would pick instead, on the same commits and questions. See `peers/history_work.py`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environments
from benchmarks.environments import HISTORY, PeerError
from benchmarks.results import Results, summed
from tagwerk.actors.historian import answers
from tagwerk.actors.historian.interface import HistoryStore
from tagwerk.actors.historian.logic.arrived import of_batches
from tagwerk.actors.historian.past import Past
from tagwerk.actors.historian.reading import Reading
from tagwerk.actors.historian.store import Store
from tagwerk.protocols.history import GetHistory
from tagwerk.protocols.samples import ValueType, decode, make
from tagwerk.protocols.tags import PositionMark
from tagwerk.runtime.bench.rows import machine

sys.path.append(str(environments.PEERS))  # what the peers share, they import by its bare name

from benchmarks.peers import history_work as work
from benchmarks.peers import postgres_cluster

SIZES = {"pages": 25, "days": 7}
QUICK = {"pages": 2, "days": 2}
RUNS = 3
OURS = "tagwerk"
IN_FILES, IN_CHUNKS, IN_ROWS = "tagwerk", "tagwerk in PostgreSQL, chunks", "tagwerk in PostgreSQL, rows"
Rows = list[dict[str, Any]]


def compare(runs: int, cache: Path, sizes: dict[str, Any], say: Callable[[str], None]) -> Results:
    """Measure everybody, in turns.

    Args:
        runs: How often.
        cache: Where the environments are.
        sizes: How much work a run is.
        say: Takes lines of progress.
    """
    skipped = _left_out(cache)
    for name, why in skipped.items():
        say(f"left out: {name}: {why}")
    everybody: dict[str, Callable[[], Rows]] = {OURS: partial(in_files, sizes)}
    if not postgres_cluster.missing():
        everybody |= {layout: partial(in_database, layout, sizes) for layout in ("chunks", "rows")}
    everybody |= {name: partial(environments.run, name, cache, sizes) for name in HISTORY if name not in skipped}
    found, busy, rows = machine(), [], []
    for number in range(runs):
        busy.append(machine()["cores_busy"])
        turn = number % len(everybody)  # nobody is always the first
        names = list(everybody)
        for name in names[turn:] + names[:turn]:
            say(f"run {number + 1} of {runs}: {name}")
            try:
                rows += [
                    row | {"by": name if name in HISTORY or name == OURS else f"{OURS}/{name}"}
                    for row in everybody[name]()
                ]
            except PeerError as error:
                skipped[name] = str(error)
                say(f"this run of {name} does not count: {error}")
    skipped = {name: why for name, why in skipped.items() if not any(row["by"] == name for row in rows)}
    return Results(found, time.strftime("%Y-%m-%d", time.gmtime()), runs, sizes, busy, skipped, summed(rows))


def _left_out(cache: Path) -> dict[str, str]:
    found = {name: peer.missing() for name, peer in HISTORY.items() if peer.missing()}
    if postgres_cluster.missing():
        found["postgresql"] = found["tagwerk in PostgreSQL"] = postgres_cluster.missing()
    for name in HISTORY:
        if name not in found:
            try:
                environments.python_of(name, cache)
            except PeerError as error:
                found[name] = str(error)
    return found


def in_files(sizes: dict[str, Any]) -> Rows:
    """History as it is."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "history")
        try:
            return measured(IN_FILES, store, sizes, partial(_days_bytes, store))
        finally:
            store.close()


def _days_bytes(store: Store) -> int:
    """The files of the days; the catalog beside them does not grow."""
    return sum(store.days.bytes_of(day) for day in store.catalog.days)


def in_database(layout: str, sizes: dict[str, Any]) -> Rows:
    """History in a PostgreSQL of its own."""
    import psycopg

    from tagwerk.actors.historian.postgres.opening import open_database

    with _cluster() as cluster:
        opened = open_database(cluster.url, "tagwerk_bench", layout, [])
        asked = (
            "SELECT coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size(%s))"
            " FROM pg_partition_tree(%s) WHERE isleaf"
        )
        table = "tagwerk_bench.chunks" if layout == "chunks" else "tagwerk_bench.samples"

        def size_bytes() -> int:
            with psycopg.connect(cluster.url, autocommit=True) as connection:
                connection.execute("VACUUM FULL")  # without the room that the next samples will take
                found = connection.execute(asked, (table, table)).fetchone()
                return int(found[0]) if found else 0

        try:
            what = IN_CHUNKS if layout == "chunks" else IN_ROWS
            return measured(what, opened.store, sizes, size_bytes)
        finally:
            opened.store.close()


@contextmanager
def _cluster() -> Iterator[postgres_cluster.Cluster]:
    cluster = postgres_cluster.Cluster()
    try:
        yield cluster
    finally:
        cluster.close()


def measured(what: str, store: HistoryStore, sizes: dict[str, Any], size_bytes: Callable[[], int]) -> Rows:
    """Give all rows of one of our stores: taken with its place in the journal, sealed, put in order."""
    taken = 0

    def take(page: work.Page) -> None:
        nonlocal taken
        taken += 1
        batch = make(ValueType.FLOAT, page.tags.astype("<u4"), page.values, page.times)
        samples = of_batches([batch])
        with store.transaction():
            store.append(samples)
            store.catalog.set_position("cvt/0", PositionMark(7, 1, taken))
        store.keep_pace(work.START_NS, time.monotonic_ns)

    def finish() -> None:
        seal = getattr(store, "seal_all", None)  # rows are not sealed
        if seal is not None:
            seal()

    def settle() -> None:
        while store.work(work.START_NS * 2, time.monotonic_ns, 10**9):
            pass

    def raw(start_ns: int, end_ns: int) -> int:
        place, skip, count = 0, 0, 0
        while True:
            asked = GetHistory(work.ASKED, start_ns, end_ns, after=place, skip=skip)
            page = Reading(store).page(asked, ValueType.FLOAT)
            count += sum(len(batch) for frame in page.frames for batch in decode(frame))
            if page.next_after is None:
                return count
            place, skip = page.next_after, page.skip

    def trend(start_ns: int, end_ns: int) -> int:
        past = Past(store, work.ASKED, ValueType.FLOAT)
        making = answers.trend_of(past, ValueType.FLOAT, start_ns, end_ns, 2 * work.STRETCHES)
        while True:
            try:
                next(making)
            except StopIteration as done:
                return int(np.count_nonzero(done.value.valued))

    return work.measure(what, sizes, take, finish, settle, size_bytes, raw, trend)
