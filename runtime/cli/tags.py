"""`tagwerk tags`, `read`, `write`, `watch`, `why`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.names import is_glob
from tagwerk.protocols.tags import ExplainTag, TagExplained
from tagwerk.runtime.cli import completion, output, times, values
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import Session, session_of

if TYPE_CHECKING:
    from tagwerk.protocols.samples import Samples, TagValue, Value
    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.attach import Plant

app = typer.Typer(add_completion=False)

PANEL: Final = "Tags"
READ_AT_ONCE: Final = 1_000  # tags a question
_VALUE_HEAD: Final = ("tag", "value", "unit", "quality", "time")
_MORE_KEYS: Final = (
    "type", "description", "display_unit", "low", "high", "source", "node", "writable", "labels", "area",
)  # fmt: skip

TagName = Annotated[str, typer.Argument(metavar="TAG", help="Its name.", autocompletion=completion.tag_names)]


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk tags",
        "tagwerk tags 'brewhouse.*.temperature'",
        "tagwerk tags 'cellar.*' --json",
    ),
)
def tags(
    context: typer.Context,
    glob: Annotated[str, typer.Argument(metavar="GLOB", help="Which ones.", autocompletion=completion.tag_names)] = "*",
) -> None:
    """List the tags: what they are, and their values now."""
    session = session_of(context)
    with session.plant() as plant:
        if not is_glob(glob):
            plant.definition(glob)
        found = plant.definitions(glob)
        rows = (
            {**values.row_of(value), **{key: getattr(tag, key) for key in _MORE_KEYS}, "log": tag.log_rule}
            for tag, value in zip(found, _read(plant, found), strict=True)
        )
        head = ("tag", "type", "value", "unit", "quality", "source", "log", "description")
        output.show_rows(session.json, rows, head, _tag_cells, right=("value",), less=("log",))


def _tag_cells(row: dict[str, Any]) -> tuple[str, ...]:
    shown = values.shown(row["value"])
    log = row["log"]
    rule = (
        " ".join(f"{key}={value:g}" for key, value in log.items()) if isinstance(log, dict) else "yes" if log else "no"
    )
    return row["tag"], row["type"], shown, row["unit"], row["quality"], row["source"], rule, row["description"]


def _read(plant: Plant, found: list[TagDef]) -> Iterator[TagValue]:
    for start in range(0, len(found), READ_AT_ONCE):
        yield from plant.read_many(tag.name for tag in found[start : start + READ_AT_ONCE])


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk read brewhouse.kettle.temperature",
        "tagwerk read brewhouse.mash.temperature brewhouse.mash.setpoint --json",
        "tagwerk read 'cellar.*'",
    ),
)
def read(
    context: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="TAG", help="Names or globs.", autocompletion=completion.tag_names)
    ],
) -> None:
    """Read values, in the tags' engineering units."""
    session = session_of(context)
    with session.plant() as plant:
        found = [tag for name in names for tag in matching(plant, name)]
        _show_values(session, list(_read(plant, found)))


def matching(plant: Plant, name: str) -> list[TagDef]:
    """Give the tags that a name or a glob means.

    Raises:
        Refused: UnknownTag: there is none.
    """
    if not is_glob(name):
        return [plant.definition(name)]
    found = plant.definitions(name)
    if not found:
        raise Refused(RefusedCode.UNKNOWN_TAG, f"no tag matches {name!r}", name)
    return found


def _show_values(session: Session, found: list[TagValue]) -> None:
    if session.json:
        output.json_list(map(values.row_of, found))
        return
    output.table(_VALUE_HEAD, [_cells(value, session.utc) for value in found], right=("value",))


def _cells(value: TagValue, utc: bool) -> tuple[str, ...]:
    from tagwerk.protocols.quality import name_of

    time = times.shown(value.time_ns, utc)
    return value.tag, values.shown(value.value), value.unit, name_of(value.quality), time


# A value may begin with a minus: what is no option of ours is a value.
@app.command(
    rich_help_panel=PANEL,
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "tagwerk write brewhouse.kettle.setpoint 65",
        "tagwerk write brewhouse.kettle.setpoint '150 degF' --reason 'mash out'",
        "tagwerk write brewhouse.pump.command on",
    ),
)
def write(
    context: typer.Context,
    tag: TagName,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="In the tag's unit, or with one: '150 degF'.")],
    unit: Annotated[str | None, typer.Option(metavar="U", help="The unit of the value.")] = None,
    reason: Annotated[str, typer.Option(metavar="R", help="Why, for the log of events.")] = "",
) -> None:
    """Set a tag, at most once, and show the value read back.

    Exit code 3: certainly not done. 4: handed over, and nobody knows what became of it; look before you try again.
    """
    session = session_of(context)
    with session.plant() as plant:
        definition = plant.definition(tag)
        typed = values.parsed(value, definition.type, definition.unit, tag, unit)
        done = plant.write(tag, typed, reason=reason)
    if session.json:
        output.json_line(values.row_of(done))
    else:
        _show_values(session, [done])


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk watch brewhouse.mash.temperature",
        "tagwerk watch 'brewhouse.*' 'cellar.*' --every",
        "tagwerk watch 'brewhouse.*' --json | jq .value",
    ),
)
def watch(
    context: typer.Context,
    globs: Annotated[
        list[str], typer.Argument(metavar="GLOB", help="Names or globs.", autocompletion=completion.tag_names)
    ],
    every: Annotated[
        bool, typer.Option("--every", help="Each sample; else the latest, if they come faster than they are shown.")
    ] = False,
) -> None:
    """Follow tags: their values now, then every change, until Ctrl-C."""
    session = session_of(context)
    with session.plant() as plant:
        for name in globs:
            if not is_glob(name):
                plant.definition(name)
        found = plant.definitions(*globs)
        follower = plant.watch(*globs, mode="every" if every else "latest")
        if not found:
            output.note(f"no tag matches {' '.join(globs)} so far")
        lines = _Lines(max((len(tag.name) for tag in found), default=20), session)
        for batch in follower:
            lines.show(batch)


class _Lines:
    """Shows batches, one line a sample; remembers values, for samples that say a new quality only."""

    def __init__(self, width: int, session: Session) -> None:
        self._width = width
        self._session = session
        self._last: dict[str, Value] = {}

    def show(self, batch: Samples) -> None:
        """Write the samples of a batch."""
        if not batch.complete and not self._session.json:
            output.line("--- changes were skipped; from here on in step again ---")
        for value in batch.rows():
            self._show(value, batch)
        output.flush()

    def _show(self, value: TagValue, batch: Samples) -> None:
        if batch.values is not None:
            self._last[value.tag] = value.value
        row = values.row_of(value)
        now = self._last.get(value.tag)
        if self._session.json:
            row["value"] = values.plain(now)
            output.json_line({**row, "snapshot": batch.snapshot, "complete": batch.complete})
            return
        time = times.shown(value.time_ns, self._session.utc)
        text = values.with_unit(now, value.unit)
        output.line(f"{time}  {value.tag:<{self._width}}  {text:<16}  {row['quality']}")


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk why brewhouse.kettle.temperature",
    ),
)
def why(context: typer.Context, tag: TagName) -> None:
    """Say why a tag looks as it does: where its value comes from, and what became of it."""
    session = session_of(context)
    with session.plant() as plant:
        definition = plant.definition(tag)
        value = plant.read(tag)
        told = plant.query(f"cvt/{definition.shard}", ExplainTag(definition.handle), TagExplained)
    if session.json:
        lines = [{"what": what, "detail": detail} for what, detail in told.lines]
        output.json_line({**values.row_of(value), "lines": lines})
    else:
        output.pairs(told.lines)
