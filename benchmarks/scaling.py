"""What a figure depends on: the size of a batch, tags, shards, watchers, views; and what is full first.

Run `python -m benchmarks.scaling` from the checkout: it writes its results and the document anew.
`--quick` only prints.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import report
from benchmarks.results import Fit, Point, Scaling, save, short
from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.bench.plant import BenchPlant
from tagwerk.runtime.bench.rows import machine
from tagwerk.runtime.bench.tasks import TAG, Flow, Flowed
from tagwerk.runtime.bench.work import measured

ROOT = Path(__file__).parents[1]
TIMED_HZ = 100.0
RETRIES = 3
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work.

    Args:
        runs: Of each point; the median counts.
        tags: Of the plant in the middle, the largest has ten times as many.
        messages: Of a run in batches of 1,000; smaller batches have more.
        batches: Samples a message.
        shards: How many shards.
        watchers: How many watchers.
        views: How many views, over the largest number of tags.
        rates: Messages of 100 samples a second that are asked for.
        seconds: Of a run with a rate.
    """

    runs: int
    tags: int
    messages: int
    batches: tuple[int, ...]
    shards: tuple[int, ...]
    watchers: tuple[int, ...]
    views: tuple[int, ...]
    rates: tuple[float, ...]
    seconds: float


FULL = Sizes(
    3, 10_000, 2_000, (1, 10, 100, 1_000, 5_000), (1, 2, 4), (1, 2, 4, 8), (0, 10, 100, 1_000),
    (500.0, 1_000.0, 2_000.0, 4_000.0), 3.0,
)  # fmt: skip
QUICK = Sizes(1, 1_000, 100, (1, 100, 1_000), (1, 2), (1, 2), (0, 10, 100), (500.0,), 0.5)


def study(sizes: Sizes, say: Say) -> Scaling:
    """Carry all of it through."""
    found = machine()
    points = _batches(sizes, say) + _tags(sizes, say) + _shards(sizes, say) + _watchers(sizes, say)
    views = _views(sizes, say)
    when = time.strftime("%Y-%m-%d", time.gmtime())
    return Scaling(found, when, sizes.runs, points + views, fitted(views, sizes.tags * 10))


def _batches(sizes: Sizes, say: Say) -> list[Point]:
    points: list[Point] = []
    with BenchPlant(sizes.tags) as plant:
        for batch in (size for size in sizes.batches if size <= sizes.tags):
            messages = min(10 * sizes.messages, max(sizes.messages // 4, sizes.messages * 1_000 // batch))
            points.append(_point("batch", batch, plant, Flow(batch, messages, tags=sizes.tags), sizes, say))
            count = int(TIMED_HZ * sizes.seconds)
            task = Flow(batch, count, TIMED_HZ, sizes.tags)
            points.append(_point("batch, 100 messages/s", batch, plant, task, sizes, say))
        for rate_hz in sizes.rates:
            task = Flow(100, int(rate_hz * sizes.seconds), rate_hz, sizes.tags)
            points.append(_point("load, batches of 100", rate_hz, plant, task, sizes, say))
    return points


def _tags(sizes: Sizes, say: Say) -> list[Point]:
    points: list[Point] = []
    for tags in (sizes.tags // 10, sizes.tags, sizes.tags * 10):
        with BenchPlant(tags) as plant:
            batch = min(1_000, tags)
            points.append(_point("tags", tags, plant, Flow(batch, sizes.messages, tags=tags), sizes, say))
    return points


def _shards(sizes: Sizes, say: Say) -> list[Point]:
    points: list[Point] = []
    for shards in sizes.shards:
        with BenchPlant(sizes.tags, shards=shards) as plant:
            task = Flow(1_000, sizes.messages, tags=sizes.tags)
            points.append(_point("shards", shards, plant, task, sizes, say))
    return points


def _watchers(sizes: Sizes, say: Say) -> list[Point]:
    """Watchers of one view of all, then watchers that each have a part of the tags to themselves."""
    points: list[Point] = []
    with BenchPlant(sizes.tags) as plant:
        for count in sizes.watchers:
            same = Flow(1_000, sizes.messages, tags=sizes.tags, views=(("bench.*",),) * count)
            points.append(_point("watchers of one view", count, plant, same, sizes, say))
            parts = Flow(1_000, sizes.messages, tags=sizes.tags, views=disjoint(count))
            points.append(_point("watchers of disjoint views", count, plant, parts, sizes, say))
    return points


def disjoint(count: int) -> tuple[tuple[str, ...], ...]:
    """Divide all tags among so many watchers, by the last digit of their names."""
    digits = [str(digit) for digit in range(10)]
    return tuple(tuple(f"bench.*{digit}" for digit in digits[number::count]) for number in range(count))


def _views(sizes: Sizes, say: Say) -> list[Point]:
    """Disjoint views over the largest number of tags: messages of 100 samples meet one view, those of 1,000 many."""
    tags = sizes.tags * 10
    points: list[Point] = []
    with BenchPlant(tags) as plant:
        for count in sizes.views:
            for batch in (100, 1_000):
                task = Flow(batch, sizes.messages, tags=tags, crowd=crowd_of(count, tags))
                once = replace(sizes, runs=1)  # to open a thousand views takes a minute, and the fit has many points
                points.append(_point(f"views, batches of {batch:,}", count, plant, task, once, say))
    return points


def crowd_of(count: int, tags: int) -> tuple[str, ...]:
    """Make globs of `count` disjoint views that cover all tags together: each is of one beginning of their numbers."""
    if count == 0:
        return ()
    digits = len(str(count)) - 1
    if 10**digits != count:
        raise ValueError(f"a power of ten is needed, not {count}")
    last = TAG.format(tags - 1)
    head = len(last) - len(str(tags - 1))
    return tuple(f"{last[:head]}{number:0{digits}d}*" if digits else f"{last[:head]}*" for number in range(count))


def _point(name: str, x: float, plant: BenchPlant, task: Flow, sizes: Sizes, say: Say) -> Point:
    say(f"{name}: {x:,.0f}")
    runs: list[Flowed] = []
    for left in reversed(range(sizes.runs + RETRIES)):
        try:
            runs.append(measured(msgspec.structs.replace(task, home=str(plant.home))))
        except Unavailable as error:  # a watcher that fell behind cannot count
            say(f"this run does not count: {error}")
            if not left and not runs:
                raise
        if len(runs) == sizes.runs:
            break
    return _middle([_of_run(name, x, task, run) for run in runs])


def _of_run(name: str, x: float, task: Flow, run: Flowed) -> Point:
    watchers = sum(one.samples for one in run.seen)
    # A watcher's frames are not counted by it; a frame carries at least a whole message's part, so this is the most.
    frames = run.crowd_frames + task.messages * len(run.seen)
    return Point(
        name, x, min(one.rate for one in run.seen), max(one.p50_ms for one in run.seen),
        max(one.p99_ms for one in run.seen), run.writer_cpu_s / run.elapsed_s, run.shard_cpu_s / run.elapsed_s,
        max(one.cpu_s for one in run.seen) / run.elapsed_s, 1e6 * run.shard_cpu_s / task.messages,
        frames / task.messages, (run.crowd_samples + watchers) / task.messages,
    )  # fmt: skip


def _middle(points: list[Point]) -> Point:
    columns = {
        field: short(statistics.median(getattr(point, field) for point in points))
        for field in Point.__struct_fields__
        if field not in ("study", "x")
    }
    return msgspec.structs.replace(points[0], **columns)


def fitted(points: list[Point], tags: int) -> Fit | None:
    """Fit the cost of a message to what is delivered for it; None of fewer points than unknowns."""
    if len(points) < 4:
        return None
    cost = np.array([point.shard_us for point in points])
    delivered = np.array([[1.0, point.frames, point.samples] for point in points])
    terms, *_ = np.linalg.lstsq(delivered, cost, rcond=None)
    left = cost - delivered @ terms
    spread = float(((cost - cost.mean()) ** 2).sum())
    products = np.array([[1.0, point.x * tags] for point in points])
    (_, product_us), *_ = np.linalg.lstsq(products, left, rcond=None)
    r2 = 1.0 - float((left**2).sum()) / spread if spread else 1.0
    base, frame, sample = (short(float(term)) for term in terms)
    return Fit(base, frame, short(sample * 1e3), short(float(product_us) * 1e6), short(r2))


def as_text(studied: Scaling) -> str:
    """Give it for a terminal."""
    lines = [
        f"{'study':<30}{'x':>10}{'samples/s':>14}{'p50 ms':>9}{'p99 ms':>9}{'writer':>8}{'shard':>8}{'watcher':>9}"
    ]
    lines += (
        f"{point.study:<30}{point.x:>10,.0f}{point.rate:>14,.0f}{point.p50_ms:>9.2f}{point.p99_ms:>9.2f}"
        f"{point.writer:>8.2f}{point.shard:>8.2f}{point.watcher:>9.2f}"
        for point in studied.points
    )
    if studied.fit is not None:
        lines.append(report.fit_in_words(studied.fit))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Study, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="little work; prints, writes nothing unless --to says where"
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="a directory instead of the checkout")
    given = parser.parse_args(arguments)
    target: Path | None = given.to or (None if given.quick else ROOT)
    studied = study(QUICK if given.quick else FULL, lambda text: print(text, file=sys.stderr, flush=True))
    print(as_text(studied))
    if target is not None:
        save(target, "scaling", studied)
        report.write(target)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
