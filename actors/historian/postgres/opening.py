"""Opening history in PostgreSQL: connected, locked, checked, read. It may take its time: nobody waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import conninfo

from tagwerk.actors.historian.postgres.catalog import Catalog
from tagwerk.actors.historian.postgres.chunk_store import PostgresChunks
from tagwerk.actors.historian.postgres.outbox import Outbox
from tagwerk.actors.historian.postgres.row_table import RowStore
from tagwerk.actors.historian.postgres.schema import CHUNKS, refresh_tags, take_schema
from tagwerk.actors.historian.postgres.session import ANSWER_S, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

OPEN_S: Final = 120.0
"""How long opening may wait for one answer: another may hold a lock, what is hot is read."""

# A connection to a host that is gone is given up on both sides: there it holds the lock on the schema.
_KEEP: Final = {
    "connect_timeout": "5", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3",
    "tcp_user_timeout": "20000", "target_session_attrs": "read-write", "application_name": "tagwerk historian",
}  # fmt: skip
_SETTINGS: Final = {
    "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "statement_timeout": str(int(OPEN_S * 1e3)), "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "60000", "timezone": "UTC", "client_min_messages": "warning",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opened:
    """A store that is there, its connection, and what the log should say of the server."""

    store: PostgresChunks | RowStore
    session: Session
    warnings: tuple[str, ...]


def open_database(
    url: str, schema: str, form: str, tags: Sequence[tuple[int, str, str, str]], file: str = ""
) -> Opened:
    """Connect, and be the one who writes.

    Args:
        url: Of the database, see `plantfile_history`.
        schema: See `schema_name`.
        form: `CHUNKS` or `ROWS`.
        tags: See `refresh_tags`.
        file: The plant file, for messages.

    Raises:
        StoreDown: The database is not there, or not ours now.
        ConfigError: It is of no use to this version, or in another form.
    """
    given = {key: str(value) for key, value in conninfo.conninfo_to_dict(url).items() if value is not None}
    session = Session(conninfo.make_conninfo("", **{**_KEEP, **given}), OPEN_S)
    try:
        for name, value in _SETTINGS.items():
            session.execute("SELECT set_config(%s, %s, false)", (name, value))
        warnings = _durable(session)
        take_schema(session, schema, form, file)
        refresh_tags(session, schema, list(tags), file)
        catalog, outbox = Catalog(session), Outbox(session)
        store = PostgresChunks(catalog, outbox) if form == CHUNKS else RowStore(catalog, outbox)
        session.execute("SELECT set_config('statement_timeout', %s, false)", (str(int(ANSWER_S * 1e3)),))
        session.hurry()
    except BaseException:
        session.close()
        raise
    return Opened(store, session, warnings)


def _durable(session: Session) -> tuple[str, ...]:
    """What is committed must outlive a power cut: whoever is told lets go of it."""
    [(commit,)] = session.rows("SHOW synchronous_commit")
    if commit == "off":
        session.execute("SET synchronous_commit TO on")
    [(fsync,)] = session.rows("SHOW fsync")
    return () if fsync == "on" else ("PostgreSQL runs with fsync off: a power cut there may cost history",)
