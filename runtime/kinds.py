"""Which class an actor kind is, by dotted name: the runtime imports no actor, it finds it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from sqlite_utils import Database

from tagwerk.protocols.errors import ConfigError
from tagwerk.protocols.message import make_decoders
from tagwerk.runtime.context import ActorContext

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "plant": "tagwerk.actors.plant.actor:PlantActor",
        "cvt": "tagwerk.actors.cvt.actor:Cvt",
        "alarms": "tagwerk.actors.alarms.actor:Alarms",
        "historian": "tagwerk.actors.historian.actor:Historian",
        "machine": "tagwerk.actors.machines.actor:MachineActor",
        "opcua": "tagwerk.actors.opcua.actor:OpcuaLink",
        "order": "tagwerk.actors.orders.crew:Crew",
        "resource": "tagwerk.actors.orders.resource_actor:ResourceActor",
        "assigner": "tagwerk.actors.orders.assigner_actor:AssignerActor",
        "observer": "tagwerk.actors.orders.observer_actor:ObserverActor",
        "events": "tagwerk.actors.events.actor:Events",
    }
)


class Runnable(Protocol):
    """An actor as its process sees it."""

    def run(self) -> int:
        """Run until the actor stops; give the exit code of its process."""
        ...


def import_actor(kind: str, kinds: Mapping[str, str] = KINDS) -> Callable[[ActorContext], Runnable]:
    """Give the class of an actor kind.

    Raises:
        ConfigError: There is no such kind.
    """
    if kind not in kinds:
        raise ConfigError("unknown actor kind", value=kind, expected=", ".join(sorted(kinds)))
    module, _, name = kinds[kind].partition(":")
    found: Callable[[ActorContext], Runnable] = getattr(importlib.import_module(module), name)
    return found


def preload(needed: Iterable[str], kinds: Mapping[str, str] = KINDS) -> None:
    """Import the modules of these actor kinds with all their libraries, once, so that each fork finds them.

    Raises:
        ConfigError: There is no such kind.
    """
    for kind in sorted(set(needed)):
        import_actor(kind, kinds)
    # What libraries put off until first use costs each restart 10 ms and more, and each process memory of its own:
    # numpy's masked arrays (which `unique` asks for), sqlite-utils' search for plugins through all that is installed,
    # the decoders of messages, and whether what logging is given is a mapping (it asks all mappings there are).
    importlib.import_module("numpy.ma")
    Database(memory=True).close()
    make_decoders()
    for given in (0, 0.0, "", Path()):
        isinstance(given, Mapping)
