"""What of `data/` goes into a backup, in which order, and what does not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tagwerk.protocols.errors import ConfigError

JOURNAL: Final = "journal"
CONSUMERS: Final = "consumers.json"
INCARNATION: Final = "incarnation"

LEFT_OUT: Final = MappingProxyType(
    {
        # What is half written, and what SQLite keeps beside a file that is open.
        "*.tmp": "", "*.new": "", "*.part": "", "*.held": "", "*-wal": "", "*-shm": "", "*-journal": "",
        ".*": "",
        "steady": "how the clock of this boot goes",
        "*.stumbles": "over which record a process of this moment has died",
        "leases.msgpack": "leases of this moment: their safe values, written after a restore, would be late commands",
    }
)  # fmt: skip
"""File name -> why, where it is no half of another file."""

_RANKS: Final = MappingProxyType({"events": 0, "historian": 1, "alarms": 2, "cvt": 4, "plant": 5, "": 6})
_RANK: Final = 3
"""Who reads comes before what is read from: the log of events before all outboxes, history and alarms before the
journals. So a copy of what is read has all that a copy of its reader does not have. Handles come after the journals
that use them, and the node's counts after the events that were made of them."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a backup.

    Args:
        source: Where it is.
        path: Where it is below `data/`, in the form of this system.
    """

    source: Path
    path: Path

    @property
    def actor(self) -> str:
        """The name of its actor's directory, `cvt-0`; "" for a file of no actor."""
        return self.path.parts[0] if len(self.path.parts) > 1 else ""

    @property
    def kind(self) -> str:
        """The kind of its actor; "" for a file of no actor."""
        return kind_of(self.actor)

    @property
    def is_store(self) -> bool:
        """Whether it is an SQLite file, whose last changes may lie beside it."""
        return self.path.suffix == ".db" or ".db.layout-" in self.path.name


def kind_of(directory: str) -> str:
    """Give the kind of the actor whose directory this is, `cvt` of `cvt-0`."""
    return directory.partition("-")[0]


def directories(data: Path) -> list[str]:
    """Give the directories below `data/`, and "" for the files in it itself, in the order in which they are copied.

    A link to a directory is one: somebody has put history on a disk of its own.
    """
    names = sorted(entry.name for entry in os.scandir(data) if entry.is_dir())
    wanted = [*(name for name in names if not is_left_out(name)), ""]
    return sorted(wanted, key=lambda name: _RANKS.get(kind_of(name), _RANK))


def is_left_out(name: str) -> bool:
    """Tell whether a file or directory of this name is no part of a backup."""
    return any(fnmatch(name, pattern) for pattern in LEFT_OUT)


def items(data: Path, directory: str) -> list[Item]:
    """Give the files of one of `directories`, in the order in which they are copied: the journal last, by segment.

    Raises:
        ConfigError: One of them is a link, or a link leads in a circle: a backup without it would miss something.
    """
    if not directory:
        names = sorted(entry.name for entry in os.scandir(data) if entry.is_file())
        return [_item(data / name, Path(name)) for name in names if not is_left_out(name)]
    found: list[Item] = []
    seen: set[Path] = set()
    for folder, below, names in os.walk(data / directory, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            raise ConfigError("a link leads to what is copied already", file=folder, expected="a directory")
        seen.add(real)
        below[:] = [name for name in below if not is_left_out(name)]
        place = Path(folder).relative_to(data)
        for name in names:
            path = Path(folder) / name
            if not is_left_out(name) and name != CONSUMERS and path.is_file():
                found.append(_item(path, place / name))
    return sorted(found, key=lambda item: (JOURNAL in item.path.parts, len(item.path.parts), item.path))


def _item(source: Path, path: Path) -> Item:
    if source.is_symlink():
        expected = "a file; directories may be links"
        raise ConfigError("a file that is a link is not backed up", file=str(source), expected=expected)
    return Item(source, path)
