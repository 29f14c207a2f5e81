"""Where a key stands in the text of a plant file, and how keys, values and suggestions are written in a message."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from typing import Final, TypeAlias

KeyPath: TypeAlias = tuple[str, ...]

_PART: Final = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_KEY: Final = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER: Final = re.compile(rf"[ \t]*\[\[?[ \t]*({_KEY})[ \t]*\]\]?[ \t]*(?:#.*)?")
_ASSIGNMENT: Final = re.compile(rf"[ \t]*({_KEY})[ \t]*=(.*)")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_MULTI_LINE: Final = ('"""', "'''")
_VALUE_LIMIT: Final = 200  # characters of a value in a message


class KeyLines:
    """The lines of all tables and keys of a TOML text, found by a light scan (the parser does not tell them).

    Args:
        text: The TOML text; it need not be right.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        table: KeyPath = ()
        quote = ""  # of the multi-line string that the scan is in
        for number, line in enumerate(text.splitlines(), 1):
            if quote:
                quote = "" if line.count(quote) % 2 else quote
            elif header := _HEADER.fullmatch(line):
                table = parse_key(header[1])
                self._note(table, 1, number)
            elif key := _ASSIGNMENT.match(line):
                self._note(table + parse_key(key[1]), len(table) + 1, number)
                quote = next((mark for mark in _MULTI_LINE if key[2].count(mark) % 2), "")

    def _note(self, path: KeyPath, shortest: int, number: int) -> None:
        for end in range(shortest, len(path) + 1):
            self._lines.setdefault(path[:end], number)

    def exact(self, path: KeyPath) -> int | None:
        """Give the line of this table or key, from 1, or None if it is not written."""
        return self._lines.get(path)

    def nearest(self, path: KeyPath) -> int | None:
        """Give the line of this key, else of the table around it that is written, or None."""
        return next((self._lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._lines), None)


def line_of(text: str, path: KeyPath) -> int | None:
    """Give the line, from 1, at which a table or key stands in a TOML text, or None if it is not found."""
    return KeyLines(text).exact(path)


def parse_key(text: str) -> KeyPath:
    """Split a dotted TOML key into its parts: `tag."a.b".unit` into `tag`, `a.b` and `unit`."""
    return tuple(_unquoted(part) for part in re.findall(_PART, text))


def key_text(path: KeyPath) -> str:
    """Write a key path as TOML does, with quotes where they are needed."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in path)


def value_text(value: object) -> str:
    """Write a value as it stands in the file; a text without its quotes, a long one cut."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, (list, tuple)):
        text = f"[{', '.join(map(value_text, value))}]"
    elif isinstance(value, dict):
        text = "a table"
    else:
        text = "" if value is None else str(value)
    return text if len(text) <= _VALUE_LIMIT else text[:_VALUE_LIMIT] + "..."


def near(word: str, known: Iterable[str]) -> str:
    """Give the known word that was likely meant, or ""."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """Say what is allowed, the likely one first."""
    allowed = list(known)
    hint = near(word, allowed)
    return (f"{hint} (did you mean that?); " if hint else "") + f"one of: {', '.join(allowed)}"


def _unquoted(part: str) -> str:
    if not part.startswith(('"', "'")):
        return part
    if "\\" not in part or part.startswith("'"):
        return part[1:-1]
    try:
        return str(tomllib.loads(f"key = {part}")["key"])
    except tomllib.TOMLDecodeError:  # the parser proper reports it
        return part[1:-1]
