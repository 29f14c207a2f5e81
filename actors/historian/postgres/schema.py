"""The tables of one plant's history, and what must be true before anybody writes into them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from psycopg import sql

from tagwerk.actors.historian.interface import StoreDown
from tagwerk.protocols.errors import ConfigError

if TYPE_CHECKING:
    from tagwerk.actors.historian.postgres.session import Session

LAYOUT: Final = 1
CHUNKS: Final = "chunks"
ROWS: Final = "rows"
LEAST_VERSION: Final = 150_000
_NAME_LIMIT: Final = 40
_TAG_SLICE: Final = 1_000

_COMMON: Final = """
CREATE TABLE about (one int PRIMARY KEY CHECK (one = 1), layout int NOT NULL, form text NOT NULL,
    told_ns bigint NOT NULL);
CREATE TABLE state (one int PRIMARY KEY CHECK (one = 1), last_seq bigint NOT NULL, sealed_seq bigint NOT NULL,
    batch bigint NOT NULL, rows bigint NOT NULL);
CREATE TABLE positions (shard text PRIMARY KEY, journal text NOT NULL, incarnation bigint NOT NULL, n bigint NOT NULL);
CREATE TABLE set_aside (shard text NOT NULL, journal text NOT NULL, incarnation bigint NOT NULL, n bigint NOT NULL,
    reason text NOT NULL, frame bytea NOT NULL);
CREATE TABLE days (day int PRIMARY KEY, state int NOT NULL, batch bigint NOT NULL, rows bigint NOT NULL);
CREATE TABLE thinning (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, states bytea NOT NULL);
CREATE TABLE tags (handle bigint PRIMARY KEY, name text NOT NULL, type text NOT NULL, unit text NOT NULL);
CREATE TABLE outbox (seq bigint PRIMARY KEY, event bytea NOT NULL);
CREATE TABLE outbox_box (one int PRIMARY KEY CHECK (one = 1), id text NOT NULL, last_seq bigint NOT NULL,
    lost bigint NOT NULL);
INSERT INTO state VALUES (1, 0, 0, 0, 0);
"""
# What is compressed already is not compressed again.
_CHUNKS: Final = """
CREATE TABLE hot (seq bigint PRIMARY KEY, rows int NOT NULL, record bytea NOT NULL);
ALTER TABLE hot ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE TABLE chunks (tag bigint NOT NULL, day int NOT NULL, id bigint PRIMARY KEY, batch bigint NOT NULL,
    kind smallint NOT NULL, first bigint NOT NULL, last bigint NOT NULL, count int NOT NULL, tight boolean NOT NULL,
    crc bigint NOT NULL, summary bytea NOT NULL, body bytea NOT NULL);
ALTER TABLE chunks ALTER COLUMN summary SET STORAGE PLAIN, ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX chunks_of_day ON chunks (day, tag);
"""
_ROWS: Final = """
CREATE TABLE samples (tag bigint NOT NULL, time bigint NOT NULL, seq bigint NOT NULL, kind smallint NOT NULL,
    quality bigint NOT NULL, number double precision, whole bigint, words bytea, PRIMARY KEY (tag, time, seq))
    PARTITION BY RANGE (time);
CREATE VIEW history AS SELECT coalesce(tags.name, samples.tag::text) AS tag,
    to_timestamp(samples.time / 1000000000) + (samples.time % 1000000000 / 1000) * interval '1 microsecond' AS at,
    samples.time AS time_ns, coalesce(number, whole::double precision) AS value, whole,
    CASE WHEN position('\\x00'::bytea IN words) = 0 THEN convert_from(words, 'UTF8') ELSE encode(words, 'escape') END
    AS text, quality
    FROM samples LEFT JOIN tags ON tags.handle = samples.tag;
"""


def schema_name(plant: str) -> str:
    """The schema of a plant: its name as far as PostgreSQL takes it, and more where that is not unique."""
    plain = re.sub(r"[^a-z0-9_]+", "_", plant.lower())[:_NAME_LIMIT]
    name = f"tagwerk_{plain}"
    return name if plain == plant else f"{name}_{hashlib.sha256(plant.encode()).hexdigest()[:8]}"


def take_schema(session: Session, schema: str, form: str, file: str = "") -> None:
    """Be the only one who writes to a plant's tables; they are made if they are not there.

    Args:
        session: The connection.
        schema: See `schema_name`.
        form: `CHUNKS` or `ROWS`.
        file: The plant file that says so, for messages.

    Raises:
        StoreDown: Another historian has them, or the database takes nothing now.
        ConfigError: They are of a newer version, or of another form.
    """
    if session.server_version < LEAST_VERSION:
        found, least = (str(number // 10_000) for number in (session.server_version, LEAST_VERSION))
        raise ConfigError(
            "the PostgreSQL of history is too old", file=file, key="history.store", value=found, expected=least
        )
    # Held by the connection. A commit whose answer was lost may still go on in the server, and holds it as long:
    # so the places in the journals that are read behind this line are the last word.
    _lock(session, schema)
    with session.transaction():
        if session.rows("SELECT to_regnamespace(%s)::text", (f'"{schema}"',))[0][0] is None:
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        session.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        if session.rows("SELECT to_regclass(%s)::text", (f'"{schema}".about',))[0][0] is None:
            session.execute(_COMMON)
            session.execute(_CHUNKS if form == CHUNKS else _ROWS)
            session.execute("INSERT INTO about VALUES (1, %s, %s, 0)", (LAYOUT, form))
            session.execute("INSERT INTO outbox_box VALUES (1, md5(random()::text || clock_timestamp()), 0, 0)")
    [(layout, found)] = session.rows("SELECT layout, form FROM about")
    if layout != LAYOUT:
        message = f"history in the schema {schema} has another layout"
        raise ConfigError(message, file=file, key="history.store", value=str(layout), expected=str(LAYOUT))
    if found != form:
        message = f"history in the schema {schema} is kept in another form"
        expected = f'"{found}", or another database'
        raise ConfigError(message, file=file, key="history.layout", value=form, expected=expected)


def _lock(session: Session, schema: str) -> None:
    key = int.from_bytes(hashlib.sha256(f"tagwerk {schema}".encode()).digest()[:8], "big", signed=True)
    if session.rows("SELECT pg_try_advisory_lock(%s)", (key,))[0][0]:
        return
    halves = ((key >> 32) & 0xFFFF_FFFF, key & 0xFFFF_FFFF)
    holders = session.rows(
        "SELECT pid, coalesce(host(client_addr), 'this host'), backend_start::text FROM pg_locks"
        " JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND classid::bigint = %s"
        " AND objid::bigint = %s AND objsubid = 1 AND granted",
        halves,
    )
    who = ", ".join(f"process {pid} of the server, from {host}, since {since[:19]}" for pid, host, since in holders)
    raise StoreDown(f"another historian writes to the schema {schema}: {who or 'just gone'}")


def refresh_tags(session: Session, schema: str, tags: list[tuple[int, str, str, str]], file: str = "") -> None:
    """Make the table of tags what the definitions say: (handle, name, type, unit). Tags that are gone stay.

    They are for who reads with SQL, and show whether samples under a handle are of the tag that has it.

    Raises:
        ConfigError: Tags have other handles than those that history was written with: it would be mixed up.
    """
    _check_handles(dict(session.rows("SELECT handle, name FROM tags")), schema, tags, file)
    with session.transaction():
        for first in range(0, len(tags), _TAG_SLICE):
            handles, names, types, units = map(list, zip(*tags[first : first + _TAG_SLICE], strict=True))
            session.execute(
                "INSERT INTO tags SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[])"
                " ON CONFLICT (handle) DO UPDATE SET name = excluded.name, type = excluded.type, unit = excluded.unit"
                " WHERE (tags.name, tags.type, tags.unit) IS DISTINCT FROM"
                " (excluded.name, excluded.type, excluded.unit)",
                (handles, names, types, units),
            )


def _check_handles(known: dict[int, str], schema: str, tags: list[tuple[int, str, str, str]], file: str) -> None:
    handles = {name: handle for handle, name in known.items()}
    for handle, name, *_ in tags:
        if known.get(handle, name) == name and handles.get(name, handle) == handle:
            continue
        there = f"tag {handle} is {known[handle]}" if handle in known else f"{name} is tag {handles[name]}"
        message = f"history in the schema {schema} was written by another home of the plant: there {there}"
        expected = "the home that wrote it, another name for this plant, or another database"
        raise ConfigError(
            message, file=file, key="history.store", value=f"{name}, which is tag {handle}", expected=expected
        )
