"""The number of an actor's start: durable before it answers anyone, and it only grows."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from tagwerk.runtime.clock import Clock

_log = logging.getLogger(__name__)
_FILE: Final = "incarnation"
_NEW: Final = "incarnation.new"
_LIMIT: Final = 1 << 63  # it travels as a signed 64-bit integer
_JUMP_BITS: Final = 20  # a start a microsecond would be needed to catch up with a jump


def next_incarnation(directory: Path, clock: Clock) -> int:
    """Give the incarnation of this start, after it is safely on disk.

    A file that cannot be read must not take the count back, or peers would take the new actor for an old one:
    the count then jumps past anything that single steps can have reached, to wall seconds x 2^20.

    Args:
        directory: The actor's data directory.
        clock: Where the wall time for a jump comes from.
    """
    incarnation = _following(directory, clock)
    new = directory / _NEW
    with new.open("w", encoding="ascii") as file:
        file.write(f"{incarnation}\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(directory / _FILE)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)  # the rename itself, too, must survive a power cut
    finally:
        os.close(descriptor)
    return incarnation


def leap(directory: Path, clock: Clock) -> None:
    """Make the next start's incarnation larger than any that single steps can have reached since the file was written.

    For a directory that comes from elsewhere, a backup: starts that it does not know of have been seen by others.

    Args:
        directory: An actor's data directory, with the file.
        clock: Where the wall time comes from.
    """
    text = (directory / _FILE).read_text(encoding="ascii", errors="replace").strip()
    known = int(text) if text.isascii() and text.isdigit() else 0
    (directory / _FILE).write_text(f"{max(known, _jump(clock))}\n", encoding="ascii")


def _jump(clock: Clock) -> int:
    return (clock.now_ns() << _JUMP_BITS) // 1_000_000_000


def _following(directory: Path, clock: Clock) -> int:
    path = directory / _FILE
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        if not any(entry.name != _NEW for entry in directory.iterdir()):
            return 1
        text = ""
    if text.isascii() and text.isdigit() and 0 < int(text) < _LIMIT - 1:
        return int(text) + 1
    jump = _jump(clock)
    _log.error("%s holds %r instead of a number: the incarnation jumps to %d", path, text[:40], jump)
    return jump
