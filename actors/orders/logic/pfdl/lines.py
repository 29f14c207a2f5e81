"""A text cut into logical lines: comments taken out, a literal in braces kept whole over its lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from tagwerk.actors.orders.logic.pfdl import limits
from tagwerk.actors.orders.logic.pfdl.model import Finding, Place

DIALECT: Final = 1
DIALECT_LINE: Final = f"# dialect: tagwerk {DIALECT}"

_TOKEN: Final = re.compile(r'"(?:\\.|[^"\\\n])*"?|#[^\n]*|[{}\[\]]|\n')
_TOP_LEVEL: Final = re.compile(r"(?:Struct|Task|End)\b")
_DIALECT: Final = re.compile(r"#\s*dialect\s*:\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Line:
    """A logical line.

    Args:
        place: Of its first letter.
        indent: Spaces before it.
        text: Without comments; over several lines if there is a literal in it.
        is_spoilt: It is not to be read: what is wrong with it has been told.
    """

    place: Place
    indent: int
    text: str
    is_spoilt: bool = False

    def at(self, line: int, column: int) -> Place:
        """Turn a place in `text`, from 1, into one in the file."""
        return Place(self.place.line + line - 1, column + (self.place.column - 1 if line == 1 else 0))


@dataclass(slots=True)
class Scan:
    """What the lines of a text are, and what is wrong with them."""

    lines: list[Line] = field(default_factory=list[Line])
    findings: list[Finding] = field(default_factory=list[Finding])
    dialect: int = 0


def scan(text: str) -> Scan:
    """Cut a text into logical lines."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found = Scan()
    count = text.count("\n") + 1
    if len(text) > limits.FILE_CHARACTERS or count > limits.FILE_LINES:
        size = f"{len(text)} characters in {count} lines"
        most = f"at most {limits.FILE_CHARACTERS} characters in {limits.FILE_LINES} lines"
        found.findings.append(Finding(Place(1, 1), "the file is too big", most, size))
        return found
    _Scanner(text, found).run()
    return found


class _Scanner:
    def __init__(self, text: str, found: Scan) -> None:
        self._text = text
        self._found = found
        self._parts: list[str] = []  # of the logical line so far
        self._start = 0  # where the logical line begins
        self._done = 0  # up to where its text is in `_parts`
        self._number = 1  # of the line that is looked at
        self._line_start = 0
        self._first = 1  # number of the line where the logical line begins
        self._open: list[tuple[Place, int]] = []  # brackets of a literal: place, offset
        self._too_deep = False

    def run(self) -> None:
        for match in _TOKEN.finditer(self._text + "\n"):
            token = match[0]
            if token == "\n":
                self._newline(match.start())
            elif token[0] == "#":
                self._comment(token, match.start())
            elif token in "{[" and (self._open or token == "{"):
                self._open.append((self._place(match.start()), match.start()))
                self._check_depth()
            elif token in "}]" and self._open:
                self._open.pop()
        if self._open:
            self._unclosed()
            self._end(len(self._text), keep=False)

    def _place(self, offset: int) -> Place:
        return Place(self._number, offset - self._line_start + 1)

    def _comment(self, token: str, offset: int) -> None:
        self._parts.append(self._text[self._done : offset])
        self._done = offset + len(token)
        dialect = _DIALECT.fullmatch(token)
        if dialect is None:
            return
        if self._found.lines or "".join(self._parts).strip():
            self._note(self._place(offset), "the dialect is named too late", "it above the first Struct or Task", token)
        elif dialect[1] != f"tagwerk {DIALECT}":
            self._note(self._place(offset), "the dialect is not known", DIALECT_LINE, token)
        else:
            self._found.dialect = DIALECT

    def _check_depth(self) -> None:
        if len(self._open) > limits.LITERAL_DEPTH and not self._too_deep:
            self._too_deep = True
            self._note(self._open[-1][0], "the literal is nested too deep", f"at most {limits.LITERAL_DEPTH} levels")

    def _newline(self, offset: int) -> None:
        if self._open and _TOP_LEVEL.match(self._text, offset + 1):
            self._unclosed()
            self._end(offset, keep=False)
        elif not self._open:
            self._end(offset, keep=not self._too_deep)
        self._number += 1
        self._line_start = offset + 1
        if not self._open:
            self._start = self._done = offset + 1
            self._first = self._number

    def _unclosed(self) -> None:
        place, offset = self._open[-1]
        bracket = self._text[offset]
        self._note(place, f"this `{bracket}` is never closed", f"a `{'}' if bracket == '{' else ']'}`")

    def _end(self, offset: int, *, keep: bool) -> None:
        self._parts.append(self._text[self._done : offset])
        whole = "".join(self._parts).rstrip()
        self._parts, self._open, self._too_deep = [], [], False
        body = whole.lstrip(" ")
        stripped = body.lstrip()
        if not stripped:
            return
        indent = len(whole) - len(body)
        place = Place(self._first, indent + 1)
        if stripped != body:
            self._note(place, "the line is indented with a tab, or another blank that is no space", "spaces")
            indent = len(whole) - len(stripped)
            place = Place(self._first, indent + 1)
        is_spoilt = not keep or self._is_too_long(stripped, place)
        self._found.lines.append(Line(place, indent, stripped, is_spoilt))

    def _is_too_long(self, text: str, place: Place) -> bool:
        most = limits.LITERAL_CHARACTERS if "{" in text else limits.LINE_CHARACTERS
        if len(text) > most:
            what = "the literal" if "{" in text else "the line"
            self._note(place, f"{what} is too long", f"at most {most} characters", f"{len(text)}")
        return len(text) > most

    def _note(self, place: Place, message: str, expected: str, value: str = "") -> None:
        self._found.findings.append(Finding(place, message, expected, value[:80]))
