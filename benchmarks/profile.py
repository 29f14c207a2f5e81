"""Where a shard's time goes: py-spy looks at it many times a second while it does each kind of work.

Run `python -m benchmarks.profile` from the checkout, in an environment that has py-spy: it writes its results and the
document anew. The shares are of the time in which the shard works; what it waits is left out.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import report
from benchmarks.results import Profiles, Shares, save, short
from tagwerk.runtime.bench.plant import BenchPlant
from tagwerk.runtime.bench.rows import machine
from tagwerk.runtime.bench.tasks import SINGLES_WINDOW, Asks, Flow, Task
from tagwerk.runtime.bench.work import measured

ROOT = Path(__file__).parents[1]
SAMPLES_HZ = 250
CASES: dict[str, Task] = {
    "batches of 1,000": Flow(1_000, 12_000),
    "batches of 100": Flow(100, 40_000),
    "single samples": Flow(1, 60_000, window=SINGLES_WINDOW),
    "1,000 single samples/s": Flow(1, 5_000, 1_000.0, attached=False),
    "asks": Asks(15_000),
}
PARTS: dict[str, tuple[str, ...]] = {
    "ZeroMQ: send, receive, look": ("runtime/transport.py",),
    "encode, decode": ("protocols/",),
    "journal": ("runtime/journal", "cvt/recorder.py", "cvt/live_only.py"),
    "judge and apply": ("cvt/logic/table.py", "cvt/logic/familiar.py", "cvt/logic/writers.py", "cvt/taking.py"),
    "views and feed": ("cvt/logic/views.py", "cvt/logic/audience.py", "cvt/feed.py"),
    "links: order, acknowledgement": ("cvt/ingest.py", "cvt/losses.py", "protocols/link.py"),
    "questions": ("runtime/control", "cvt/reading.py", "runtime/directory.py", "runtime/page"),
    "mailbox, loop, clocks": (
        "runtime/mailbox.py",
        "runtime/reactor.py",
        "runtime/actor.py",
        "runtime/clock.py",
        "runtime/steady.py",
        "pykka/",
    ),
}
"""Part of the work -> the files it is in; the innermost frame that is in one of them decides, the first part wins."""
REST = "the rest"
WAITS = "waits"
Say = Callable[[str], None]


def main(arguments: list[str]) -> int:
    """Look, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.parse_args(arguments)
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        parser.error("py-spy is not installed here: pip install py-spy")
    profiles = look(spy, lambda text: print(text, file=sys.stderr, flush=True))
    save(ROOT, "profiles", profiles)
    report.write(ROOT)
    print(report.shares_table(profiles))
    return 0


def look(spy: str, say: Say) -> Profiles:
    """Profile the shard of a plant of 1,000 tags at each kind of work.

    Args:
        spy: The program.
        say: Takes lines of progress.
    """
    found: list[Shares] = []
    with BenchPlant(1_000) as plant:
        for name, task in CASES.items():
            say(name)
            at_home = msgspec.structs.replace(task, home=str(plant.home))
            stacks, us = _during(partial(measured, at_home), spy, plant.pid("cvt/0"), task)
            found.append(Shares(name, us, shares_of(stacks)))
    return Profiles(machine(), time.strftime("%Y-%m-%d", time.gmtime()), found)


def _during(work: Callable[[], Any], spy: str, pid: int, task: Task) -> tuple[list[str], float]:
    """Carry the work out, and look at the process meanwhile: its stacks, and processor time a message, us."""
    with tempfile.TemporaryDirectory(prefix="tw-spy-") as folder:
        out = Path(folder) / "stacks"
        results: list[Any] = []
        worker = threading.Thread(target=lambda: results.append(work()))
        worker.start()
        time.sleep(1.5)  # both ends are there by then
        subprocess.run(
            [spy, "record", "-r", str(SAMPLES_HZ), "-d", "3", "-f", "raw", "-o", str(out), "-p", str(pid)],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        worker.join()
        if not results:
            raise RuntimeError("the work came to nothing")
        us = 1e6 * results[0].shard_cpu_s / task.messages if isinstance(task, Flow) else 0.0
        return out.read_text(encoding="utf-8").splitlines(), short(us)


def shares_of(stacks: list[str]) -> dict[str, float]:
    """Sort stacks (frames from the outside in, divided by semicolons, then how often) by parts; per cent."""
    counts: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        if "concurrent/futures" not in frames:  # the thread that syncs, and waits to be asked to
            counts[_part_of(frames.split(";"))] += int(count)
    del counts[WAITS]
    whole = sum(counts.values())
    return {part: short(100.0 * count / whole) for part, count in counts.most_common()} if whole else {}


def _part_of(frames: list[str]) -> str:
    if "ZmqTransport.wait" in frames[-1]:
        return WAITS
    for frame in reversed(frames):
        for part, files in PARTS.items():
            if any(file in frame for file in files):
                return part
    return REST


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
