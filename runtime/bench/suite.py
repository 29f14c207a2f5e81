"""What `tagwerk bench` measures: each case with bare libraries and with tagwerk, in turns, in one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from tagwerk.runtime.bench.plant import ACTORS, BenchPlant
from tagwerk.runtime.bench.rows import Row, delay, rate
from tagwerk.runtime.bench.tasks import SINGLES_WINDOW, WINDOW, Asks, Flow, Kills, Task
from tagwerk.runtime.bench.work import measured

TAGS: Final = 1_000
TIMED_TAGS: Final = 100
"""Over how many tags messages at a rate go: each had its first value before the warm-up is over."""
RATE_HZ: Final = 1_000.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work.

    Args:
        runs: Of each case; the figure is the median.
        flows: (samples a message, messages) of each case without a rate.
        timed: Messages of a run at 1,000 messages/s.
        asks: Round trips of a run.
        kills: Of each actor.
        tags: Of the large plant.
        large_kills: Of its shard.
    """

    runs: int = 3
    flows: tuple[tuple[int, int], ...] = ((1_000, 2_000), (100, 5_000), (1, 8_000))
    timed: int = 1_000
    asks: int = 2_000
    kills: int = 3
    tags: int = 100_000
    large_kills: int = 3


QUICK: Final = Sizes(1, ((1_000, 50), (100, 100), (1, 300)), 100, 100, 1, 2_000, 1)
"""To see that it works; the figures are rough."""


def measure(sizes: Sizes, say: Say) -> list[Row]:
    """Measure all of it.

    Args:
        sizes: How much.
        say: Takes lines of progress.

    Raises:
        Unavailable: A plant did not come up, or a measurement came to nothing.
    """
    say("a plant of 1,000 tags starts")
    with BenchPlant(TAGS) as plant:
        rows = flows(plant, sizes, say) + asks(plant, sizes, say) + restarts(plant, sizes, say)
    say(f"a plant of {sizes.tags:,} tags starts")
    with BenchPlant(sizes.tags) as plant:
        plant.fill(sizes.tags)
        rows.append(in_step(plant, sizes, say))
    return rows


def flows(plant: BenchPlant, sizes: Sizes, say: Say) -> list[Row]:
    """Samples from a writer to a watcher: how many, and how long each is under way at 1,000 messages/s."""
    rows: list[Row] = []
    for batch, messages in sizes.flows:
        name = f"publish, batches of {batch:,}" if batch > 1 else "publish, single samples"
        window = WINDOW if batch > 1 else SINGLES_WINDOW
        ours, floors = _in_turns(Flow(batch, messages, tags=TAGS, window=window), plant.home, sizes.runs, say, name)
        rows.append(rate(name, [one.seen[0].rate for one in ours], [one.seen[0].rate for one in floors]))
    for attached, who in ((False, "actors"), (True, "attached scripts")):
        name = f"writer to watcher at 1,000 single samples/s, {who}"
        task = Flow(1, sizes.timed, RATE_HZ, TIMED_TAGS, attached=attached)
        ours, floors = _in_turns(task, plant.home, sizes.runs, say, name)
        for column in ("p50_ms", "p99_ms"):
            mine = [getattr(one.seen[0], column) for one in ours]
            rows.append(delay(f"{name}, {column[:3]}", "ms", mine, [getattr(one.seen[0], column) for one in floors]))
    return rows


def asks(plant: BenchPlant, sizes: Sizes, say: Say) -> list[Row]:
    """Round trips from one process to another: as an actor asks, and as a script asks."""
    scripts: list[float] = []
    actors: list[float] = []
    floors: list[float] = []
    for number in range(1, sizes.runs + 1):
        say(f"ask: {number} of {sizes.runs}")
        floors.append(_middle(measured(Asks(sizes.asks))))
        actors.append(_middle(measured(Asks(sizes.asks, str(plant.home)))))
        scripts.append(_middle(measured(Asks(sizes.asks, str(plant.home), attached=True))))
    return [
        delay("ask, actor to actor, p50", "us", actors, floors),
        delay("ask, attached script to actor, p50", "us", scripts, floors),
    ]


def restarts(plant: BenchPlant, sizes: Sizes, say: Say) -> list[Row]:
    """From `kill -9` of an actor to the first answer of its successor; each actor in turn, nothing else happens."""
    name = "kill -9 to the successor's answer"
    ours, floors = _in_turns(Kills(sizes.kills, ACTORS), plant.home, 1, say, name)
    mine, bare = ours[0].figures, floors[0].figures
    return [delay(f"{name}, p{percent}", "ms", mine, bare, percent) for percent in (50, 95)]


def in_step(plant: BenchPlant, sizes: Sizes, say: Say) -> Row:
    """From `kill -9` of a shard until a watcher of all its tags has their state again."""
    name = f"kill -9 of a shard to a watcher in step, {sizes.tags:,} tags"
    ours, floors = _in_turns(Kills(sizes.large_kills, tags=sizes.tags), plant.home, 1, say, name)
    return delay(name, "ms", ours[0].figures, floors[0].figures)


def _in_turns(task: Task, home: Path, runs: int, say: Say, name: str) -> tuple[list[Any], list[Any]]:
    """Carry a task out with tagwerk and with bare libraries, in turns: both meet the same noise."""
    ours: list[Any] = []
    floors: list[Any] = []
    for number in range(1, runs + 1):
        say(f"{name}: {number} of {runs}" if runs > 1 else name)
        floors.append(measured(task))
        ours.append(measured(_in_home(task, home)))
    return ours, floors


def _in_home(task: Task, home: Path) -> Task:
    """Give the same task for tagwerk, in a plant's home."""
    return msgspec.structs.replace(task, home=str(home))


def _middle(delays: Any) -> float:
    figures = sorted(delays.figures)
    return float(figures[len(figures) // 2])
