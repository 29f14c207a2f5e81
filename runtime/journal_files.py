"""The names in a journal's directory: how files come, go and are set aside there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tagwerk.runtime.journal_index import index_path

_PRIVATE: Final = 0o600


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put `content` in the place of a file: one sees the old or the new one, after a power cut too if `durable`."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb", opener=private) as file:
        file.write(content)
        if durable:
            file.flush()
            os.fdatasync(file.fileno())
    temporary.replace(path)
    if durable:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Give a damaged file a second name `*.corrupt` under which nobody reads it, and return that name."""
    aside = path.with_name(path.name + ".corrupt")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt-{count}")
    aside.hardlink_to(path)
    return aside


def remove_segment(path: Path) -> None:
    """Remove a segment's file and its index."""
    path.unlink()
    index_path(path).unlink(missing_ok=True)


def private(name: str, flags: int) -> int:
    """Open a file that nobody else may read; for `open`."""
    return os.open(name, flags, _PRIVATE)
