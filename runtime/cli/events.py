"""`tagwerk events`, `tagwerk deadletters`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from msgspec.structs import replace

from tagwerk.protocols.errors import Unavailable
from tagwerk.protocols.plantwide import DeadLetters, EventList, GetDeadLetters, GetEvents
from tagwerk.runtime.cli import output, times, values
from tagwerk.runtime.cli.history_read import span
from tagwerk.runtime.cli.new_file import check_form, text_to
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import Session, session_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tagwerk.protocols.plantwide import DeadLetter, Event
    from tagwerk.runtime.attach import Plant

app = typer.Typer(add_completion=False)

FOLLOW_S: Final = 0.5
PAGE: Final = 500  # events asked for at once while following
PAGE_EVENTS: Final = 5_000  # at once otherwise
NEWEST: Final = 100  # shown if nothing else was asked for
LIMIT_MOST: Final = 100_000  # the newest: they are held in memory
_HEAD: Final = ("time", "user", "host", "kind", "target", "before", "after", "reason")

Numbered = tuple[int, "Event"]


def row_of(number: int, event: Event) -> dict[str, Any]:
    """Give the object that JSON shows for an event."""
    texts = {key: getattr(event, key) for key in _HEAD[1:]}
    return {"time": times.rfc3339(event.time_ns), **texts, "id": number}


@app.command(
    rich_help_panel="Alarms and events",
    epilog=examples(
        "tagwerk events",
        "tagwerk events --last 1d --target 'brewhouse.kettle.*'",
        "tagwerk events --kind 'history_*' --kind hole --limit 20",
        "tagwerk events --from 2026-03-01 --to 2026-04-01 --csv --output march.csv",
        "tagwerk events --follow --json",
    ),
)
def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=LIMIT_MOST, help="The newest N that match; else 100.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(metavar="NAME", help="Only what happened to this tag, alarm, actor or file; a name or a glob."),
    ] = "",
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Only of this kind, or glob; may be given several times.")
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Only what this user did.")] = "",
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="From this time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="T", help="Before this time.")] = None,
    last: Annotated[str | None, typer.Option(metavar="1h", help="The time up to now.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: time,user,host,kind,target,before,after,reason.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="CSV or JSON into a file, whole or not at all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Show who did what, and what became of it; oldest first.

    The newest 100 that match. CSV and JSON with a span, and without --limit, hold all of it.
    """
    session = session_of(context)
    check_form(as_csv, session.json, file, force)
    if follow and (end is not None or as_csv or file is not None):
        raise typer.BadParameter("--follow goes on for ever; leave out --to, --csv and --output")
    wanted = span(start, end, last, None, False, time.time_ns())
    question = GetEvents(
        min(limit or NEWEST, PAGE_EVENTS), 0, wanted.start_ns or None, wanted.end_ns if end is not None else None,
        target, tuple(dict.fromkeys(kind or ())), by,
    )  # fmt: skip
    with session.plant() as plant:
        every = (as_csv or session.json) and limit is None and bool(start or end or last) and not follow
        found = _all(plant, question) if every else _newest(plant, question, limit or NEWEST)
        if follow:
            _follow(plant, session, list(found), question)
        elif as_csv:
            rows = ((times.rfc3339(event.time_ns) or "", *_texts(event)) for _, event in found)
            with text_to(file, force=force) as stream:
                output.csv_rows(_HEAD, rows, stream)
        elif session.json:
            with text_to(file, force=force) as stream:
                output.json_list((row_of(number, event) for number, event in found), stream)
        else:
            shown = list(found)
            output.table(_HEAD, [_cells(event, session.utc) for _, event in shown])
            if limit is None and len(shown) == NEWEST:
                output.note(f"these are the newest {NEWEST} that match; --limit N shows more")


def _newest(plant: Plant, question: GetEvents, limit: int) -> Iterator[Numbered]:
    """The newest `limit` events, oldest first; asked for backwards, page by page."""
    pages: list[tuple[Numbered, ...]] = []
    left, before = limit, 0
    while left > 0:
        asked = replace(question, limit=min(left, PAGE_EVENTS), before_id=before)
        found = plant.query("events/0", asked, EventList).events
        pages.append(found)
        left -= len(found)
        if len(found) < asked.limit:
            break
        before = found[0][0]
    return (one for page in reversed(pages) for one in page)


def _all(plant: Plant, question: GetEvents) -> Iterator[Numbered]:
    """All events that match, oldest first, page by page."""
    after = 0
    while True:
        asked = replace(question, limit=PAGE_EVENTS, after_id=after, oldest_first=True)
        found = plant.query("events/0", asked, EventList).events
        yield from found
        if not found:  # a page may be short for another reason than the end: its limit is the store's
            return
        after = found[-1][0]


def _texts(event: Event) -> tuple[str, ...]:
    return tuple(str(getattr(event, key)) for key in _HEAD[1:])


def _cells(event: Event, utc: bool) -> tuple[str, ...]:
    texts = tuple(str(getattr(event, key)) or "-" for key in _HEAD[1:])
    return times.shown(event.time_ns, utc), *texts


def _follow(plant: Plant, session: Session, found: Sequence[Numbered], question: GetEvents) -> None:
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
            found = plant.query(
                "events/0", replace(question, limit=PAGE, after_id=after, oldest_first=True), EventList
            ).events
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
