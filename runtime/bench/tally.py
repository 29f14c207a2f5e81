"""What writers and watchers have in common, those of the floor and those of tagwerk: both must count the same way."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tagwerk.runtime.bench.tasks import Flow, Seen


class Tally:
    """What a watcher counts, the floor's and tagwerk's.

    Args:
        samples: How many will come; the first tenth is warm-up.
        timed: Note how long each was under way.
    """

    def __init__(self, samples: int, *, timed: bool) -> None:
        self._samples = samples
        self._warm = samples // 10
        self._timed = timed
        self._seen = 0
        self._started = 0.0
        self._counted_from = 0
        self._cpu_s = time.process_time()
        self._delays_ms: list[float] = []

    @property
    def done(self) -> bool:
        """All have come."""
        return self._seen >= self._samples

    def add(self, times_ns: Any) -> None:
        """Count a batch by its samples' times, int64 (n,)."""
        if self._timed and self._seen >= self._warm:
            self._delays_ms.extend(((time.time_ns() - times_ns) / 1e6).tolist())
        self._seen += len(times_ns)
        if not self._started and self._seen >= self._warm:
            self._started, self._counted_from = time.perf_counter(), self._seen

    def seen(self) -> Seen:
        """Give the result."""
        elapsed_s = time.perf_counter() - self._started
        p50, p99 = np.percentile(self._delays_ms, (50, 99)).tolist() if self._timed else (0.0, 0.0)
        rate = (self._seen - self._counted_from) / elapsed_s
        return Seen(rate, p50, p99, self._seen, time.process_time() - self._cpu_s)


def rounds(task: Flow) -> list[Any]:
    """Give the numbers of the tags of each batch until all tags had their turn, uint32 (batch,) each."""
    count = max(1, task.tags // task.batch)
    first = np.arange(task.batch, dtype="<u4")
    return [(first + number * task.batch) % task.tags for number in range(count)]


def sleep_until(moment_s: float) -> None:
    """Sleep until a moment of `time.perf_counter`, or not at all."""
    left_s = moment_s - time.perf_counter()
    if left_s > 0:
        time.sleep(left_s)
