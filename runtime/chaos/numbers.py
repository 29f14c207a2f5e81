"""What the writers write: each sample has a number, and from the number follows all of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols.errors import NotJournaled

if TYPE_CHECKING:
    from numpy.typing import NDArray

APART_NS: Final = 10_000_000_000
"""Batches that were not stored are of two stretches if they are further apart."""
STEP_NS: Final = 1_000
"""Time between two samples of a batch."""
SLOT_NS: Final = 500_000_000
"""A tag with an alarm stays at one side of its limit for at least so long."""
BATCHES_PER_S: Final = 40.0
SINGLE_PART: Final = 0.01
SINGLE_LIMIT: Final = 200.0
"""Samples per second of a writer that publishes each sample alone: this part of the rate, at most so many."""

ATTEMPT: Final = b"A"
ACKNOWLEDGED: Final = b"K"
FAILED: Final = b"F"


@dataclass(frozen=True, slots=True)
class WriterSpec:
    """One writer. Its tags are its own.

    Args:
        name: Of the process, and part of its tags' names.
        named: It publishes under its name, so that shards remember its numbers.
        tags: How many tags it has.
        alarms: On so many of them, the first ones, there is an alarm.
        batch: Samples in a batch.
        rate: Samples per second.
    """

    name: str
    named: bool
    tags: int
    alarms: int
    batch: int
    rate: float

    @property
    def tag_names(self) -> tuple[str, ...]:
        """Its tags, in the order of their place."""
        return tuple(f"chaos.{self.name}.t{place:02d}" for place in range(self.tags))

    @property
    def alarm_names(self) -> tuple[str, ...]:
        """Its alarms, in the order of their tags' places."""
        return tuple(f"chaos.{self.name}.a{place:02d}" for place in range(self.alarms))


FILLER: Final = WriterSpec("f", True, 16, 0, 1_000, 1.0)
"""Writes without a rate until the journals are full, once in a run."""


def writers_for(rate: float) -> tuple[WriterSpec, ...]:
    """Give the writers that together write `rate` samples per second."""
    single = max(1.0, min(SINGLE_LIMIT, rate * SINGLE_PART))
    each = (rate - 2 * single) / 3
    batch = max(1, round(each / BATCHES_PER_S))
    return (
        WriterSpec("a", True, 16, 3, batch, each),
        WriterSpec("b", True, 16, 3, batch, each),
        WriterSpec("c", False, 16, 3, batch, each),
        WriterSpec("d", True, 4, 2, 1, single),
        WriterSpec("e", False, 4, 2, 1, single),
    )


def values_of(spec: WriterSpec, seed: int, numbers: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the values of samples: the number, and below zero while a tag with an alarm is within its limit.

    Args:
        spec: The writer.
        seed: Of the run.
        numbers: int64 (n,), from 1.
        times: int64 (n,), UTC, ns since 1970.
    """
    places = numbers % spec.tags
    within = (places < spec.alarms) & (_bits(seed, places, times // SLOT_NS) == 0)
    return np.where(within, -numbers, numbers).astype(np.float64)


def _bits(seed: int, places: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One bit by chance for each place and slot: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    mask = (1 << 64) - 1
    word = slots.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    word += places.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + np.uint64(seed * 0x2545F4914F6CDD1D & mask)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (word ^ (word >> np.uint64(31))) & np.uint64(1)


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """What a writer wrote down: its batches, before each was published, and which of them were acknowledged.

    Args:
        firsts: First number of each batch, int64 (n,), rising.
        counts: Samples in it, int64 (n,).
        bases: Time of its first sample, int64 (n,), UTC, ns since 1970.
        acked: bool (n,).
        failures: What was said of batches that were not taken: reason -> how many.
        unstored: int64 (n,), first numbers of the batches that were current and in no journal.
    """

    firsts: NDArray[np.int64]
    counts: NDArray[np.int64]
    bases: NDArray[np.int64]
    acked: NDArray[np.bool_]
    failures: dict[str, int]
    unstored: NDArray[np.int64]

    @property
    def live_only(self) -> list[tuple[int, int]]:
        """Stretches of time, (first, last) in ns, in which a journal took nothing of this writer."""
        batches = np.flatnonzero(np.isin(self.firsts, self.unstored))
        groups = np.split(batches, np.flatnonzero(np.diff(self.bases[batches]) > APART_NS) + 1)
        return [
            (int(self.bases[group[0]]), int(self.bases[group[-1]] + self.counts[group[-1]] * STEP_NS))
            for group in groups
            if len(group)
        ]

    @property
    def next_number(self) -> int:
        """The first number that was never given."""
        return int(self.firsts[-1] + self.counts[-1]) if len(self.firsts) else 1

    @property
    def last_ns(self) -> int:
        """The time of the newest sample, 0 if there is none."""
        return int(self.bases[-1] + self.counts[-1] * STEP_NS) if len(self.firsts) else 0

    @property
    def acknowledged(self) -> int:
        """Samples of acknowledged batches."""
        return int(self.counts[self.acked].sum())

    def of_tag(self, spec: WriterSpec, place: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Give numbers, times and "was acknowledged" of all that was attempted on one tag, in order.

        Args:
            spec: The writer.
            place: Which of its tags.
        """
        offsets = (place - self.firsts) % spec.tags
        counts = np.maximum(0, (self.counts - offsets + spec.tags - 1) // spec.tags)
        batch = np.repeat(np.arange(len(counts)), counts)
        nth = np.arange(len(batch)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers = (self.firsts + offsets)[batch] + nth * spec.tags
        return numbers, self.bases[batch] + (numbers - self.firsts[batch]) * STEP_NS, self.acked[batch]


def read_ledger(text: bytes) -> Ledger:
    """Read what a writer wrote down. A last line that is not whole was never acted on: it does not count."""
    attempts: list[tuple[int, int, int]] = []
    acknowledged: set[int] = set()
    failures: dict[str, int] = {}
    unstored: list[int] = []
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        kind, first, *rest = line.split(b" ", 3)
        if kind == ATTEMPT:
            attempts.append((int(first), int(rest[0]), int(rest[1])))
        elif kind == ACKNOWLEDGED:
            acknowledged.add(int(first))
        else:
            reason = b" ".join(rest).decode(errors="replace")
            failures[reason] = failures.get(reason, 0) + 1
            if reason.startswith(NotJournaled.__name__):
                unstored.append(int(first))
    columns: Any = np.array(attempts, np.int64).reshape(-1, 3)
    acked = np.array([first in acknowledged for first, _, _ in attempts], np.bool_)
    return Ledger(columns[:, 0], columns[:, 1], columns[:, 2], acked, failures, np.array(unstored, np.int64))
