"""`tagwerk order check|simulate|graph`: look at an order's text, whether a plant runs or not.

What is said to a plant about its orders stands in `order_plant.py`.
"""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from tagwerk.protocols.errors import ConfigError, ConfigErrors
from tagwerk.runtime.cli import failure, output, values
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import Session, session_of

LOGIC: Final = "tagwerk.actors.orders.logic"  # by name: the runtime imports no actor
SHOWN_CALLS: Final = 1_000  # in a table; JSON has all
MOST_BYTES: Final = 8 << 20  # of any file that is read here

app = typer.Typer(add_completion=False)
order = typer.Typer(no_args_is_help=True, help="Check, try and draw production orders; run them in a plant.")
app.add_typer(order, name="order", rich_help_panel="Orders")

OrderFile = Annotated[Path, typer.Argument(metavar="FILE", help="The order, in PFDL.")]


class Format(StrEnum):
    """What a graph is written in."""

    MERMAID = "mermaid"
    DOT = "dot"


def logic(module: str) -> Any:
    """Give a module of the orders' logic."""
    return importlib.import_module(f"{LOGIC}.{module}")


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        ConfigError: It is too large, or not UTF-8.
    """
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ConfigError("the file is too big", file=str(path), expected=f"at most {MOST_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        wrong = f"byte {raw[error.start]:#x}"
        raise ConfigError("this is no UTF-8", file=str(path), line=line, value=wrong, expected="UTF-8") from error


def _error(path: Path, finding: Any) -> ConfigError:
    return ConfigError(
        finding.message,
        file=str(path),
        line=finding.place.line,
        key=finding.key,
        value=finding.value,
        expected=finding.expected,
    )


def program_of(path: Path, session: Session) -> Any:
    """Read an order; if it is none, tell all that is wrong and end with exit code 2."""
    pfdl = logic("pfdl")
    try:
        return pfdl.read(text_of(path))
    except pfdl.Unsound as error:
        if session.json:
            raise ConfigErrors([_error(path, finding) for finding in error.findings]) from None
        _refuse(path, error.findings)


def _refuse(path: Path, findings: Sequence[Any]) -> NoReturn:
    for finding in findings:
        output.note(f"error: {values.printable(f'{path}:{finding}')}")
    raise typer.Exit(failure.USAGE)


def _row(path: Path, finding: Any) -> dict[str, Any]:
    return {
        "file": str(path),
        "line": finding.place.line,
        "column": finding.place.column,
        "key": finding.key,
        "value": finding.value,
        "message": finding.message,
        "expected": finding.expected,
    }


@order.command(
    epilog=examples(
        "tagwerk order check examples/workshop/orders/lamp.pfdl",
        "tagwerk order check order.pfdl --json",
    )
)
def check(context: typer.Context, file: OrderFile) -> int:
    """Check an order. Nothing is started.

    Exit code 0: sound. 2: not; every error names its line and column, and what would be right.
    """
    session = session_of(context)
    findings = logic("pfdl").findings_in(text_of(file))
    if session.json:
        output.json_list([_row(file, finding) for finding in findings])
        return failure.USAGE if findings else failure.DONE
    if findings:
        _refuse(file, findings)
    program = program_of(file, session)
    counts = (("task", program.tasks), ("service", program.services()), ("struct", program.structs))
    told = ", ".join(f"{len(of)} {name}{'' if len(of) == 1 else 's'}" for name, of in counts)
    output.line(f"{file}: sound ({told})")
    return failure.DONE


@order.command(
    epilog=examples(
        "tagwerk order graph order.pfdl --format mermaid",
        "tagwerk order graph order.pfdl --format dot | dot -Tsvg > order.svg",
    )
)
def graph(
    context: typer.Context,
    file: OrderFile,
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.MERMAID,
) -> None:
    """Draw an order as text for Mermaid or Graphviz: one box a task."""
    session = session_of(context)
    text = getattr(logic("graph"), format_.value)(program_of(file, session))
    if session.json:
        output.json_line({"format": format_.value, "graph": text})
    else:
        output.line(text.rstrip("\n"))


@order.command(
    epilog=examples(
        "tagwerk order simulate order.pfdl",
        "tagwerk order simulate order.pfdl --durations durations.toml --answers answers.json --svg gantt.svg",
        "tagwerk order simulate order.pfdl --json",
    )
)
def simulate(
    context: typer.Context,
    file: OrderFile,
    durations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML: how long services take, how often they fail.")
    ] = None,
    answers: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON: what services give.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides which calls fail.")] = 0,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the run there as a picture.")] = None,
) -> int:
    """Run an order on a virtual clock, without resources.

    Exit code 0: it finished. 1: it failed, or was stopped because it goes round without end.
    """
    session = session_of(context)
    program = program_of(file, session)
    paces = logic("paces")
    found = logic("simulate").simulate(
        program,
        paces.read_paces(_toml(durations) if durations else {}, program, str(durations)),
        paces.Answers(_json(answers) if answers else {}, program, str(answers)),
        seed,
    )
    if svg:
        svg.write_text(logic("gantt").gantt(found), encoding="utf-8")
    _show(session, file, found)
    return failure.DONE if found.state == "FINISHED" else failure.REFUSED


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text_of(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is no TOML: {error}", file=str(path), expected="`Service = seconds`") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(text_of(path))
    except (json.JSONDecodeError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        message = f"this is no JSON: {error}"
        raise ConfigError(message, file=str(path), line=line, expected='{"Service": answer}') from error
    if not isinstance(found, dict):
        raise ConfigError("this is no object", file=str(path), expected='{"Service": answer}')
    return found


def _show(session: Session, file: Path, found: Any) -> None:
    rows = [
        {
            "service": call.service, "uuid": call.service_uuid, "task": call.task, "task_uuid": call.task_uuid,
            "attempt": call.attempt, "start_s": call.start_s, "end_s": call.end_s, "state": call.state,
            "inputs": call.inputs, "outputs": call.outputs, "reason": call.reason,
        }
        for call in found.calls
    ]  # fmt: skip
    where = {"line": found.line or None, "column": found.column or None}
    if session.json:
        head = {"state": found.state, "services": len(rows), "duration_s": found.duration_s, "reason": found.reason}
        output.json_line({**head, **where, "variables": dict(found.variables), "calls": rows})
        return
    cells = [
        (f"{row['start_s']:g}", "-" if row["end_s"] is None else f"{row['end_s']:g}", row["task"], row["service"],
         str(row["attempt"]), row["state"], row["reason"])
        for row in rows[:SHOWN_CALLS]
    ]  # fmt: skip
    output.table(("start", "end", "task", "service", "attempt", "state", "reason"), cells, right=("start", "end"))
    if len(rows) > SHOWN_CALLS:
        output.note(f"{len(rows) - SHOWN_CALLS} more; --json shows all")
    count = f"{len(rows)} service{'' if len(rows) == 1 else 's'}"
    output.line(f"{found.state} after {found.duration_s:g} s of the virtual clock, {count}")
    if found.reason:
        place = f"{file}:{found.line}:{found.column}: " if found.line else ""
        output.note(f"error: {values.printable(place + found.reason)}")


from tagwerk.runtime.cli import order_dispatch, order_plant  # noqa: E402  their commands belong to the same group

order_plant.add_to(order)
order_dispatch.add_to(order)
