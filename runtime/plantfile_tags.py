"""The tags of a plant file: those of the TOML text first, then the rows of its CSV files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from tagwerk.protocols.names import name_problem
from tagwerk.runtime import plantfile_tables as forms
from tagwerk.runtime.plantfile_csv import CsvProblem, CsvRow, read_rows
from tagwerk.runtime.plantfile_findings import CsvPlace, Findings
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

    Attributes:
        tags: All tags so far, in file order; the wrong ones too, with defaults for what is wrong.
        complete: Whether every row of every file could be read.
    """

    def __init__(self, findings: Findings, links: Mapping[str, object], machines: Mapping[str, object]) -> None:
        self.tags: dict[str, TagConfig] = {}
        self.complete = True
        self._findings = findings
        self._links = links
        self._machines = machines
        self._sources: dict[str, str | None] = {}

    def read_tables(self, tables: Iterable[tuple[str, object]]) -> None:
        """Take the tags of the TOML text: names and tables."""
        for name, table in tables:
            if problem := name_problem(name):
                self._findings.note(("tag", name), Problem((), problem, name, NAME_FORM))
            self.tags[name] = self._tag(name, table)

    def read_file(self, path: Path) -> None:
        """Take the tags of a CSV file."""
        file = str(path)
        for row in read_rows(path):
            if isinstance(row, CsvRow):
                self._row(CsvPlace(file, row.line, row.header, row.cells), row)
                continue
            self.complete &= not row.fatal
            self._note_form(file, row)

    def _note_form(self, file: str, found: CsvProblem) -> None:
        if found.line is None:  # the file as a whole: it is the plant file that names it
            self._findings.note(("plant", "tag_files"), found.problem)
        else:
            self._findings.note_row(CsvPlace(file, found.line), found.problem)

    def _row(self, place: CsvPlace, row: CsvRow) -> None:
        findings = self._findings
        if problem := name_problem(row.name):
            findings.note_row(place, Problem(("name",), problem, row.name, NAME_FORM))
        if row.name in self.tags and row.name:
            expected = f"each tag once; the first is in {findings.place(('tag', row.name))}"
            findings.note_row(place, Problem(("name",), "the tag is declared twice", row.name, expected))
            return
        findings.rows[row.name] = place
        self.tags[row.name] = self._tag(row.name, row.table)
        findings.rows[row.name] = CsvPlace(place.file, place.line)  # the cells of 100,000 rows would be 100 MB

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
            self._sources[source] = normal_source(source, self._links, self._machines)
        return self._sources[source]
