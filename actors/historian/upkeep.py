"""What the store needs now and then: moving recent rows, deleting old ones, looking at the disk. In small slices."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.logic import DiskLevel, disk_level
from tagwerk.actors.historian.store import RECENT_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.actors.historian.store import Store

DELETE_ROWS: Final = 5_000
"""Rows deleted in one transaction, about 20 ms."""

LOOK_TAGS: Final = 2_000
"""Tags without old rows that are passed in one turn, about 20 ms."""

SWEEP_S: Final = 3_600.0
"""Time from the end of one search for old rows to the next."""

DISK_LOOK_S: Final = 10.0
NS_PER_DAY: Final = 86_400 * 1_000_000_000
_NS: Final = 1_000_000_000


@final
class Upkeep:
    """Does one slice a turn; its owner gives it a turn once a second, and more often while there is more to do.

    Args:
        store: The store.
        retention_days: Age in days at which rows are deleted; None for never.
        recent_rows: Rows in `recent` at which they are moved.
    """

    def __init__(self, store: Store, retention_days: float | None, recent_rows: int = RECENT_ROWS) -> None:
        self._store = store
        self._keep_ns = None if retention_days is None else int(retention_days * NS_PER_DAY)
        self._recent_rows = recent_rows
        self._slices: deque[int] = deque()
        self._moved_tag = -1
        self._swept_tag: int | None = None
        self._next_sweep_ns = 0

    @property
    def sweeping(self) -> bool:
        """True in the middle of a search for old rows: `sweep` again soon."""
        return self._swept_tag is not None

    @property
    def moving(self) -> bool:
        """True if recent rows wait to be moved: `move` again soon."""
        return bool(self._slices) or self._store.recent_rows >= self._recent_rows

    def move(self) -> None:
        """Move one slice of recent rows. What arrives meanwhile for tags that were passed waits for the next round."""
        if not self._slices:
            self._plan()
        last_tag = self._slices.popleft()
        with self._store.transaction():
            self._store.move(self._moved_tag, last_tag)
        self._moved_tag = last_tag

    def _plan(self) -> None:
        self._slices.extend(self._store.slices())
        self._moved_tag = -1

    def sweep(self, now_ns: int, mono_ns: int) -> int:
        """Delete one slice of what is older than the retention.

        Args:
            now_ns: The wall time, UTC, ns since 1970.
            mono_ns: The monotonic time in ns.

        Returns:
            How many rows were deleted.
        """
        if self._keep_ns is None or mono_ns < self._next_sweep_ns:
            return 0
        before_ns = now_ns - self._keep_ns
        if self._swept_tag is None:
            self._swept_tag = -1
            if not self.moving:
                self._plan()  # old rows of a quiet plant lie in `recent` still
        if self.moving:
            return 0
        with self._store.transaction():
            deleted = self._delete(before_ns)
        if not self.sweeping:
            self._next_sweep_ns = mono_ns + int(SWEEP_S * _NS)
        return deleted

    def _delete(self, before_ns: int) -> int:
        deleted = 0
        while self._swept_tag is not None and deleted < DELETE_ROWS:
            tag, looked = self._store.next_old(self._swept_tag, before_ns, LOOK_TAGS)
            if tag is None:
                self._swept_tag = None if looked < 0 else looked
                break
            left = DELETE_ROWS - deleted
            of_tag = self._store.delete_before(tag, before_ns, left)
            self._swept_tag = tag if of_tag < left else tag - 1
            deleted += of_tag
        return deleted


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
