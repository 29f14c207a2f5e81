"""Copying one file: as it is, or, if it is a store that somebody writes to, as it is at one moment."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tagwerk.runtime.backup.manifest import CHUNK_BYTES
from tagwerk.runtime.store import copy_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tagwerk.runtime.backup.plan import Item

AT_REST_S: Final = 2.0
"""A store that was not written to for so long, with nothing beside it, is copied as it is; its time tells of writes."""
_PRIVATE: Final = 0o600
_STORE_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """How a file looked when it was copied: another one, or a written one, looks different."""

    inode: int
    bytes: int
    changed_ns: int


def at_rest(path: Path, rest_s: float = AT_REST_S) -> Seen | None:
    """Give how a store looks if nobody has it open for writing; None if somebody may.

    Args:
        path: The store.
        rest_s: For how long nobody must have written to it; 0 if nobody can.
    """
    beside = path.with_name(f"{path.name}-wal")
    try:
        status = path.stat()
        waits = beside.stat().st_size if beside.exists() else 0
    except FileNotFoundError:
        return None
    if waits or (path.with_name(f"{path.name}-journal")).exists():
        return None
    if rest_s and time.time() - status.st_mtime < rest_s:  # the times of files have a grain of some milliseconds
        return None
    return Seen(status.st_ino, status.st_size, status.st_mtime_ns)


def copy_item(item: Item, target: Path, step: Callable[[int], None], rest_s: float = AT_REST_S) -> Seen | None:
    """Copy a file.

    Args:
        item: The file.
        target: The copy; what was there is replaced.
        step: Called with how many bytes were copied since the last call; what it raises ends the copying.
        rest_s: See `at_rest`.

    Returns:
        How it looked, if it is the same as long as it looks like that.

    Raises:
        FileNotFoundError: It is gone.
        OSError: It cannot be copied.
    """
    seen = at_rest(item.source, rest_s) if item.is_store else None
    if not item.is_store or seen is not None:
        copy_bytes(item.source, target, step)
        if not item.is_store or at_rest(item.source, rest_s) == seen:
            return seen
    _copy_store(item.source, target, step)
    return None


def copy_bytes(source: Path, target: Path, step: Callable[[int], None]) -> None:
    """Copy what a file holds now; what is appended meanwhile is left."""
    with source.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _PRIVATE)
        with os.fdopen(descriptor, "wb") as copy:
            while left and (chunk := file.read(min(CHUNK_BYTES, left))):
                copy.write(chunk)
                left -= len(chunk)
                step(len(chunk))
            copy.flush()
            os.fsync(copy.fileno())


def _copy_store(source: Path, target: Path, step: Callable[[int], None]) -> None:
    size = source.stat().st_size
    # Not to be written: but what lies beside it has to be read, so nothing is made if the file is gone.
    uri = f"{source.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, timeout=_STORE_WAIT_S, isolation_level=None, uri=True)) as store:
            copy_store(store, target, lambda: step(0))
    except sqlite3.Error as error:
        if not source.exists():
            raise FileNotFoundError(2, "it is gone", str(source)) from error
        raise OSError(5, f"it cannot be copied: {error}", str(source)) from error
    step(size)
