"""`tagwerk engine URL FILE.pfdl [key=value ...]`: run one order in this process, as the SWAP-IT engine does."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.cli import failure, order, output, values
from tagwerk.runtime.cli.chaos import interruptible
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import session_of

ORDERS: Final = "tagwerk.actors.orders"  # by name: the runtime imports no actor
COMPLETED: Final = "Execution Engine Completed the Process Execution"

app = typer.Typer(add_completion=False)


@app.command(
    rich_help_panel="Orders",
    epilog=examples(
        "tagwerk engine opc.tcp://localhost:4840 order.pfdl",
        "tagwerk engine opc.tcp://localhost:4840 order.pfdl device_registry_url=opc.tcp://localhost:8000 log_info=true",
    ),
)
def engine(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the engine's own OPC UA server listens.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The order, in PFDL.")],
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="What the engine is told.")] = None,
) -> int:
    """Run one order on its resources, in the foreground, without a plant.

    Keys: dashboard_host_address, log_info, device_registry_url, assignment_agent_url, custom_url,
    number_default_clients, delay_start.

    Exit code 0: it finished. 1: it did not. 2: the order or an argument is not sound, and nothing was begun.
    """
    session = session_of(context)
    if not url.startswith("opc.tcp://"):
        raise ConfigError("this is no OPC UA address", key="URL", value=url, expected="opc.tcp://host:port")
    text = order.text_of(file)
    program = order.program_of(file, session)
    told = importlib.import_module(f"{ORDERS}.logic.engine_keys").read_keys(keys or [])
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run = importlib.import_module(f"{ORDERS}.engine").run
    with interruptible():
        end = run(program, url, text, told, _teller(session.json, told.log_info))
    if end.state == "FINISHED":
        if not session.json:
            output.line(COMPLETED)
        return failure.DONE
    place = f"{file}:{end.line}:{end.column}: " if end.line else ""
    output.note(f"error: {values.printable(place + end.reason)}")
    return failure.REFUSED


def _teller(as_json: bool, every_step: bool) -> Callable[[Any], None]:
    """Give what writes down each step: as JSON all of them, one a line; for people the phases only if asked for."""
    said = importlib.import_module(f"{ORDERS}.dashboard").said

    def tell(step: Any) -> None:
        kind = type(step).__name__
        if as_json:
            fields: Any = getattr(step, "__struct_fields__", None) or step.__slots__
            row = {name: getattr(step, name) for name in fields}
            for name in ("inputs", "outputs"):
                if name in row:
                    row[name] = [{part: getattr(one, part) for part in one.__struct_fields__} for one in row[name]]
            output.json_line({"event": kind, **row})
        elif kind != "Progress":
            output.line(values.printable(said(step)[1]))
        elif every_step:
            output.line(values.printable(f"Service {step.name}: {step.phase.lower()} at {step.url}"))
        output.flush()

    return tell
