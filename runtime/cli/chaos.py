"""`tagwerk chaos`."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tagwerk.protocols.errors import ConfigError, TagwerkError
from tagwerk.runtime.cli import failure, output
from tagwerk.runtime.cli.launch import default_plant
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.plant import sound
from tagwerk.runtime.cli.session import session_of

if TYPE_CHECKING:
    from tagwerk.runtime.chaos.report import Verdict
    from tagwerk.runtime.chaos.run import Order
    from tagwerk.runtime.chaos.scratch import Scratch

app = typer.Typer(add_completion=False)

PANEL: Final = "Supervision"
HEAD: Final = ("what", "seen", "promise")
SEED_LIMIT: Final = 1_000_000
MINUTES_LIMIT: Final = 240.0
"""An alarm that comes and goes once a second has as many occurrences then as one question gives."""
RATE_LEAST: Final = 100.0
EVIDENCE: Final = "evidence.json"
WHAT: Final = "cvt alarms historian machines opcua events plant writer watcher plc node supervisord"


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk chaos",
        "tagwerk chaos --minutes 0.5 --seed 7 --rate 5000 --kill cvt,historian,alarms,writer",
        "tagwerk chaos plant.toml --minutes 60 --json",
    ),
)
def chaos(
    context: typer.Context,
    plant: Annotated[
        Path | None,
        typer.Argument(metavar="PLANT", help="The plant file; in a checkout the brewhouse by default. It is copied."),
    ] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="M", min=0.05, max=MINUTES_LIMIT, help="How long it is struck.")
    ] = 3.0,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="The same seed gives the same plan.")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", metavar="R", min=RATE_LEAST, help="Samples per second, of all writers.")
    ] = 20_000.0,
    kill: Annotated[
        str,
        typer.Option(
            "--kill",
            metavar="LIST",
            help=f"With commas: {WHAT} all.",
        ),
    ] = "all",
) -> int:
    """Test this box: run a plant in a scratch home under load, kill its processes, and count what was lost.

    Not with a plant whose links lead to real devices: links that are killed let go of their outputs.

    Exit code 0: all promises were kept. 1: one broke, the evidence is kept. 3: the plant did not come up.
    """
    from tagwerk.runtime.chaos.plan import ALL, names_of
    from tagwerk.runtime.chaos.run import Order

    session = session_of(context)
    names = names_of(kill)
    path = plant or default_plant()
    sound(path)
    given = secrets.randbelow(SEED_LIMIT) if seed is None else seed
    named = ALL not in [word.strip() for word in kill.split(",")]
    order = Order(path, plant is None or _is_example(plant), minutes * 60, given, rate, names, named)
    with interruptible():
        verdict = _carry_out(order, _progress(session.json))
    if session.json:
        output.json_line(verdict.as_json())
    else:
        _show(verdict)
    return failure.DONE if verdict.kept else failure.REFUSED


def _progress(as_json: bool) -> Callable[[str], None]:
    """Give what takes lines of progress; with `--json` they go beside it."""
    began_s = time.monotonic()

    def say(text: str) -> None:
        words = f"[{time.monotonic() - began_s:6.1f}] {text}"
        if as_json:
            output.note(words)
        else:
            output.line(words)
            output.flush()

    return say


def _carry_out(order: Order, say: Callable[[str], None]) -> Verdict:
    """Run it in a scratch directory, which stays if something of it is evidence."""
    from tagwerk.runtime.chaos.numbers import writers_for
    from tagwerk.runtime.chaos.run import run
    from tagwerk.runtime.chaos.scratch import Scratch

    say(f"seed {order.seed}")
    scratch = Scratch(order.plant, writers_for(order.rate), example=order.example)
    try:
        verdict = run(order, scratch, say)
    except ConfigError:
        scratch.remove()
        raise
    except TagwerkError:
        output.note(f"all there is to see is kept in {scratch.folder}")
        raise
    except BaseException:
        scratch.remove()
        raise
    _keep_or_remove(verdict, scratch)
    return verdict


def _is_example(plant: Path) -> bool:
    from tagwerk.runtime.supervisord_conf import EXAMPLE, checkout

    return plant.resolve() == checkout() / EXAMPLE


@contextmanager
def interruptible() -> Generator[None]:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: nothing may be left of it."""
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored: somebody said nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep_or_remove(verdict: Verdict, scratch: Scratch) -> None:
    if verdict.kept:
        scratch.remove()
        return
    told = {"verdict": verdict.as_json(), "findings": verdict.findings, "evidence": verdict.evidence}
    (scratch.folder / EVIDENCE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    for words in (*verdict.leftovers, *verdict.findings, *verdict.evidence[:10]):
        output.note(words)
    output.note(f"the evidence is kept in {scratch.folder}: {EVIDENCE}, the plant's home, the writers' ledgers")


def _show(verdict: Verdict) -> None:
    output.line()
    output.table(HEAD, verdict.rows())
    output.line()
    output.line(verdict.signature())
    output.line("all promises were kept" if verdict.kept else "A PROMISE BROKE")
