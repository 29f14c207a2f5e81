"""`tagwerk status`, `check`, `schema`, `version`, `restart`, `revive`."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tagwerk.protocols.errors import ConfigError, Timeout, Unknown
from tagwerk.runtime.cli import completion, failure, output, times, values
from tagwerk.runtime.cli.failure import NotFound
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import Session, session_of

if TYPE_CHECKING:
    from tagwerk.runtime.plantfile_models import PlantFile

app = typer.Typer(add_completion=False)

PANEL: Final = "Plant"
SUPERVISION: Final = "Supervision"
VERB_S: Final = 30.0  # an actor may take so long to stop and start
STATUS_HEAD: Final = (
    "name", "state", "pid", "uptime", "restarts", "cpu", "rss", "beat", "inbox", "oldest", "handled", "dead", "reason",
)  # fmt: skip
STATUS_LESS: Final = ("handled", "oldest", "cpu", "rss", "inbox", "dead", "beat", "restarts", "pid")
STATUS_RIGHT: Final = frozenset(STATUS_HEAD) - {"name", "state", "reason"}

ActorName = Annotated[
    str, typer.Argument(metavar="NAME", help="As `status` shows it, cvt/0.", autocompletion=completion.actor_names)
]


def status_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Give the cells of an actor's row."""
    rss = row["rss_bytes"]
    cpu = row["cpu_pct"]
    return (
        row["name"],
        row["state"],
        str(row["pid"] or "-"),
        times.shown_duration(row["uptime_s"]),
        str(row["restarts"]),
        "-" if cpu is None else f"{cpu:.0f}%",
        "-" if rss is None else f"{rss / 1e6:.0f} MB",
        times.shown_duration(row["heartbeat_age_s"]),
        str(row["inbox_depth"]),
        times.shown_duration(row["inbox_oldest_s"]),
        str(row["handled"]),
        str(row["deadletters"]),
        row["reason"],
    )


def is_up(rows: list[dict[str, Any]]) -> bool:
    """Tell whether the plant is up: its node is there and has not stopped."""
    states = {row["state"] for row in rows if row["kind"] == "node"}
    return bool(states) and states.isdisjoint({"UNKNOWN", "STOPPED"})


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk status",
        "tagwerk status --json | jq '.[] | select(.state != \"RUNNING\")'",
    ),
)
def status(context: typer.Context) -> int:
    """Show how every process of the plant is. Asks nobody, so it works when everything hangs.

    Exit code 0: the plant is up. 3: it is not.
    """
    from tagwerk.runtime.status import status_rows

    session = session_of(context)
    rows = status_rows(session.home)
    output.show_rows(session.json, rows, STATUS_HEAD, status_cells, right=STATUS_RIGHT, less=STATUS_LESS)
    return failure.DONE if is_up(rows) else failure.NOT_DONE


def sound(path: Path) -> PlantFile:
    """Read a plant file, and look at the machines' classes that it names; tell its warnings.

    Raises:
        ConfigErrors: All that is wrong.
    """
    from tagwerk.runtime import inspection, plantfile

    plant = plantfile.load(path, checks=[inspection.check])
    for warning in plant.warnings:
        output.note(f"warning: {warning}")
    return plant


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk check examples/brewhouse/plant.toml",
        "tagwerk check plant.toml --json",
    ),
)
def check(
    context: typer.Context, plant: Annotated[Path, typer.Argument(metavar="PLANT", help="The plant file.")]
) -> int:
    """Check a plant file, the CSV files that it names, and its machines' code. Nothing is started.

    Exit code 0: sound. 2: not; every error names its place, and what would be right.
    """
    from tagwerk.runtime.plantfile import as_rows

    session = session_of(context)
    try:
        found = sound(plant)
    except ConfigError as error:
        if not session.json:
            raise
        output.json_list(as_rows(error))
        return failure.USAGE
    if session.json:
        output.json_list([])
        return failure.DONE
    counts = (("tag", found.tags), ("alarm", found.alarms), ("OPC UA link", found.opcua), ("machine", found.machines))
    told = ", ".join(f"{len(of)} {name}{'' if len(of) == 1 else 's'}" for name, of in counts)
    output.line(f"{plant}: sound ({told})")
    return failure.DONE


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk schema > plant.schema.json",
    ),
)
def schema() -> None:
    """Print the JSON schema of the plant file, for editors."""
    from tagwerk.runtime.plantfile import schema as plant_schema

    output.line(json.dumps(plant_schema(), indent=2))


@app.command(rich_help_panel=PANEL)
def version(context: typer.Context) -> None:
    """Print the version."""
    import tagwerk

    if session_of(context).json:
        output.json_line({"version": tagwerk.__version__})
    else:
        output.line(f"tagwerk {tagwerk.__version__}")


@app.command(
    rich_help_panel=SUPERVISION,
    epilog=examples(
        "tagwerk restart opcua/plc",
    ),
)
def restart(context: typer.Context, name: ActorName) -> None:
    """Stop an actor and start it again; done when it runs."""
    _do(session_of(context), "restart", name)


@app.command(
    rich_help_panel=SUPERVISION,
    epilog=examples(
        "tagwerk revive machine/mash",
    ),
)
def revive(context: typer.Context, name: ActorName) -> None:
    """Start an actor again that was given up (FATAL) or is held back (BACKOFF)."""
    _do(session_of(context), "revive", name)


def _do(session: Session, verb: str, name: str) -> None:
    from tagwerk.runtime.node_ctl import NodeCtl

    try:
        reply = NodeCtl(session.home).call(verb, name, session.patience_s(VERB_S))
    except Timeout as error:
        raise Unknown(f"{verb} {name}: {error}; it may still come about") from error
    if not reply.ok:
        raise NotFound(reply.message + _near(session, name))
    if session.json:
        output.json_line({"name": name, "message": values.printable(reply.message)})
    else:
        output.line(reply.message)


def _near(session: Session, name: str) -> str:
    """Give a hint at what was meant by a name that is none."""
    known = completion.process_names(session)
    if name in known:
        return ""
    if name.startswith("node/"):
        return "; `tagwerk down` and `tagwerk up` restart all of it"
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
