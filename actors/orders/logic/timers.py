"""Whose time is over: counted by a clock that nobody sets, from times of day that outlive the process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from tagwerk.actors.orders.logic.life import Life, ServiceRun, ServiceState


@final
class Timers:
    """The times of services. A wall clock that is set meanwhile neither ends a service nor lengthens its time."""

    def __init__(self) -> None:
        self._began: dict[tuple[str, int], int] = {}

    @property
    def any(self) -> bool:
        """Whether a service had a time at the last look."""
        return bool(self._began)

    def over(self, lives: Iterable[tuple[str, Life]], now_ns: int, mono_ns: int) -> list[tuple[str, str]]:
        """Give order and uuid of the services whose time is over.

        Args:
            lives: Orders by id.
            now_ns: UTC, ns since 1970; looked at only where a service is seen for the first time.
            mono_ns: Monotonic, ns.
        """
        began: dict[tuple[str, int], int] = {}
        found: list[tuple[str, str]] = []
        for order_id, life in lives:
            for one in life.services.values():
                if one.timeout_s is None or one.state == ServiceState.UNKNOWN:
                    continue
                key = (one.uuid, one.since_ns)
                began[key] = self._began.get(key, mono_ns - max(0, now_ns - one.since_ns))
                if not _held(life, one) and mono_ns - began[key] > one.timeout_s * 1e9:
                    found.append((order_id, one.uuid))
        self._began = began
        return found


def _held(life: Life, one: ServiceRun) -> bool:
    return life.paused and one.state == ServiceState.WAITING
