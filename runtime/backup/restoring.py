"""Restoring a backup into a home that is empty. The home is as before, or restored; between the two, nothing starts."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tagwerk.protocols.errors import ConfigError, Unavailable
from tagwerk.runtime.backup import plan
from tagwerk.runtime.backup.manifest import CHUNK_BYTES, DATA, Entry, Manifest, load, refuse_small_disk, sync_tree
from tagwerk.runtime.home import RESTORED, RESTORING
from tagwerk.runtime.incarnation import leap

if TYPE_CHECKING:
    from collections.abc import Generator

    from tagwerk.runtime.backup.making import Progress
    from tagwerk.runtime.clock import Clock
    from tagwerk.runtime.home import Home

WAITING: Final = frozenset({"machine", "order", "resource"})
"""Kinds of actors that would go on by themselves, and wait for an operator instead."""


def restore(source: Path, home: Home, clock: Clock, progress: Progress) -> Manifest:
    """Restore a backup.

    Args:
        source: The backup.
        home: Where it goes. It has no data, or what a restore that was stopped has left.
        clock: The wall time.
        progress: Told how far it is.

    Raises:
        ConfigError: It is no whole, sound backup of a version that we know, or the home is not empty.
        Unavailable: Another restore is at work there.
        OSError: Something cannot be read or written.
    """
    manifest = load(source)
    _refuse_full(home)
    made_here = not home.root.exists()
    home.root.mkdir(parents=True, exist_ok=True)
    refuse_small_disk(home.root, manifest.size_bytes)
    building = home.root / RESTORING
    with _alone(building):
        try:
            for entry in list(building.iterdir()):  # of a restore that was stopped
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            _copy_all(source / DATA, building, manifest, progress)
            _renew(building, clock)
            sync_tree(building)
            _refuse_full(home)
            building.rename(home.data)  # in one step, over an empty directory if there is one
            sync_tree(home.root)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            if made_here and not any(home.root.iterdir()):
                home.root.rmdir()
            raise
    return manifest


def _refuse_full(home: Home) -> None:
    if home.data.exists() and any(home.data.iterdir()):
        expected = "a home without data: another --home, or move this one away first"
        raise ConfigError("there is a plant already", file=str(home.data), expected=expected)


@contextmanager
def _alone(building: Path) -> Generator[None]:
    building.mkdir(mode=0o700, exist_ok=True)
    building.chmod(0o700)
    descriptor = os.open(building, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(f"another restore is at work in {building.parent}") from error
        yield
    finally:
        os.close(descriptor)


def _copy_all(data: Path, building: Path, manifest: Manifest, progress: Progress) -> None:
    progress.begin("the plant", manifest.size_bytes)
    for name in manifest.folders:
        (building / name).mkdir(mode=0o700, parents=True)
    for entry in manifest.files:
        _copy(data / entry.path, building / entry.path, entry, progress)


def _copy(source: Path, target: Path, entry: Entry, progress: Progress) -> None:
    """Copy a file, and make sure that it is the one that was backed up."""
    digest, size = blake2b(digest_size=32), 0
    if source.exists() and not source.is_file():  # reading a pipe would wait for ever
        raise ConfigError("a file of the backup is no file", file=str(source), expected="another copy of the backup")
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, int(entry.mode, 8) & 0o700)
    try:
        with os.fdopen(descriptor, "wb") as copy, source.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                copy.write(chunk)
                progress.more(len(chunk))
            copy.flush()
            os.fsync(copy.fileno())
    except FileNotFoundError as error:
        raise ConfigError("a file of the backup is missing", file=str(source), expected="a whole backup") from error
    if size != entry.bytes or digest.hexdigest() != entry.blake2b:
        message = "a file of the backup is damaged"
        raise ConfigError(message, file=str(source), value=f"{size} bytes", expected=f"{entry.bytes} bytes as written")


def _renew(building: Path, clock: Clock) -> None:
    """Make the copy the next life of the plant, and none that could be taken for an earlier one.

    What the lost plant has done since the backup has been seen: its incarnations must not come again. A machine or an
    order that would go on by itself waits for an operator, as its device has gone on without it.
    """
    for path in sorted(building.glob(f"*/{plan.INCARNATION}")):
        leap(path.parent, clock)
    for directory in sorted(building.iterdir()):
        if directory.is_dir() and plan.kind_of(directory.name) in WAITING:
            (directory / RESTORED).touch(mode=0o600)
