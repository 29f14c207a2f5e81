"""What is current and in no journal: from when to when, and how many samples, until an event has told it."""

from __future__ import annotations

import struct
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_FORM: Final = struct.Struct("<qqq")


class Hole:
    """Kept in the run directory, which is memory: the disk is full, and the process may be killed before it is not.

    Args:
        path: Of a file there; what a killed predecessor left in it goes on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.samples = 0
        self.start_ns = 0
        """The time of the first; 0 if there is no hole."""
        self.end_ns = 0
        with suppress(FileNotFoundError, struct.error):
            self.start_ns, self.end_ns, self.samples = _FORM.unpack(path.read_bytes())

    @property
    def open(self) -> bool:
        """True while there is one that no event has told."""
        return self.start_ns > 0

    def note(self, samples: int, start_ns: int, end_ns: int) -> None:
        """So many samples that came between these times could not be journaled."""
        self.start_ns = self.start_ns or start_ns
        self.end_ns = max(self.end_ns, end_ns)
        self.samples += samples
        with suppress(OSError):  # memory can be full, too; then only a death before the event hides the hole
            self._path.write_bytes(_FORM.pack(self.start_ns, self.end_ns, self.samples))

    def told(self) -> None:
        """The event is on the disk."""
        self.start_ns = self.end_ns = self.samples = 0
        self._path.unlink(missing_ok=True)

    def __str__(self) -> str:
        start, end = (datetime.fromtimestamp(ns / 1e9, UTC).isoformat() for ns in (self.start_ns, self.end_ns))
        return f"{self.samples} samples from {start} to {end} are not in the journal, but for each tag's last one"
