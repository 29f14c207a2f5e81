"""What an actor is given at its birth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tagwerk.runtime.clock import Clock
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page, Slot
from tagwerk.runtime.plantfile import PlantFile


@dataclass(frozen=True, slots=True)
class ActorContext:
    """The place of one start of an actor in its plant."""

    name: str  # cvt/0
    home: Home
    plant: PlantFile
    incarnation: int  # durable already
    slot: Slot  # its own, attached
    page: Page  # its node's, to look at peers
    clock: Clock
    code: Path  # the released copy of the users' modules

    @property
    def kind(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]
