"""What a resource keeps of its calls: how far each came, before the act; and its end, before anybody is told."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import msgspec

from tagwerk.protocols.orders import ExecuteService, ServiceStatus
from tagwerk.runtime.store import open_store

FILE: Final = "calls.db"
LAYOUT: Final = 1
STOPPED: Final = "stopped"
GIVEN_UP: Final = "given_up"
"""Its place was given up after its call, and its end is not known: the machine may still move."""
GIVEN_UP_LIMIT: Final = 100
FORGET_EVERY_NS: Final = 60_000_000_000
DONE: Final = ("", "server_status", "bad_output")
"""What the resource has done to its end, well or not: `Failure`."""
_SCHEMA: Final = """
CREATE TABLE calls (number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, request BLOB NOT NULL,
    phase TEXT NOT NULL, expected_s REAL NOT NULL, queued_ns INTEGER NOT NULL, called_ns INTEGER NOT NULL,
    outcome BLOB, released INTEGER NOT NULL, stopped INTEGER NOT NULL, told_ns INTEGER NOT NULL) STRICT;
CREATE INDEX calls_open ON calls (number) WHERE told_ns = 0 OR released = 0;
CREATE INDEX calls_told ON calls (told_ns) WHERE told_ns > 0;
"""
_FIELDS: Final = "number, request, phase, expected_s, queued_ns, called_ns, outcome, released, stopped, told_ns"


class Kept(NamedTuple):
    """A call as it is stored.

    Args:
        number: In the order of arrival.
        request: What is to be done.
        phase: How far it came: `Phase`, or `UNKNOWN`.
        expected_s: How long the resource said that it would take.
        outcome: Its end; None before.
        released: Whether its place is given back.
        stopped: Whether nobody waits for it any more.
        told: Whether `order/0` has stored its end.
    """

    number: int
    request: ExecuteService
    phase: str
    expected_s: float
    queued_ns: int
    called_ns: int
    outcome: ServiceStatus | None
    released: bool
    stopped: bool
    told: bool


@final
class CallStore:
    """The store of one resource. Each method has written when it returns.

    Args:
        path: The file.

    Raises:
        ConfigError: It is there, but cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._connection: Final[sqlite3.Connection] = open_store(path, "the calls of a resource", _SCHEMA, LAYOUT)
        self._synced = True
        self._forgot_ns = 0

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def take(self, request: ExecuteService) -> int:
        """Keep a new call; give its number."""
        values = (request.service_uuid, msgspec.msgpack.encode(request))
        made = self._write(
            "INSERT INTO calls (uuid, request, phase, expected_s, queued_ns, called_ns, released, stopped, told_ns)"
            " VALUES (?, ?, 'NEW', 0, 0, 0, 0, 0, 0)",
            values, sync=False,
        )  # fmt: skip
        return int(made.lastrowid or 0)

    def enter(self, uuid: str, phase: str, expected_s: float, queued_ns: int, called_ns: int) -> None:
        """Keep how far a call came. That it is called now outlives a power cut, too: it must never be done twice."""
        values = (phase, expected_s, queued_ns, called_ns, uuid)
        self._write(
            "UPDATE calls SET phase = ?, expected_s = ?, queued_ns = ?, called_ns = ? WHERE uuid = ?",
            values, sync=phase == "CALLED",
        )  # fmt: skip

    def settle(self, outcome: ServiceStatus, *, released: bool) -> None:
        """Keep the end of a call, or that nobody knows it.

        It needs no sync: `order/0` is told at once, and syncs it. If a power cut takes both, nobody knows the end.
        """
        values = (outcome.phase, msgspec.msgpack.encode(outcome), int(released), outcome.service_uuid)
        self._write(
            "UPDATE calls SET phase = ?, outcome = ?, released = ?, told_ns = 0 WHERE uuid = ?", values, sync=False
        )

    def release(self, uuid: str) -> None:
        """Keep that a call's place is given back."""
        self._write("UPDATE calls SET released = 1 WHERE uuid = ?", (uuid,), sync=False)

    def stop(self, uuid: str) -> None:
        """Keep that nobody waits for a call any more."""
        self._write("UPDATE calls SET stopped = 1 WHERE uuid = ?", (uuid,), sync=False)

    def told(self, uuid: str, now_ns: int, forget_ns: int) -> None:
        """Keep that a call's end is stored by who asked for it, and forget what was told long ago.

        Args:
            uuid: Of the call.
            now_ns: UTC, ns since 1970.
            forget_ns: What was told before this is forgotten: no message about it can be on its way any more.
        """
        self._write("UPDATE calls SET told_ns = ? WHERE uuid = ?", (now_ns, uuid), sync=False)
        if abs(forget_ns - self._forgot_ns) > FORGET_EVERY_NS:
            self._forgot_ns = forget_ns
            self._write(
                "DELETE FROM calls WHERE told_ns > 0 AND told_ns < ? AND released = 1", (forget_ns,), sync=False
            )

    def given_up(self) -> list[Kept]:
        """Give the newest calls whose place was given up after their call, up to the last one whose end is known."""
        query = f"SELECT {_FIELDS} FROM calls WHERE outcome IS NOT NULL ORDER BY number DESC LIMIT ?"
        found: list[Kept] = []
        for row in self._connection.execute(query, (GIVEN_UP_LIMIT,)):
            kept = _kept(row)
            if kept.outcome is not None and kept.outcome.failure == GIVEN_UP:
                found.append(kept)
            elif kept.outcome is not None and kept.outcome.phase == "ENDED" and kept.outcome.failure in DONE:
                break
        return found

    def known(self, uuid: str) -> None:
        """Keep that the end of a call whose place was given up is known after all."""
        kept = self.find(uuid)
        if kept is not None and kept.outcome is not None:
            outcome = msgspec.structs.replace(kept.outcome, failure=STOPPED)
            values = (msgspec.msgpack.encode(outcome), uuid)
            self._write("UPDATE calls SET outcome = ? WHERE uuid = ?", values, sync=False)

    def find(self, uuid: str) -> Kept | None:
        """Give a call; None if it is not known."""
        row = self._connection.execute(f"SELECT {_FIELDS} FROM calls WHERE uuid = ?", (uuid,)).fetchone()
        return None if row is None else _kept(row)

    def open_calls(self) -> list[Kept]:
        """Give those that have not ended, are not told, or have not given back their place; by number."""
        query = f"SELECT {_FIELDS} FROM calls WHERE told_ns = 0 OR released = 0 ORDER BY number"
        return [_kept(row) for row in self._connection.execute(query)]

    def _write(self, statement: str, values: tuple[Any, ...], *, sync: bool = True) -> sqlite3.Cursor:
        if sync != self._synced:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._synced = sync
        return self._connection.execute(statement, values)


def _kept(row: tuple[Any, ...]) -> Kept:
    number, request, phase, expected_s, queued_ns, called_ns, outcome, released, stopped, told_ns = row
    asked = msgspec.msgpack.decode(request, type=ExecuteService)
    end = None if outcome is None else msgspec.msgpack.decode(outcome, type=ServiceStatus)
    return Kept(
        number, asked, phase, expected_s, queued_ns, called_ns, end, bool(released), bool(stopped), told_ns > 0
    )  # fmt: skip
