"""The files in which history lies for good: one a day of the samples' own time.

So retention is removing files, and a backup of a past day is a copy. A day that is over and was put in order is a
single file that is only read.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, final

import numpy as np

from tagwerk.actors.historian.day_file import DayFile, Use

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

OPEN_FILES: Final = 12
"""Connections that stay open; each has a cache of at most 2 MB."""


def day_name(day: int) -> str:
    """The date of a day since 1970, `2026-11-22`."""
    return str(np.datetime64(day, "D"))


@final
class Days:
    """The day files, the ones used last open.

    Args:
        directory: Where they lie; made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.directory = directory.resolve()
        self._open: OrderedDict[tuple[int, Use], DayFile] = OrderedDict()

    def path(self, day: int) -> Path:
        """Where a day's file is."""
        return self.directory / f"{day_name(day)}.db"

    def has(self, day: int) -> bool:
        """Whether there is a file of a day."""
        return self.path(day).exists()

    def file(self, day: int, *, frozen: bool = False) -> DayFile:
        """A day's file, to be used before the next one is asked for."""
        use = Use.FROZEN if frozen else Use.WRITE
        found = self._open.get((day, use))
        if found is None:
            self.release(day)
            found = self._open[day, use] = DayFile(self.path(day), use)
        self._open.move_to_end((day, use))
        while len(self._open) > OPEN_FILES:
            _, oldest = self._open.popitem(last=False)
            oldest.commit()
            oldest.close()
        return found

    def build(self, day: int) -> DayFile:
        """A new file for a day, not in use before `replace`. The caller closes it."""
        path = self._new_path(day)
        path.unlink(missing_ok=True)
        return DayFile(path, Use.BUILD)

    def replace(self, day: int) -> None:
        """Put the file that was built in the place of the day's file."""
        self.file(day).fold()  # a write-ahead log that stayed behind would be read into the new file
        self.release(day)
        self._new_path(day).replace(self.path(day))
        sync_directory(self.directory)

    def discard_builds(self) -> None:
        """Remove files that were not finished."""
        for path in self.directory.glob("*.new*"):
            path.unlink()

    def commit(self) -> None:
        """End the slice in all files."""
        for file in self._open.values():
            file.commit()

    def roll_back(self) -> None:
        """Undo the slice in all files."""
        for file in self._open.values():
            file.roll_back()

    def release(self, day: int) -> None:
        """Close a day's file."""
        for use in Use:
            file = self._open.pop((day, use), None)
            if file is not None:
                file.commit()
                file.close()

    def remove(self, day: int) -> None:
        """Remove a day's file, and what SQLite may have left beside it."""
        self.release(day)
        for beside in self._beside(day):
            beside.unlink(missing_ok=True)

    def bytes_of(self, day: int) -> int:
        """What a day takes on the disk."""
        return sum(beside.stat().st_size for beside in self._beside(day) if beside.exists())

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _new_path(self, day: int) -> Path:
        return self.directory / f"{day_name(day)}.new"

    def _beside(self, day: int) -> Iterable[Path]:
        path = self.path(day)
        return (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))


def sync_directory(directory: Path) -> None:
    """Make names that were given or taken away in a directory outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
