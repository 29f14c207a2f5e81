"""What was measured, as it is kept: small JSON files, one committed for the document."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

DIGITS = 4
"""Figures are kept to so many digits that count: a file that can be read and compared."""


class Figure(msgspec.Struct, frozen=True):
    """All runs of one thing.

    Args:
        work: Which table it belongs to.
        what: Who did it how.
        by: `tagwerk`, or the name of the peer.
        unit: Of the figures.
        better: "more" or "less".
        n: How many runs.
        median: Of the runs.
        low: The least.
        high: The greatest.
    """

    work: str
    what: str
    by: str
    unit: str
    better: str
    n: int
    median: float
    low: float
    high: float


class Results(msgspec.Struct, frozen=True):
    """One comparison.

    Args:
        machine: On which machine.
        when: The day.
        runs: How many of everything.
        sizes: How much work a run was.
        cores_busy: How busy the machine was before each run.
        skipped: Peer -> why it was left out.
        figures: What was measured.
    """

    machine: dict[str, Any]
    when: str
    runs: int
    sizes: dict[str, Any]
    cores_busy: list[float]
    skipped: dict[str, str]
    figures: list[Figure]


class Point(msgspec.Struct, frozen=True):
    """One point of a study.

    Args:
        study: Which.
        x: What was varied.
        rate: Samples/s that each watcher got, the slowest of them.
        p50_ms: From the writer to the watcher; 0: not measured, the writer was as fast as it could be.
        p99_ms: The same.
        writer: How busy the writer was, cores.
        shard: The shards, together.
        watcher: The busiest watcher.
        shard_us: Processor time of the shards a message, us.
        frames: Frames delivered a message, over all views.
        samples: Samples delivered a message, over all views.
    """

    study: str
    x: float
    rate: float
    p50_ms: float
    p99_ms: float
    writer: float
    shard: float
    watcher: float
    shard_us: float = 0.0
    frames: float = 0.0
    samples: float = 0.0


class Fit(msgspec.Struct, frozen=True):
    """What a message costs a shard: `base + frame * frames delivered + sample * samples delivered`, us.

    Args:
        base_us: A message that nobody looks at.
        frame_us: Each frame to a view.
        sample_ns: Each sample in it.
        view_tag_ps: What would be left for each view times tag, in 10^-12 s: near 0 if only what is delivered counts.
        r2: How much of the differences the fit explains, without the last term.
    """

    base_us: float
    frame_us: float
    sample_ns: float
    view_tag_ps: float
    r2: float


class Shares(msgspec.Struct, frozen=True):
    """Where a shard's time goes at one kind of work.

    Args:
        work: Which.
        us: Its processor time a message, us; 0: not known.
        shares: Part of the work -> per cent.
    """

    work: str
    us: float
    shares: dict[str, float]


class Profiles(msgspec.Struct, frozen=True):
    """All of them."""

    machine: dict[str, Any]
    when: str
    found: list[Shares]


class Scaling(msgspec.Struct, frozen=True):
    """The whole study."""

    machine: dict[str, Any]
    when: str
    runs: int
    points: list[Point]
    fit: Fit | None


def summed(rows: Iterable[dict[str, Any]]) -> list[Figure]:
    """Make one figure of all rows of the same work by the same, in the order in which they came first."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["work"], row["what"], row["by"]), []).append(row)
    found: list[Figure] = []
    for (work, what, by), same in groups.items():
        values = [float(row["value"]) for row in same]
        figures = [short(value) for value in (statistics.median(values), min(values), max(values))]
        found.append(Figure(work, what, by, same[0]["unit"], same[0]["better"], len(same), *figures))
    return found


def short(value: float) -> float:
    """Give a figure with the digits that count."""
    return float(f"{value:.{DIGITS}g}")


def path_of(target: Path, name: str) -> Path:
    """Give the place of a result under a checkout or another directory."""
    return target / "benchmarks" / "results" / f"{name}.json"


def save(target: Path, name: str, result: msgspec.Struct) -> None:
    """Write it."""
    path = path_of(target, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(msgspec.to_builtins(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load(target: Path, name: str, kind: type[T]) -> T | None:
    """Read it; None if there is none yet."""
    path = path_of(target, name)
    return msgspec.json.decode(path.read_bytes(), type=kind) if path.exists() else None
