"""What goes to the terminal: tables for people, JSON and plain columns for programs, notes beside both."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from tagwerk.runtime.cli.values import printable

if TYPE_CHECKING:
    from typing import TextIO

    from rich.table import Table

STYLES: Final = MappingProxyType(
    {
        "Good": "green",
        "RUNNING": "green",
        "STARTING": "cyan",
        "STOPPING": "cyan",
        "BACKOFF": "yellow",
        "HUNG": "bold red",
        "FATAL": "bold red",
        "UNKNOWN": "magenta",
        "ALARM": "bold red",
        "returned": "yellow",
        "acknowledged": "yellow",
        "critical": "bold red",
        "high": "red",
    }
)
"""Cell -> style, in a terminal."""


_GAP: Final = 2  # between columns


def line(text: str = "") -> None:
    """Write a line to standard output."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Write a line to standard error: for people, in the way of no program."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def flush() -> None:
    """Let a reader of a stream see all that was written so far."""
    sys.stdout.flush()


def json_line(value: object) -> None:
    """Write one JSON value in one line."""
    line(json.dumps(value, allow_nan=False))


def json_list(rows: Iterable[object], stream: TextIO | None = None) -> None:
    """Write one JSON array, one element a line, as they come; to standard output, or to a stream."""
    write = (stream or sys.stdout).write
    first = True
    for row in rows:
        write("[\n" if first else ",\n")
        write(json.dumps(row, allow_nan=False))
        first = False
    write("[]\n" if first else "\n]\n")


def csv_rows(head: Sequence[str], rows: Iterable[Sequence[str]], stream: TextIO) -> None:
    """Write CSV, as the rows come."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)


def is_terminal() -> bool:
    """Tell whether a person reads standard output."""
    return sys.stdout.isatty()


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Iterable[str] = (),
    less: Sequence[str] = (),
) -> None:
    """Write a table: with colours in a terminal, else in plain columns that are never folded or cut.

    Args:
        head: The columns' names.
        rows: The cells.
        right: The columns whose cells stand at the right.
        less: The columns that a narrow terminal goes without, the least important first.
    """
    if is_terminal():
        from rich.console import Console

        console = Console()
        console.print(rich_table(*narrowed(head, rows, console.width, less), right=right))
        return
    for text in columns(head, rows, right=right):
        line(text)


def narrowed(
    head: Sequence[str], rows: Sequence[Sequence[str]], width: int, less: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Leave out columns of `less`, the first of them first, until the table fits or all of them are gone."""
    kept = list(range(len(head)))
    sizes = [max(len(cell) for cell in (name, *(row[place] for row in rows))) for place, name in enumerate(head)]
    for name in less:
        if sum(sizes[place] + _GAP for place in kept) - _GAP <= width:
            break
        kept.remove(head.index(name))
    return [head[place] for place in kept], [[row[place] for place in kept] for row in rows]


def rich_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Iterable[str] = ()) -> Table:
    """Make a table for a terminal. Cells are texts, never markup."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell), STYLES.get(cell) or _bad_style(cell)) for cell in row))
    return made


def _bad_style(cell: str) -> str:
    return {"Bad": "red", "Unc": "yellow"}.get(cell[:3], "") if cell[:3].isalpha() and " " not in cell else ""


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Iterable[str] = ()) -> list[str]:
    """Give the lines of a table in plain columns."""
    body = [[printable(cell) for cell in row] for row in rows]
    upper = [name.upper() for name in head]
    widths = [max(map(len, column)) for column in zip(upper, *body, strict=True)]
    at_right = [name in right for name in head]
    return [
        "  ".join(
            cell.rjust(width) if rightly else cell.ljust(width)
            for cell, width, rightly in zip(row, widths, at_right, strict=True)
        ).rstrip()
        for row in (upper, *body)
    ]


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Write lines of (what, detail)."""
    known = list(rows)
    width = max((len(what) for what, _ in known), default=0)
    for what, detail in known:
        line(f"{what:<{width}}  {printable(detail)}".rstrip())


def show_rows(
    as_json: bool,
    objects: Iterable[Any],
    head: Sequence[str],
    cells: Any,
    right: Iterable[str] = (),
    less: Sequence[str] = (),
) -> None:
    """Write a list: JSON objects, or a table made of them.

    Args:
        as_json: Which of them.
        objects: The objects, as JSON shows them.
        head: The columns' names.
        cells: Gives the cells of one object.
        right: The columns whose cells stand at the right.
        less: The columns that a narrow terminal goes without, the least important first.
    """
    if as_json:
        json_list(objects)
    else:
        table(head, [cells(one) for one in objects], right=right, less=less)
