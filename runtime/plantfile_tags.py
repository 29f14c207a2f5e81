"""The tags of a plant file: those of the TOML text first, then the rows of its CSV files."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from tagwerk.protocols.names import name_problem
from tagwerk.runtime import plantfile_tables as forms
from tagwerk.runtime.plantfile_columns import TagColumns
from tagwerk.runtime.plantfile_csv import CsvProblem, CsvRow, CsvSheet, read_row
from tagwerk.runtime.plantfile_findings import CsvPlace, Findings
from tagwerk.runtime.plantfile_known import KnownRows
from tagwerk.runtime.plantfile_models import TagConfig
from tagwerk.runtime.plantfile_rules import tag_problems
from tagwerk.runtime.plantfile_syntax import normal_source
from tagwerk.runtime.plantfile_tables import Problem
from tagwerk.runtime.plantfile_text import one_of

NAME_FORM: Final = "letters, digits and underscores, with dots between segments, as in brewhouse.kettle.temperature"


class TagReader:
    """Reads tags, and finds the owner that their `source` names.

    Args:
        findings: Where everything wrong is noted.
        links: The [opcua] sections.
        machines: The [machine] sections.
        owners: Other actors that own tags.

    Attributes:
        tags: All tags so far, in file order; the wrong ones too, with defaults for what is wrong.
        complete: Whether every row of every file could be read.
    """

    def __init__(
        self,
        findings: Findings,
        links: Mapping[str, object],
        machines: Mapping[str, object],
        owners: Container[str] = (),
    ) -> None:
        self._owners = owners
        self.tags = TagColumns()
        self.complete = True
        self._findings = findings
        self._links = links
        self._machines = machines
        self._sources: dict[str, str | None] = {}
        self._files: list[str] = []
        self._starts: list[int] = []  # the first row of each file
        self._lines = array("I")  # of the rows of all files
        self._current: tuple[str, CsvPlace] | None = None
        findings.row_of = self._place

    def read_tables(self, tables: Iterable[tuple[str, object]]) -> None:
        """Take the tags of the TOML text: names and tables. To be called before `read_file`."""
        for name, table in tables:
            if problem := name_problem(name):
                self._findings.note(("tag", name), Problem((), problem, name, NAME_FORM))
            self.tags.add(self._tag(name, table))

    def add_tables(self, tables: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Take tags that the plant has without being told; one that the file declares stays as it is declared."""
        for name, table in tables:
            if name not in self.tags:
                self.tags.add(self._tag(name, table))

    def read_file(self, path: Path) -> None:
        """Take the tags of a CSV file."""
        self._files.append(str(path))
        self._starts.append(len(self.tags))
        sheet = CsvSheet(path)
        known: KnownRows | None = None
        for found in sheet.rows():
            if isinstance(found, CsvProblem):
                self._note_form(found)
                continue
            line, cells = found
            known = known or KnownRows(sheet.header, self.tags)
            if known.take(cells):
                self._lines.append(line)
            else:
                self._look_closely(line, cells, known)

    def _look_closely(self, line: int, cells: list[str], known: KnownRows) -> None:
        """Take a row that is wrong, or unlike all before it."""
        row = read_row(line, known.header, cells)
        if isinstance(row, CsvProblem):
            self._note_form(row)
            return
        errors = len(self._findings.errors)
        number = self._row(CsvPlace(self._files[-1], line, known.header, cells), row)
        if number is not None and len(self._findings.errors) == errors:
            known.learn(cells, number)

    def _note_form(self, found: CsvProblem) -> None:
        self.complete &= not found.fatal
        if found.line is None:  # the file as a whole: it is the plant file that names it
            self._findings.note(("plant", "tag_files"), found.problem)
        else:
            self._findings.note_row(CsvPlace(self._files[-1], found.line), found.problem)

    def _row(self, place: CsvPlace, row: CsvRow) -> int | None:
        findings = self._findings
        if problem := name_problem(row.name):
            findings.note_row(place, Problem(("name",), problem, row.name, NAME_FORM))
        is_known = row.name in self.tags
        if is_known and row.name:
            expected = f"each tag once; the first is in {findings.place(('tag', row.name))}"
            findings.note_row(place, Problem(("name",), "the tag is declared twice", row.name, expected))
            return None
        self._current = (row.name, place)
        tag = self._tag(row.name, row.table)
        self._current = None
        if is_known:  # a row without a name is not the only one
            return None
        self._lines.append(place.line)
        return self.tags.add(tag)

    def _place(self, name: str) -> CsvPlace | None:
        if self._current is not None and self._current[0] == name:
            return self._current[1]
        row = self.tags.row_of(name)
        if row is None or not self._starts or row < self._starts[0]:
            return None
        return CsvPlace(self._files[bisect_right(self._starts, row) - 1], self._lines[row - self._starts[0]])

    def _tag(self, name: str, table: object) -> TagConfig:
        path = ("tag", name)
        if isinstance(table, dict):
            written = cast("dict[str, Any]", table)
            source = written.get("source")
            if isinstance(source, str) and source:
                owner = self._owner(source)
                table = {**written, "source": owner or source}
                if not owner:
                    links = [f"opcua/{link}" for link in self._links]
                    owners = [*links, *(f"machine/{machine}" for machine in self._machines), "writer/NAME"]
                    problem = Problem(("source",), "it is the name of no owner", source, one_of(source, owners))
                    self._findings.note(path, problem)
                    self._findings.bad[path] = frozenset(("source",))
        return self._findings.fill(path, forms.TAG, table, tag_problems, name=name)

    def _owner(self, source: str) -> str | None:
        if source not in self._sources:
            known = source.replace(".", "/", 1)
            own = known if known in self._owners else None
            self._sources[source] = own or normal_source(source, self._links, self._machines)
        return self._sources[source]
