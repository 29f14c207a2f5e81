"""SQLite files of actors: opened, checked and committed in one way."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.journal_files import sync_directory

_STEP_BYTES: Final = 4 << 20


def open_store(
    path: Path,
    what: str,
    schema: str,
    layout: int,
    first: Sequence[str] = (),
    steps: Mapping[int, str] = MappingProxyType({}),
) -> sqlite3.Connection:
    """Open a store whose commits outlive a power cut; it is made if it is not there.

    Nothing commits by itself: use `transaction`. One of an older layout becomes one of this, after a copy of it was
    put beside it as `NAME.layout-N`; whoever dies meanwhile, the next start finds the old one or the new.

    Args:
        path: The file.
        what: What it is, for messages.
        schema: The statements that make it.
        layout: Which layout `schema` makes, in the file's `user_version`.
        first: Statements before all others.
        steps: By layout, the statements that make the next one of it.

    Raises:
        ConfigError: The file was written by a version with another layout, or is no database.
        sqlite3.OperationalError: It cannot be opened now; a full disk, as a rule. It is worth another try.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _prepare(connection, path, what, schema, layout, first, steps)
    except (sqlite3.Error, ConfigError) as error:
        connection.close()
        if isinstance(error, (ConfigError, sqlite3.OperationalError)):
            raise
        expected = "the file as it was; without it, its owner begins as if for the first time"
        raise ConfigError(f"{what} cannot be read: {error}", file=str(path), expected=expected) from error
    return connection


def _prepare(
    connection: sqlite3.Connection,
    path: Path,
    what: str,
    schema: str,
    layout: int,
    first: Sequence[str],
    steps: Mapping[int, str],
) -> None:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > layout:
        message = f"{what} has another layout, of a newer version of tagwerk"
        raise ConfigError(message, file=str(path), value=str(found), expected=str(layout))
    if found and not all(number in steps for number in range(found, layout)):
        raise ConfigError(f"{what} has another layout", file=str(path), value=str(found), expected=str(layout))
    # Whoever is told that something is taken lets go of it, so a commit must outlive a power cut.
    for statement in (*first, "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"):
        connection.execute(statement)
    if 0 < found < layout:
        copy_store(connection, path.with_name(f"{path.name}.layout-{found}"))
        script = " ".join(steps[number] for number in range(found, layout))
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {layout}; COMMIT;")
    if found == 0:
        connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {layout}; COMMIT;")


def copy_store(source: sqlite3.Connection, target: Path, step: Callable[[], None] = lambda: None) -> None:
    """Copy a store as it is at this moment, whoever writes to it meanwhile; the copy is on the disk, or is not there.

    Args:
        source: The store.
        target: The copy, one file; what was there is replaced.
        step: Called about each 4 MB; what it raises ends the copying.

    Raises:
        sqlite3.Error: It cannot be read or written.
    """
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # it is synced as a whole
            inside = source.in_transaction
            if not inside:
                source.execute("BEGIN")
            try:
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it sees one moment
                pages = max(1, _STEP_BYTES // int(source.execute("PRAGMA page_size").fetchone()[0]))
                source.backup(copy, pages=pages, progress=lambda *_: step(), sleep=0)
            finally:
                if not inside:
                    source.execute("ROLLBACK")
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(target)
        sync_directory(target.parent)
    finally:
        part.unlink(missing_ok=True)


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
