"""All figures: tagwerk, the floor, and what a user would pick instead, on the same work in the same run.

    python -m benchmarks                     everything, five runs; writes docs/benchmarks.md, its plots and the results
    python -m benchmarks --only tagwerk,epics --runs 3
    python -m benchmarks --quick             little work, one run; prints, writes nothing unless --to says where
    python -m benchmarks --render            writes the document again from the results, measures nothing

A peer's environment is made when it is first needed, under `--cache`. A peer whose server is not installed is left out,
and the line that says so names what is missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import environments, ours, report, scaling, stores
from benchmarks.environments import PeerError
from benchmarks.results import Results, save, summed
from tagwerk.protocols.errors import TagwerkError
from tagwerk.runtime.bench.rows import machine

ROOT = Path(__file__).parents[1]
SIZES = {
    "singles": 20_000,
    "batches": 2_000,
    "timed": 3_000,
    "asks": 2_000,
    "kills": 3,
    "seconds": 6,
    "items": 1_000,
    "wide": 10_000,
}
QUICK = {"singles": 1_000, "batches": 50, "timed": 200, "asks": 200, "kills": 1, "seconds": 1, "items": 50, "wide": 100}
OURS = "tagwerk"
SCALING = "scaling"
HISTORY = "history"
COMPARED = (OURS, *environments.ALL)
KNOWN = (*COMPARED, SCALING, HISTORY)


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    given = _parsed(arguments)
    target: Path | None = given.to or (None if given.quick else ROOT)
    if given.render:
        report.write(given.to or ROOT)
        return 0
    if set(given.only) & set(COMPARED):
        results = measure(given.only, given.runs, given.cache, QUICK if given.quick else SIZES, _say)
        print(report.as_text(results))
        if target is not None:
            save(target, "peers", results)
    if HISTORY in given.only:
        sizes, runs = (stores.QUICK, 1) if given.quick else (stores.SIZES, min(given.runs, stores.RUNS))
        kept = stores.compare(runs, given.cache, sizes, _say)
        print(report.as_text(kept))
        if target is not None:
            save(target, HISTORY, kept)
    if SCALING in given.only:
        studied = scaling.study(scaling.QUICK if given.quick else scaling.FULL, _say)
        print(scaling.as_text(studied))
        if target is not None:
            save(target, SCALING, studied)
    if target is not None:
        report.write(target)
        _say(f"written to {report.document(target)}")
    return 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, metavar="N", help="runs of each; the median counts (default 5)")
    parser.add_argument("--only", metavar="NAMES", help=f"with commas, of: {' '.join(KNOWN)}")
    parser.add_argument("--cache", type=Path, default=environments.CACHE, metavar="DIR", help="for the environments")
    parser.add_argument("--quick", action="store_true", help="little work, one run: to see that it works")
    parser.add_argument("--to", type=Path, metavar="DIR", help="a directory instead of the checkout")
    parser.add_argument("--render", action="store_true", help="only write the document, from the results")
    given = parser.parse_args(arguments)
    given.only = [name.strip() for name in given.only.split(",")] if given.only else list(KNOWN)
    unknown = [name for name in given.only if name not in KNOWN]
    if unknown:
        parser.error(f"there is no {unknown[0]!r}; there are: {' '.join(KNOWN)}")
    given.runs = given.runs or (1 if given.quick else 5)
    return given


def measure(only: list[str], runs: int, cache: Path, sizes: dict[str, Any], say: Any) -> Results:
    """Run everybody in turns, so that all of them meet the same noise.

    Args:
        only: Who, of `KNOWN`.
        runs: How often.
        cache: Where the environments are.
        sizes: How much work a run is.
        say: Takes lines of progress.
    """
    skipped = {name: peer.missing() for name, peer in environments.ALL.items() if name in only and peer.missing()}
    for name, why in skipped.items():
        say(f"left out: {name}: {why}")
    people = [name for name in only if name in (OURS, *environments.ALL) and name not in skipped]
    for name in [name for name in people if name != OURS]:
        say(f"the environment of {name}")
        try:
            environments.python_of(name, cache)
        except PeerError as error:
            skipped[name] = str(error)
            say(f"left out: {name}: {error}")
    found = machine()
    busy: list[float] = []
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for number in range(runs):
        busy.append(machine()["cores_busy"])
        turn = number % max(1, len(people))  # nobody is always the first
        for name in people[turn:] + people[:turn]:
            if name in skipped:
                continue
            say(f"run {number + 1} of {runs}: {name}")
            try:
                measured = ours.measure(sizes) if name == OURS else environments.run(name, cache, sizes)
            except (PeerError, TagwerkError, TimeoutError) as error:
                failed[name] = str(error)  # the other runs count: a figure says how many there were
                say(f"this run of {name} does not count: {error}")
                continue
            rows += [row | {"by": name} for row in measured]
    skipped |= {name: why for name, why in failed.items() if not any(row["by"] == name for row in rows)}
    when = time.strftime("%Y-%m-%d", time.gmtime())
    return Results(found, when, runs, sizes, busy, skipped, summed(rows))


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
