"""`tagwerk order start|list|show|pause|resume|cancel|retry|resolve|log|report`: orders of the plant that runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tagwerk.protocols.errors import ConfigError, ConfigErrors, NotSent, Refused, RefusedCode, Unavailable
from tagwerk.protocols.orders import (
    CREW,
    ControlOrder,
    GetOrder,
    GetOrderLog,
    GetOrders,
    LogEntry,
    OrderDetail,
    OrderLog,
    OrderRow,
    OrderRows,
    OrderStarted,
    ResolveService,
    ServiceRow,
    StartOrder,
)
from tagwerk.runtime.cli import completion, failure, output, times, values
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.order_shown import lines, row_of, service_of, table, tell_doubt, took
from tagwerk.runtime.cli.session import Session, session_of

if TYPE_CHECKING:
    from tagwerk.protocols.message import Message
    from tagwerk.runtime.attach import Plant

PAGE: Final = 1_000
LOOK_S: Final = 0.05
START_S: Final = 30.0
PRIORITY_LIMIT: Final = 1_000
SHOWN: Final = 100
EXACT: Final = 1 << 53

OrderId = Annotated[
    str, typer.Argument(metavar="ID", help="As `order list` shows it.", autocompletion=completion.order_ids)
]
Reason = Annotated[str, typer.Option(metavar="R", help="Why, for the order's log and the log of events.")]
Waits = Annotated[bool, typer.Option("--wait", help="Wait for its end; exit code 1 if it did not finish.")]


class Outcome(StrEnum):
    """What became of a service."""

    DONE = "done"
    FAILED = "failed"
    RETRY = "retry"


def add_to(order: typer.Typer) -> None:
    """Add the commands to the group `order`."""
    for command, shown in (
        (start, ("tagwerk order start order.pfdl", "tagwerk order start batch.pfdl liters=500 --priority 5 --wait")),
        (list_, ("tagwerk order list", "tagwerk order list --running --json")),
        (show, ("tagwerk order show batch_7",)),
        (pause, ("tagwerk order pause batch_7 --reason 'shift change'",)),
        (resume, ("tagwerk order resume batch_7",)),
        (cancel, ("tagwerk order cancel batch_7 --reason 'wrong malt'",)),
        (retry, ("tagwerk order retry batch_7",)),
        (
            resolve,
            ("tagwerk order resolve batch_7 3 failed", "tagwerk order resolve batch_7 Mash done wort=@wort.json"),
        ),
        (log, ("tagwerk order log batch_7",)),
        (report, ("tagwerk order report batch_7 --svg batch_7.svg",)),
    ):
        order.command(command.__name__.rstrip("_"), epilog=examples(*shown))(command)


# --- commands --------------------------------------------------------------------------------------------------------


def start(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The order, in PFDL.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="What its first task takes: JSON, or @FILE with JSON."),
    ] = None,
    priority: Annotated[
        int,
        typer.Option(
            metavar="N", min=-PRIORITY_LIMIT, max=PRIORITY_LIMIT, help="A higher one goes first on resources."
        ),
    ] = 0,
    wait: Waits = False,
    reason: Reason = "",
) -> int:
    """Start an order in the plant. It is checked first; once its id is shown it runs, whatever dies.

    Exit code 2: the order or an input is not sound, and nothing was begun.
    """
    from tagwerk.runtime.cli.order import logic, program_of, text_of

    session = session_of(context)
    program = program_of(file, session)
    given = typed(inputs or [], {one.name: str(one.type) for one in program.tasks["productionTask"].inputs}, file)
    try:
        logic("pfdl").Interpreter(program).start("check", given)
    except Refused as error:
        raise ConfigError(error.message, file=str(file)) from error
    with orders(session) as plant:
        message = StartOrder(file.stem, text_of(file), given, priority, plant.user, plant.host, reason)
        answer = plant.ask(CREW, message, session.patience_s(START_S))
        assert isinstance(answer, OrderStarted), "what else it could say is raised"
        if not wait:
            shown_row(session, _row(plant, answer.id))
            return failure.DONE
        if not session.json:
            output.line(answer.id)
            output.flush()
        return _to_its_end(session, plant, answer.id)


def list_(
    context: typer.Context,
    running: Annotated[bool, typer.Option("--running", help="Only those that have not ended.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=PAGE, help="The newest N.")] = 100,
) -> None:
    """List the orders, newest first."""
    session = session_of(context)
    with orders(session) as plant:
        rows = plant.query(CREW, GetOrders(limit, not running), OrderRows).orders
    head = ("order", "file", "state", "priority", "started", "took", "finished", "running", "waiting", "by", "reason")

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        found = next(one for one in rows if one.id == row["id"])
        counts = (str(found.finished), str(found.running), str(found.waiting))
        began = times.shown(found.started_ns, session.utc)
        return (found.id, found.name, found.state, str(found.priority), began, took(found), *counts, found.by,
                found.reason)  # fmt: skip

    right = ("priority", "took", "finished", "running", "waiting")
    output.show_rows(session.json, [row_of(one) for one in rows], head, cells, right, less=("by", "file", "priority"))


def show(context: typer.Context, order_id: OrderId) -> None:
    """Show an order: its services, those in doubt with what is known, and its variables."""
    session = session_of(context)
    with orders(session) as plant:
        row, services, variables = _detail(plant, order_id)
    if session.json:
        output.json_line({**row_of(row), "services": [service_of(one) for one in services], "variables": variables})
        return
    output.pairs(lines(row, session.utc))
    table(services)
    for one in services:
        if one.state == "UNKNOWN":
            tell_doubt(row, one, session.utc)
    for name, value in variables.items():
        output.line(values.printable(f"{name} = {json.dumps(value, ensure_ascii=False)}"))


def pause(context: typer.Context, order_id: OrderId, reason: Reason = "") -> None:
    """Pause an order: no further service is handed out; those that a resource has already come to their end."""
    _control(context, order_id, "pause", reason)


def resume(context: typer.Context, order_id: OrderId, reason: Reason = "") -> None:
    """Let a paused order go on."""
    _control(context, order_id, "resume", reason)


def cancel(context: typer.Context, order_id: OrderId, reason: Reason = "") -> None:
    """End an order. What is not called yet never will be; the end of what was called is waited for a while."""
    _control(context, order_id, "cancel", reason)


def retry(context: typer.Context, order_id: OrderId, reason: Reason = "") -> None:
    """Let an order that failed go on at the services that had not finished; each is executed once more."""
    _control(context, order_id, "retry", reason)


def resolve(
    context: typer.Context,
    order_id: OrderId,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Its number, name or uuid.")],
    outcome: Annotated[Outcome, typer.Argument(metavar="done|failed|retry", help="What came of it.")],
    outputs: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="What it gave, if it is done: JSON, or @FILE.")
    ] = None,
    reason: Reason = "",
) -> None:
    """Say what came of a service that was called and of which nobody knows. Look at the machine first!

    Its place in the resource's queue is given back, and AssetState becomes IDLE. `retry` executes it once more.
    """
    session = session_of(context)
    given = {key: _json(text, key) for key, text in _pairs(outputs or [])}
    if given and outcome is not Outcome.DONE:
        raise ConfigError("only what is done gave something", key=next(iter(given)), expected="no KEY=VALUE, or `done`")
    with orders(session) as plant:
        message = ResolveService(order_id, service, outcome.value, given, plant.user, plant.host, reason)
        shown_row(session, plant.ask(CREW, message))


def log(context: typer.Context, order_id: OrderId) -> None:
    """Show all that happened to an order: who, what, when, and why."""
    session = session_of(context)
    with orders(session) as plant:
        entries = list(_log(plant, order_id))
        names = {one.number: one.name for one in _detail(plant, order_id)[1]}
    rows = [
        {"seq": one.seq, "time": times.rfc3339(one.time_ns), "kind": one.kind, "service": one.service or None,
         "name": names.get(one.service), "uuid": one.uuid,
         "by": one.by, "host": one.host, "what": one.what}
        for one in entries
    ]  # fmt: skip
    shown = {one.seq: times.shown(one.time_ns, session.utc) for one in entries}

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return (
            shown[row["seq"]],
            row["kind"],
            f"{row['service'] or ''} {row['name'] or ''}".strip(),
            row["by"],
            row["what"],
        )

    output.show_rows(session.json, rows, ("time", "what", "service", "by", "detail"), cells)


def report(
    context: typer.Context,
    order_id: OrderId,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there a picture of what happened.")] = None,
) -> None:
    """Report an order: for each service who executed it and why, how long it waited, how long it took."""
    from tagwerk.runtime.cli.order import logic

    session = session_of(context)
    with orders(session) as plant:
        row, services, variables = _detail(plant, order_id)
    if svg:
        svg.write_text(logic("gantt").gantt_of_order(row, services, time.time_ns()), encoding="utf-8")
    if session.json:
        output.json_line({**row_of(row), "services": [service_of(one) for one in services], "variables": variables})
        return
    output.pairs(lines(row, session.utc))
    table(services, why=True)


# --- what they share -------------------------------------------------------------------------------------------------


def orders(session: Session) -> Plant:
    """Attach to a plant with orders.

    Raises:
        Refused: It has none.
    """
    plant = session.plant()
    if CREW not in session.actors():
        plant.close()
        raise Refused(
            RefusedCode.UNKNOWN_TAG, "this plant runs no orders: its file has no [order] and no [resource.NAME]"
        )
    return plant


def _control(context: typer.Context, order_id: str, action: str, reason: str) -> None:
    session = session_of(context)
    with orders(session) as plant:
        row = plant.ask(CREW, ControlOrder(order_id, action, plant.user, plant.host, reason))
    shown_row(session, row)
    if action == "pause" and isinstance(row, OrderRow) and row.running:
        output.note(f"with their resources already, and going on to their end: {row.running} of its services")


def shown_row(session: Session, row: Message) -> None:
    """Write one order in a line."""
    assert isinstance(row, OrderRow), "what else it could say is raised"
    if session.json:
        output.json_line(row_of(row))
    else:
        output.line(f"{row.id}  {row.state}" + (f"  {values.printable(row.reason)}" if row.reason else ""))


def _row(plant: Plant, order_id: str) -> OrderRow:
    return plant.query(CREW, GetOrder(order_id, 0, 1), OrderDetail).row


def _to_its_end(session: Session, plant: Plant, order_id: str) -> int:
    until = None if session.timeout_s is None else time.monotonic() + session.timeout_s
    told = ""
    while True:
        try:
            row = _row(plant, order_id)
        except (Unavailable, NotSent):  # it is just being restarted, and goes on by itself
            row = None
        if row is not None and row.ended_ns and not row.running:
            break
        if row is not None and row.state == "UNKNOWN" and told != row.state:
            told = row.state
            output.note(f"{order_id} waits for somebody: tagwerk order show {order_id}")
        if until is not None and time.monotonic() > until:
            raise Unavailable(f"{order_id} has not ended in time; it goes on")
        time.sleep(LOOK_S)
    shown_row(session, row)
    return failure.DONE if row.state == "FINISHED" else failure.REFUSED


def _detail(plant: Plant, order_id: str) -> tuple[OrderRow, list[ServiceRow], dict[str, Any]]:
    services: list[ServiceRow] = []
    while True:
        found = plant.query(CREW, GetOrder(order_id, services[-1].number if services else 0, PAGE), OrderDetail)
        services += found.services
        if not found.more:
            return found.row, services, found.variables


def _log(plant: Plant, order_id: str) -> Iterator[LogEntry]:
    after, more = 0, True
    while more:
        page = plant.query(CREW, GetOrderLog(order_id, after, PAGE), OrderLog)
        yield from page.entries
        after, more = page.entries[-1].seq if page.entries else after, page.more


def _pairs(arguments: list[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for argument in arguments:
        key, separator, text = argument.partition("=")
        if not separator or not key:
            raise ConfigError("this names no value", value=argument, expected="KEY=VALUE")
        if key in seen:
            raise ConfigError("the key stands there twice", key=key, value=text)
        seen.add(key)
        yield key, text


def typed(arguments: list[str], types: dict[str, str], file: Path) -> dict[str, Any]:
    """Read an order's inputs: what is not JSON is taken as a text where one is wanted."""
    given: dict[str, Any] = {}
    errors: list[ConfigError] = []
    for key, text in _pairs(arguments):
        if key not in types:
            expected = ", ".join(f"{name}: {type_}" for name, type_ in types.items()) or "no input"
            message = "productionTask takes no such input"
            errors.append(ConfigError(message, file=str(file), key=key, value=text, expected=expected))
            continue
        try:
            given[key] = text if types[key] == "string" and text[:1] not in ("@", '"') else _json(text, key)
        except ConfigError as error:
            errors.append(error)
    missing = [key for key in types if key not in given and key not in {error.key for error in errors}]
    for key in missing:
        expected = f"{key}=..., a {types[key]}"
        errors.append(ConfigError("the order needs this input", file=str(file), key=key, expected=expected))
    if errors:
        raise ConfigErrors(errors)
    return given


def _json(text: str, key: str) -> Any:
    from tagwerk.runtime.cli.order import text_of

    try:
        return json.loads(text_of(Path(text[1:])) if text.startswith("@") else text, parse_int=_number)
    except (ValueError, RecursionError) as error:
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        raise ConfigError(
            f"this is no JSON: {error}", key=key, value=shown, expected='as in 5, "a" or {"n": 5}'
        ) from error


def _number(text: str) -> int | float:
    """Read a whole number; past 53 bits as the 64-bit float that PFDL's numbers are."""
    number = float(text)
    return int(text) if abs(number) <= EXACT else number
