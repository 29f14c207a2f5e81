"""`tagwerk history`: what was recorded, as rows, steps, pictures and files; `tagwerk history import`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from tagwerk.runtime.cli import completion, history_read, history_rows, history_steps, output, times
from tagwerk.runtime.cli.history_read import Wanted
from tagwerk.runtime.cli.new_file import check_new_file, new_file, text_to
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.progress import Progress
from tagwerk.runtime.cli.session import Session, session_of
from tagwerk.runtime.cli.tags import matching

if TYPE_CHECKING:
    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.attach import Plant

app = typer.Typer(add_completion=False)

TABLE_LIMIT: Final = 100  # newest samples a tag in a table, if nothing else was asked for
LIMIT_MOST: Final = 1_000_000_000
PLOT_NS: Final = 3600 * times.NS_PER_S  # what is plotted if no span was asked for
PLOT_POINTS: Final = 2_000


class HistoryCommand(TyperCommand):
    """`history TAG...`, and `history import FILE`. A tag that is named `import` is found as `impor?`."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Hand over to the import, if that is meant."""
        if args[:1] == ["import"]:
            from tagwerk.runtime.cli import history_import

            found: Any = typer.main.get_command(history_import.app)
            return found.make_context(f"{info_name} import", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)


@dataclass(frozen=True, slots=True)
class Form:
    """In which form: at most one of the first five; with none of them a table."""

    csv: bool
    json: bool
    plot: bool
    parquet: Path | None
    svg: Path | None
    file: Path | None
    force: bool
    marks: bool

    @property
    def path(self) -> Path | None:
        """The file that is to be written, if any."""
        return self.parquet or self.svg or self.file

    @property
    def table(self) -> bool:
        """None of the others."""
        return not (self.csv or self.json or self.plot or self.parquet or self.svg)

    @property
    def picture(self) -> bool:
        """A plot or an SVG."""
        return self.plot or self.svg is not None

    def check(self) -> None:
        """Find what is wrong before anything is asked.

        Raises:
            typer.BadParameter: Options that do not go together.
            ConfigError: The file may not be written, or pyarrow is not installed.
        """
        given = {
            "--csv": self.csv, "--json": self.json, "--plot": self.plot, "--parquet": self.parquet, "--svg": self.svg,
        }  # fmt: skip
        chosen = [name for name, value in given.items() if value]
        if len(chosen) > 1:
            raise typer.BadParameter(f"one of {', '.join(given)}, not {' and '.join(chosen)} together")
        if self.file is not None and not (self.csv or self.json):
            raise typer.BadParameter("--output takes what --csv or --json gives; --parquet and --svg name their file")
        if self.marks and not self.csv:
            raise typer.BadParameter("--backfilled adds a column to --csv; the other forms tell it anyhow")
        if self.path is not None:
            check_new_file(self.path, replace=self.force)
        if self.parquet is not None:
            from tagwerk.runtime.cli.history_parquet import arrow

            arrow()


@app.command(
    cls=HistoryCommand,
    rich_help_panel="Tags",
    epilog=examples(
        "tagwerk history brewhouse.mash.temperature --last 10m",
        "tagwerk history brewhouse.mash.temperature --from 2026-03-01T12:00:00Z --to now-1h --csv --output mash.csv",
        "tagwerk history 'brewhouse.mash.*' --last 7d --step 1h --columns average,min,max",
        "tagwerk history brewhouse.mash.temperature brewhouse.mash.setpoint --last 1h --plot",
        "tagwerk history 'brewhouse.*' --last 1d --parquet day.parquet",
        "tagwerk history import mash.csv   (its own help: tagwerk history import --help)",
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
    bounds: Annotated[
        bool, typer.Option("--bounds", help="Also the last sample before the span and the first one after it.")
    ] = False,
    step: Annotated[str | None, typer.Option(metavar="S", help="In steps of this length: 10s, 1m, 1h, 1d.")] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="C,C", help="With --step, which: " + " ".join(history_steps.COLUMNS) + "."),
    ] = None,
    wrap: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="With delta: the counter is 0 again after N - 1.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: time,tag,value,unit,quality.")] = False,
    backfilled: Annotated[bool, typer.Option("--backfilled", help="CSV: also if it was backfilled.")] = False,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="A Parquet file; needs pyarrow.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="A plot in the terminal; gaps where the value was bad.")] = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a picture.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="CSV or JSON into a file, whole or not at all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Show what was recorded, oldest first.

    A time is RFC 3339 (local time without a zone), or relative: now-1h.

    Without a span a table shows the newest 100, files and JSON hold all, a plot shows an hour.

    `tagwerk history import FILE` brings samples from elsewhere into history.
    """
    session = session_of(context)
    form = Form(as_csv, session.json, plot, parquet, svg, file, force, backfilled)
    form.check()
    now_ns = time.time_ns()
    wanted = history_read.span(start, end, last, limit, bounds, now_ns)
    if step is None and (columns is not None or wrap is not None):
        raise typer.BadParameter("--columns and --wrap are of --step: give that, too")
    if (step is not None or form.picture) and limit is not None:
        raise typer.BadParameter("--limit counts samples; give a span with --from, --to or --last")
    if step is not None and form.picture:
        raise typer.BadParameter("a plot has no steps; leave out --step")
    named = history_steps.columns_named(columns)
    with session.plant() as plant:
        definitions = list({tag.handle: tag for name in tags for tag in matching(plant, name)}.values())
        if form.picture:
            _draw(plant, definitions, wanted, form, session.utc, now_ns)
        elif step is not None:
            if last is not None:
                wanted = Wanted(history_steps.begin_of(wanted.start_ns, step, session.utc), wanted.end_ns)
            steps = history_steps.steps_of(definitions, step, named, wrap, wanted, session.utc, now_ns)
            _show_steps(plant, definitions, steps, form, session)
        else:
            if form.table and wanted == Wanted(0, times.END_OF_TIME_NS, bounds=bounds):
                wanted = Wanted(0, times.END_OF_TIME_NS, TABLE_LIMIT, newest=True, bounds=bounds)
            _show(plant, definitions, wanted, form, session, now_ns)


def _show(plant: Plant, tags: list[TagDef], wanted: Wanted, form: Form, session: Session, now_ns: int) -> None:
    with Progress("samples", to_file=form.path is not None) as progress:
        found = history_read.columns_of(plant, tags, wanted, progress, now_ns)
        if form.parquet is not None:
            from tagwerk.runtime.cli.history_parquet import ParquetSamples

            with new_file(form.parquet, replace=form.force) as stream:
                ParquetSamples(stream, tags).write(found)
        elif form.csv:
            with text_to(form.file, force=form.force) as text:
                history_rows.write_csv(text, found, marks=form.marks)
        elif form.json:
            with text_to(form.file, force=form.force) as text:
                output.json_list(history_rows.json_rows(found), text)
        else:
            history_rows.show_table(found, session.utc)


def _show_steps(plant: Plant, tags: list[TagDef], steps: history_steps.Steps, form: Form, session: Session) -> None:
    with Progress("steps", to_file=form.path is not None) as progress:
        found = history_steps.asked_steps(plant, tags, steps, progress)
        if form.parquet is not None:
            from tagwerk.runtime.cli.history_parquet import write_steps

            with new_file(form.parquet, replace=form.force) as stream:
                write_steps(stream, steps.columns, tags, found)
        elif form.csv:
            with text_to(form.file, force=form.force) as text:
                history_steps.write_csv(text, steps.columns, found)
        elif form.json:
            with text_to(form.file, force=form.force) as text:
                output.json_list(history_steps.json_rows(steps.columns, found), text)
        else:
            history_steps.show_table(steps.columns, found, session.utc)


def _draw(plant: Plant, tags: list[TagDef], wanted: Wanted, form: Form, utc: bool, now_ns: int) -> None:
    from tagwerk.runtime.cli import plot, svg
    from tagwerk.runtime.cli.trends import trends_of

    end_ns = min(wanted.end_ns, now_ns)
    start_ns = wanted.start_ns or (end_ns - PLOT_NS)
    if start_ns >= end_ns:
        raise typer.BadParameter("nothing to plot: the span is in the future")
    points = PLOT_POINTS if form.svg is None else svg.POINTS
    found = trends_of(plant, tags, (start_ns, end_ns), points)
    if form.svg is None:
        plot.draw(found, start_ns, end_ns, utc)
        return
    drawn = svg.picture(found, start_ns, end_ns, utc)
    with new_file(form.svg, replace=form.force) as stream:
        stream.write(drawn.encode())
