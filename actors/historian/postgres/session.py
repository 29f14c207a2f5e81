"""One connection to PostgreSQL on which no call waits longer than it may. Once it fails, it stays closed."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

import psycopg
from psycopg import errors, waiting
from psycopg.pq import TransactionStatus

from tagwerk.actors.historian.day_file import DamagedError
from tagwerk.actors.historian.interface import StoreDown

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from psycopg.abc import PQGen, QueryNoTemplate

ANSWER_S: Final = 5.0
"""Longest wait for the database in one call."""

PATIENCE_S: Final = 20.0
"""Longest wait in a row: what passes between calls is given back. The supervisor's patience is three times that."""

_LOOK_S: Final = 0.1
_DAMAGE: Final = (errors.DataCorrupted, errors.IndexCorrupted)
_GONE: Final = "it is closed"
DOWN: Final = "the database of history is not there: "


class _TooSlow(psycopg.OperationalError):
    """The database did not answer in time."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up at `deadline`, monotonic seconds: a timeout of the server does not help when it hangs.

    It is subclassed because all waiting of psycopg, COPY included, goes through this one method.
    """

    deadline: float = 0.0

    def wait(self, gen: PQGen[Any], interval: float = _LOOK_S, timeout: float | None = None) -> Any:
        """Wait for an answer, up to the deadline."""
        return waiting.wait(_until(gen, self.deadline), self.pgconn.socket, interval=interval, timeout=timeout)


def _until(gen: PQGen[Any], deadline: float) -> PQGen[Any]:
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            wanted = gen.send(ready)
            if time.monotonic() >= deadline:
                raise _TooSlow("it did not answer in time")
    except StopIteration as done:
        return done.value


def words(error: BaseException) -> str:
    """What an error of the database says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@final
class Session:
    """A connection, and what is open on it.

    Args:
        conninfo: libpq's words; without a password, which comes from where libpq looks for it.
        limit_s: How long each call may wait; `hurry` changes it.

    Raises:
        StoreDown: It cannot be reached.
    """

    def __init__(self, conninfo: str, limit_s: float) -> None:
        try:
            connection = _Connection.connect(conninfo, autocommit=True)
        except psycopg.Error as error:
            raise StoreDown(words(error)) from error
        self._connection = connection
        self._limit_s = limit_s
        self._patience_s = limit_s
        self._spent_s = 0.0
        self._left_s = time.monotonic()
        self._why = ""

    @property
    def gone(self) -> str:
        """Why it is of no use any more; "" while it is."""
        return self._why

    @property
    def idle_s(self) -> float:
        """Since when nobody has spoken to the database."""
        return time.monotonic() - self._left_s

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.info.transaction_status is not TransactionStatus.IDLE

    @property
    def server_version(self) -> int:
        """As in `server_version_num`."""
        return self._connection.info.server_version

    def hurry(self) -> None:
        """From now on somebody waits while this waits."""
        self._limit_s, self._patience_s, self._spent_s = ANSWER_S, PATIENCE_S, 0.0

    def close(self) -> None:
        """Close it, whatever is open."""
        self._why = self._why or _GONE
        self._connection.pgconn.finish()

    def execute(self, query: QueryNoTemplate, given: Sequence[Any] = ()) -> None:
        """Do something."""
        with self._patiently():
            self._connection.execute(query, given or None)

    def rows(self, query: QueryNoTemplate, given: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask something; bytes come as they are, not as text."""
        with self._patiently():
            return self._connection.execute(query, given or None, binary=True).fetchall()

    def copy(self, query: QueryNoTemplate, pieces: Iterable[bytes]) -> None:
        """Bring in rows, see `binary.py` for their form."""
        with self._patiently(), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for piece in pieces:
                copy.write(piece)

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All of it or nothing.

        Raises:
            StoreDown: Nothing was stored; or nobody knows, and `gone` says why.
        """
        self.execute("BEGIN")
        try:
            yield
            self.execute("COMMIT")
        finally:
            self.roll_back()

    def roll_back(self) -> None:
        """Undo what is open, if anything is."""
        if not self._why and self.in_transaction:
            self.execute("ROLLBACK")

    @contextmanager
    def _patiently(self) -> Generator[None]:
        if self._why:
            raise StoreDown(DOWN + self._why)
        begun = time.monotonic()
        self._spent_s = max(0.0, self._spent_s - (begun - self._left_s))
        self._connection.deadline = begun + max(0.0, min(self._limit_s, self._patience_s - self._spent_s))
        try:
            yield
        except _DAMAGE as error:
            raise DamagedError(words(error)) from error
        except psycopg.Error as error:
            raise StoreDown(self._judged(error)) from error
        finally:
            self._left_s = time.monotonic()
            self._spent_s += self._left_s - begun

    def _judged(self, error: psycopg.Error) -> str:
        """Say what is wrong. Only what the server says on a sound connection (no room, a lock) is tried there again."""
        sound = self._connection.info.transaction_status in (TransactionStatus.IDLE, TransactionStatus.INERROR)
        if isinstance(error, _TooSlow) or not isinstance(error, errors.OperationalError) or not sound:
            self._why = words(error)
            self._connection.pgconn.finish()
            return DOWN + self._why
        return words(error)
