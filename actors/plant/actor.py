"""plant/0: gives each tag its handle and its shard, and publishes the definitions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from tagwerk.actors.plant.logic import place_tags
from tagwerk.actors.plant.store import PlantStore
from tagwerk.actors.plant.tags import PlantTags
from tagwerk.protocols.errors import ConfigError, ConfigErrors
from tagwerk.protocols.message import Message
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import Definitions, GetDefinitions
from tagwerk.runtime import definitions, inspection
from tagwerk.runtime.actor import Actor, Later, Sender
from tagwerk.runtime.definitions import DefinitionTable
from tagwerk.runtime.inspection import PublishedTag
from tagwerk.runtime.memory import give_back
from tagwerk.runtime.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PAGE_LIMIT: Final = 10_000
INSPECTED: Final = "machines.json"
SETTLE_LIMIT_S: Final = 300.0
"""A million tags take ten seconds, more on a slow disk."""


class PlantActor(Actor):
    """The sole owner of the definitions."""

    def on_start(self) -> None:
        """Settle handles and shards, publish, serve."""
        folder = self.context.home.actor_data(self.name)
        self._store = PlantStore(folder / "plant.db")
        with self.busy("looking at the machines' classes", 30):
            published = self._machine_tags(folder)
        with self.busy("settling the tags", SETTLE_LIMIT_S):
            self._publish(self._settle(PlantTags(self.context.plant.tags, published)))
        give_back()
        self._table = definitions.load(self.context.home)  # mapped: its pages are those that all others look at
        self.log.info("%d tags, revision %d", len(self._table.tags), self._table.revision)
        self.ready()

    def _settle(self, tags: PlantTags) -> TagRows:
        """Give each tag its handle and shard, for life. What takes an object a tag is gone when this returns."""
        names, types = tags.names(), tags.types()
        rows = {name: row for row, name in enumerate(names)}
        known = self._known(rows, types)
        places = place_tags(rows, known, self._store.next_handle, self.context.plant.plant.shards)
        changed = places.changed
        columns = (changed.tolist(), places.handles[changed].tolist(), places.shards[changed].tolist())
        self._store.keep((names[row], handle, shard, *types[row]) for row, handle, shard in zip(*columns, strict=True))
        return TagRows.of(tags.definitions(names, places))

    def _publish(self, tags: TagRows) -> None:
        definitions.store(self.context.home, DefinitionTable(self._settle_revision(tags), tags))

    def _settle_revision(self, tags: TagRows) -> int:
        """The revision of these definitions; a new one is an event, in the transaction that makes it."""
        self.outbox = Outbox(self._store.connection)
        digest = tags.digest()
        last = self._store.last_revision()
        if last is not None and last[1] == digest:
            return last[0]
        revision = 1 if last is None else last[0] + 1
        before = "" if last is None else str(last[0])
        with self._store.connection:
            self._store.add_revision(revision, digest)
            why = f"{len(tags)} tags from {self.context.plant.path.name}"
            self.outbox.put(Event(self.clock.now_ns(), "", "", "definitions", "plant/0", before, str(revision), why))
        return revision

    def _machine_tags(self, folder: Path) -> list[PublishedTag]:
        """What the machines publish. Kept beside the store: the same code is looked at once."""
        if not self.context.plant.machines:
            return []
        key = hashlib.blake2b(
            self.context.plant.path.read_bytes() + str(self.context.code).encode(), digest_size=16
        ).hexdigest()
        path = folder / INSPECTED
        try:
            kept = json.loads(path.read_text())
            if kept["key"] == key:
                return [PublishedTag(**tag) for tag in kept["tags"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.log.info("the machines' classes are looked at: %s", error)
        found = inspection.inspect(self.context.plant.path, self.context.code)
        if found.errors:
            raise ConfigErrors(list(found.errors))
        path.write_text(json.dumps({"key": key, "tags": [asdict(tag) for tag in found.tags]}))
        return list(found.tags)

    def _known(self, rows: Mapping[str, int], types: Sequence[tuple[str, str]]) -> Iterator[tuple[str, int, int]]:
        """Name, handle and shard of the tags that have a place. Type and unit of a tag that has history are fixed."""
        errors: list[ConfigError] = []
        for name, handle, shard, kind, unit in self._store.tags():
            row = rows.get(name)
            if row is None:
                continue
            if types[row] != (kind, unit):
                errors.append(
                    ConfigError(
                        "the type and unit of a tag that has history are fixed",
                        file=str(self.context.plant.path),
                        key=f'tag."{name}"',
                        value=" ".join(filter(None, types[row])),
                        expected=f"{' '.join(filter(None, (kind, unit)))}, or another name",
                    )
                )
            yield name, handle, shard
        if errors:
            raise ConfigErrors(errors)

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """See `Actor.on_message`."""
        if isinstance(message, GetDefinitions):
            start = max(0, message.start)
            page = self._table.tags[start : start + max(1, min(message.limit, PAGE_LIMIT))]
            return Definitions(self._table.revision, len(self._table.tags), page)
        return super().on_message(message, sender)

    def on_stop(self) -> None:
        """Close the store."""
        self._store.close()
