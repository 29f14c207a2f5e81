"""A file that is there whole or not at all: written beside its place under another name, then renamed."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from tagwerk.protocols.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUFFER_BYTES: Final = 1 << 20


def check_new_file(path: Path, *, replace: bool) -> None:
    """Say what is wrong with a file before the work for it begins.

    Args:
        path: The file to be written.
        replace: It may be there.

    Raises:
        ConfigError: It may not be written.
    """
    wrong = _problem(path, replace)
    if wrong is not None:
        raise ConfigError(wrong[0], file=str(path), expected=wrong[1])


def _problem(path: Path, replace: bool) -> tuple[str, str] | None:
    if path.is_dir():
        return "is a directory", "a file's name"
    if _is_special(path):
        return None if os.access(path, os.W_OK) else ("may not be written", "a file that this user may write")
    if path.exists() and not replace:
        return "is there already", "another name, or --force to replace it"
    if not path.parent.is_dir():
        return f"there is no directory {path.parent}", "a directory that is there"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"{path.parent} may not be written", "a directory that this user may write"
    return None


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()  # a pipe, /dev/stdout


@contextmanager
def new_file(path: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """Give a stream to write the file with. It gets its name when it is left without an error, and not before.

    After Ctrl-C, a full disk or any other error nothing is left of it; after a kill a hidden `.NAME.xxxxxxxx.part`.

    Args:
        path: The file.
        replace: It may be there, and is replaced.

    Raises:
        ConfigError: It may not be written.
        OSError: It could not be; a full disk, as a rule.
    """
    check_new_file(path, replace=replace)
    if _is_special(path):
        with path.open("wb") as special:
            yield special
        return
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    stream = open(part, "xb", buffering=BUFFER_BYTES)  # noqa: SIM115  closed before it gets its name
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _give_name(part, path, replace)
    except OSError as error:
        if error.filename is None:  # a write does not know its file
            raise OSError(error.errno, f"{error.strerror}; it was not written", str(path)) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _give_name(part: Path, path: Path, replace: bool) -> None:
    if replace:
        part.replace(path)
    else:
        try:
            os.link(part, path)  # unlike a rename it replaces nothing that has come meanwhile
        except FileExistsError as error:
            raise ConfigError("is there already", file=str(path), expected="another name, or --force") from error
        except OSError:  # a file system without links
            part.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
