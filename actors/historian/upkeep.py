"""What the store needs now and then: removing old days, and a look at the disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.days import day_name
from tagwerk.actors.historian.hot import DAY_NS
from tagwerk.actors.historian.logic.intake import DiskLevel, disk_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.actors.historian.interface import HistoryStore

DISK_LOOK_S: Final = 10.0
KEPT_DAYS: Final = 7
"""A full disk does not take the last days, whoever has filled it; a shorter retention does."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A day that was removed, and how many samples with it."""

    date: str
    rows: int


@final
class Retention:
    """Removes whole days.

    Args:
        store: The store.
        retention_days: Age in days at which samples are removed; None: never.
    """

    def __init__(self, store: HistoryStore, retention_days: float | None) -> None:
        self._store = store
        self._keep_ns = None if retention_days is None else int(retention_days * DAY_NS)

    def kept_from(self, now_ns: int) -> int | None:
        """The time before which samples are removed; None: none are."""
        return None if self._keep_ns is None else now_ns - self._keep_ns

    def expire(self, now_ns: int) -> Dropped | None:
        """Remove the oldest day if all of it is too old.

        Args:
            now_ns: The time, ns since 1970.
        """
        return None if self._keep_ns is None else self._drop_before(now_ns - self._keep_ns)

    def make_room(self, now_ns: int) -> Dropped | None:
        """Remove the oldest day, for the disk is full; None if there is none but the last `KEPT_DAYS`."""
        keep_ns = KEPT_DAYS * DAY_NS
        return self._drop_before(now_ns - (keep_ns if self._keep_ns is None else min(keep_ns, self._keep_ns)))

    def _drop_before(self, before_ns: int) -> Dropped | None:
        oldest = self._store.oldest_day()
        if oldest is None or (oldest.day + 1) * DAY_NS > before_ns:
            return None
        return Dropped(day_name(oldest.day), self._store.drop(oldest.day))


@final
class Disk:
    """How full the store's file system is, and how full it may be.

    Args:
        warn_pct: Above it is `WARN`.
        stop_pct: Above it is `STOP`.
        used_pct: Gives how full it is now, in percent.
    """

    def __init__(self, warn_pct: float, stop_pct: float, used_pct: Callable[[], float]) -> None:
        self.level = DiskLevel.ROOM
        self.seen_pct = 0.0
        self._warn_pct = warn_pct
        self._stop_pct = stop_pct
        self._used_pct = used_pct

    def look(self) -> DiskLevel | None:
        """Look again; gives the new level if it is another one."""
        self.seen_pct = self._used_pct()
        level = disk_level(self.level, self.seen_pct, self._warn_pct, self._stop_pct)
        if level is self.level:
            return None
        self.level = level
        return level


def used_pct(path: str) -> float:
    """How full the file system of a path is, in percent of what this user may use, as `df` tells it."""
    status = os.statvfs(path)
    used = status.f_blocks - status.f_bfree
    usable = used + status.f_bavail
    return 100.0 * used / usable if usable else 100.0
