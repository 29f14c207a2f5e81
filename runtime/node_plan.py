"""What a node has to run, as the plant file says it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.page_layout import NAME_BYTES
from tagwerk.runtime.plantfile import PlantFile

HANG_AFTER_S: Final = 5.0
# These write to disk in long transactions: whatever the plant file says, they may be silent for so long.
PATIENCE_S: Final = MappingProxyType({"historian": 60.0, "events": 60.0})


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One process to keep running."""

    name: str
    needs: tuple[str, ...] = ()
    hang_after_s: float = 0.0  # 0: it does not beat
    command: tuple[str, ...] = ()  # of an external program; empty: an actor
    env: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def kind(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """All processes of a node, in the order of their start, and the limits they live under."""

    plant: PlantFile
    node: str  # node/main
    specs: tuple[ChildSpec, ...]
    restarts: int
    period_s: float
    memory_limit_bytes: int  # of one actor, resident; 0: no limit
    cpu_limit_pct: float  # of one actor, over a whole period, 100: one core; 0: no limit

    @property
    def folder(self) -> Path:
        """Where the plant file stands."""
        return self.plant.path.parent


def plan(plant: PlantFile, node: str = "main") -> Plan:
    """Read off a plant file what a node has to run.

    Raises:
        ConfigError: A name is too long for the gauge page.
    """
    settings = plant.node
    for name in plant.actors():
        if len(name.encode()) > NAME_BYTES:
            expected = f"at most {NAME_BYTES} bytes"
            raise ConfigError("the actor's name is too long", file=str(plant.path), key=name, expected=expected)
    hang_after_s = settings.hang_after_s or HANG_AFTER_S
    return Plan(
        plant,
        f"node/{node}",
        tuple(_spec(plant, name, hang_after_s) for name in plant.actors()),
        settings.restarts,
        settings.period_s,
        settings.memory_limit_bytes or 0,
        settings.cpu_limit_pct or 0.0,
    )


def _spec(plant: PlantFile, name: str, hang_after_s: float) -> ChildSpec:
    needs = plant.depends(name)
    kind, _, own_name = name.partition("/")
    if kind != "external":
        return ChildSpec(name, needs, max(hang_after_s, PATIENCE_S.get(kind, 0.0)))
    config = plant.externals[own_name]
    program, *arguments = config.argv
    if program == "python":
        program = sys.executable  # the one with the plant's libraries, whatever PATH says
    return ChildSpec(name, needs, command=(program, *arguments), env=MappingProxyType(dict(config.env)))
