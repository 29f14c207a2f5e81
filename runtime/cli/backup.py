"""`tagwerk backup`, `tagwerk restore`."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, final

import typer

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.backup.making import Backup, Progress
from tagwerk.runtime.cli import output
from tagwerk.runtime.cli.failure import NotFound
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.session import Session, session_of

if TYPE_CHECKING:
    from tagwerk.runtime.backup.manifest import Manifest

app = typer.Typer(add_completion=False)

PANEL: Final = "Plant"
PATIENCE_S: Final = 30.0  # an actor may just be restarted
ANSWER_S: Final = 10.0


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk backup /backup/brewhouse-2026-11-22",
        "tagwerk backup /backup/monday --home /var/lib/brewhouse --json",
    ),
)
def backup(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where it goes; new, or empty.")],
) -> None:
    """Copy all that the plant has stored, as it is at one moment, while it runs or while it is down.

    The plant file, its CSV files and the machines' code beside it are yours: they are not in it.
    """
    from tagwerk.runtime.backup.holds import NoHolds, PlantHolds
    from tagwerk.runtime.cli import supervision

    session = session_of(context)
    home = session.home
    began_s = time.monotonic()
    with _progress() as progress:
        if supervision.find(home) is None:
            home.refuse_half_restored()
            manifest = Backup(home, directory, NoHolds(), online=False, progress=progress).make()
        else:
            with session.plant(ANSWER_S) as plant:
                holds = PlantHolds(plant, session.actors(), session.patience_s(PATIENCE_S))
                manifest = Backup(home, directory, holds, online=True, progress=progress).make()
    _tell(session, "backup", directory, manifest, began_s)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "tagwerk restore /backup/brewhouse-2026-11-22 --home restored",
    ),
)
def restore(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `tagwerk backup` has made.")],
) -> None:
    """Bring a backup back into a home without data, each file compared with its check sum.

    Exit code 2: it is no whole, sound backup, or the home is not empty; the home is as it was.
    """
    from tagwerk.runtime.backup.restoring import restore as restore_into
    from tagwerk.runtime.cli import supervision
    from tagwerk.runtime.clock import SystemClock

    session = session_of(context)
    home = session.home
    began_s = time.monotonic()
    running = supervision.find(home)
    if running is not None:
        raise NotFound(f"a plant is up in {home.root} ({running.pids}); restore into another --home")
    if directory.absolute().resolve() == home.root:
        raise ConfigError("a backup cannot be restored into itself", file=str(directory), expected="another --home")
    with _progress() as progress:
        manifest = restore_into(directory, home, SystemClock(), progress)
    _tell(session, "restored", directory, manifest, began_s)
    if not session.json:
        output.line(f"into {home.root}, as it was at {manifest.made}; `tagwerk up PLANT --home {home.root}` starts it")


def _tell(session: Session, what: str, directory: Path, manifest: Manifest, began_s: float) -> None:
    took_s = time.monotonic() - began_s
    if session.json:
        row = {
            "directory": str(directory), "made": manifest.made, "tagwerk": manifest.tagwerk, "online": manifest.online,
            "files": len(manifest.files), "bytes": manifest.size_bytes, "seconds": round(took_s, 3),
            "journals": [{"shard": one.shard, "first": one.first, "last": one.last} for one in manifest.journals],
        }  # fmt: skip
        output.json_line(row)
        return
    size = manifest.size_bytes
    shown = f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    output.line(f"{what} {directory}: {len(manifest.files)} files, {shown}, {took_s:.1f} s")


@contextmanager
def _progress() -> Generator[Progress]:
    """Show how far it is to a person who looks; say nothing to a program."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Shown(bars)


@final
class _Shown(Progress):
    """One bar for the part of the work that is going on."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task = bars.add_task("")

    def begin(self, what: str, total_bytes: int) -> None:
        self._bars.reset(self._task, description=what, total=total_bytes)

    def more(self, count: int) -> None:
        self._bars.advance(self._task, count)
