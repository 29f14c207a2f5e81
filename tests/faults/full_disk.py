"""Stores on a disk that may be full: their commits fail then, as SQLite's do."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any

import pytest


class FullDisk(sqlite3.Connection):
    """A connection that commits nothing while `full`, which is one for all."""

    full = False

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        """See `sqlite3.Connection`."""
        if FullDisk.full and statement == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(statement, *rest)


def use_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stores that are opened from now on are on that disk; it has room until `FullDisk.full` is set."""
    monkeypatch.setattr(FullDisk, "full", False)
    monkeypatch.setattr("tagwerk.runtime.store.sqlite3.connect", partial(sqlite3.connect, factory=FullDisk))
