"""A copy of history that was made while the historian ran, made to be of one moment: that of its catalog."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tagwerk.actors.historian.catalog import DayState
from tagwerk.actors.historian.days import day_name
from tagwerk.actors.historian.store import CATALOG, DAYS
from tagwerk.protocols.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def tidy(directory: Path, changed: Collection[Path]) -> None:
    """Remove from the days' files what was sealed after the catalog was copied; there it is hot still.

    Nothing was put in order and no day was dropped between the two copies.

    Args:
        directory: The copy.
        changed: Those of its files that may have changed after the catalog was copied.

    Raises:
        LocalProtocolError: A day is missing.
    """
    if not (directory / CATALOG).exists():
        return
    with closing(sqlite3.connect(directory / CATALOG)) as catalog:
        (batch,) = catalog.execute("SELECT batch FROM state").fetchone()
        known = {day_name(day): (DayState(state), rows) for day, state, rows in catalog.execute(_DAYS)}
    for path in sorted((directory / DAYS).glob("*.db")):
        if path.stem not in known:
            path.unlink()
        elif path in changed:
            _forget_after(path, batch)
    for name, (state, rows) in known.items():
        if rows and state is not DayState.DROPPED and not (directory / DAYS / f"{name}.db").exists():
            raise LocalProtocolError(f"{directory / DAYS / name}.db is missing in the copy, with {rows} samples")


_DAYS = "SELECT day, state, rows FROM days"


def _forget_after(path: Path, batch: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        file.execute("DELETE FROM bodies WHERE id IN (SELECT id FROM chunks WHERE batch > ?)", (batch,))
        file.execute("DELETE FROM chunks WHERE batch > ?", (batch,))
        file.execute("COMMIT")
        file.execute("PRAGMA journal_mode = DELETE")  # one file, as all that is copied
