"""What a measuring process is told to do: as JSON in its command line, because it is another process."""

from __future__ import annotations

from typing import Final

import msgspec

TAG: Final = "bench.t{:06d}"
"""Names of the tags of a bench plant."""
WINDOW: Final = 64
"""Batches that a writer has under way; the floor too."""
SINGLES_WINDOW: Final = 1_000


class Flow(msgspec.Struct, frozen=True):
    """Samples from a writer through a shard to watchers.

    Args:
        batch: Samples a message.
        messages: How many messages.
        rate_hz: Messages a second, to measure how long each is under way; 0: as fast as acknowledgements allow.
        tags: Over how many tags the batches go round.
        window: How many messages may be under way.
        home: The plant's home; "": the floor.
        views: What each watcher watches: names or globs. Each watcher is a process.
        attached: Writer and watchers are scripts, through `attach` and its thread; else each is one loop, as an actor.
        crowd: Views more, held by one process that counts what they get; each is of a glob of its own.
    """

    batch: int
    messages: int
    rate_hz: float = 0.0
    tags: int = 1_000
    window: int = WINDOW
    home: str = ""
    views: tuple[tuple[str, ...], ...] = (("bench.*",),)
    attached: bool = True
    crowd: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """What one watcher has seen.

    Args:
        rate: Samples/s, after a tenth as warm-up.
        p50_ms: From the writer's call to the watcher's hands; 0 if it was not measured.
        p99_ms: The same.
        samples: How many came.
        cpu_s: Processor time that the watcher took.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    samples: int
    cpu_s: float


class Flowed(msgspec.Struct, frozen=True):
    """What came of a flow.

    Args:
        seen: By each watcher.
        elapsed_s: From the first publish to the last acknowledgement.
        writer_cpu_s: Processor time that the writer took.
        shard_cpu_s: Processor time that the shards took.
        crowd_frames: What the crowd's views got: frames, beats among them.
        crowd_samples: The samples in them.
    """

    seen: tuple[Seen, ...]
    elapsed_s: float
    writer_cpu_s: float
    shard_cpu_s: float = 0.0
    crowd_frames: int = 0
    crowd_samples: int = 0


class Asks(msgspec.Struct, frozen=True):
    """Round trips between two processes, one at a time.

    Args:
        count: How many.
        home: The plant's home; "": the floor.
        attached: Through `attach` and its thread, as a script asks; else in one loop, as an actor asks.
    """

    count: int
    home: str = ""
    attached: bool = False


class Kills(msgspec.Struct, frozen=True):
    """`kill -9`, and how long until the successor answers.

    Args:
        count: How often each is killed.
        actors: Whom.
        home: The plant's home; "": the floor.
        tags: Then `cvt/0` is killed, and a watcher has the state of so many tags again; 0: one answer is enough.
    """

    count: int
    actors: tuple[str, ...] = ("cvt/0",)
    home: str = ""
    tags: int = 0


class Delays(msgspec.Struct, frozen=True):
    """One figure each time, in the unit that the task names: us of asks, ms of kills."""

    figures: tuple[float, ...]


Task = Flow | Asks | Kills
"""What there is to do. `work.py` knows who does it."""
