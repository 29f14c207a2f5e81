"""How a peer speaks: its sizes come as JSON in the command line, its rows go out as one line of JSON.

Nothing but the standard library, because every peer's own interpreter reads this. A row is `work what value unit
better`: `work` is the table it belongs to, `better` is "more" or "less".
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

WARM = 10
"""One part of so many comes first and does not count."""


def sizes() -> dict[str, Any]:
    """Give what the command line asks: `singles`, `batches`, `timed`, `asks`, `kills`, `seconds`, `items`, `wide`."""
    return dict(json.loads(sys.argv[1]))


def row(work: str, what: str, value: float, unit: str) -> dict[str, Any]:
    """Make a row; rates are better high, times are better low."""
    return {"work": work, "what": what, "value": value, "unit": unit, "better": "more" if "/s" in unit else "less"}


def delays(work: str, what: str, figures: Iterable[float], unit: str = "ms", tail: bool = True) -> list[dict[str, Any]]:
    """Make rows of the median and, with `tail`, the 99th percentile."""
    ordered = sorted(figures)
    ordered = ordered or [float("nan")]
    rows = [row(f"{work}, p50", what, statistics.median(ordered), unit)]
    if tail:
        rows.append(row(f"{work}, p99", what, ordered[int(0.99 * (len(ordered) - 1))], unit))
    return rows


WRITTEN = 200
WRITES = f"OPC UA, {WRITTEN} writes at a time, each read back"


class Heard:
    """What a client heard: how long each value was under way, ms, in order; and how busy it was, cores."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.busy = 0.0


def many_items(
    items: int, period_s: float, what: str, delays_ms: list[float], seconds: float, busy: float
) -> list[dict[str, Any]]:
    """Make rows of many OPC UA items: values a second, their delay at the end and at the start, and the load."""
    work = f"OPC UA, {items:,} items each {1e3 * period_s:,.0f} ms"
    third = max(1, len(delays_ms) // 3)
    rows = [
        row(work, what, len(delays_ms) / seconds, "values/s"),
        row(f"{work}: processor of the client", what, 100.0 * busy, "% of a core"),
    ]
    if delays_ms:
        first, last = statistics.median(delays_ms[:third]), statistics.median(delays_ms[-third:])
        rows.append(row(f"{work}: delay in the first third, p50", what, first, "ms"))
        rows.append(row(f"{work}: delay in the last third, p50", what, last, "ms"))
    return rows


def tell(rows: list[dict[str, Any]]) -> None:
    """Say it, as the last line on standard output."""
    sys.stdout.write("\n" + json.dumps({"rows": rows}) + "\n")
    sys.stdout.flush()


def per_second(count: int, work: Callable[[int], None]) -> float:
    """Call `work(number)` so often after a warm-up; give calls per second."""
    for number in range(count // WARM):
        work(number)
    began = time.perf_counter()
    for number in range(count):
        work(number)
    return count / (time.perf_counter() - began)


def timed(count: int, work: Callable[[int], None], scale: float = 1e3) -> list[float]:
    """Time each call after a warm-up, in ms unless `scale` says otherwise."""
    for number in range(count // WARM):
        work(number)
    found: list[float] = []
    for number in range(count):
        began = time.perf_counter()
        work(number)
        found.append((time.perf_counter() - began) * scale)
    return found


def until(holds: Callable[[], bool], limit_s: float = 30.0, pause_s: float = 0.0005) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it was not true after {limit_s} s")
        time.sleep(pause_s)
