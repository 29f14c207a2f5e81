"""Ray: an actor with `max_restarts=-1, max_task_retries=-1`; ask, and `kill -9` to the next answer."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import ray
import speak


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Table:
    """Answers with its process."""

    def pid(self) -> int:
        """Give it."""
        return os.getpid()


def main() -> None:
    """Measure."""
    sizes = speak.sizes()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        speak.tell(measure(sizes))
    finally:
        ray.shutdown()


def measure(sizes: dict[str, Any]) -> list[dict[str, Any]]:
    """Give all rows."""
    table: Any = Table.remote()  # type: ignore[attr-defined]
    asked = speak.timed(sizes["asks"], lambda _: ray.get(table.pid.remote()), 1e6)
    rows = speak.delays("ask", "Ray", asked, "us", tail=False)
    found: list[float] = []
    for _ in range(sizes["kills"]):
        pid = ray.get(table.pid.remote())
        time.sleep(0.5)
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while ray.get(table.pid.remote()) == pid:
            pass
        found.append(1e3 * (time.perf_counter() - began))
    return rows + speak.delays("kill -9 to the next answer", "Ray, max_restarts=-1", found, tail=False)


if __name__ == "__main__":
    main()
