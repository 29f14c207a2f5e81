"""The catalog of history in a database: the same as in a file, in the same transaction as all else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.historian.catalog import DELETE_RECORDS, Day, DayState, last_within
from tagwerk.actors.historian.logic.arrived import from_bytes, to_bytes
from tagwerk.protocols.tags import PositionMark

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tagwerk.actors.historian.logic.arrived import Arrived
    from tagwerk.actors.historian.postgres.session import Session

_HOT_SLICE: Final = 64
"""Records read at once: they are at most about a megabyte each."""

_SET_DAY: Final = (
    "INSERT INTO days VALUES (%s, %s, %s, %s) ON CONFLICT (day) DO UPDATE SET state = excluded.state,"
    " batch = excluded.batch, rows = excluded.rows"
)
_SET_POSITION: Final = (
    "INSERT INTO positions VALUES (%s, %s, %s, %s) ON CONFLICT (shard) DO UPDATE SET journal = excluded.journal,"
    " incarnation = excluded.incarnation, n = excluded.n"
)


@final
class Catalog:
    """The catalog in the schema of a plant, of which nobody else writes.

    Args:
        session: The connection; it is closed with the catalog.

    Attributes:
        days: The days with samples, by number.
        last_seq: Number of the last commit with samples; with rows: of the last sample.
        sealed_seq: Up to this commit they lie in the days.
        batch: The last batch that is valid in the days.
        rows: Samples stored now.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        [state] = session.rows("SELECT last_seq, sealed_seq, batch, rows FROM state")
        self.last_seq, self.sealed_seq, self.batch, self.rows = map(int, state)
        found = session.rows("SELECT day, state, batch, rows FROM days ORDER BY day")
        self.days = {day: Day(day, DayState(code), batch, rows) for day, code, batch, rows in found}
        places = session.rows("SELECT shard, journal, incarnation, n FROM positions")
        self._places = {shard: PositionMark(int(journal), *rest) for shard, journal, *rest in places}

    def close(self) -> None:
        """Close the connection. What was not committed is gone."""
        self.session.close()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All of it or nothing; synced when it is left without an error.

        Raises:
            StoreDown: Nothing was stored; or the connection is gone, and what is stored shows behind the next one.
        """
        if self.session.in_transaction:  # a slice of sealing; it is whole
            self.session.execute("COMMIT")
        known = (self.last_seq, self.sealed_seq, self.batch, self.rows)
        days, places = dict(self.days), dict(self._places)
        done = False
        try:
            with self.session.transaction():
                yield
                state = (self.last_seq, self.sealed_seq, self.batch, self.rows)
                if state != known:
                    changed = "UPDATE state SET last_seq = %s, sealed_seq = %s, batch = %s, rows = %s"
                    self.session.execute(changed, state)
            done = True
        finally:
            if not done:
                self.last_seq, self.sealed_seq, self.batch, self.rows = known
                self.days, self._places = days, places

    # --- inside a transaction ----------------------------------------------------------------------------------------

    def append(self, samples: Arrived) -> int:
        """Add samples as one record; gives its number."""
        self.last_seq += 1
        self.rows += len(samples)
        row = (self.last_seq, len(samples), to_bytes(samples))
        self.session.execute("INSERT INTO hot VALUES (%b, %b, %b)", row)
        return self.last_seq

    def set_position(self, shard: str, position: PositionMark) -> None:
        """Say up to where a shard's journal is in the store."""
        self._places[shard] = position
        self.session.execute(_SET_POSITION, (shard, str(position.journal), position.incarnation, position.n))

    def set_aside(self, shard: str, place: PositionMark, reason: str, frame: bytes) -> None:
        """Keep the frame of a record that cannot be read."""
        row = (shard, str(place.journal), place.incarnation, place.n, reason.replace("\0", "\\0"), frame)
        self.session.execute("INSERT INTO set_aside VALUES (%s, %s, %s, %s, %s, %s)", row)

    def keep_thinning(self, states: bytes, *, whole: bool) -> None:
        """Keep what the rules of thinning know of some tags, or of all of them in the place of what was kept."""
        if whole:
            self.session.execute("DELETE FROM thinning")
        self.session.execute("INSERT INTO thinning (states) VALUES (%b)", (states,))

    def set_day(self, day: Day) -> None:
        """Say what is known of a day."""
        self.days[day.day] = day
        self.session.execute(_SET_DAY, (day.day, int(day.state), day.batch, day.rows))

    def remove_day(self, day: int) -> None:
        """The day's samples are gone."""
        self.rows -= self.days.pop(day).rows
        self.session.execute("DELETE FROM days WHERE day = %s", (day,))

    def delete_sealed(self, limit_bytes: int) -> bool:
        """Delete records that lie in the days, at least one; False if there are no more."""
        found = self.session.rows(
            "SELECT seq, octet_length(record) FROM hot WHERE seq <= %s ORDER BY seq LIMIT %s",
            (self.sealed_seq, DELETE_RECORDS),
        )
        last = last_within(found, limit_bytes)
        if last is not None:
            self.session.execute("DELETE FROM hot WHERE seq <= %s", (last,))
        return last is not None

    # --- questions ---------------------------------------------------------------------------------------------------

    def hot(self) -> Iterator[tuple[int, Arrived]]:
        """What does not lie in the days yet, by number of the commit.

        Raises:
            RemoteProtocolError: A newer version has written it.
        """
        after = self.sealed_seq
        while found := self.session.rows(
            "SELECT seq, record FROM hot WHERE seq > %s ORDER BY seq LIMIT %s", (after, _HOT_SLICE)
        ):
            for after, record in found:
                yield after, from_bytes(record)

    def thinning(self) -> Iterator[bytes]:
        """What was given to `keep_thinning`, oldest first."""
        return (states for (states,) in self.session.rows("SELECT states FROM thinning ORDER BY seq"))

    def position(self, shard: str) -> PositionMark | None:
        """Up to where a shard's journal is in the store; None if nothing of it is."""
        return self._places.get(shard)

    def positions(self) -> tuple[tuple[str, int], ...]:
        """The number in each shard's journal up to which it is in the store."""
        return tuple((shard, place.n) for shard, place in sorted(self._places.items()))
