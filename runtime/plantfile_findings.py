"""All that was found wrong with a plant file, each with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.plantfile_tables import Form, Problem
from tagwerk.runtime.plantfile_text import KeyLines, KeyPath, key_text, parse_key, value_text

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class CsvPlace:
    """Where a row of a CSV file stands (the header is line 1), and its cells as written, while it is being read."""

    file: str
    line: int
    header: Sequence[str] = ()
    cells: Sequence[str] = ()

    def written(self, column: str) -> str:
        """Give the cell as it is written, or "" if that is not known any more."""
        return self.cells[self.header.index(column)] if column in self.header and self.cells else ""


@dataclass(slots=True)
class Findings:
    """Gathers errors and warnings; it knows in which file and line each key stands.

    Args:
        file: The plant file, as the user named it.
        lines: Where its keys stand.
        tables: What stands in it.
        row_of: Where the row of a tag stands, if it comes from a CSV file.
    """

    file: str
    lines: KeyLines
    tables: Mapping[str, Any]
    errors: list[ConfigError] = field(default_factory=list[ConfigError])
    warnings: list[str] = field(default_factory=list[str])
    row_of: Callable[[str], CsvPlace | None] = lambda _: None
    bad: dict[KeyPath, frozenset[str]] = field(default_factory=dict[KeyPath, frozenset[str]])  # table -> its wrong keys

    def fill(
        self,
        path: KeyPath,
        form: Form[C],
        table: object,
        check: Callable[[C], Iterable[Problem]] = lambda _: (),
        **implied: str,
    ) -> C:
        """Give the model of one table, and note all that is wrong in it; `implied` are fields that are not keys."""
        if not isinstance(table, dict):
            self.note(path, Problem((), "it is not a table", table, f"a table: [{path[0]}...]"))
            table = {}
        filled = form.fill(cast("dict[str, Any]", table), **implied)
        for problem in filled.problems:
            self.note(path, _quoting_hint(path, problem))
        if filled.bad:
            self.bad[path] = self.bad.get(path, frozenset()) | filled.bad
        for problem in check(filled.config):
            self.add(path, problem)
        return filled.config

    def add(self, table: KeyPath, problem: Problem) -> None:
        """Note a problem of one table, unless it rests on a key that is wrong itself."""
        wrong = self.bad.get(table)
        if wrong and not wrong.isdisjoint((*problem.path[:1], *problem.needs)):
            return
        self.note(table, problem)

    def note(self, table: KeyPath, problem: Problem) -> None:
        """Note a problem of one table, whatever else is wrong there."""
        if table[:1] == ("tag",) and (place := self.row_of(table[-1])):
            self.note_row(place, problem)
            return
        path = table + problem.path
        self.errors.append(
            ConfigError(
                problem.message,
                file=self.file,
                key=key_text(path),
                value=value_text(self._written(path, problem.value)),
                expected=problem.expected,
                line=self.lines.nearest(path),
            )
        )

    def _written(self, path: KeyPath, value: object) -> object:
        """Give a number as it was written: models turn 5 into 5.0."""
        written: Any = self.tables
        for part in path if isinstance(value, float) else ():
            written = written.get(part) if isinstance(written, Mapping) else None
        return written if isinstance(written, int) else value

    def note_row(self, place: CsvPlace, problem: Problem) -> None:
        """Note a problem of one row of a CSV file; the first part of its path is the column."""
        column = problem.path[0] if problem.path else ""
        self.errors.append(
            ConfigError(
                problem.message,
                file=place.file,
                key=f"row {place.line}, column {column}" if column else f"row {place.line}",
                value=place.written(column) or value_text(problem.value),
                expected=problem.expected,
                line=place.line,
            )
        )

    def place(self, table: KeyPath) -> str:
        """Say where a table stands, for a message about another."""
        if table[:1] == ("tag",) and (place := self.row_of(table[-1])):
            return f"{place.file} row {place.line}"
        line = self.lines.nearest(table)
        return self.file if line is None else f"{self.file} line {line}"

    def adopt(self, error: ConfigError) -> None:
        """Take over an error of another check, with file and line added where it has none."""
        line = error.line
        if line is None and error.file in ("", self.file):
            line = self.lines.nearest(parse_key(error.key))
        self.errors.append(
            ConfigError(
                error.message,
                file=error.file or self.file,
                key=error.key,
                value=error.value,
                expected=error.expected,
                line=line,
            )
        )


def _quoting_hint(path: KeyPath, problem: Problem) -> Problem:
    if path[0] not in ("tag", "alarm") or not isinstance(problem.value, dict):
        return problem
    name = ".".join((*path[1:], *problem.path))
    return Problem(problem.path, problem.message, problem.value, f'quotes around a dotted name: [{path[0]}."{name}"]')
