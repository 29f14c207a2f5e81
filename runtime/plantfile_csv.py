"""Tags from CSV files: one row a tag, the columns are the keys of `[tag]`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tagwerk.runtime.plantfile_tables import TAG, Problem
from tagwerk.runtime.plantfile_text import one_of

HEADER: Final = (
    "name", "type", "unit", "description", "source", "node", "writable", "low", "high", "deadband", "log",
    "display_unit", "area", "labels",
)  # fmt: skip

KNOWN: Final = dict.fromkeys((*HEADER, *TAG.keys))  # a dict keeps the order and finds a column at once
_FLAGS: Final = MappingProxyType({"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False})


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row: its name, and its keys (empty cells are left out)."""

    name: str
    table: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CsvProblem:
    """What is wrong with the file or the form of a row; `fatal` if tags of the file stay unread."""

    line: int | None
    problem: Problem
    fatal: bool = True


class CsvSheet:
    """A CSV file of tags.

    Args:
        path: Of the file.

    Attributes:
        header: Its columns, once the first row was given.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.header: list[str] = []

    def rows(self) -> Iterator[tuple[int, list[str]] | CsvProblem]:
        """Give the line and the cells of each row, and what is wrong with the form of the file; no empty lines."""
        path = self._path
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                yield from self._rows(stream)
        except OSError as error:
            message = f"the file cannot be read: {error.strerror}"
            yield CsvProblem(None, Problem((), message, path.name, "a readable CSV file"))
        except UnicodeDecodeError as error:
            yield CsvProblem(None, Problem((), f"the file is not UTF-8: {error.reason}", path.name, "UTF-8 text"))

    def _rows(self, stream: Iterator[str]) -> Iterator[tuple[int, list[str]] | CsvProblem]:
        reader = csv.reader(stream, strict=True)
        line = 1
        try:
            self.header = [cell.strip() for cell in next(reader, [])]
            problems = list(_header_problems(self.header))
            yield from problems
            if any(problem.fatal for problem in problems):
                return
            line = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1  # a quoted cell may span lines: a row stands where it begins
        except csv.Error as error:
            yield CsvProblem(
                line, Problem((), f"the row cannot be read: {error}", None, "comma-separated values (RFC 4180)")
            )


def _header_problems(header: list[str]) -> Iterator[CsvProblem]:
    if "name" not in header:
        expected = f"a header such as {','.join(HEADER)}"
        yield CsvProblem(1, Problem(("name",), "the column is missing", ",".join(header), expected))
    for column in dict.fromkeys(header):
        if column not in KNOWN:
            yield CsvProblem(1, Problem((column,), "unknown column", column, one_of(column, KNOWN)), fatal=False)
        if header.count(column) > 1:
            yield CsvProblem(1, Problem((column,), "the column is there more than once", column, "each column once"))


def read_row(line: int, header: list[str], cells: list[str]) -> CsvRow | CsvProblem:
    """Give a row as the keys of a tag, or what is wrong with its form."""
    if len(cells) != len(header):
        expected = f"{len(header)} cells, as in the header (a text with a comma needs quotes)"
        return CsvProblem(line, Problem((), f"the row has {len(cells)} cells", ",".join(cells), expected))
    table: dict[str, Any] = {}
    for key, cell in zip(header, cells, strict=True):
        if (text := cell.strip()) and key in KNOWN:
            read = _READ.get(key)
            table[key] = read(text) if read else text
    if "default" in table:
        table["default"] = _default(table["default"], table.get("type", "float"))
    return CsvRow(table.pop("name", ""), table)


def _number(text: str) -> float | str:
    # What cannot be read stays as written: the model refuses it, and the message shows it.
    try:
        return float(text)
    except ValueError:
        return text


def _flag(text: str) -> bool | str:
    return _FLAGS.get(text.lower(), text)


def _log(text: str) -> bool | str | dict[str, float | str]:
    """A flag, or `key=value` pairs with semicolons between them, as in `deadband=0.5; max_interval_s=60`."""
    if "=" not in text:
        return _flag(text)
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return {key.strip(): _number(value.strip()) for key, _, value in pairs}


def _labels(text: str) -> list[str]:
    return [label.strip() for label in text.split(";") if label.strip()]


def _default(text: str, kind: str) -> float | int | bool | str:
    if kind == "int":
        try:
            return int(text)
        except ValueError:
            return text
    return text if kind == "str" else _flag(text) if kind == "bool" else _number(text)


_NUMBERS: Final = ("low", "high", "write_low", "write_high", "deadband", "deadband_pct", "stale_after_s", "hold_s")
_READ: Final[Mapping[str, Callable[[str], object]]] = MappingProxyType(
    {**dict.fromkeys(_NUMBERS, _number), "writable": _flag, "log": _log, "labels": _labels}
)
