"""The time in which the database was not there, remembered on the own disk: what is owed for it is one event.

The outbox lies in the database itself, so the event is put there when that is back, in one transaction with the number
of the outage. A kill before leaves the file, a kill after leaves a file whose outage is known as told.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "database-down.json"


@dataclass(frozen=True, slots=True)
class Outage:
    """Since when, ns since 1970, and why."""

    since_ns: int
    why: str


@final
class OutageFile:
    """The outage that nobody was told of yet.

    Args:
        directory: The historian's.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self.outage = self._read()

    def begin(self, now_ns: int, why: str) -> None:
        """The database is gone, if that is not known. Without room for the file it is known until a kill."""
        if self.outage is not None:
            return
        self.outage = Outage(now_ns, why)
        beside = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps(asdict(self.outage)), encoding="utf-8")
            beside.replace(self._path)

    def end(self) -> None:
        """It was told."""
        self.outage = None
        self._path.unlink(missing_ok=True)

    def _read(self) -> Outage | None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return Outage(int(found["since_ns"]), str(found["why"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            return Outage(0, "a note of an outage cannot be read")
