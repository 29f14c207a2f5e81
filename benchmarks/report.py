"""The document and its plots, made from the results: `docs/benchmarks.md`, `docs/benchmarks/*.svg`."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.plots import Bar, bars, lines, number
from benchmarks.results import Figure, Fit, Point, Profiles, Results, Scaling, load
from tagwerk.runtime.bench.rows import described

OURS = "tagwerk"
LESSONS = Path(__file__).with_name("lessons.md")
"""What was learnt from the profiles, in words: the one part of the document that is written by hand."""
KEEPS = 'append journal before the acknowledgement, fdatasync once a second (`journal.sync = "interval"`)'
HEAD = """# Benchmarks

Written by `python -m benchmarks` from the checkout; do not edit. One run of it makes all of this again: figures,
tables, plots. On any box `tagwerk bench` measures tagwerk alone, in under a minute.

Take the figures as proportions: they move from machine to machine, and on one machine from hour to hour. What stands in
one table was measured in the same run, in turns. The *floor* is the same work with bare pyzmq, msgpack and numpy, with
the same order and an append journal, and none of the promises: no supervision, no recovery, no ownership, no views.
The last column of a table says how many times as good tagwerk is: below 1 it is worse.
"""
METHOD = """## How it was measured

- Everybody is installed into an environment of his own, pinned (`benchmarks/environments.py`), and used as his
  documentation recommends; each is a small file in `benchmarks/peers/` that can be read in one screen.
- Writer, server and watcher are processes of their own, except for PyAutomation, whose tags live in the process that
  sets them.
- Single samples: tagwerk, the floor and NATS send without waiting for each acknowledgement (up to 1,000 are under way);
  Redis and EPICS wait for each call; PyAutomation is a call in one process.
- A tenth of each run comes first as warm-up and does not count. Runs are taken in turns, and who begins changes.
- Messages at 1,000/s go over 100 tags, each of which has had a value by the end of the warm-up.
- The figure is the median of the runs, beside it the least and the greatest.
- Times are from the call of who sends to the hands of who receives, on one host with one clock.
- kill -9: tagwerk's figure is over all its actors, with nothing else going on; a peer's is one actor or program.
- Alarms: tagwerk's alarm counts when a client is told of it, and by then it is on disk (synchronous FULL).
- Rows into history: until the historian says that it has them on disk.
- OPC UA: both read from the same kind of server, asyncua's, which may be full before either of them.
- One write of tagwerk's is a question to a shard, an event in a synced log, the write, and its value read back;
  asyncua's are two requests for all of them.
"""
HISTORY_METHOD = """### How the stores were measured

- 1,000 tags at 10 Hz: 16-bit converters over slow random walks. Everybody gets the same 25 commits of 40,000 samples,
  and has them on the disk at the end of each; then a week of one more tag at 1 Hz, which is asked for. Rates count
  until all is where it is found: sealed (tagwerk), in one sorted file (Parquet), behind a checkpoint (DuckDB).
- tagwerk keeps with each commit the place in the shard's journal, which makes it exactly once; the others keep rows.
- Bytes: after tagwerk's rewriting of days that are over, a full VACUUM in its PostgreSQL, Parquet's sorting; without
  what does not grow (tagwerk's catalog, write-ahead logs).
- A course is least and greatest of 1,000 stretches; tagwerk's is MinMaxLTTB beside those, with every gap.
- PostgreSQL runs as it is installed, on a socket of the same host. sqlite-utils writes the same table as SQLite rows.
"""


def document(target: Path) -> Path:
    """Give the place of the document under a checkout or another directory."""
    return target / "docs" / "benchmarks.md"


def write(target: Path) -> None:
    """Write the document and its plots from whatever results there are."""
    peers, studied = load(target, "peers", Results), load(target, "scaling", Scaling)
    folder = target / "docs" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    parts = [HEAD]
    if peers is not None:
        parts += [_conditions(peers), "## Compared\n", *_comparison(peers, folder), _promises(peers), METHOD]
    kept = load(target, "history", Results)
    if kept is not None:
        parts += ["## History beside other stores\n", _conditions(kept), *_comparison(kept, folder), HISTORY_METHOD]
    if studied is not None:
        parts += _scaling(studied, folder)
    profiles = load(target, "profiles", Profiles)
    if profiles is not None:
        parts += _profiles(profiles)
    document(target).write_text("\n".join(parts), encoding="utf-8")


def as_text(results: Results) -> str:
    """Give a comparison for a terminal."""
    found = [described(results.machine)]
    for work, figures in _works(results.figures).items():
        found.append(f"\n{work} ({figures[0].unit})")
        found += (
            f"  {one.what:<46}{number(one.median):>14}   {number(one.low)} to {number(one.high)}, {one.n} runs"
            for one in figures
        )
    return "\n".join(found)


# --- the comparison ---------------------------------------------------------------------------------------------------


def _works(figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    """Sort by work, and in each the best first."""
    found: dict[str, list[Figure]] = {}
    for one in figures:
        found.setdefault(one.work, []).append(one)
    for same in found.values():
        same.sort(key=lambda one: one.median, reverse=same[0].better == "more")
    return found


def _conditions(results: Results) -> str:
    busy = statistics.median(results.cores_busy) if results.cores_busy else 0.0
    where = f"Measured on {results.when}: {described(results.machine)}."
    how = f"Runs of each, in turns: {results.runs}; between the runs others kept {busy:.1f} cores busy (median)."
    left_out = (f"\nLeft out: {name}: {why}." for name, why in results.skipped.items())
    return "\n".join((where, how, *left_out)) + "\n"


def _comparison(results: Results, folder: Path) -> list[str]:
    parts: list[str] = []
    for work, figures in _works(results.figures).items():
        unit = figures[0].unit
        plot = _file_name(work)
        all_bars = [Bar(one.what, one.median, _kind(one)) for one in figures]
        (folder / plot).write_text(bars(work, unit, all_bars), encoding="utf-8")
        ours = next((one for one in figures if one.by == OURS and _kind(one) == OURS), None)
        parts += [
            f"### {work[0].upper()}{work[1:]}\n",
            f"![{work}](benchmarks/{plot})\n",
            _table(
                ("", f"{unit}", "least to greatest", "n", "tagwerk"),
                [
                    (
                        one.what,
                        number(one.median),
                        f"{number(one.low)} to {number(one.high)}",
                        str(one.n),
                        _times(ours, one),
                    )
                    for one in figures
                ],
            ),
        ]
    return parts


def _times(ours: Figure | None, other: Figure) -> str:
    """Say how many times as good tagwerk is; nothing for itself."""
    if ours is None or other is ours or not ours.median or not other.median:
        return ""
    better = ours.median / other.median if ours.better == "more" else other.median / ours.median
    return f"{better:,.0f} x" if better >= 10 else f"{better:.2g} x"


def _kind(one: Figure) -> str:
    if one.by.partition("/")[0] != OURS:
        return "peer"
    return "floor" if one.what.startswith("floor") else OURS


def _promises(results: Results) -> str:
    seen = {one.by for one in results.figures}
    rows = [("tagwerk, floor", KEEPS)]
    rows += ((" ".join(peer.requirements[:1]), peer.keeps) for name, peer in environments.ALL.items() if name in seen)
    return "## What is kept of a value that was taken\n\n" + _table(("who", "what a crash leaves"), rows)


# --- the scaling study ------------------------------------------------------------------------------------------------

X_NAMES = {
    "batch": "samples a message",
    "batch, 100 messages/s": "samples a message",
    "load, batches of 100": "messages a second asked for",
    "tags": "tags",
    "shards": "shards",
}


def _scaling(studied: Scaling, folder: Path) -> list[str]:
    parts = [
        "## What a figure depends on\n",
        f"Measured on {studied.when}: {described(studied.machine)}. Median of {studied.runs}.",
        "One writer; batches of 1,000 and one watcher of all tags where nothing else is said. "
        "*busy* is processor time, 1.00 is a whole core.\n",
        _saturation(studied.points),
    ]
    parts += _line_plots(studied.points, folder)
    for name, points in _studies(studied.points).items():
        rows = [
            (number(one.x), number(one.rate), _ms(one.p50_ms), _ms(one.p99_ms), f"{one.writer:.2f}", f"{one.shard:.2f}",
             f"{one.watcher:.2f}", number(one.shard_us), number(one.samples))
            for one in points
        ]  # fmt: skip
        head = (X_NAMES.get(name, "how many"), "samples/s a watcher", "p50 ms", "p99 ms", "writer busy", "shards busy")
        more = ("watcher busy", "shard us a message", "samples delivered a message")
        parts += [f"### {name[0].upper()}{name[1:]}\n", _table((*head, *more), rows)]
    if studied.fit is not None:
        parts += ["### What a message costs a shard\n", fit_in_words(studied.fit) + "\n"]
    return parts


def _studies(points: Iterable[Point]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.study, []).append(point)
    return found


def _saturation(points: Iterable[Point]) -> str:
    """Say who is busiest where the writer was as fast as it could be, and what the most was that went through."""
    free = [point for point in points if point.p50_ms == 0 and not point.study.startswith("views")]
    if not free:
        return ""
    best = max(free, key=lambda point: point.rate)
    who = {"the writer": best.writer, "the shards": best.shard, "the watcher": best.watcher}
    busiest = max(who, key=lambda name: who[name])
    return (
        f"The most that went through: {number(best.rate)} samples/s ({best.study}, {number(best.x)}). "
        f"Full first: {busiest}, {who[busiest]:.2f} of a core; the writer {best.writer:.2f}, the "
        f"shards {best.shard:.2f}, the busiest watcher "
        f"{best.watcher:.2f}.\n"
    )


def _line_plots(points: list[Point], folder: Path) -> list[str]:
    studies = _studies(points)
    rates = {name: [(one.x, one.rate) for one in studies.get(name, [])] for name in ("batch", "tags")}
    watchers = ("watchers of one view", "watchers of disjoint views")
    wanted: list[tuple[str, str, str, dict[str, list[tuple[float, float]]]]] = [
        ("Samples a second by batch", "samples a message", "samples/s", {"one watcher": rates["batch"]}),
        (
            "Writer to watcher at 100 messages/s", "samples a message", "ms",
            {name: [(one.x, getattr(one, field)) for one in studies.get("batch, 100 messages/s", [])]
             for name, field in (("p50", "p50_ms"), ("p99", "p99_ms"))},
        ),
        ("Samples a second by tags", "tags", "samples/s", {"one watcher": rates["tags"]}),
        (
            "Samples a second that each watcher gets", "watchers", "samples/s",
            {name: [(one.x, one.rate) for one in studies.get(name, [])] for name in watchers},
        ),
        (
            "What a message costs the shard", "views", "us",
            {name: [(one.x, one.shard_us) for one in studies.get(name, []) if one.x]
             for name in ("views, batches of 100", "views, batches of 1,000")},
        ),
    ]  # fmt: skip
    parts: list[str] = []
    for title, x_name, y_name, series in wanted:
        drawn = {name: line for name, line in series.items() if line}
        if drawn:
            plot = "scaling-" + _file_name(title)
            (folder / plot).write_text(lines(title, x_name, y_name, drawn), encoding="utf-8")
            parts.append(f"![{title}](benchmarks/{plot})\n")
    return parts


def fit_in_words(fit: Fit) -> str:
    """Say what the fit says."""
    return (
        f"Fitted over all points of the study of views: a message costs {number(fit.base_us)} us, "
        f"{number(fit.frame_us)} us more for each frame that is delivered, {number(fit.sample_ns)} ns for each "
        f"sample in it (r2 = {fit.r2:.3f}). What is left over grows by {number(fit.view_tag_ps)} * "
        "10^-12 s for each view "
        "times tag: near 0 if the cost grows only with what is delivered."
    )


# --- where the time goes ----------------------------------------------------------------------------------------------


def _profiles(profiles: Profiles) -> list[str]:
    return [
        "## Where a shard's time goes\n",
        f"Measured on {profiles.when}: {described(profiles.machine)}. Per cent of the time in which the shard's own "
        "thread works, by py-spy (`python -m benchmarks.profile`).\n",
        shares_table(profiles),
        LESSONS.read_text(encoding="utf-8"),
    ]


def shares_table(profiles: Profiles) -> str:
    """Make a table: a row a part of the work, a column a kind of work."""
    parts = dict.fromkeys(part for one in profiles.found for part in one.shares)
    rows = [(part, *(f"{one.shares.get(part, 0.0):.0f} %" for one in profiles.found)) for part in parts]
    rows.append(("processor time a message, us", *(number(one.us) if one.us else "-" for one in profiles.found)))
    return _table(("", *(one.work for one in profiles.found)), rows)


# --- markdown ---------------------------------------------------------------------------------------------------------


def _ms(value: float) -> str:
    return number(value) if value else "-"


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".svg"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells: list[tuple[Any, ...]] = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "".join("| " + " | ".join(row) + " |\n" for row in cells)
