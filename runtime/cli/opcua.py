"""`tagwerk opcua discover|browse|read|write`: look at a server, whether a plant runs or not."""

from __future__ import annotations

import asyncio
import csv
import importlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.quality import name_of
from tagwerk.runtime.cli import output, times, values
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import TIMEOUT_S, session_of

TOOL: Final = "tagwerk.actors.opcua.tool"  # by name: the runtime imports no actor
SECURITY: Final = "tagwerk.runtime.ua_security"

app = typer.Typer(add_completion=False)
opcua = typer.Typer(no_args_is_help=True, help="Look at an OPC UA server: what it offers, what it holds.")
app.add_typer(opcua, name="opcua", rich_help_panel="Machines and devices")

Url = Annotated[str, typer.Argument(metavar="URL", help="opc.tcp://HOST:PORT/PATH")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="'nsu=URI;s=...' or 'ns=2;s=...'.")]
UaUser = Annotated[str, typer.Option("--login", metavar="NAME", help="Log in at the server as this user.")]
Password = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The file that holds the password; only its owner may read it.")
]


def _security(login: str, password_file: Path | None) -> Any:
    if not login:
        if password_file is not None:
            raise typer.BadParameter("--password-file needs --login")
        return None
    security: Any = importlib.import_module(SECURITY)
    if password_file is None:
        raise ConfigError("the password is missing", key="--password-file", expected="a file that holds it")
    return security.Security(user=login, password=security.read_password(password_file, "--password-file"))


def _patience_s(context: typer.Context) -> float:
    return session_of(context).patience_s(TIMEOUT_S)


def _tool() -> Any:
    return importlib.import_module(TOOL)


@opcua.command(
    epilog=examples(
        "tagwerk opcua discover opc.tcp://127.0.0.1:4840",
    )
)
def discover(context: typer.Context, url: Url) -> None:
    """Show the ways into a server."""
    session = session_of(context)
    found: list[Any] = asyncio.run(_tool().discover(url, session.patience_s(TIMEOUT_S)))
    head = ("url", "security_mode", "security_policy", "users", "server")
    rows = [{key: getattr(one, key) for key in head} for one in found]

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(" ".join(cell) if isinstance(cell, tuple) else cell for cell in row.values())

    output.show_rows(session.json, rows, head, cells)


@opcua.command(
    epilog=examples(
        "tagwerk opcua browse opc.tcp://127.0.0.1:4840",
        "tagwerk opcua browse opc.tcp://127.0.0.1:4840 --csv --link plc > tags.csv",
    )
)
def browse(
    context: typer.Context,
    url: Url,
    start: Annotated[str, typer.Argument(metavar="NODE", help="Where to begin.")] = "i=85",
    depth: Annotated[int, typer.Option(metavar="N", min=1, max=20, help="Steps to go down.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="A file of tags, for `tag_files` of a plant file.")] = False,
    link: Annotated[str, typer.Option(metavar="NAME", help="With --csv: the link that will feed the tags.")] = "plc",
    login: UaUser = "",
    password_file: Password = None,
) -> None:
    """Show the nodes below a node, the Objects folder if none is named."""
    session = session_of(context)
    if as_csv and session.json:
        raise typer.BadParameter("one of --csv and --json, not both")
    # All of it before the first line is written: a reader that goes away must not break into the session.
    security = _security(login, password_file)
    limit_s = session.patience_s(TIMEOUT_S)
    rows = asyncio.run(_all(_tool().browse(url, start, depth, security=security, timeout_s=limit_s)))
    if as_csv:
        _write_csv(rows, f"opcua/{link}")
    elif session.json:
        output.json_list(map(_node, rows))
    else:
        head = ("name", "class", "type", "access", "node", "description")
        cells = [
            ("  " * (row.depth - 1) + row.path.rpartition(".")[2], row.node_class, row.type_name, _access(row),
             row.node, row.description)
            for row in _as_tree(rows)
        ]  # fmt: skip
        output.table(head, cells)


async def _all(rows: AsyncIterator[Any]) -> list[Any]:
    return [row async for row in rows]


def _write_csv(rows: list[Any], source: str) -> None:
    from tagwerk.runtime.plantfile_csv import HEADER

    writer = csv.DictWriter(sys.stdout, HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        if row.tag_type:
            writer.writerow(row.csv_row(source))


def _as_tree(rows: list[Any]) -> list[Any]:
    """Order what was found level by level as a tree: each node before what is below it."""
    return sorted(rows, key=lambda row: row.path.split("."))


def _access(row: Any) -> str:
    if row.node_class != "Variable":
        return ""
    return "write" if row.writable else "read"


def _node(row: Any) -> dict[str, Any]:
    keys = ("depth", "path", "node", "node_class", "type_name", "writable", "description", "tag_name", "tag_type")
    return {key: getattr(row, key) for key in keys}


@opcua.command(
    epilog=examples(
        "tagwerk opcua read opc.tcp://127.0.0.1:4840 'nsu=urn:tagwerk:brewhouse;s=mash.temperature'",
    )
)
def read(context: typer.Context, url: Url, node: NodeName, login: UaUser = "", password_file: Password = None) -> None:
    """Read one node."""
    found = asyncio.run(_tool().read(url, node, _security(login, password_file), _patience_s(context)))
    _show(context, found)


# A value may begin with a minus: what is no option of ours is a value.
@opcua.command(
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "tagwerk opcua write opc.tcp://127.0.0.1:4840 'nsu=urn:tagwerk:brewhouse;s=mash.setpoint' 65",
    ),
)
def write(
    context: typer.Context,
    url: Url,
    node: NodeName,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Read as the node's type.")],
    login: UaUser = "",
    password_file: Password = None,
) -> None:
    """Write one node, once, and show the value read back."""
    security = _security(login, password_file)
    found = asyncio.run(_tool().write(url, node, value, security, _patience_s(context)))
    _show(context, found)


def _show(context: typer.Context, found: Any) -> None:
    session = session_of(context)
    reading = found.reading
    row = {
        "node": found.node,
        "type": found.type_name,
        "value": values.plain(reading.value),
        "quality": name_of(reading.status),
        "quality_code": reading.status,
        "source_time": times.rfc3339(reading.source_ns),
        "server_time": times.rfc3339(reading.server_ns),
    }
    if session.json:
        output.json_line(row)
        return
    cells = (found.node, found.type_name, values.shown(reading.value), name_of(reading.status))
    at = times.shown(reading.source_ns, session.utc)
    output.table(("node", "type", "value", "quality", "time"), [(*cells, at)], right=("value",))
