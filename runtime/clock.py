"""Wall time and monotonic time, from one place that tests can turn by hand."""

from __future__ import annotations

import time
from typing import Final, Protocol

NS_PER_S: Final = 1_000_000_000


class Clock(Protocol):
    """Two times: one for people and records, one for durations and deadlines."""

    def now_ns(self) -> int:
        """Give the wall time, UTC, in ns since 1970. It may step in either direction."""
        ...

    def mono_ns(self) -> int:
        """Give the monotonic time in ns since boot. It never goes back, and all processes of the host share it."""
        ...


class SystemClock:
    """The clock of this host. It is looked at ten times a message, so nothing stands between."""

    now_ns = staticmethod(time.time_ns)
    mono_ns = staticmethod(time.monotonic_ns)
    """CLOCK_MONOTONIC, which all processes share."""


class ManualClock:
    """A clock that stands still until `advance`.

    Args:
        now_ns: The wall time to start at, ns since 1970.
        mono_ns: The monotonic time to start at, ns.
    """

    def __init__(self, now_ns: int = 0, mono_ns: int = 0) -> None:
        self._now_ns = now_ns
        self._mono_ns = mono_ns

    def now_ns(self) -> int:
        """Give the wall time, ns since 1970."""
        return self._now_ns

    def mono_ns(self) -> int:
        """Give the monotonic time, ns."""
        return self._mono_ns

    def advance(self, seconds: float) -> None:
        """Move both times on by `seconds`."""
        step_ns = round(seconds * NS_PER_S)
        self._now_ns += step_ns
        self._mono_ns += step_ns

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does; the monotonic time stays."""
        self._now_ns += round(seconds * NS_PER_S)
