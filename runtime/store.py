"""SQLite files of actors: opened, checked and committed in one way."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tagwerk.protocols.errors import ConfigError


def open_store(path: Path, what: str, schema: str, layout: int, first: Sequence[str] = ()) -> sqlite3.Connection:
    """Open a store whose commits outlive a power cut; it is made if it is not there.

    Nothing commits by itself: use `transaction`.

    Args:
        path: The file.
        what: What it is, for messages.
        schema: The statements that make it.
        layout: Which layout `schema` makes, in the file's `user_version`.
        first: Statements before all others.

    Raises:
        ConfigError: The file was written by a version with another layout, or is no database.
        sqlite3.OperationalError: It cannot be opened now; a full disk, as a rule. It is worth another try.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _prepare(connection, path, what, schema, layout, first)
    except (sqlite3.Error, ConfigError) as error:
        connection.close()
        if isinstance(error, (ConfigError, sqlite3.OperationalError)):
            raise
        expected = "the file as it was; without it, its owner begins as if for the first time"
        raise ConfigError(f"{what} cannot be read: {error}", file=str(path), expected=expected) from error
    return connection


def _prepare(
    connection: sqlite3.Connection, path: Path, what: str, schema: str, layout: int, first: Sequence[str]
) -> None:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found not in (0, layout):
        raise ConfigError(f"{what} has another layout", file=str(path), value=str(found), expected=str(layout))
    # Whoever is told that something is taken lets go of it, so a commit must outlive a power cut.
    for statement in (*first, "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"):
        connection.execute(statement)
    if found == 0:
        connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {layout}; COMMIT;")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """All of it or nothing; synced when it is left without an error.

    Raises:
        sqlite3.OperationalError: Nothing was stored; a full disk, as a rule.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        # Left by whatever it was: half a transaction must neither be committed with the next one nor block it.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
