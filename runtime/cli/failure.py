"""The error boundary: whatever goes wrong for a reason ends here, as one exit code and words that name the thing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import typer

from tagwerk.protocols.errors import (
    ConfigError,
    ConfigErrors,
    NotJournaled,
    NotSent,
    Refused,
    TagwerkError,
    Unavailable,
    Unknown,
)

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NOT_DONE: Final = 3
UNKNOWN: Final = 4
INTERRUPTED: Final = 130

# The libraries' own names for it differ from version to version, this relation does not.
UsageError: Final = cast("type[Exception]", typer.BadParameter.__bases__[0])


@dataclass(frozen=True, slots=True)
class Row:
    """An error as `--json` shows it; None where it says nothing."""

    code: str
    message: str
    tag: str | None = None
    file: str | None = None
    key: str | None = None
    value: str | None = None


class NotFound(TagwerkError):  # noqa: N818  what the user reads, not what we raise
    """There is nothing of this name, or what was asked did not come about."""


def guarded(work: Callable[[], int], as_json: bool) -> int:
    """Run a command; tell what went wrong, and give the exit code.

    Args:
        work: The command; gives its own exit code.
        as_json: Errors as JSON.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads has enough: no word about it, here or when the interpreter flushes for the last time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except UsageError as error:
        return _usage(error, as_json)
    except (TagwerkError, OSError) as error:
        sys.stdout.flush()
        _tell(rows_of(error), as_json)
        return exit_code(error)


def exit_code(error: TagwerkError | OSError) -> int:
    """Give the exit code of an error."""
    if isinstance(error, (ConfigError, OSError)):
        return USAGE
    if isinstance(error, Unknown):
        return UNKNOWN
    if isinstance(error, NotJournaled):  # current, but the promise to keep it broke
        return REFUSED
    return NOT_DONE if isinstance(error, (NotSent, Unavailable)) else REFUSED


def rows_of(error: TagwerkError | OSError) -> list[Row]:
    """Give what an error says, one row for each thing that is wrong."""
    if isinstance(error, ConfigErrors):
        return [row for one in error.errors for row in rows_of(one)]
    if isinstance(error, ConfigError):
        file = error.file + (f":{error.line}" if error.line is not None else "")
        return [Row("Config", str(error), None, file or None, error.key or None, error.value or None)]
    if isinstance(error, Refused):
        return [Row(error.code, error.message, error.tag or None)]
    if isinstance(error, OSError):
        return [Row("Config", f"{error.filename or ''}: {error.strerror}".removeprefix(": "), file=error.filename)]
    text = str(error)
    if type(error) is Unavailable and text.startswith("no plant"):
        text = text[max(0, text.find("no plant is up in")) :]  # who attaches and who looks say it both
        text += "; `tagwerk up` starts one"
    return [Row(type(error).__name__, text)]


def _tell(rows: list[Row], as_json: bool) -> None:
    if as_json:
        first = asdict(rows[0])
        more = {"errors": [asdict(row) for row in rows]} if len(rows) > 1 else {}
        sys.stderr.write(json.dumps({"error": first, **more}) + "\n")
        return
    for row in rows:
        code = f"{row.code}: " if row.tag else ""
        sys.stderr.write(f"error: {code}{row.message}\n")


def _usage(error: Any, as_json: bool) -> int:
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tagwerk"
    text = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(text)  # "" if it was shown already, in colours
        return USAGE
    if as_json:
        _tell([Row("Usage", text)], as_json)
    else:
        sys.stderr.write(f"error: {text}\n       `{path} --help` shows how it is used\n")
    return USAGE
