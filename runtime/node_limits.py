"""The limits of memory and CPU time under which each process of a node lives."""

from __future__ import annotations

from typing import Final, NamedTuple, final

import psutil

from tagwerk.runtime.clock import NS_PER_S
from tagwerk.runtime.process import Identity

_MB: Final = 1e6


class _Used(NamedTuple):
    process: Identity
    cpu_s: float
    at_ns: int


@final
class Limits:
    """Finds who takes too much. Memory counts at each look, CPU time over a whole period: a burst is no offence.

    Args:
        memory_limit_bytes: Resident memory of one process, 0 for no limit.
        cpu_limit_pct: CPU time of one process, 100 for one core, 0 for no limit.
        period_s: Over how long the CPU time is taken.
    """

    def __init__(self, memory_limit_bytes: int, cpu_limit_pct: float, period_s: float) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._cpu_limit_pct = cpu_limit_pct
        self._period_s = period_s
        self._used: dict[str, _Used] = {}

    def broken_by(self, name: str, process: Identity, now_ns: int) -> str:
        """Say which limit a process breaks, "" for none.

        Args:
            name: The actor.
            process: A child that is not reaped yet.
            now_ns: Monotonic time.
        """
        try:
            return self._memory(process) or self._cpu(name, process, now_ns)
        except psutil.NoSuchProcess:  # its end is already on its way to the node
            return ""

    def _memory(self, process: Identity) -> str:
        if not self._memory_limit_bytes:
            return ""
        rss_bytes = psutil.Process(process.pid).memory_info().rss
        if rss_bytes <= self._memory_limit_bytes:
            return ""
        return f"it held {rss_bytes / _MB:.0f} MB, memory_limit_bytes allows {self._memory_limit_bytes / _MB:.0f} MB"

    def _cpu(self, name: str, process: Identity, now_ns: int) -> str:
        if not self._cpu_limit_pct:
            return ""
        times = psutil.Process(process.pid).cpu_times()
        now = _Used(process, times.user + times.system, now_ns)
        then = self._used.setdefault(name, now)
        if then.process != process:
            then = self._used[name] = now  # it was its predecessor's
        lasted_s = (now_ns - then.at_ns) / NS_PER_S
        if lasted_s < self._period_s:
            return ""
        self._used[name] = now
        used_pct = 100 * (now.cpu_s - then.cpu_s) / lasted_s
        if used_pct <= self._cpu_limit_pct:
            return ""
        return f"it took {used_pct:.0f} % CPU for {lasted_s:.0f} s, cpu_limit_pct allows {self._cpu_limit_pct:g} %"
