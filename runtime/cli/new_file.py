"""A file that is there whole or not at all: written beside its place under another name, then renamed."""

from __future__ import annotations

import io
import os
import secrets
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO

import typer

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


def check_form(as_csv: bool, as_json: bool, file: Path | None, force: bool) -> None:
    """Check the options of a command that gives CSV and JSON, also into a file.

    Raises:
        typer.BadParameter: They do not go together.
        ConfigError: The file may not be written.
    """
    if as_csv and as_json:
        raise typer.BadParameter("one of --csv and --json, not both")
    if file is not None:
        if not (as_csv or as_json):
            raise typer.BadParameter("--output takes what --csv or --json gives")
        check_new_file(file, replace=force)


@contextmanager
def text_to(file: Path | None, *, force: bool) -> Iterator[TextIO]:
    """Give a stream for CSV or JSON: standard output, or a file that is there when it is whole.

    Raises:
        ConfigError: See `new_file`.
        OSError: See `new_file`.
    """
    if file is None:
        yield sys.stdout
        return
    with new_file(file, replace=force) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


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
        with _named_errors(path), path.open("wb") as special:
            yield special
        return
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    stream = open(part, "xb", buffering=BUFFER_BYTES)  # noqa: SIM115  closed before it gets its name
    try:
        with _named_errors(path):
            with stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            _give_name(part, path, replace)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """A write does not know its file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, f"{error.strerror}; it was not written", str(path)) from error


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
