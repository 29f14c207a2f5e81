"""A node whose historian and alarms die of some values: 666 raises, 667 kills without a word. Run as a script."""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import Any

from tagwerk.actors.alarms import actor as alarms_actor
from tagwerk.actors.historian.actor import Historian
from tagwerk.protocols.tags import JournalPage
from tagwerk.runtime.durable import Aside, JournalRecord
from tagwerk.runtime.home import Home
from tagwerk.runtime.kinds import KINDS
from tagwerk.runtime.node import from_command_line, run_node

sound_take = Historian.take
RAISES, KILLS = (struct.pack("<d", value) for value in (666.0, 667.0))


def taste(frame: bytes) -> None:
    """Die of poison."""
    if RAISES in frame:
        raise ZeroDivisionError("poison")
    if KILLS in frame:
        os.kill(os.getpid(), signal.SIGKILL)


def take(historian: Historian, shard: str, page: JournalPage, records: list[JournalRecord], aside: list[Aside]) -> None:
    """As `Historian.take`, if one survives it."""
    for record in records:
        taste(record.frame)
    sound_take(historian, shard, page, records, aside)


class Alarms(alarms_actor.Alarms):
    """Alarms that taste each frame."""

    def _batches(self, shard: str, record: JournalRecord) -> list[Any]:
        taste(record.frame)
        return super()._batches(shard, record)


def run_poisoned(home: Home, plant: Any, name: str) -> int:
    """Be the node."""
    setattr(Historian, "take", take)  # noqa: B010  a checker would compare the two
    return run_node(home, plant, name, kinds={**KINDS, "alarms": "poisoned_node:Alarms"})


if __name__ == "__main__":
    sys.modules.setdefault("poisoned_node", sys.modules["__main__"])
    sys.exit(from_command_line(run_poisoned))
