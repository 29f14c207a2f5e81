"""What a backup holds, so that it is known whether it is whole: the last file written, the first one read."""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.journal_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

FILE: Final = "manifest.json"
UNFINISHED: Final = "UNFINISHED"
"""In a directory that is no backup yet, or was none when whoever made it died."""
DATA: Final = "data"
FORM: Final = 1
CHUNK_BYTES: Final = 1 << 20
_LIMIT_BYTES: Final = 1 << 28
_MODE: Final = re.compile("[0-7]{1,3}")
_DIGITS_MOST: Final = 9
_PERMISSIONS: Final = 0o700


class Entry(msgspec.Struct, frozen=True):
    """A file: its path below `data/`, its size, its digest (blake2b, 32 bytes, hex), what its owner may do (octal)."""

    path: str
    bytes: int
    blake2b: str
    mode: str


class Reach(msgspec.Struct, frozen=True):
    """The journal of a shard: its id (hex), and its records."""

    shard: str
    journal: str
    first: int
    last: int


class Manifest(msgspec.Struct, frozen=True):
    """A backup.

    Args:
        form: Of this file, and of what lies beside it.
        tagwerk: The version that made it.
        made: RFC 3339, UTC.
        host: Where it was made.
        home: The home that it is of.
        online: The plant was running.
        folders: Directories below `data/`, parents first.
        files: All files.
        journals: What the journals reach.
        digest: blake2b of all before, hex.
    """

    form: int
    tagwerk: str
    made: str
    host: str
    home: str
    online: bool
    folders: tuple[str, ...]
    files: tuple[Entry, ...]
    journals: tuple[Reach, ...] = ()
    digest: str = ""

    @property
    def size_bytes(self) -> int:
        """The bytes of all files."""
        return sum(entry.bytes for entry in self.files)


class _Head(msgspec.Struct):
    """What every form of the file has."""

    form: int
    tagwerk: str


def digest_of(path: Path, step: Callable[[], None] = lambda: None) -> str:
    """Give the digest of a file, reading a megabyte at a time.

    Args:
        path: The file.
        step: Called at each megabyte.
    """
    found = blake2b(digest_size=32)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
            step()
    return found.hexdigest()


def mode_of(path: Path) -> str:
    """Give what the owner may do with a file; others may do nothing with it, here or there."""
    return f"{path.stat().st_mode & _PERMISSIONS:o}"


def save(directory: Path, manifest: Manifest) -> None:
    """Write it: from now on the directory is a backup."""
    sealed = msgspec.structs.replace(manifest, digest=_digest(manifest))
    write_whole(directory / FILE, msgspec.json.format(msgspec.json.encode(sealed), indent=1) + b"\n")


def load(directory: Path) -> Manifest:
    """Read what a backup holds.

    Raises:
        ConfigError: It is no backup, not a whole one, a damaged one, or one of a newer version.
    """
    path = directory / FILE
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise ConfigError("the list of a backup's files is too long", file=str(path))
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if (directory / UNFINISHED).exists():
            message = "the backup is not finished: whoever made it was stopped"
            raise ConfigError(message, file=str(directory), expected="a backup that was made to its end") from error
        expected = f"a directory that `tagwerk backup` has made, with a {FILE}"
        raise ConfigError("it is no backup", file=str(directory), expected=expected) from error
    try:
        head = msgspec.json.decode(content, type=_Head)
        _refuse_newer(head, path)
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"it is damaged: {error}", file=str(path), expected="another copy of the backup") from error
    if manifest.digest != _digest(manifest):
        raise ConfigError("it is not what was written", file=str(path), expected="another copy of the backup")
    if not manifest.files:
        raise ConfigError("it is a backup of nothing", file=str(path), expected="a backup that names its files")
    for entry in manifest.files:
        if entry.bytes < 0 or not _MODE.fullmatch(entry.mode):
            raise ConfigError("what it says of a file cannot be", file=str(path), value=str(entry)[:200])
    for name in (*manifest.folders, *(entry.path for entry in manifest.files)):
        if not _is_below(name):
            raise ConfigError("it names a file outside of the backup", file=str(path), value=name[:200])
    return manifest


def _refuse_newer(head: _Head, path: Path) -> None:
    import tagwerk

    ours, theirs = tagwerk.__version__, head.tagwerk
    if head.form > FORM or _numbers(theirs) > _numbers(ours):
        message = f"the backup was made by tagwerk {theirs} (form {head.form}); this is {ours} (form {FORM})"
        raise ConfigError(message, file=str(path), value=theirs, expected=f"tagwerk {theirs} or newer")


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.partition("+")[0].split(".")
    return tuple(int(part) if part.isdecimal() and len(part) <= _DIGITS_MOST else 0 for part in parts)


def _digest(manifest: Manifest) -> str:
    bare = msgspec.structs.replace(manifest, digest="")
    return blake2b(msgspec.json.encode(bare), digest_size=32).hexdigest()


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def refuse_small_disk(directory: Path, needed_bytes: int) -> None:
    """Make sure that so much has room.

    Raises:
        ConfigError: It has not.
    """
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if free < needed_bytes:
        found, expected = f"{free / 1e9:.2f} GB", f"{needed_bytes / 1e9:.2f} GB"
        raise ConfigError("the disk has no room for it", file=str(directory), value=found, expected=expected)


def sync_tree(directory: Path) -> None:
    """Make the names in a directory and in all below it durable."""
    for folder, _, _ in os.walk(directory, topdown=False):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
