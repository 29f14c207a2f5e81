"""`tagwerk alarms`, `tagwerk ack`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.quality import name_of
from tagwerk.runtime.cli import completion, output, times, values
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import session_of

if TYPE_CHECKING:
    from tagwerk.protocols.alarms import AlarmRow

PANEL: Final = "Alarms and events"


class ListByDefault(TyperGroup):
    """A group whose command is `list` if none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the `list` that was left out."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(add_completion=False)
alarms = typer.Typer(cls=ListByDefault, help="Show alarms, acknowledge them.", no_args_is_help=False)
app.add_typer(alarms, name="alarms", rich_help_panel=PANEL)

_KEYS: Final = (
    "name", "tag", "type", "limit", "unit", "priority", "severity", "active", "acked", "latched", "shelved",
    "suppressed", "out_of_service", "enabled", "letter", "occurrence",
)  # fmt: skip

AlarmName = Annotated[str, typer.Argument(metavar="NAME", help="Its name.", autocompletion=completion.alarm_names)]
Occurrence = Annotated[str, typer.Option(metavar="ID", help="Only if it is still this occurrence.")]
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
def ack_alarm(context: typer.Context, name: AlarmName, occurrence: Occurrence = "", comment: Comment = "") -> None:
    """Acknowledge an alarm: somebody has seen it."""
    _acknowledge(context, name, occurrence, comment)


@app.command(
    "ack",
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk ack mash.temperature.hi --comment 'heater off'",
    ),
)
def ack(context: typer.Context, name: AlarmName, occurrence: Occurrence = "", comment: Comment = "") -> None:
    """Acknowledge an alarm; the same as `tagwerk alarms ack`."""
    _acknowledge(context, name, occurrence, comment)
