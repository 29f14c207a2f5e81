"""`tagwerk up`, `tagwerk down`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from tagwerk.protocols.errors import ConfigError, Unavailable
from tagwerk.runtime.cli import output
from tagwerk.runtime.cli.failure import NotFound
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.plant import sound
from tagwerk.runtime.cli.session import session_of
from tagwerk.runtime.cli.watcher import Watcher

app = typer.Typer(add_completion=False)

PANEL: Final = "Plant"
READY_S: Final = 30.0


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk up",
        "tagwerk up examples/brewhouse/plant.toml",
        "tagwerk up plant.toml --detach --timeout 60 --home /var/lib/brewhouse",
    ),
)
def up(
    context: typer.Context,
    plant: Annotated[
        Path | None, typer.Argument(metavar="PLANT", help="The plant file; in a checkout the brewhouse by default.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when all actors run; the plant runs on.")] = False,
) -> int:
    """Check a plant file and run the plant, until Ctrl-C."""
    from tagwerk.runtime.cli import supervision

    session = session_of(context)
    home = session.home
    running = supervision.find(home)  # first: the check of a plant file takes seconds
    if running is not None and running.supervisor is not None:
        raise NotFound(f"a plant is up already in {home.root} ({running.pids}); `tagwerk down` stops it")
    path = plant or default_plant()
    found = sound(path)
    if running is not None:
        output.note(f"takes over from a {running.pids}, which nothing supervises")
    with _signals() as asked_to_stop:
        supervisord = supervision.Supervisord.start(home, path.absolute())
        watcher = Watcher(supervisord, session, found.plant.name or path.stem, asked_to_stop)
        if detach:
            return watcher.until_ready(session.patience_s(READY_S))
        return watcher.until_stopped()


def default_plant() -> Path:
    """Give the example plant of a checkout.

    Raises:
        ConfigError: This is an installed package, there is none.
    """
    from tagwerk.runtime.supervisord_conf import EXAMPLE, checkout

    path = checkout() / EXAMPLE
    if not path.is_file():
        raise ConfigError("which plant?", key="PLANT", expected="a plant file, as in `tagwerk up plant.toml`")
    return path


@contextmanager
def _signals() -> Generator[Callable[[], int]]:
    """Take SIGINT, SIGTERM and SIGHUP; give a function that says which one came, 0 for none."""
    came: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored: somebody said nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda got, _: came.append(got)) for number in numbers}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk down",
    ),
)
def down(context: typer.Context) -> None:
    """Stop the plant of this home, however it was started, and wait until all of it is gone.

    Exit code 3: none was up.
    """
    from tagwerk.runtime.cli import supervision

    session = session_of(context)
    home = session.home
    running = supervision.find(home)
    if running is None:
        supervision.clean(home)
        raise Unavailable(f"no plant is up in {home.root}")
    began_s = time.monotonic()
    supervision.stop(home, running, session.patience_s(supervision.STOP_S))
    took_s = time.monotonic() - began_s
    if session.json:
        output.json_line({"stopped": True, "seconds": round(took_s, 3)})
    else:
        output.line(f"stopped after {took_s:.1f} s")
