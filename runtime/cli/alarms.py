"""`tagwerk alarms`, `tagwerk ack`."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from msgspec.structs import replace
from typer.core import TyperGroup

from tagwerk.protocols.alarms import GetOccurrences, OccurrenceList
from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.names import glob_problem, is_glob
from tagwerk.protocols.quality import name_of
from tagwerk.runtime.cli import completion, output, times, values
from tagwerk.runtime.cli.history_read import span
from tagwerk.runtime.cli.new_file import check_form, text_to
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tagwerk.protocols.alarms import AlarmRow, Occurrence
    from tagwerk.runtime.attach import Plant

PANEL: Final = "Alarms and events"
PAGE: Final = 1_000  # occurrences asked for at once
NEWEST: Final = 100  # shown if nothing else was asked for
LIMIT_MOST: Final = 100_000  # the newest: they are held in memory


class ListByDefault(TyperGroup):
    """A group whose command is `list` if none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the `list` that was left out."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(add_completion=False)
alarms = typer.Typer(
    cls=ListByDefault, help="Show alarms and when they were raised, acknowledge them.", no_args_is_help=False
)
app.add_typer(alarms, name="alarms", rich_help_panel=PANEL)

_KEYS: Final = (
    "name", "tag", "type", "limit", "unit", "priority", "severity", "active", "acked", "latched", "shelved",
    "suppressed", "out_of_service", "enabled", "letter", "occurrence",
)  # fmt: skip

_OCCURRENCE_KEYS: Final = (
    "occurrence", "name", "tag", "priority", "area", "raised", "cleared", "acked", "acked_by", "comment", "value",
    "unit", "late", "text",
)  # fmt: skip

AlarmName = Annotated[str, typer.Argument(metavar="NAME", help="Its name.", autocompletion=completion.alarm_names)]
OccurrenceId = Annotated[str, typer.Option(metavar="ID", help="Only if it is still this occurrence.")]
Comment = Annotated[str, typer.Option(metavar="C", help="For the log of events.")]


def row_of(alarm: AlarmRow) -> dict[str, Any]:
    """Give the object that JSON shows for an alarm."""
    row: dict[str, Any] = {key: getattr(alarm, key) for key in _KEYS}
    row["limit"] = values.plain(alarm.limit)
    return {
        **row,
        "raised": times.rfc3339(alarm.raised_ns),
        "cleared": times.rfc3339(alarm.cleared_ns),
        "acked_by": alarm.acked_by,
        "value": values.plain(alarm.value),
        "quality": name_of(alarm.quality),
        "quality_code": alarm.quality,
        "area": alarm.area,
        "text": alarm.text,
        "acked_at": times.rfc3339(alarm.acked_ns),
        "comment": alarm.comment,
    }


def state_of(row: dict[str, Any]) -> str:
    """Give the state in a word, the most urgent thing first."""
    for key, word in (("out_of_service", "out of service"), ("suppressed", "suppressed"), ("shelved", "shelved")):
        if row[key]:
            return word
    if not row["enabled"]:
        return "disabled"
    if row["active"]:
        return "acknowledged" if row["acked"] else "ALARM"
    if row["latched"]:
        return "latched"
    return "normal" if row["acked"] else "returned"


@alarms.command(
    "list",
    epilog=examples(
        "tagwerk alarms",
        "tagwerk alarms --open",
        "tagwerk alarms list mash.temperature.hi --json",
    ),
)
def list_(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Which.", autocompletion=completion.alarm_names)
    ] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not normal.")] = False,
) -> None:
    """List the alarms and how they stand."""
    session = session_of(context)
    wanted = names or []
    with session.plant() as plant:
        found = plant.alarms(only_open=only_open, names=wanted)
        if missing := set(wanted) - {alarm.name for alarm in found}:
            known = {alarm.name for alarm in plant.alarms()}
            for name in wanted:
                if name in missing - known:
                    raise Refused(RefusedCode.UNKNOWN_TAG, f"there is no alarm {name!r}", name)
    head = ("alarm", "state", "priority", "value", "limit", "unit", "raised", "acked by", "text")

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        raised = "-"
        if row["raised"]:
            raised = times.shown(times.moment_ns(row["raised"], 0), session.utc)
        shown = (values.shown(row["value"]), values.shown(row["limit"]), row["unit"])
        return row["name"], state_of(row), row["priority"], *shown, raised, row["acked_by"] or "-", row["text"]

    output.show_rows(session.json, map(row_of, found), head, cells, right=("value", "limit"))


@alarms.command(
    "history",
    epilog=examples(
        "tagwerk alarms history --last 1d",
        "tagwerk alarms history 'mash.*' --priority high --limit 20",
        "tagwerk alarms history --from 2026-03-01 --to 2026-04-01 --csv --output march.csv",
        "tagwerk alarms history --unacked",
    ),
)
def history(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Of this alarm; a name or a glob.", autocompletion=completion.alarm_names),
    ] = "",
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=LIMIT_MOST, help="The newest N that match; else 100.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="Raised from this time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="T", help="Raised before this time.")] = None,
    last: Annotated[str | None, typer.Option(metavar="1h", help="Raised in the time up to now.")] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not cleared.")] = False,
    unacked: Annotated[bool, typer.Option("--unacked", help="Only those that nobody has acknowledged.")] = False,
    priority: Annotated[list[str] | None, typer.Option(metavar="P", help="Only of this priority.")] = None,
    area: Annotated[list[str] | None, typer.Option(metavar="AREA", help="Only of this area.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, its columns as the keys of JSON.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="CSV or JSON into a file, whole or not at all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Show when alarms were raised and cleared, and who acknowledged them; oldest first.

    The newest 100 that match. CSV and JSON with a span, and without --limit, hold all of it.
    """
    session = session_of(context)
    check_form(as_csv, session.json, file, force)
    wanted = span(start, end, last, None, False, time.time_ns())
    question = GetOccurrences(
        name, 1, wanted.start_ns or None, wanted.end_ns if end is not None else None, only_open, unacked
    )
    every = (as_csv or session.json) and limit is None and bool(start or end or last)
    with session.plant() as plant:
        known = {alarm.name: alarm for alarm in plant.alarms()}
        _check_filters(name, priority or [], area or [], known)

        def is_meant(one: Occurrence) -> bool:
            alarm = known.get(one.name)
            of_priority = not priority or (alarm is not None and alarm.priority in priority)
            return of_priority and (not area or (alarm is not None and alarm.area in area))

        if every:
            found: Iterable[Occurrence] = filter(is_meant, occurrences(plant, replace(question, oldest_first=True)))
        else:
            found = list(itertools.islice(filter(is_meant, occurrences(plant, question)), limit or NEWEST))[::-1]
        rows = (occurrence_row(one, known.get(one.name)) for one in found)
        if as_csv:
            with text_to(file, force=force) as stream:
                output.csv_rows(_OCCURRENCE_KEYS, map(_csv_cells, rows), stream)
        elif session.json:
            with text_to(file, force=force) as stream:
                output.json_list(rows, stream)
        else:
            _occurrence_table([*rows], session.utc, limited=limit is None)


def _check_filters(name: str, priorities: list[str], areas: list[str], known: dict[str, AlarmRow]) -> None:
    """An alarm that is gone from the plant file may still have occurrences; a misspelt one has none."""
    for option, given, there in (
        ("--priority", priorities, {alarm.priority for alarm in known.values()}),
        ("--area", areas, {alarm.area for alarm in known.values()}),
    ):
        for one in given:
            if one not in there:
                names = ", ".join(sorted(there - {""})) or "none"
                raise typer.BadParameter(f"no alarm has {option} {one!r}; there are: {names}")
    problem = glob_problem(name) if is_glob(name) else None
    if problem is not None:
        raise Refused(RefusedCode.BAD_VALUE, f"{name!r}: {problem}", name)


def occurrences(plant: Plant, question: GetOccurrences) -> Iterator[Occurrence]:
    """The occurrences that match, page by page; the newest first, if not `oldest_first` is asked for.

    Raises:
        Unavailable: The alarms do not answer.
    """
    asked = replace(question, limit=PAGE)
    while True:
        page = plant.query("alarms/0", asked, OccurrenceList).occurrences
        yield from page if question.oldest_first else reversed(page)
        if not page:
            return
        edge = page[-1] if question.oldest_first else page[0]
        asked = replace(asked, beyond=(edge.raised_ns, edge.name, edge.occurrence))


def occurrence_row(one: Occurrence, alarm: AlarmRow | None) -> dict[str, Any]:
    """Give the object that JSON shows for an occurrence; null where the alarm is gone."""
    return {
        "occurrence": one.occurrence,
        "name": one.name,
        "tag": alarm.tag if alarm is not None else None,
        "priority": alarm.priority if alarm is not None else None,
        "area": alarm.area if alarm is not None else None,
        "raised": times.rfc3339(one.raised_ns),
        "cleared": times.rfc3339(one.cleared_ns),
        "acked": times.rfc3339(one.acked_ns),
        "acked_by": one.acked_by,
        "comment": one.comment,
        "value": values.plain(one.value),
        "unit": alarm.unit if alarm is not None else None,
        "late": one.late,
        "text": alarm.text if alarm is not None else None,
    }


def _csv_cells(row: dict[str, Any]) -> list[str]:
    cells = [row[key] for key in _OCCURRENCE_KEYS]
    return ["" if cell is None else str(cell).lower() if isinstance(cell, bool) else str(cell) for cell in cells]


def _occurrence_table(rows: list[dict[str, Any]], utc: bool, *, limited: bool) -> None:
    head = ("alarm", "priority", "raised", "cleared", "value", "unit", "acknowledged", "acked by", "comment")

    def moment(text: str | None) -> str:
        return times.shown(times.moment_ns(text, 0) if text else None, utc)

    cells = [
        (
            row["name"], row["priority"] or "-", moment(row["raised"]), moment(row["cleared"]),
            values.shown(row["value"]), row["unit"] or "", moment(row["acked"]), row["acked_by"] or "-",
            row["comment"] or "-",
        )
        for row in rows
    ]  # fmt: skip
    output.table(head, cells, right=("value",), less=("comment", "priority", "acked by"))
    if limited and len(rows) == NEWEST:
        output.note(f"these are the newest {NEWEST} that match; --limit N shows more")


def _acknowledge(context: typer.Context, name: str, occurrence: str, comment: str) -> None:
    session = session_of(context)
    with session.plant() as plant:
        row = row_of(plant.ack(name, occurrence=occurrence, comment=comment))
    if session.json:
        output.json_line(row)
    else:
        output.line(f"{row['name']} is acknowledged by {row['acked_by']}; it is {state_of(row)}")


@alarms.command(
    "ack",
    epilog=examples(
        "tagwerk alarms ack mash.temperature.hi",
        "tagwerk alarms ack mash.temperature.hi --comment 'heater off' --user anna",
    ),
)
def ack_alarm(context: typer.Context, name: AlarmName, occurrence: OccurrenceId = "", comment: Comment = "") -> None:
    """Acknowledge an alarm: somebody has seen it."""
    _acknowledge(context, name, occurrence, comment)


@app.command(
    "ack",
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk ack mash.temperature.hi --comment 'heater off'",
    ),
)
def ack(context: typer.Context, name: AlarmName, occurrence: OccurrenceId = "", comment: Comment = "") -> None:
    """Acknowledge an alarm; the same as `tagwerk alarms ack`."""
    _acknowledge(context, name, occurrence, comment)
