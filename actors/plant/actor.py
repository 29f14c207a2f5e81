"""plant/0: gives each tag its handle and its shard, and publishes the definitions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import msgspec

from tagwerk.actors.plant.logic import Place, place_tags
from tagwerk.actors.plant.store import PlantStore
from tagwerk.protocols.codec import pack
from tagwerk.protocols.errors import ConfigError, ConfigErrors
from tagwerk.protocols.message import Message
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.tags import Definitions, GetDefinitions, TagDef
from tagwerk.runtime import definitions, inspection
from tagwerk.runtime.actor import Actor, Later, Sender
from tagwerk.runtime.definitions import DefinitionTable
from tagwerk.runtime.inspection import PublishedTag
from tagwerk.runtime.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path

    from tagwerk.runtime.plantfile_models import TagConfig

PAGE_LIMIT: Final = 10_000
INSPECTED: Final = "machines.json"


class PlantActor(Actor):
    """The sole owner of the definitions."""

    def on_start(self) -> None:
        """Settle handles and shards, publish, serve."""
        folder = self.context.home.actor_data(self.name)
        self._store = PlantStore(folder / "plant.db")
        plant = self.context.plant
        with self.busy("looking at the machines' classes", 30):
            published = self._machine_tags(folder)
        declared = [*plant.tags.values()]
        types: dict[str, tuple[str, str]] = {tag.name: (tag.type, tag.unit) for tag in declared}
        types |= {tag.name: (tag.type, tag.unit) for tag in published}
        self._refuse_changes(types)
        places, new = place_tags(types, self._store.places(), self._store.next_handle, plant.plant.shards)
        self._store.keep(new, types)
        tags = [_declared(tag, places[tag.name]) for tag in declared]
        tags += [_published(tag, places[tag.name]) for tag in published if tag.name not in plant.tags]
        tags.sort(key=lambda tag: tag.handle)
        self._table = DefinitionTable(self._settle_revision(tags), tags)
        definitions.store(self.context.home, self._table)
        self.log.info("%d tags, revision %d", len(tags), self._table.revision)
        self.ready()

    def _settle_revision(self, tags: list[TagDef]) -> int:
        """The revision of these definitions; a new one is an event, in the transaction that makes it."""
        self.outbox = Outbox(self._store.connection)
        digest = hashlib.blake2b(pack(msgspec.to_builtins(tags)), digest_size=16).hexdigest()
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

    def _refuse_changes(self, types: dict[str, tuple[str, str]]) -> None:
        """Type and unit of a tag that has history are fixed."""
        errors: list[ConfigError] = []
        for name, (kind, unit) in self._store.types().items():
            now = types.get(name)
            if now is not None and now != (kind, unit):
                errors.append(
                    ConfigError(
                        "the type and unit of a tag that has history are fixed",
                        file=str(self.context.plant.path),
                        key=f'tag."{name}"',
                        value=" ".join(filter(None, now)),
                        expected=f"{' '.join(filter(None, (kind, unit)))}, or another name",
                    )
                )
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


def _declared(tag: TagConfig, place: Place) -> TagDef:
    return TagDef(
        handle=place.handle,
        shard=place.shard,
        name=tag.name,
        type=tag.type,
        unit=tag.unit,
        display_unit=tag.display_unit,
        low=tag.low,
        high=tag.high,
        write_low=tag.write_low,
        write_high=tag.write_high,
        deadband=tag.deadband,
        deadband_pct=tag.deadband_pct,
        stale_after_s=tag.stale_after_s,
        hold_s=tag.hold_s,
        source=tag.source,
        node=tag.node,
        writable=tag.writable,
        default=tag.default,
        log=tag.log,
        labels=tuple(tag.labels),
        description=tag.description,
        area=tag.area,
    )


def _published(tag: PublishedTag, place: Place) -> TagDef:
    return TagDef(place.handle, tag.name, tag.type, place.shard, tag.unit, source=tag.source,
                  description=tag.description)  # fmt: skip
