"""`tagwerk events`, `tagwerk deadletters`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tagwerk.protocols.errors import Unavailable
from tagwerk.protocols.plantwide import DeadLetters, EventList, GetDeadLetters, GetEvents
from tagwerk.runtime.cli import output, times, values
from tagwerk.runtime.cli.history_read import span
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import Session, session_of

if TYPE_CHECKING:
    from tagwerk.protocols.plantwide import DeadLetter, Event
    from tagwerk.runtime.attach import Plant

app = typer.Typer(add_completion=False)

FOLLOW_S: Final = 0.5
PAGE: Final = 500  # events asked for at once while following
_HEAD: Final = ("time", "user", "host", "kind", "target", "before", "after", "reason")


def row_of(number: int, event: Event) -> dict[str, Any]:
    """Give the object that JSON shows for an event."""
    texts = {key: getattr(event, key) for key in _HEAD[1:]}
    return {"time": times.rfc3339(event.time_ns), **texts, "id": number}


@app.command(
    rich_help_panel="Alarms and events",
    epilog=examples(
        "tagwerk events",
        "tagwerk events --last 1d --target brewhouse.kettle.setpoint",
        "tagwerk events --follow --json",
    ),
)
def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="The newest N.")] = 100,
    target: Annotated[str, typer.Option(metavar="NAME", help="Only what happened to this tag, alarm or actor.")] = "",
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="From this time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="T", help="Before this time.")] = None,
    last: Annotated[str | None, typer.Option(metavar="1h", help="The time up to now.")] = None,
) -> None:
    """Show who did what, and what became of it; oldest first."""
    session = session_of(context)
    if follow and end is not None:
        raise typer.BadParameter("--follow goes on for ever; leave out --to")
    wanted = span(start, end, last, None, False, time.time_ns())
    start_ns = wanted.start_ns or None
    end_ns = wanted.end_ns if end is not None else None
    with session.plant() as plant:
        found = plant.query("events/0", GetEvents(limit, 0, start_ns, end_ns, target), EventList).events
        if follow:
            _follow(plant, session, found, target)
        elif session.json:
            output.json_list(row_of(number, event) for number, event in found)
        else:
            output.table(_HEAD, [_cells(event, session.utc) for _, event in found])


def _cells(event: Event, utc: bool) -> tuple[str, ...]:
    texts = tuple(str(getattr(event, key)) or "-" for key in _HEAD[1:])
    return times.shown(event.time_ns, utc), *texts


def _follow(plant: Plant, session: Session, found: tuple[tuple[int, Event], ...], target: str) -> None:
    after = 0
    reachable = True
    while True:
        for number, event in found:
            after = max(after, number)
            if session.json:
                output.json_line(row_of(number, event))
            else:
                output.line(_sentence(event, session.utc))
        output.flush()
        if len(found) < PAGE:
            time.sleep(FOLLOW_S)
        try:
            found = plant.query("events/0", GetEvents(PAGE, after, target=target), EventList).events
            reachable = True
        except Unavailable as error:
            found = ()
            if reachable:
                output.note(f"warning: events/0 does not answer, asking on: {error}")
            reachable = False


def _sentence(event: Event, utc: bool) -> str:
    change = f"  {event.before or '-'} -> {event.after}" if event.after else ""
    reason = f"  ({event.reason})" if event.reason else ""
    line = f"{times.shown(event.time_ns, utc)}  {event.user or '-'}@{event.host or '-'}  {event.kind}  {event.target}"
    return values.printable(line + change + reason)


@app.command(
    rich_help_panel="Supervision",
    epilog=examples(
        "tagwerk deadletters",
        "tagwerk deadletters --json",
    ),
)
def deadletters(context: typer.Context) -> None:
    """Show messages that were not delivered, or of which nobody knows, of all actors; oldest first."""
    session = session_of(context)
    letters: list[DeadLetter] = []
    with session.plant() as plant:
        for actor in session.actors():
            try:
                found = plant.query(actor, GetDeadLetters(), DeadLetters, session.patience_s(1.0))
                letters += found.letters
                if found.total > len(found.letters):
                    counts = ", ".join(f"{count} {sort}" for sort, count in found.counts)
                    output.note(f"note: {actor} counted {found.total} ({counts}), the newest are shown")
            except Unavailable as error:
                output.note(f"warning: {actor} does not answer, its dead letters are not shown: {error}")
    letters.sort(key=lambda letter: letter.time_ns)
    head = ("time", "from", "to", "type", "reason", "bytes")

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        at_ns = times.moment_ns(row["time"], 0) if row["time"] else None
        return times.shown(at_ns, session.utc), *(str(row[key]) for key in head[1:])

    output.show_rows(session.json, map(_letter, letters), head, cells, right=("bytes",))


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "time": times.rfc3339(letter.time_ns),
        "from": letter.sender,
        "to": letter.to,
        "type": letter.type,
        "reason": letter.reason,
        "bytes": letter.size,
    }
