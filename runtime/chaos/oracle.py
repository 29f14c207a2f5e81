"""What must be in history, and which alarms must have come and gone: from what the writers wrote down. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tagwerk.protocols.alarms import Occurrence
    from tagwerk.protocols.samples import Samples

EVIDENCE_LIMIT: Final = 20
"""Numbers that are named of each thing that is wrong."""
RAISED: Final = "raised"
CLEARED: Final = "cleared"


@dataclass(frozen=True, slots=True)
class Found:
    """What history has of one tag, compared with what was written.

    Args:
        rows: Samples with a value.
        lost: Acknowledged, and not there.
        duplicated: There more than once: so many too many.
        strange: Nobody wrote them: another number, value, time or quality.
        evidence: The first of each, in words.
    """

    rows: int
    lost: int
    duplicated: int
    strange: int
    evidence: tuple[str, ...] = ()


class Transition(NamedTuple):
    """One alarm came or went. `at_ns`: source time of the sample that did it, UTC, ns since 1970."""

    alarm: str
    what: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class AlarmFindings:
    """Transitions that the samples imply, compared with those that are recorded."""

    expected: int
    recorded: int
    missed: tuple[Transition, ...]
    unfounded: tuple[Transition, ...] = field(default=())
    """Recorded though no sample implies them, or recorded once more."""


def valued(batch: Samples) -> Samples:
    """Leave out the rows in which only the quality changed: a writer was lost, or said goodbye."""
    if batch.kind is ValueType.QUALITY:
        return batch.select(np.zeros(len(batch), np.bool_))
    return batch.select(~np.isnan(batch.values))


def compare_tag(
    name: str,
    numbers: NDArray[np.int64],
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    acked: NDArray[np.bool_],
    history: Samples,
) -> Found:
    """Compare the history of one tag with what was attempted on it.

    What was attempted and not acknowledged may be there or not, but not twice.

    Args:
        name: The tag, for the evidence.
        numbers: What was attempted, int64 (n,), rising.
        times: Its times, int64 (n,), ns.
        values: Its values, float64 (n,).
        acked: What of it was acknowledged, bool (n,).
        history: All of the tag's history, without the rows in which only the quality changed.
    """
    found = np.abs(history.values).astype(np.int64)
    places = np.minimum(np.searchsorted(numbers, found), max(0, len(numbers) - 1))
    if len(numbers):
        right = (
            (numbers[places] == found)
            & (times[places] == history.times)
            & (values[places] == history.values)
            & (history.quality == 0)
        )
    else:
        right = np.zeros(len(found), np.bool_)
    copies = np.bincount(places[right], minlength=len(numbers))[: len(numbers)]
    missing, twice = numbers[acked & (copies == 0)], numbers[copies > 1]
    evidence = [
        *(f"{name}: number {number} is lost" for number in missing[:EVIDENCE_LIMIT].tolist()),
        *(f"{name}: number {number} is there more than once" for number in twice[:EVIDENCE_LIMIT].tolist()),
        *(
            f"{name}: nobody wrote {value} at {time} with quality {quality:#x}"
            for value, time, quality in zip(
                history.values[~right][:EVIDENCE_LIMIT].tolist(),
                history.times[~right][:EVIDENCE_LIMIT].tolist(),
                history.quality[~right][:EVIDENCE_LIMIT].tolist(),
                strict=True,
            )
        ),
    ]
    return Found(len(found), len(missing), int((copies[copies > 1] - 1).sum()), int((~right).sum()), tuple(evidence))


def transitions_of(alarm: str, history: Samples) -> list[Transition]:
    """Give what a HI alarm without delays and with the limit 0 must have done.

    Args:
        alarm: Its name.
        history: The tag's history in order, without the rows in which only the quality changed: those turn no alarm.
    """
    beyond = history.values > 0
    before = np.concatenate(([False], beyond[:-1]))
    turns = np.flatnonzero(beyond != before)
    return [
        Transition(alarm, RAISED if up else CLEARED, at_ns)
        for up, at_ns in zip(beyond[turns].tolist(), history.times[turns].tolist(), strict=True)
    ]


def transitions_in(occurrences: Iterable[Occurrence]) -> list[Transition]:
    """Give what is recorded of alarms."""
    found: list[Transition] = []
    for one in occurrences:
        found.append(Transition(one.name, RAISED, one.raised_ns))
        if one.cleared_ns is not None:
            found.append(Transition(one.name, CLEARED, one.cleared_ns))
    return found


def outside(transitions: Iterable[Transition], stretches: Iterable[tuple[int, int]]) -> list[Transition]:
    """Leave out the transitions in some stretches of time, (first, last) in ns.

    While a shard is live only, its alarms follow values that are in no journal: history cannot tell what they must do.
    """
    spans = list(stretches)
    return [one for one in transitions if not any(first <= one.at_ns <= last for first, last in spans)]


def to_first_stored(stretches: Iterable[tuple[int, int]], times: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Let stretches end with the first sample of a tag that is in history after them.

    Its alarm may come or go by it, from a state that only values have made that are in no journal.

    Args:
        stretches: (first, last), ns.
        times: Of the tag's history, int64 (n,), rising.
    """
    ends = [(first, last, int(np.searchsorted(times, last, side="right"))) for first, last in stretches]
    return [(first, int(times[place]) if place < len(times) else last) for first, last, place in ends]


def compare_alarms(expected: Sequence[Transition], recorded: Sequence[Transition]) -> AlarmFindings:
    """Compare what must be recorded with what is."""
    due, there = Counter(expected), Counter(recorded)
    missed = sorted((due - there).elements())
    return AlarmFindings(len(expected), len(recorded), tuple(missed), tuple(sorted((there - due).elements())))


Row = tuple[float | None, int, int]
"""Value, time in ns, quality."""


def differing(shard: Mapping[str, Row], watcher: Mapping[str, Row]) -> list[str]:
    """Give the tags of which a watcher has something else than their shard, in words.

    Args:
        shard: What the shards say of each tag that is watched.
        watcher: What a watcher has.
    """
    return [
        f"{tag}: the shard has {row}, the watcher {watcher.get(tag)}"
        for tag, row in shard.items()
        if watcher.get(tag) != row
    ]
