"""Tags in steps of equal length: `tagwerk history --step`. The historian computes them, here they become rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import typer

from tagwerk.protocols import history as h
from tagwerk.protocols.samples import DTYPES, ValueType
from tagwerk.runtime.cli import output, times, values
from tagwerk.runtime.cli.history_read import BEHIND
from tagwerk.runtime.cli.history_rows import csv_value, stamps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

    from numpy.typing import NDArray

    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.attach import Plant
    from tagwerk.runtime.cli.history_read import Wanted
    from tagwerk.runtime.cli.progress import Progress

COLUMNS: Final = MappingProxyType(
    {
        "value": ("float", "int", "bool", "str"),
        "interpolated": ("float",),
        "average": ("float", "int", "bool"),
        "min": ("float", "int", "bool"),
        "max": ("float", "int", "bool"),
        "count": ("float", "int", "bool", "str"),
        "on_time": ("bool",),
        "delta": ("float", "int"),
        "known": ("float", "int", "bool"),
    }
)
"""Column -> the types of tags that have it."""

USUAL: Final = MappingProxyType(
    {
        "float": ("value", "average", "min", "max", "count"),
        "int": ("value", "average", "min", "max", "count"),
        "bool": ("value", "on_time", "count"),
        "str": ("value", "count"),
    }
)
"""What is shown of a tag if no columns are named."""

STEPS: Final = 100
"""The newest so many are shown if no span is given."""

PAGE_ROWS: Final = 20_000
STEPS_MOST: Final = 100_000_000
DAY_NS: Final = 86_400 * times.NS_PER_S
LONGEST_NS: Final = 366 * DAY_NS


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps `[start_ns + i x step_ns, + step_ns)` before `end_ns`."""

    start_ns: int
    end_ns: int
    step_ns: int
    columns: tuple[str, ...]
    wrap: float | None


@dataclass(frozen=True, slots=True, eq=False)
class StepColumn:
    """One column: of which type, its values, and where there is one, bool (n,)."""

    kind: ValueType
    values: Any
    present: NDArray[np.bool_]

    def plain(self) -> list[Any]:
        """The values, None where there is none."""
        found: list[Any] = self.values if isinstance(self.values, list) else self.values.tolist()
        return [value if there else None for value, there in zip(found, self.present.tolist(), strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class StepRows:
    """Steps of one tag, by the time of their begin, int64 (n,); without the columns that its type does not have."""

    tag: TagDef
    times: NDArray[np.int64]
    columns: dict[str, StepColumn]


def columns_named(text: str | None) -> tuple[str, ...]:
    """Read `--columns`; empty if none are named.

    Raises:
        typer.BadParameter: There is no such column.
    """
    names = tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
    for name in names:
        if name not in COLUMNS:
            raise typer.BadParameter(f"there is no column {name!r}; there are {', '.join(COLUMNS)}")
    return names


def steps_of(
    tags: Sequence[TagDef],
    step: str,
    named: tuple[str, ...],
    wrap: float | None,
    wanted: Wanted,
    utc: bool,
    now_ns: int,
) -> Steps:
    """Say which steps are meant. Those whose begin was not said begin at multiples of the step since midnight.

    Args:
        tags: Of which tags.
        step: `--step`.
        named: `--columns`.
        wrap: `--wrap`.
        wanted: The span; from 0 on if none was given.
        utc: Midnight in UTC, not in local time.
        now_ns: The present.

    Raises:
        typer.BadParameter: They are none, or a tag has no such column.
    """
    step_ns = times.duration_ns(step)
    if not 0 < step_ns <= LONGEST_NS:
        raise typer.BadParameter(f"--step {step} is not between a millisecond and a year")
    _check_columns(tags, named)
    end_ns = min(wanted.end_ns, now_ns)
    start_ns = wanted.start_ns or on_grid(end_ns - (STEPS - 1) * step_ns, step_ns, utc)
    if (end_ns - start_ns) // step_ns > STEPS_MOST:
        raise typer.BadParameter(f"--step {step} makes more than {STEPS_MOST:,} steps of this span")
    usual = dict.fromkeys(name for tag in tags for name in USUAL[tag.type])
    return Steps(start_ns, end_ns, step_ns, named or tuple(name for name in COLUMNS if name in usual), wrap)


def _check_columns(tags: Sequence[TagDef], named: tuple[str, ...]) -> None:
    for name in named:
        if not any(tag.type in COLUMNS[name] for tag in tags):
            kinds = " or ".join(COLUMNS[name])
            raise typer.BadParameter(
                f"the column {name!r} is of tags of type {kinds}; {tags[0].name} is {tags[0].type}"
            )


def begin_of(start_ns: int, step: str, utc: bool) -> int:
    """The begin of the step in which a span up to now begins. See `on_grid`."""
    return on_grid(start_ns, max(1, times.duration_ns(step)), utc)


def on_grid(at_ns: int, step_ns: int, utc: bool) -> int:
    """The last begin of a step at or before a time, if one begins at midnight."""
    midnight_ns = at_ns // DAY_NS * DAY_NS
    if not utc:
        local = datetime.fromtimestamp(at_ns // times.NS_PER_S).astimezone()
        midnight_ns = int(local.replace(hour=0, minute=0, second=0).timestamp()) * times.NS_PER_S
    return midnight_ns + (at_ns - midnight_ns) // step_ns * step_ns


def asked_steps(plant: Plant, tags: Sequence[TagDef], steps: Steps, progress: Progress) -> Iterator[StepRows]:
    """The steps of some tags, one tag after the other, page by page.

    Raises:
        Unavailable: The historian does not answer.
    """
    done, warned = 0, False
    length_ns = max(1, steps.end_ns - steps.start_ns)
    for number, tag in enumerate(tags):
        names = tuple(name for name in steps.columns if tag.type in COLUMNS[name])
        wrap = steps.wrap if "delta" in names else None
        start_ns = steps.start_ns
        while start_ns < steps.end_ns and names:
            end_ns = min(steps.end_ns, start_ns + PAGE_ROWS * steps.step_ns)
            question = h.GetTable(tag.handle, start_ns, end_ns, steps.step_ns, names, wrap)
            found = plant.query("historian/0", question, h.HistoryTable)
            if found.behind and not warned:
                warned = True
                output.note(BEHIND)
            yield StepRows(
                tag,
                found.start_ns + steps.step_ns * np.arange(found.rows),
                {column.name: _column(column) for column in found.columns},
            )
            done += found.rows
            start_ns = end_ns
            progress.show(done, (number + (start_ns - steps.start_ns) / length_ns) / len(tags))


def _column(column: h.TableColumn) -> StepColumn:
    kind = ValueType(column.kind)
    found: Any = list(column.texts) if kind is ValueType.STR else np.frombuffer(column.values, DTYPES[kind])
    return StepColumn(kind, found, np.frombuffer(column.present, np.bool_))


def write_csv(stream: TextIO, names: Sequence[str], rows: Iterable[StepRows]) -> None:
    """Write steps as CSV: `time,tag,` the columns, `unit`."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("time", "tag", *names, "unit"))
    for piece in rows:
        count = len(piece.times)
        cells = [[csv_value(value) for value in column] for column in _plain(piece, names)]
        units = [piece.tag.unit] * count
        writer.writerows(zip(stamps(piece.times), [piece.tag.name] * count, *cells, units, strict=True))


def json_rows(names: Sequence[str], rows: Iterable[StepRows]) -> Iterator[dict[str, Any]]:
    """Give the objects that JSON shows."""
    for piece in rows:
        for text, *cells in zip(stamps(piece.times), *_plain(piece, names), strict=True):
            found = {name: values.plain(value) for name, value in zip(names, cells, strict=True)}
            yield {"time": text, "tag": piece.tag.name, **found, "unit": piece.tag.unit}


def show_table(names: Sequence[str], rows: Iterable[StepRows], utc: bool) -> None:
    """Show a table."""
    cells = [
        (times.shown(at_ns, utc), piece.tag.name, *map(values.shown, row), piece.tag.unit)
        for piece in rows
        for at_ns, *row in zip(piece.times.tolist(), *_plain(piece, names), strict=True)
    ]
    output.table(("time", "tag", *names, "unit"), cells, right=names)


def _plain(piece: StepRows, names: Sequence[str]) -> list[list[Any]]:
    nothing = [None] * len(piece.times)
    return [piece.columns[name].plain() if name in piece.columns else nothing for name in names]
