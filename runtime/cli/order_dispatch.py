"""`tagwerk order dispatch`: an order of the plant whose dispatcher is `pfdl-scheduler`, in this process."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.cli import completion, failure, output, values
from tagwerk.runtime.cli.chaos import interruptible
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.order_plant import PRIORITY_LIMIT, orders, shown_row, typed
from tagwerk.runtime.cli.session import Session, session_of

ORDERS: Final = "tagwerk.actors.orders"  # by name: the runtime imports no actor


def add_to(order: typer.Typer) -> None:
    """Add the command to the group `order`."""
    shown = ("tagwerk order dispatch order.pfdl", "tagwerk order dispatch batch.pfdl liters=500",
             "tagwerk order dispatch --order batch_7")  # fmt: skip
    order.command(epilog=examples(*shown))(dispatch)


def dispatch(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The order, in PFDL.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="What its first task takes: JSON, or @FILE with JSON."),
    ] = None,
    order_id: Annotated[
        str, typer.Option("--order", metavar="ID", help="Go on with this order.", autocompletion=completion.order_ids)
    ] = "",
    priority: Annotated[
        int,
        typer.Option(
            metavar="N", min=-PRIORITY_LIMIT, max=PRIORITY_LIMIT, help="A higher one goes first on resources."
        ),
    ] = 0,
    reason: Annotated[str, typer.Option(metavar="R", help="Why, for the order's log and the log of events.")] = "",
) -> int:
    """Run an order of the plant with Fraunhofer's pfdl-scheduler as its dispatcher, in the foreground.

    Needs `pip install 'tagwerk[pfdl-scheduler]'`. The order is the plant's like any other; what comes next says this
    process. If it ends before the order does, start it again with --order ID: nothing is executed twice.

    Exit code 0: it finished. 1: it did not. 2: the order or an input is not sound, and nothing was begun.
    """
    session = session_of(context)
    if (file is None) == (not order_id):
        raise ConfigError("nothing says what is to be run", expected="FILE, or --order ID")
    dispatcher = importlib.import_module(f"{ORDERS}.stock_dispatcher")
    importlib.import_module(f"{ORDERS}.stock_scheduler").library()  # before anything is begun
    if file is not None:
        scheduler, text = _read(file, inputs or [])
    with interruptible(), orders(session) as plant:
        if file is not None:
            order_id = dispatcher.begin(plant, scheduler, file.stem, text, priority, reason)
        else:
            if inputs:
                raise ConfigError("the order has its inputs already", value=inputs[0], expected="--order ID alone")
            scheduler = dispatcher.scheduler_of(plant, order_id)
        return _run(session, plant, order_id, dispatcher.StockDispatcher(plant, order_id, scheduler, _teller(session)))


def _read(file: Path, inputs: list[str]) -> tuple[Any, str]:
    from tagwerk.runtime.cli.order import text_of

    text = text_of(file)
    scheduler = importlib.import_module(f"{ORDERS}.stock_scheduler").StockScheduler(text, str(file))
    scheduler.take(typed(inputs, scheduler.inputs, file))
    return scheduler, text


def _run(session: Session, plant: Any, order_id: str, dispatcher: Any) -> int:
    if not session.json:
        output.line(order_id)
        output.flush()
    row = dispatcher.run()
    shown_row(session, row)
    return failure.DONE if row.state == "FINISHED" else failure.REFUSED


def _teller(session: Session) -> Any:
    def tell(text: str) -> None:
        if not session.json:
            output.line(values.printable(text))
            output.flush()

    return tell
