"""What history leaves out of a tag's samples, by the rule in its definition (`TagDef.log_rule`).

Two stages, each in the order in which samples come:

1. Deadband: a sample is passed if it differs from the last passed one by the deadband or more.
2. Swinging door, of what passed: samples are left out as long as one line leads from the last kept sample to the newest
   one, and passes within the deviation of each between. (E. H. Bristol, "Swinging door trending", ISA 1990; here the
   line must lead to a sample that was measured, so the deviation is a bound and not half of one.)

With both, the sample before a passed one is passed as well, and the door keeps two deadbands less: so the bound that
`compression_dev` states holds for all samples. Whatever the rule, these are kept: a change of quality and the sample
before it; samples without a number, or with Bad quality; a sample on the other side of an alarm limit than the one
before it; what comes late. The newest sample that is not kept is held back: it is what a reader gets as the newest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from tagwerk.actors.historian.logic.arrived import Arrived
from tagwerk.actors.historian.logic.band import passed_by_band
from tagwerk.actors.historian.logic.door import Door
from tagwerk.protocols.quality import BAD
from tagwerk.protocols.samples import ValueType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

KNOWN: Final = 1
"""In `flags`: a sample of the tag was seen."""
HELD: Final = 2
"""The reference is not kept: the door holds it back."""
WAITING: Final = 4
"""A sample came after the reference, which the deadband holds back."""

STATE: Final = np.dtype(
    [
        ("tag", "<u4"), ("rule", "<u4"), ("flags", "u1"), ("kind", "u1"), ("wait_kind", "u1"), ("quality", "<u4"),
        ("time", "<i8"), ("bits", "<i8"), ("wait_time", "<i8"), ("wait_bits", "<i8"),
        ("anchor_time", "<i8"), ("anchor", "<f8"), ("low", "<f8"), ("high", "<f8"),
    ]
)  # fmt: skip
"""What is known of a tag: the reference (the last sample that stage 1 passed), what waits behind it, and the door: its
last kept sample, and the slopes between which a line from there must lie, units a nanosecond."""

DOOR: Final = ("anchor_time", "anchor", "low", "high")
_NEW: Final = -1
_REFERENCE: Final = 0
_WAIT: Final = 1
_EXACT: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of one tag.

    Args:
        handle: The tag.
        deadband: In its unit, at least 0; None: stage 1 passes all.
        deviation: In its unit, more than 0; None: there is no stage 2.
        interval_ns: Longest time between two kept samples, as far as some come; 0: there is none.
        limits: Where its alarms turn, in its unit.
        mark: Tells one rule from another.
    """

    handle: int
    deadband: float | None
    deviation: float | None
    interval_ns: int
    limits: tuple[float, ...]
    mark: int


@dataclass(frozen=True, slots=True, eq=False)
class Thinned:
    """What became of samples.

    Args:
        kept: What goes into the store.
        states: What is known of the tags from then on, `STATE` (n,).
    """

    kept: Arrived
    states: NDArray[Any]


@final
class Thinner:
    """Leaves out samples by rule, for whole columns of many tags at once.

    What was thinned counts when `settle` is called, after it was committed; until then `thin` begins from where it was.

    Args:
        rules: One a tag.
        states: What was known when it was stored last, `STATE` (n,), a tag once.

    Attributes:
        states: What is known of each tag with a rule, `STATE` (n,).
        abandoned: What was held back for tags whose rule is another one now; the next `thin` gives it.
    """

    def __init__(self, rules: Sequence[Rule], states: NDArray[Any] | None = None) -> None:
        handles = np.array([rule.handle for rule in rules], np.int64)
        self._index: NDArray[np.int32] = np.full(int(handles.max(initial=0)) + 2, -1, np.int32)
        self._index[handles] = np.arange(len(rules))
        bands = [np.nan if rule.deadband is None else max(rule.deadband, 5e-324) for rule in rules]
        self._band = np.array(bands, np.float64)  # the least number above 0: only what is equal is within it
        self._deviation = np.array([_tolerance(rule) for rule in rules], np.float64)
        self._interval = np.array([rule.interval_ns for rule in rules], np.int64)
        self._limits = _limits(rules)
        self.states = np.zeros(len(rules), STATE)
        self.states["tag"] = handles
        self.states["rule"] = [rule.mark for rule in rules]
        self.abandoned = np.empty(0, STATE) if states is None else self._load(states)

    def _load(self, states: NDArray[Any]) -> NDArray[Any]:
        place = self._places(states["tag"])
        same = (place >= 0) & (self.states["rule"][place] == states["rule"]) if len(self.states) else place >= 0
        self.states[place[same]] = states[same]
        return states[~same]

    def _places(self, tags: NDArray[np.uint32]) -> NDArray[np.int32]:
        return self._index[np.minimum(tags, len(self._index) - 1)]

    def newest(self, tag: int) -> Arrived:
        """What is held back of a tag, at most two samples; the newest of them is the tag's newest sample."""
        place = int(self._places(np.array([tag], np.uint32))[0])
        left = self.abandoned[self.abandoned["tag"] == tag]
        found = self.states[place : place + 1] if place >= 0 else self.states[:0]
        return _arrived(*_held(np.concatenate([left, found])))

    def settle(self, thinned: Thinned) -> None:
        """What `thin` gave is committed."""
        states = thinned.states
        self.abandoned = self.abandoned[:0]
        place = self._places(states["tag"])
        known = (place >= 0) & ((states["flags"] & KNOWN) != 0)
        self.states[place[known]] = states[known]

    def thin(self, samples: Arrived, late: NDArray[np.bool_]) -> Thinned:
        """Leave out samples.

        Args:
            samples: As they came.
            late: Which of them came late or as backfill, and are kept whatever the rule, bool (n,).
        """
        place = self._places(samples.tags)
        ruled = np.flatnonzero((place >= 0) & ~late)
        found = self._thin(samples, ruled, place[ruled]) if len(ruled) else Thinned(samples, np.empty(0, STATE))
        if not len(self.abandoned):
            return found
        forgotten = np.zeros(len(self.abandoned), STATE)
        forgotten["tag"] = self.abandoned["tag"]
        return Thinned(_before(_arrived(*_held(self.abandoned)), found.kept), np.concatenate([forgotten, found.states]))

    def _thin(self, samples: Arrived, ruled: NDArray[np.intp], place: NDArray[np.int32]) -> Thinned:
        run = self._run(samples, ruled, place)
        kept, states = self._judge(run)
        stays = np.ones(len(samples), np.bool_)
        stays[run.rows[run.origin == _NEW]] = False
        stays[run.rows[kept & (run.origin == _NEW)]] = True
        held = kept & (run.origin != _NEW)
        columns = (run.tags(self.states)[held], run.times[held], run.bits[held], run.quality[held], run.kinds[held])
        rest = samples if stays.all() else samples.take(stays)
        return Thinned(_before(_arrived(*columns), rest), states)

    def _run(self, samples: Arrived, ruled: NDArray[np.intp], place: NDArray[np.int32]) -> _Run:
        """Samples by tag, each tag's behind what was known of it; without those that step back in time."""
        present = np.unique(place)
        states = self.states[present]
        known, waiting = (states["flags"] & KNOWN) != 0, (states["flags"] & WAITING) != 0
        old, wait = states[known], states[waiting]
        parts = len(old), len(wait), len(ruled)
        places = np.concatenate([present[known], present[waiting], place])
        order = places.argsort(kind="stable")

        def column(name: str, wait_name: str, new: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([old[name], wait[wait_name], new])[order]

        run = _Run(
            places[order],
            np.repeat(np.array([_REFERENCE, _WAIT, _NEW], np.int8), parts)[order],
            np.concatenate([np.full(parts[0] + parts[1], -1), ruled])[order],
            column("time", "wait_time", samples.times[ruled]),
            column("bits", "wait_bits", samples.bits[ruled]),
            column("quality", "quality", samples.quality[ruled]),
            column("kind", "wait_kind", samples.kinds[ruled]),
        )
        back = run.steps_back()
        return run if back is None else run.take(~back)

    def _judge(self, run: _Run) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        values, number, first = run.values, run.is_number, run.first
        other = np.zeros(len(values), np.bool_)
        other[1:] = (run.quality[1:] != run.quality[:-1]) | ~number[1:] | ~number[:-1]
        other &= ~first
        must = ~number | other | (first & (run.origin == _NEW))
        must[:-1] |= other[1:]
        must |= self._crosses(run.places, values, number) & ~first
        passed = must | (run.origin == _REFERENCE)
        banded = ~np.isnan(self._band[run.places])
        doored = ~np.isnan(self._deviation[run.places])
        passed |= ~banded
        if banded.any():
            some = np.flatnonzero(banded)
            places = run.places[some]
            passed[some] |= passed_by_band(
                values[some], run.times[some], first[some], must[some], self._band[places], self._interval[places]
            )
            before = np.zeros(len(values), np.bool_)
            before[:-1] = passed[1:] & ~first[1:]
            passed |= before & doored & (run.origin != _REFERENCE)
        kept = passed & (run.origin != _REFERENCE)
        starts = np.flatnonzero(first)
        states = self._behind(run, passed, starts)
        if doored.any():
            self._through_doors(run, passed, must, kept, starts, states)
        return kept, states

    def _crosses(
        self, places: NDArray[np.int32], values: NDArray[np.float64], number: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which samples lie on another side of an alarm limit than the one before, bool (n,)."""
        found = np.zeros(len(values), np.bool_)
        if not self._limits.shape[1]:
            return found
        side = np.zeros(len(values), np.int32)
        for column in self._limits.T:
            limit = column[places]
            side += (values > limit).astype(np.int32) + (values >= limit)
        found[1:] = (side[1:] != side[:-1]) & number[1:] & number[:-1]
        return found

    def _behind(self, run: _Run, passed: NDArray[np.bool_], starts: NDArray[np.intp]) -> NDArray[Any]:
        """What is known of each tag after these samples, its door as it was."""
        ends = np.append(starts[1:], len(passed)) - 1
        reference = np.maximum.accumulate(np.where(passed, np.arange(len(passed)), -1))[ends]
        states = self.states[run.places[starts]]
        waits = reference != ends
        states["flags"] = KNOWN | np.where(waits, WAITING, 0) | (states["flags"] & HELD)
        states["kind"], states["quality"] = run.kinds[reference], run.quality[reference]
        states["time"], states["bits"] = run.times[reference], run.bits[reference]
        states["wait_kind"] = np.where(waits, run.kinds[ends], 0)
        states["wait_time"] = np.where(waits, run.times[ends], 0)
        states["wait_bits"] = np.where(waits, run.bits[ends], 0)
        return states

    def _through_doors(
        self,
        run: _Run,
        passed: NDArray[np.bool_],
        must: NDArray[np.bool_],
        kept: NDArray[np.bool_],
        starts: NDArray[np.intp],
        states: NDArray[Any],
    ) -> None:
        """Stage 2, tag by tag: what it leaves out is taken from `kept`, and the doors in `states` are set."""
        numbers = np.flatnonzero(~np.isnan(self._deviation[run.places[starts]]))
        places = run.places[starts[numbers]]
        rows = np.flatnonzero(passed & ~np.isnan(self._deviation[run.places]))
        edges = np.append(np.searchsorted(rows, starts[numbers]), len(rows)).tolist()
        columns = run.times[rows].tolist(), run.values[rows].tolist(), must[rows].tolist()
        known = (run.origin[starts[numbers]] == _REFERENCE).tolist()
        old = states[numbers]
        fields = (self._deviation[places], self._interval[places], *(old[name] for name in DOOR), old["flags"] & HELD)
        doors = [
            Door(deviation, interval_ns, time, value, low, high, holds=bool(held))
            for deviation, interval_ns, time, value, low, high, held in zip(
                *(field.tolist() for field in fields), strict=True
            )
        ]
        found: list[int] = []
        for number, door in enumerate(doors):
            span = slice(edges[number], edges[number + 1])
            times, values, forced = (column[span] for column in columns)
            found += [span.start + one for one in door.pass_through(times, values, forced, known=known[number])]
        kept[rows] = False
        kept[rows[found]] = True
        holds = np.array([door.holds for door in doors])
        old["flags"] = (old["flags"] & np.uint8(0xFF & ~HELD)) | np.where(holds, HELD, 0).astype(np.uint8)
        for name in DOOR:
            old[name] = [getattr(door, name) for door in doors]
        states[numbers] = old


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Samples of tags with a rule, sorted by tag, in the order in which they came; the known ones before the new.

    Args:
        places: The tag's place among the rules, int32 (n,).
        origin: `_REFERENCE`, `_WAIT` or `_NEW`, int8 (n,).
        rows: Where a new one is among the samples that came, int64 (n,).
        times: int64 (n,), ns since 1970.
        bits: As in `Arrived`, int64 (n,).
        quality: StatusCodes, uint32 (n,).
        kinds: `ValueType` of each, uint8 (n,).
    """

    places: NDArray[np.int32]
    origin: NDArray[np.int8]
    rows: NDArray[np.int64]
    times: NDArray[np.int64]
    bits: NDArray[np.int64]
    quality: NDArray[np.uint32]
    kinds: NDArray[np.uint8]

    def take(self, rows: Any) -> _Run:
        """Some of them."""
        return _Run(
            self.places[rows], self.origin[rows], self.rows[rows], self.times[rows], self.bits[rows],
            self.quality[rows], self.kinds[rows],
        )  # fmt: skip

    def tags(self, states: NDArray[Any]) -> NDArray[np.uint32]:
        """Their handles, uint32 (n,)."""
        found: NDArray[np.uint32] = states["tag"][self.places]
        return found

    @property
    def values(self) -> NDArray[np.float64]:
        """Their values, float64 (n,); NaN where there is none."""
        whole = np.where(self.kinds == ValueType.INT, self.bits.astype(np.float64), np.nan)
        return np.where(self.kinds == ValueType.FLOAT, self.bits.view(np.float64), whole)

    @property
    def is_number(self) -> NDArray[np.bool_]:
        """Which can be left out at all: a finite number that is not Bad, bool (n,).

        Not an integer that a double does not hold to its last digit: the difference to its neighbour would look like 0.
        """
        large = (self.kinds == ValueType.INT) & ((self.bits > _EXACT) | (self.bits < -_EXACT))
        found: NDArray[np.bool_] = np.isfinite(self.values) & (self.quality < BAD) & ~large
        return found

    @property
    def first(self) -> NDArray[np.bool_]:
        """Which are the first of their tag, bool (n,)."""
        first = np.ones(len(self.places), np.bool_)
        first[1:] = self.places[1:] != self.places[:-1]
        return first

    def steps_back(self) -> NDArray[np.bool_] | None:
        """Which are older than one before them of the same quality, bool (n,); None if no time steps back.

        They are kept as they are: no line leads through them. A change of quality begins anew.
        """
        first = self.first
        back = np.zeros(len(first), np.bool_)
        back[1:] = (self.times[1:] < self.times[:-1]) & ~first[1:]
        if not back.any():
            return None
        starts = np.flatnonzero(first)
        ends = np.append(starts[1:], len(first))
        number = self.is_number
        for which in np.unique(np.searchsorted(starts, np.flatnonzero(back), side="right") - 1).tolist():
            span = slice(int(starts[which]), int(ends[which]))
            back[span] = _steps_back(self.times[span], self.quality[span], number[span])
        return back if back.any() else None


def _steps_back(times: NDArray[np.int64], quality: NDArray[np.uint32], number: NDArray[np.bool_]) -> NDArray[np.bool_]:
    same = number[1:] & number[:-1] & (quality[1:] == quality[:-1])
    found = np.zeros(len(times), np.bool_)
    for begin, end in _stretches(same):
        newest = np.maximum.accumulate(times[begin:end])
        found[begin:end] = times[begin:end] < newest
    return found


def _stretches(same: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(same) + 1]
    return [(edges[place], edges[place + 1]) for place in range(len(edges) - 1)]


def _tolerance(rule: Rule) -> float:
    return np.nan if rule.deviation is None else rule.deviation - 2.0 * (rule.deadband or 0.0)


def _limits(rules: Sequence[Rule]) -> NDArray[np.float64]:
    """The limits of each rule, float64 (n, most); NaN, which nothing is above, where a rule has fewer."""
    most = max((len(rule.limits) for rule in rules), default=0)
    return np.array([(*rule.limits, *[np.nan] * (most - len(rule.limits))) for rule in rules]).reshape(len(rules), most)


def _held(states: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The samples that are held back, as columns of `Arrived`: of each tag the reference before what waits."""
    held, waits = states[(states["flags"] & HELD) != 0], states[(states["flags"] & WAITING) != 0]
    names = (("tag", "tag"), ("time", "wait_time"), ("bits", "wait_bits"), ("quality", "quality"))
    both = [np.concatenate([held[name], waits[wait]]) for name, wait in (*names, ("kind", "wait_kind"))]
    return tuple(both)


def _arrived(*columns: NDArray[Any]) -> Arrived:
    tags, times, bits, quality, kinds = columns
    return Arrived(tags, times, bits, quality, kinds, [])


def _before(held: Arrived, samples: Arrived) -> Arrived:
    """What was held back, then what came; the texts are those of what came."""
    if not len(held):
        return samples
    return Arrived(
        np.concatenate([held.tags, samples.tags]),
        np.concatenate([held.times, samples.times]),
        np.concatenate([held.bits, samples.bits]),
        np.concatenate([held.quality, samples.quality]),
        np.concatenate([held.kinds, samples.kinds]),
        samples.texts,
    )
