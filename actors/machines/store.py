"""What a machine keeps over a restart: its place in the chart, kept attributes, outputs, parameters, owed events."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.samples import Value
from tagwerk.runtime.outbox import Outbox
from tagwerk.runtime.store import open_store, transaction

FILE: Final = "machine.db"
LAYOUT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parameters (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A machine's place, as it is kept.

    Args:
        state: Name of the state.
        entered_mono_ns: When it was entered, monotonic ns of this boot.
        entered_ns: The same in wall time, UTC, ns since 1970.
        boot: Which boot the monotonic time belongs to.
        kept: Attributes by name.
        wanted: What was assigned last, by output.
    """

    state: str
    entered_mono_ns: int
    entered_ns: int
    boot: int
    kept: dict[str, Any]
    wanted: dict[str, Value]


@final
class MachineStore:
    """The store of one machine; every method that writes has synced when it returns.

    Args:
        folder: The machine's own directory.

    Raises:
        ConfigError: The file is there, but cannot be read. Nothing runs then: to start anew might undo what an
            operator has confirmed.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / FILE
        self._connection = open_store(path, "what the machine kept", _SCHEMA, LAYOUT)
        try:
            self.outbox: Final = Outbox(self._connection)
            self.place = self._read_place()
            self.parameters = self._read_parameters()
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError):  # a full disk, as a rule: the next try may find room
                raise
            expected = "the file as it was; without it the machine starts as if for the first time"
            raise ConfigError(
                f"what the machine kept cannot be read: {error}", file=str(path), expected=expected
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def save_place(self, place: Stored, event: Event | None = None) -> None:
        """Keep the place, and owe the event, together."""
        fields = [place.state, place.entered_mono_ns, place.entered_ns, place.boot, place.kept, place.wanted]
        record = json.dumps(fields)
        self._write("INSERT OR REPLACE INTO place VALUES (1, ?)", (record,), event)
        self.place = place

    def save_parameter(self, name: str, value: float | int | bool | str, event: Event) -> None:
        """Keep a parameter's value, and owe the event, together."""
        self._write("INSERT OR REPLACE INTO parameters VALUES (?, ?)", (name, json.dumps(value)), event)
        self.parameters[name] = value

    def _write(self, statement: str, values: tuple[str, ...], event: Event | None) -> None:
        with transaction(self._connection):
            self._connection.execute(statement, values)
            if event is not None:
                self.outbox.put(event)

    def _read_place(self) -> Stored | None:
        row = self._connection.execute("SELECT record FROM place").fetchone()
        return None if row is None else Stored(*json.loads(row[0]))

    def _read_parameters(self) -> dict[str, Any]:
        return {name: json.loads(value) for name, value in self._connection.execute("SELECT * FROM parameters")}
