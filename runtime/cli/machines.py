"""`tagwerk machine list|show|send|set`."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tagwerk.protocols.errors import Refused, RefusedCode, Unavailable
from tagwerk.protocols.machines import GetMachine, MachineState, SendEvent, SetParameter
from tagwerk.protocols.quality import name_of
from tagwerk.runtime.cli import completion, output, values
from tagwerk.runtime.cli.alarms import ListByDefault
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import Session, session_of

if TYPE_CHECKING:
    from tagwerk.protocols.machines import MachineVariable
    from tagwerk.protocols.message import Message
    from tagwerk.runtime.attach import Plant

app = typer.Typer(add_completion=False)
machine = typer.Typer(cls=ListByDefault, help="Look at machines, send them events, set their parameters.")
app.add_typer(machine, name="machine", rich_help_panel="Machines and devices")

MachineName = Annotated[
    str, typer.Argument(metavar="NAME", help="Its name, mash or machine/mash.", autocompletion=completion.machine_names)
]
Reason = Annotated[str, typer.Option(metavar="R", help="Why, for the log of events.")]
_QUICK_S: Final = 2.0


def row_of(found: MachineState, *, variables: bool = True) -> dict[str, Any]:
    """Give the object that JSON shows for a machine."""
    row: dict[str, Any] = {
        "name": found.name.removeprefix("machine/"),
        "class": found.class_path,
        "state": found.state,
        "running": found.running,
        "reason": found.reason,
        "events": list(found.events),
        "cycles": found.cycles,
        "overruns": found.overruns,
        "interval_s": found.interval_s,
        "lease_s": found.lease_s,
    }
    return {**row, "variables": [_variable(one) for one in found.variables]} if variables else row


def _variable(one: MachineVariable) -> dict[str, Any]:
    return {
        "name": one.name,
        "role": one.role,
        "tag": one.tag,
        "value": values.plain(one.value),
        "unit": one.unit,
        "quality": name_of(one.quality),
    }


@machine.command(
    "list",
    epilog=examples(
        "tagwerk machine list",
    ),
)
def list_(context: typer.Context) -> None:
    """List the machines and how they stand."""
    session = session_of(context)
    with session.plant() as plant:
        rows = [_look(plant, session, name) for name in _names(session)]
    head = ("machine", "state", "running", "events", "cycles", "overruns", "reason")

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        counts = (values.shown(row["cycles"]), values.shown(row["overruns"]))
        state = row["state"] or "-"
        return row["name"], state, values.shown(row["running"]), " ".join(row["events"]), *counts, row["reason"]

    output.show_rows(session.json, rows, head, cells, right=("cycles", "overruns"))


def _names(session: Session) -> list[str]:
    return [name for name in session.actors() if name.startswith("machine/")]


def _look(plant: Plant, session: Session, name: str) -> dict[str, Any]:
    try:
        found = plant.query(name, GetMachine(), MachineState, session.patience_s(_QUICK_S))
        return row_of(found, variables=False)
    except Unavailable as error:
        nothing = dict.fromkeys(("class", "state", "cycles", "overruns", "interval_s", "lease_s"))
        short = name.removeprefix("machine/")
        return {"name": short, **nothing, "running": False, "events": [], "reason": str(error)}


def _actor(session: Session, name: str) -> str:
    known = _names(session)
    actor = name if name.startswith("machine/") else f"machine/{name}"
    if actor not in known:
        near = difflib.get_close_matches(actor, known, 1)
        hint = f"; did you mean {near[0].removeprefix('machine/')}?" if near else ""
        raise Refused(RefusedCode.UNKNOWN_TAG, f"there is no machine {name!r}{hint}", name)
    return actor


@machine.command(
    epilog=examples(
        "tagwerk machine show mash",
    )
)
def show(context: typer.Context, name: MachineName) -> None:
    """Show a machine: its state, why it does not run, its inputs, outputs and parameters."""
    session = session_of(context)
    with session.plant() as plant:
        _show(session, plant.query(_actor(session, name), GetMachine(), MachineState))


def _show(session: Session, found: Message) -> None:
    if not isinstance(found, MachineState):
        raise Unavailable(f"the machine answered {type(found).__name__}")
    if session.json:
        output.json_line(row_of(found))
        return
    running = "yes" if found.running else f"no: {found.reason or 'it does not say why'}"
    output.pairs(
        (
            ("machine", found.name.removeprefix("machine/")),
            ("class", found.class_path),
            ("state", found.state),
            ("running", running),
            ("events", " ".join(found.events) or "-"),
            ("cycle", f"every {found.interval_s:g} s, {found.cycles} so far, {found.overruns} too long"),
        )
    )
    if found.variables:
        output.line()
        cells = [
            (one.role, one.name, values.shown(one.value), one.unit, name_of(one.quality), one.tag or "-")
            for one in found.variables
        ]
        output.table(("role", "name", "value", "unit", "quality", "tag"), cells, right=("value",))


@machine.command(
    epilog=examples(
        "tagwerk machine send mash confirm",
    )
)
def send(
    context: typer.Context,
    name: MachineName,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="One that `machine show` lists.")],
    reason: Reason = "",
) -> None:
    """Send a machine an operator's event."""
    session = session_of(context)
    with session.plant() as plant:
        order = SendEvent(event, plant.user, plant.host, reason)
        _show(session, plant.ask(_actor(session, name), order))


# A value may begin with a minus: what is no option of ours is a value.
@machine.command(
    "set",
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "tagwerk machine set mash hysteresis 0.5",
    ),
)
def set_(
    context: typer.Context,
    name: MachineName,
    parameter: Annotated[str, typer.Argument(metavar="PARAMETER", help="One that `machine show` lists.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="In the parameter's unit, or with one.")],
    reason: Reason = "",
) -> None:
    """Set a parameter of a machine."""
    session = session_of(context)
    with session.plant() as plant:
        actor = _actor(session, name)
        known = plant.query(actor, GetMachine(), MachineState).variables
        found = next((one for one in known if one.name == parameter and one.role == "parameter"), None)
        if found is None:
            names = ", ".join(one.name for one in known if one.role == "parameter") or "none"
            raise Refused(RefusedCode.UNKNOWN_TAG, f"{actor} has no parameter {parameter!r}; it has {names}", actor)
        kind = type(found.value).__name__ if isinstance(found.value, (bool, int, float, str)) else "float"
        typed = values.parsed(value, kind, found.unit, parameter)
        order = SetParameter(parameter, typed, plant.user, plant.host, reason)
        _show(session, plant.ask(actor, order))
