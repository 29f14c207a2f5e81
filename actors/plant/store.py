"""plant.db: which handle and shard each tag has, and the revision of the definitions."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from sqlite_utils import Database

from tagwerk.protocols.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SCHEMA: Final = 1
_KEEP: Final = "INSERT OR REPLACE INTO tags (name, handle, shard, type, unit) VALUES (?, ?, ?, ?, ?)"


class PlantStore:
    """The definitions' database; one owner.

    Args:
        path: Of the file; made if there is none.

    Raises:
        ConfigError: The file is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path)
        self._db = Database(self.connection)
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.enable_wal()
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            msg = f"written by a newer version (schema {version}, this one knows {SCHEMA})"
            raise ConfigError(msg, file=str(path), expected="the version of tagwerk that wrote it, or newer")
        columns: dict[str, Any] = {"name": str, "handle": int, "shard": int, "type": str, "unit": str}
        self._db.table("tags").create(columns, pk="name", if_not_exists=True)
        self._db.table("history").create({"revision": int, "digest": str}, pk="revision", if_not_exists=True)
        self.connection.execute(f"PRAGMA user_version={SCHEMA}")
        self.connection.commit()

    def tags(self) -> Iterator[tuple[str, int, int, str, str]]:
        """All tags that there ever were: name, handle, shard, and the type and unit as they were first defined."""
        yield from self.connection.execute("SELECT name, handle, shard, type, unit FROM tags")

    @property
    def next_handle(self) -> int:
        """One more than any handle ever given."""
        return int(self.connection.execute("SELECT COALESCE(MAX(handle), 0) FROM tags").fetchone()[0]) + 1

    def last_revision(self) -> tuple[int, str] | None:
        """The newest revision and the digest of its definitions, None if there never was one."""
        row = self.connection.execute("SELECT revision, digest FROM history ORDER BY revision DESC LIMIT 1").fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    def add_revision(self, revision: int, digest: str) -> None:
        """Record a revision, in the caller's transaction."""
        self.connection.execute("INSERT INTO history (revision, digest) VALUES (?, ?)", (revision, digest))

    def keep(self, tags: Iterable[tuple[str, int, int, str, str]]) -> None:
        """Store places (name, handle, shard, type, unit), in one synced transaction."""
        with self.connection:
            self.connection.executemany(_KEEP, tags)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
