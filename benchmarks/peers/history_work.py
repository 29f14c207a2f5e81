"""The work that every store of history gets, and how it is asked: numpy and the standard library only.

Signals are 1,000 tags at 10 Hz, each a 16-bit converter over a slow random walk, as a PLC gives them. One more tag has
a value a second for a week; it is asked for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import speak

START_NS = 20_000 * 86_400 * 1_000_000_000
DAY_NS = 86_400 * 1_000_000_000
TAGS = 1_000
SCANS = 40
ASKED = 5_000
"""The handle of the tag that is asked for."""
STRETCHES = 1_000
RATE = "history: samples into the store, a synced commit every 40,000"
BYTES = "history: bytes a sample, 16-bit signals"
RAW = "history: one day of a tag, 86,400 samples as arrays"
TREND = "history: a week of a tag, 604,800 samples as its course in 2,000 points"


@dataclass(frozen=True)
class Page:
    """What one commit brings: columns (n,)."""

    tags: Any
    times: Any
    values: Any
    quality: Any

    def __len__(self) -> int:
        return len(self.tags)


def pages(count: int) -> Iterator[Page]:
    """So many pages of 40,000 samples."""
    random = np.random.default_rng(1)
    handles = np.arange(1, TAGS + 1, dtype=np.int64)
    state = 65 + random.normal(0, 5, TAGS)
    scan = 0
    for _ in range(count):
        values, times = [], []
        for _ in range(SCANS):
            state = state + random.normal(0, 0.02, TAGS)
            values.append((np.round((state + 50) / 250 * 65535) * 250 / 65535 - 50).astype("f4").astype("f8"))
            times.append(np.full(TAGS, START_NS + scan * 100_000_000, np.int64))
            scan += 1
        size = TAGS * SCANS
        yield Page(np.tile(handles, SCANS), np.concatenate(times), np.concatenate(values), np.zeros(size, np.int64))


def week(days: int) -> Iterator[Page]:
    """The tag that is asked for, a page a day."""
    random = np.random.default_rng(3)
    for day in range(days):
        times = START_NS + (day * 86_400 + np.arange(86_400, dtype=np.int64)) * 1_000_000_000
        values = np.round(65 + np.cumsum(random.normal(0, 0.05, 86_400)), 2)
        yield Page(np.full(86_400, ASKED, np.int64), times, values, np.zeros(86_400, np.int64))


def measure(
    what: str,
    sizes: dict[str, Any],
    take: Callable[[Page], None],
    finish: Callable[[], None],
    settle: Callable[[], None],
    size_bytes: Callable[[], int],
    raw: Callable[[int, int], int],
    trend: Callable[[int, int], int],
) -> list[dict[str, Any]]:
    """Give all rows of one store.

    Args:
        what: Its name.
        sizes: `pages` and `days`.
        take: Store a page; it must outlive a power cut when this returns.
        finish: All of it is where it is found; it counts.
        settle: What is done later, when nobody waits; it does not count.
        size_bytes: What all that was taken takes on the disk.
        raw: The samples of `ASKED` in [start, end); gives how many.
        trend: Their course as least and greatest of each of `STRETCHES` stretches, or better; gives how many points.
    """
    made = list(pages(sizes["pages"]))
    begin = time.perf_counter()
    for page in made:
        take(page)
    finish()
    elapsed = time.perf_counter() - begin
    count = sum(map(len, made))
    settle()
    rows = [speak.row(RATE, what, count / elapsed, "samples/s"), speak.row(BYTES, what, size_bytes() / count, "B")]
    for page in week(sizes["days"]):
        take(page)
    finish()
    settle()
    end_ns = START_NS + sizes["days"] * DAY_NS
    day_ns = START_NS + (sizes["days"] // 2) * DAY_NS
    rows.append(speak.row(RAW, what, timed(lambda: raw(day_ns, day_ns + DAY_NS), 86_400, 86_400), "ms"))
    rows.append(speak.row(TREND, what, timed(lambda: trend(START_NS, end_ns), STRETCHES, 4 * STRETCHES), "ms"))
    return rows


def nothing() -> None:
    """There is nothing to be done."""


def timed(ask: Callable[[], int], least: int, most: int, times: int = 5) -> float:
    """The median of some runs, in ms."""
    found: list[float] = []
    for _ in range(times):
        begin = time.perf_counter()
        count = ask()
        found.append(1e3 * (time.perf_counter() - begin))
        if not least <= count <= most:
            raise ValueError(f"{count} samples were found, not {least} to {most}")
    return statistics.median(found)


def bytes_of(folder: Path) -> int:
    """What the files of a directory take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
