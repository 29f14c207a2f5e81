"""`tagwerk bench`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tagwerk.runtime.cli import output
from tagwerk.runtime.cli.chaos import interruptible
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import session_of

if TYPE_CHECKING:
    from tagwerk.runtime.bench.rows import Row

app = typer.Typer(add_completion=False)

PANEL: Final = "Supervision"
HEAD: Final = ("what", "tagwerk", "floor", "unit", "ratio", "low", "high", "n")


@app.command(rich_help_panel=PANEL, epilog=examples("tagwerk bench", "tagwerk bench --runs 5 --json"))
def bench(
    context: typer.Context,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=1, max=100, help="Runs of each case; the figure is the median.")
    ] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Little work, one run: the figures are rough.")] = False,
) -> None:
    """Measure this box: tagwerk's own paths beside the same work with bare libraries (the floor). Under a minute.

    In a scratch plant; a plant that is up here is left alone, but the figures suffer from what it does.

    A ratio of 1.0 is the floor, more is better: tagwerk / floor of a rate, floor / tagwerk of a time.
    """
    from dataclasses import replace

    from tagwerk.runtime.bench.rows import described, machine
    from tagwerk.runtime.bench.suite import QUICK, Sizes, measure

    session = session_of(context)
    sizes = QUICK if quick else replace(Sizes(), runs=runs)
    found = machine()
    with interruptible():
        rows = measure(sizes, _progress())
    if session.json:
        output.json_line({"machine": found, "rows": [row.as_json() for row in rows]})
        return
    output.line(described(found))
    output.line()
    output.table(HEAD, [_cells(row) for row in rows], right=HEAD[1:3] + HEAD[4:], less=("n", "high", "low"))
    output.line()
    output.line("ratio: 1.0 is the floor, the same work with bare pyzmq, msgpack and numpy; more is better")


def _progress() -> Callable[[str], None]:
    """Give what takes lines of progress: beside the figures, for people."""
    began_s = time.monotonic()

    def say(text: str) -> None:
        output.note(f"[{time.monotonic() - began_s:5.1f}] {text}")

    return say


def _cells(row: Row) -> list[str]:
    figures: list[Any] = [row.value, row.floor]
    return [
        row.name,
        *map(_number, figures),
        row.unit,
        _ratio(row.ratio),
        _number(row.low),
        _number(row.high),
        str(row.n),
    ]


def _number(value: float | None) -> str:
    """Give a figure with three digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
