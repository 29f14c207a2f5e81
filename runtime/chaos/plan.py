"""What is struck, when and how: made from a seed before anything starts, so that a run can be had again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from tagwerk.protocols.errors import ConfigError

ALL: Final = "all"
KINDS: Final = MappingProxyType(
    {
        "cvt": "cvt", "alarms": "alarms", "historian": "historian", "machines": "machine", "opcua": "opcua",
        "events": "events", "plant": "plant", "plc": "external",
    }
)  # fmt: skip
"""Name of `--kill` -> kind of the actors that it means."""
OURS: Final = ("writer", "watcher")
"""Processes that chaos itself has started."""
SUPERVISION: Final = ("node", "supervisord")
NAMES: Final = (*KINDS, *OURS, *SUPERVISION)

FREEZE_LIMIT_S: Final = 4.0  # an actor that is silent for 5 s is ended by its node
GAP_S: Final = (0.5, 3.5)
"""Shortest and longest time between two strikes."""
TOGETHER: Final = 0.2
"""This part of the strikes comes together with the one before."""
_WEIGHT: Final = MappingProxyType({"node": 1, "supervisord": 1})  # each stops the whole plant for seconds
_USUAL_WEIGHT: Final = 4


class How(StrEnum):
    """What is done to a process."""

    KILL = "kill"
    FREEZE = "freeze"
    RESTART = "restart"


_MIX: Final = ((How.KILL, 60), (How.FREEZE, 25), (How.RESTART, 15))


@dataclass(frozen=True, slots=True)
class Strike:
    """One blow.

    Args:
        at_s: When, in seconds from the start of the load; later by as long as the node was down.
        name: Which of `NAMES`.
        pick: Which process of that name: this number modulo how many there are.
        how: What is done.
        hold_s: How long it stays frozen; how long one of our own stays dead.
    """

    at_s: float
    name: str
    pick: int
    how: How
    hold_s: float


def names_of(text: str) -> tuple[str, ...]:
    """Read `--kill`.

    Args:
        text: Names with commas between them, or `all`.

    Raises:
        ConfigError: There is no such name.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in (*NAMES, ALL)]
    if unknown or not words:
        raise ConfigError(
            "there is nothing of this name to kill", key="--kill", value=(unknown or [text])[0],
            expected=f"{' '.join(NAMES)} {ALL}, with commas between them",
        )  # fmt: skip
    return NAMES if ALL in words else tuple(name for name in NAMES if name in words)


def plan(seed: int, seconds: float, names: Iterable[str]) -> tuple[Strike, ...]:
    """Make the plan of a run: each name is killed once, in any order, then it goes on by chance.

    Args:
        seed: The same seed, time and names give the same plan.
        seconds: How long the load runs.
        names: Of `NAMES`; without any there is no strike.
    """
    chance = random.Random(seed)
    first = list(names)
    if not first:
        return ()
    weights = [_WEIGHT.get(name, _USUAL_WEIGHT) for name in first]
    queue = chance.sample(first, len(first))
    strikes: list[Strike] = []
    at_s = chance.uniform(*GAP_S)
    while at_s < seconds:
        if queue:
            name, how = queue.pop(), How.KILL
        else:
            name = chance.choices(first, weights)[0]
            how = _possible(name, chance.choices([how for how, _ in _MIX], [weight for _, weight in _MIX])[0])
        strikes.append(
            Strike(round(at_s, 3), name, chance.randrange(1 << 16), how, round(chance.uniform(0.2, FREEZE_LIMIT_S), 3))
        )
        at_s += chance.uniform(*GAP_S) if chance.random() > TOGETHER else 0.0
    return tuple(strikes)


def _possible(name: str, how: How) -> How:
    # Who is asked to stop by supervision's own words has stopped for good: that is no accident.
    return How.KILL if how is How.RESTART and name in SUPERVISION else how
