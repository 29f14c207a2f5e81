"""Which store history is kept in: files of its own, or a database, as the plant file says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from tagwerk.actors.historian.store import open_history
from tagwerk.runtime.plantfile_history import require_psycopg

if TYPE_CHECKING:
    from pathlib import Path

    from tagwerk.actors.historian.interface import HistoryStore
    from tagwerk.actors.historian.postgres.link import PostgresHistory
    from tagwerk.runtime.actor import Actor


def open_for(actor: Actor, directory: Path) -> tuple[HistoryStore, PostgresHistory | None]:
    """The store of a plant's historian; if it is a database, also what connects to it once it may `begin`.

    Args:
        actor: The historian.
        directory: Its own.

    Raises:
        ConfigError: A file was written by a version with another layout, or psycopg is not installed.
    """
    plant = actor.context.plant
    if not plant.history.store:
        return cast("HistoryStore", open_history(directory)), None
    require_psycopg(str(plant.path))
    from tagwerk.actors.historian.postgres.link import PostgresHistory
    from tagwerk.actors.historian.postgres.opening import open_database
    from tagwerk.actors.historian.postgres.schema import schema_name

    logged = actor.definitions.tags
    tags = [(tag.handle, tag.name, tag.type, tag.unit) for tag in logged.where(logged.logged)]
    store, layout, schema = plant.history.store, plant.history.layout, schema_name(plant.plant.name)
    opener = partial(open_database, store, schema, layout, tags, str(plant.path))
    database = PostgresHistory(opener, directory, actor.after, actor.clock, actor.log)
    return database, database
