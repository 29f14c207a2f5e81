"""`tagwerk history`."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tagwerk.protocols import history as h
from tagwerk.protocols.quality import name_of
from tagwerk.protocols.samples import TagValue, decode
from tagwerk.runtime.cli import completion, output, times, values
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import session_of
from tagwerk.runtime.cli.tags import matching

if TYPE_CHECKING:
    from tagwerk.protocols.samples import Value
    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.attach import Plant

app = typer.Typer(add_completion=False)

CSV_HEAD: Final = ("time", "tag", "value", "unit", "quality")
TABLE_LIMIT: Final = 100  # newest samples a tag in a table, if nothing else was asked for
LIMIT_MOST: Final = 1_000_000_000
PLOT_NS: Final = 3600 * times.NS_PER_S  # what is plotted if no span was asked for


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which samples: `start_ns <= time < end_ns`, the first or the newest `limit` of them (0: all)."""

    start_ns: int
    end_ns: int
    limit: int = 0
    newest: bool = False
    bounds: bool = False


@app.command(
    rich_help_panel="Tags",
    epilog=examples(
        "tagwerk history brewhouse.mash.temperature --last 10m",
        "tagwerk history brewhouse.mash.temperature --from 2026-03-01T12:00:00Z --to now-1h --csv > mash.csv",
        "tagwerk history brewhouse.mash.temperature brewhouse.mash.setpoint --last 1h --plot",
    ),
)
def history(
    context: typer.Context,
    tags: Annotated[
        list[str], typer.Argument(metavar="TAG", help="Names or globs.", autocompletion=completion.tag_names)
    ],
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="From this time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="T", help="Before this time.")] = None,
    last: Annotated[str | None, typer.Option(metavar="1m", help="The time up to now: 90s, 1m, 2h, 1d.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=LIMIT_MOST, help="The newest N a tag; with --from the first N."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: time,tag,value,unit,quality.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="A plot in the terminal; gaps where the value was bad.")] = False,
    bounds: Annotated[
        bool, typer.Option("--bounds", help="Also the last sample before the span and the first one after it.")
    ] = False,
) -> None:
    """Show what was recorded, oldest first.

    A time is RFC 3339 (local time without a zone), or relative: now-1h.

    Without a span a table shows the newest 100, CSV and JSON show all, a plot shows an hour.
    """
    session = session_of(context)
    if as_csv + session.json + plot > 1:
        raise typer.BadParameter("one of --csv, --json and --plot, not two of them")
    now_ns = time.time_ns()
    wanted = span(start, end, last, limit, bounds, now_ns)
    if plot and wanted == Wanted(0, times.END_OF_TIME_NS, bounds=bounds):
        wanted = Wanted(now_ns - PLOT_NS, times.END_OF_TIME_NS, bounds=bounds)
    in_table = not (as_csv or session.json or plot)
    if in_table and limit is None and not (start or end or last):
        wanted = Wanted(0, times.END_OF_TIME_NS, TABLE_LIMIT, newest=True, bounds=bounds)
    with session.plant() as plant:
        definitions = [tag for name in tags for tag in matching(plant, name)]
        rows = (row for tag in definitions for row in samples(plant, tag, wanted))
        if as_csv:
            _write_csv(rows)
        elif session.json:
            output.json_list(map(values.row_of, rows))
        elif plot:
            from tagwerk.runtime.cli.plot import draw

            draw(definitions, list(rows), session.utc)
        else:
            head = ("time", "tag", "value", "unit", "quality")
            cells = [_cells(row, session.utc) for row in rows]
            if not cells:
                output.note("nothing was recorded in this span")
            output.table(head, cells, right=("value",))


def span(start: str | None, end: str | None, last: str | None, limit: int | None, bounds: bool, now_ns: int) -> Wanted:
    """Read which samples are meant.

    Raises:
        typer.BadParameter: A time is none, the span is empty, or it is said twice.
    """
    if last is not None and (start is not None or end is not None):
        raise typer.BadParameter("--last is a span of its own; leave out --from and --to")
    start_ns, end_ns = 0, times.END_OF_TIME_NS
    if last is not None:
        start_ns = now_ns - times.duration_ns(last)
    if start is not None:
        start_ns = times.moment_ns(start, now_ns)
    if end is not None:
        end_ns = times.moment_ns(end, now_ns)
    if end_ns <= start_ns:
        raise typer.BadParameter(f"the span is empty: --from {start} is not before --to {end}")
    return Wanted(start_ns, end_ns, limit or 0, newest=limit is not None and start is None, bounds=bounds)


def samples(plant: Plant, tag: TagDef, wanted: Wanted) -> Iterator[TagValue]:
    """Ask page by page, so that a year costs no memory. Where only the quality changed, the value is None.

    Raises:
        Unavailable: The historian does not answer.
    """
    after, skip, left, warned = 0, 0, wanted.limit, False
    while True:
        span = (wanted.start_ns, wanted.end_ns)
        question = h.GetHistory(tag.handle, *span, left, after, wanted.bounds, wanted.newest, skip)
        page = plant.query("historian/0", question, h.HistoryPage)
        if page.behind and not warned:
            warned = True
            output.note("warning: the historian is behind, the newest samples may be missing")
        count = 0
        for frame in page.frames:
            for batch in decode(frame):
                count += len(batch)
                yield from _rows(tag, batch.values, batch.times.tolist(), batch.quality.tolist())
        left -= count
        if page.next_after is None or (wanted.limit and left <= 0):
            return
        after, skip = page.next_after, page.skip


def _rows(tag: TagDef, column: Any, stamps: list[int], codes: list[int]) -> Iterator[TagValue]:
    found: list[Value] = [None] * len(stamps)
    if column is not None:
        found = column if isinstance(column, list) else column.tolist()
    for value, time_ns, code in zip(found, stamps, codes, strict=True):
        yield TagValue(tag.name, value, tag.unit, code, time_ns)


def _write_csv(rows: Iterator[TagValue]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for row in rows:
        writer.writerow((times.rfc3339(row.time_ns), row.tag, csv_value(row.value), row.unit, name_of(row.quality)))


def csv_value(value: Value) -> str:
    """Give a value for CSV: exact, and empty where there is none."""
    value = values.plain(value)
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _cells(row: TagValue, utc: bool) -> tuple[str, ...]:
    return times.shown(row.time_ns, utc), row.tag, values.shown(row.value), row.unit, name_of(row.quality)
