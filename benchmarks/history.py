"""History in columns beside rows in SQLite: samples/s, bytes, stalls, questions. `python -m benchmarks.history`.

Rows are what a historian without columns would do: one insert a sample into a table clustered by tag and time, one
transaction a commit, synced as here. Both get the same commits.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tagwerk.actors.historian import answers
from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.logic.arrived import Arrived, of_batches
from tagwerk.actors.historian.past import FIRST_NS, LAST_NS, Past
from tagwerk.actors.historian.reading import Reading
from tagwerk.actors.historian.store import Store
from tagwerk.protocols.history import GetHistory
from tagwerk.protocols.samples import ValueType, decode, make
from tagwerk.protocols.tags import PositionMark

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "brewhouse"
START_NS = 20_000 * DAY_NS
TAGS = 1_000
PAGE_ROWS = 40_000
YEAR = 365
TABLE = """CREATE TABLE samples (tag INTEGER, time INTEGER, seq INTEGER, value ANY, quality INTEGER,
    PRIMARY KEY (tag, time, seq)) WITHOUT ROWID"""
Row = tuple[str, float, str]


def pages(count: int) -> Iterator[Arrived]:
    """So many pages of 1,000 tags at 10 Hz: a 16-bit converter over a slow random walk, as a PLC gives it."""
    random = np.random.default_rng(1)
    handles = np.arange(1, TAGS + 1, dtype="<u4")
    state = 65 + random.normal(0, 5, TAGS)
    scan = 0
    for _ in range(count):
        batches = []
        for _ in range(PAGE_ROWS // TAGS):
            state = state + random.normal(0, 0.02, TAGS)
            values = (np.round((state + 50) / 250 * 65535) * 250 / 65535 - 50).astype("<f4").astype("<f8")
            batches.append(make(ValueType.FLOAT, handles, values, START_NS + scan * 100_000_000))
            scan += 1
        yield of_batches(batches)


def columns(directory: Path, made: list[Arrived]) -> tuple[float, list[float]]:
    """Samples/s with all sealing, and how long each turn held the line, in ms."""
    store = Store(directory)
    turns: list[float] = []
    now_ns = START_NS
    begin = time.perf_counter()
    for number, samples in enumerate(made):
        turn = time.perf_counter()
        with store.transaction():
            store.append(samples)
            store.catalog.set_position("cvt/0", PositionMark(7, 1, number))
        turns.append(time.perf_counter() - turn)
        turn = time.perf_counter()
        store.keep_pace(now_ns, time.monotonic_ns)
        turns.append(time.perf_counter() - turn)
    while store.hot.rows > PAGE_ROWS * 26:  # what is hot at the end is no more than at any moment
        turn = time.perf_counter()
        store.keep_pace(now_ns, time.monotonic_ns)
        turns.append(time.perf_counter() - turn)
    elapsed = time.perf_counter() - begin
    store.close()
    return len(made) * PAGE_ROWS / elapsed, [1e3 * turn for turn in turns]


def rows(path: Path, made: list[Arrived]) -> float:
    """Samples/s into rows."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {TABLE}")
    begin, seq = time.perf_counter(), 0
    for samples in made:
        connection.execute("BEGIN")
        ids = range(seq, seq + len(samples))
        listed = (samples.tags, samples.times, np.array(ids), samples.bits.view("f8"), samples.quality)
        filled = zip(*(column.tolist() for column in listed), strict=True)
        connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", filled)
        connection.execute("COMMIT")
        seq += len(samples)
    elapsed = time.perf_counter() - begin
    connection.close()
    return seq / elapsed


def brewhouse(hours: float, *, as_tags: bool) -> Iterator[Arrived]:
    """What the PLC of the example shows, while the mash is heated and rests.

    Args:
        hours: How long, at 10 scans a second.
        as_tags: Only what its tags take: past their deadbands. Otherwise all nodes, on change.
    """
    sys.path.insert(0, str(EXAMPLE))
    from physics import Brewhouse  # type: ignore[import-not-found, unused-ignore]
    from signals import BREWHOUSE, FERMENTER  # type: ignore[import-not-found, unused-ignore]

    with (EXAMPLE / "tags.csv").open() as file:
        deadbands = {row["node"].rpartition("=")[2]: float(row["deadband"] or 0) for row in csv.DictReader(file)}
    model = Brewhouse()
    model.mash.loop.auto = True
    kinds = {bool: ValueType.BOOL, int: ValueType.INT, float: ValueType.FLOAT, str: ValueType.STR}
    signals = [signal for signal in BREWHOUSE + FERMENTER if signal.node in deadbands or not as_tags]
    found: list[tuple[list[int], list[Any]]] = [([], []) for _ in signals]
    for scan in range(int(hours * 36_000)):
        model.mash.loop.setpoint = (52.0, 63.0, 72.0, 78.0)[scan // 900 % 4]
        model.step(3.0)  # the PLC of the example runs 30 times as fast as the clock
        for signal, (times, values) in zip(signals, found, strict=True):
            value = signal.read(model)
            deadband = deadbands.get(signal.node) if as_tags else None
            if not values or (abs(value - values[-1]) > deadband if deadband else value != values[-1]):
                times.append(START_NS + scan * 100_000_000)
                values.append(value)
    for tag, (times, values) in enumerate(found, 1):
        yield of_batches([make(kinds[type(values[0])], [tag] * len(times), values, times)])


def bytes_a_sample(directory: Path, many: list[Arrived]) -> float:
    """The day's file, divided by its samples."""
    store = Store(directory)
    for samples in many:
        with store.transaction():
            store.append(samples)
    store.seal_all()
    finish(store)
    size = sum(store.days.bytes_of(day) for day in store.catalog.days)
    found = size / store.rows
    store.close()
    return found


def finish(store: Store) -> None:
    """Put all days in order."""
    while store.work(START_NS * 2, time.monotonic_ns, 10**9):
        pass


def noisy(kind: str) -> list[Arrived]:
    """100 tags at 10 Hz for 100 s, white noise around 65; two in a hundred Uncertain."""
    random = np.random.default_rng(2)
    found: list[Arrived] = []
    for tag in range(1, 101):
        values = random.normal(65, 0.5, 10_000)
        values = np.round(values, 2) if kind == "2 decimals" else values.astype("<f4").astype("<f8")
        quality = np.where(random.random(10_000) < 0.02, 0x4093_0000, 0).astype("<u4")
        times = START_NS + np.arange(10_000) * 100_000_000
        found.append(of_batches([make(ValueType.FLOAT, [tag] * 10_000, values, times, quality)]))
    return found


def questions(directory: Path, days: int) -> Iterator[Row]:
    """A tag of 1 Hz over so many days: its day raw, and all of it as 2,000 points, the files cold and warm."""
    store = Store(directory)
    random = np.random.default_rng(3)
    for day in range(days):
        times = START_NS + (day * 86_400 + np.arange(86_400)) * 1_000_000_000
        values = np.round(65 + np.cumsum(random.normal(0, 0.05, 86_400)), 2)
        with store.transaction():
            store.append(of_batches([make(ValueType.FLOAT, [5] * 86_400, values, times)]))
        if store.hot.rows >= 1 << 20:
            store.seal_all()
    store.seal_all()
    finish(store)

    def raw() -> None:
        start_ns, after, skip, count = START_NS + DAY_NS, 0, 0, 0
        while after is not None:
            asked = GetHistory(5, start_ns, start_ns + DAY_NS, after=after, skip=skip)
            page = Reading(store).page(asked, ValueType.FLOAT)
            after, skip = page.next_after, page.skip  # type: ignore[assignment]
            count += sum(len(batch) for frame in page.frames for batch in decode(frame))
        assert count == 86_400

    def steps() -> Iterator[None]:
        found = yield from answers.trend_of(Past(store, 5, ValueType.FLOAT), ValueType.FLOAT, FIRST_NS, LAST_NS, 2_000)
        assert 1_000 < len(found) < 2_100

    def trend() -> None:
        for _ in steps():
            pass

    store.close()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    store = Store(directory)
    yield f"{days} days of 1 Hz as 2,000 points, files cold", timed(trend, 1), "ms"
    yield f"{days} days of 1 Hz as 2,000 points", timed(trend, 5), "ms"
    yield "one day raw, 86,400 samples, as frames", timed(raw, 9), "ms"
    store.close()


def timed(call: Callable[[], None], times: int) -> float:
    """The median of some runs, in ms."""
    found: list[float] = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(found)


def measured(seconds_rows: int, days: int, directory: Path) -> Iterator[Row]:
    """All figures."""
    made = list(pages(100))
    few = made[:10]
    by_rows = statistics.median(rows(directory / f"rows{number}.db", few) for number in range(3))
    yield "rows in SQLite", by_rows, "samples/s"
    runs = [columns(directory / f"columns{number}", made * seconds_rows) for number in range(3)]
    fast = statistics.median(rate for rate, _ in runs)
    yield "columns, all sealed", fast, "samples/s"
    yield "ratio to rows", fast / by_rows, "x"
    turns = [turn for _, found in runs for turn in found]
    yield "the line is held, p99", float(np.percentile(turns, 99)), "ms"
    yield "the line is held, longest", max(turns), "ms"
    del made, runs
    for name, as_tags in (("all nodes on change", False), ("its tags, past deadbands", True)):
        signals = list(brewhouse(2.0, as_tags=as_tags))
        yield f"brewhouse, 2 h, {name}", bytes_a_sample(directory / name, signals), "B/sample"
    for kind in ("2 decimals", "singles"):
        yield f"white noise, {kind}", bytes_a_sample(directory / kind, noisy(kind)), "B/sample"
    yield from questions(directory / "year", days)
    yield "memory, most", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, "MB"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="times 4 million samples a run (default 2)")
    parser.add_argument("--days", type=int, default=YEAR, help="days of 1 Hz for the questions (default 365)")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of the table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = []
        for name, value, unit in measured(given.rounds, given.days, Path(directory)):
            found.append({"name": name, "value": value, "unit": unit})
            if not given.json:
                print(f"{name:<48}{value:>16,.2f}  {unit}", flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
