"""What history leaves out, against what the rules promise, and against a plain loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagwerk.actors.historian.logic.arrived import Arrived, concatenate
from tagwerk.actors.historian.logic.thinning import KNOWN, STATE, Rule, Thinner
from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import ValueType

LIMITS = (2.0, 5.0)


@dataclass(frozen=True)
class One:
    """A sample of a tag; no value: a change of quality."""

    tag: int
    time: int
    value: float | None
    quality: int = q.GOOD

    @property
    def usable(self) -> bool:
        return self.value is not None and math.isfinite(self.value) and self.quality < q.BAD


def arrived(samples: list[One]) -> Arrived:
    values = np.array([0.0 if one.value is None else one.value for one in samples], np.float64)
    return Arrived(
        np.array([one.tag for one in samples], np.uint32),
        np.array([one.time for one in samples], np.int64),
        values.view(np.int64),
        np.array([one.quality for one in samples], np.uint32),
        np.array([ValueType.QUALITY if one.value is None else ValueType.FLOAT for one in samples], np.uint8),
        [],
    )


def listed(samples: Arrived) -> list[One]:
    columns = (samples.tags, samples.times, samples.bits.view(np.float64), samples.quality, samples.kinds)
    return [
        One(tag, time, value if kind == ValueType.FLOAT else None, quality)
        for tag, time, value, quality, kind in zip(*(column.tolist() for column in columns), strict=True)
    ]


def thinned(samples: list[One], rules: list[Rule], cuts: list[int], *, restart: bool) -> tuple[list[One], list[One]]:
    """What is kept, and what is held back in the end; in pages, over restarts."""
    thinner = Thinner(rules)
    kept: list[One] = []
    edges = sorted({0, len(samples), *(min(cut, len(samples)) for cut in cuts)})
    for start, end in pairwise(edges):
        found = thinner.thin(arrived(samples[start:end]), np.zeros(end - start, np.bool_))
        again = thinner.thin(arrived(samples[start:end]), np.zeros(end - start, np.bool_))
        assert again.states.tobytes() == found.states.tobytes()  # nothing counts before it is committed
        kept += listed(found.kept)
        thinner.settle(found)
        if restart:
            thinner = Thinner(rules, np.frombuffer(thinner.states[thinner.states["flags"] != 0].tobytes(), STATE))
            assert not len(thinner.abandoned)
    return kept, listed(concatenate([thinner.newest(rule.handle) for rule in rules]))


@st.composite
def courses(draw: st.DrawFn) -> list[One]:
    """Samples of two tags whose times do not step back."""
    values = st.one_of(
        st.integers(0, 8).map(float),
        st.floats(0, 8),
        st.floats(-1e6, 1e6),
        st.just(None),
        st.sampled_from([math.inf, -math.inf, 1e300, 5e-324]),
    )
    codes = st.sampled_from([q.GOOD] * 6 + [q.UNCERTAIN, q.BAD])
    steps = draw(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 30), values, codes), max_size=40))
    time = 1_000
    found: list[One] = []
    for tag, step, value, code in steps:
        time += step
        found.append(One(tag, time, value, max(code, q.BAD) if value is None else code))
    return found


CUTS = st.lists(st.integers(0, 60), max_size=5)
INTERVALS = st.sampled_from([0, 0, 1, 40, 100])


def of_tag(samples: list[One], tag: int) -> list[One]:
    return [one for one in samples if one.tag == tag]


def check_always_kept(came: list[One], kept: list[One], held: list[One]) -> None:
    """What every rule keeps; also: nothing is made up, doubled or put into another order."""
    left = iter(came)
    assert all(any(one == other for other in left) for one in [*kept, *held])
    assert came[:1] == [*kept, *held][:1]
    if came:
        assert [*kept, *held][-1] == came[-1]
    for before, one in pairwise(came):
        changed = one.quality != before.quality or not one.usable or not before.usable
        if changed:
            assert kept.count(one) == came.count(one)
            assert kept.count(before) == came.count(before)
        elif any((one.value > limit) != (before.value > limit) for limit in LIMITS):  # type: ignore[operator]
            assert one in kept


def once(samples: list[One]) -> list[One]:
    """Without those that equal the one before in all, its time included: a deadband leaves them out."""
    return [one for before, one in pairwise([None, *samples]) if one is not None and one != before]


def check_interval(came: list[One], kept: list[One], held: list[One], interval: int) -> None:
    """So far apart are two kept samples only if none came between."""
    for first, second in pairwise([*kept, *held]):
        if interval and second.time - first.time > interval:
            start, end = came.index(first), came.index(second, came.index(first))
            between = [one for one in came[start:end] if first.time < one.time < second.time]
            assert not between


def check_line(came: list[One], stored: list[One], deviation: float) -> None:
    """Each sample lies within the deviation of the line between the stored ones around it."""
    left = list(stored)
    before: One | None = None
    for one in came:
        if left and one == left[0]:
            before = left.pop(0)
            continue
        after = left[0]
        assert before is not None
        assert before.value is not None
        assert after.value is not None
        assert one.value is not None
        assert before.time < one.time < after.time
        slope = (after.value - before.value) / (after.time - before.time)
        line = before.value + slope * (one.time - before.time)
        largest = max(abs(before.value), abs(after.value), abs(one.value))
        assert abs(one.value - line) <= deviation + 1e-12 * largest


@given(courses(), CUTS, st.booleans(), INTERVALS, st.sampled_from([1e-9, 0.5, 2.0, 1e5]))
def test_what_the_door_leaves_out_lies_within_the_deviation_of_the_line(
    came: list[One], cuts: list[int], restart: bool, interval: int, deviation: float
) -> None:
    rules = [Rule(tag, None, deviation, interval, LIMITS, 1) for tag in (1, 2)]
    kept, held = thinned(came, rules, cuts, restart=restart)
    for tag in (1, 2):
        of = of_tag(came, tag), of_tag(kept, tag), of_tag(held, tag)
        check_always_kept(*of)
        check_interval(*of, interval)
        check_line(of[0], of[1] + of[2], deviation)


@given(courses(), CUTS, st.booleans(), INTERVALS, st.sampled_from([1e-9, 0.5, 2.0, 1e5]), st.floats(0, 0.5))
def test_with_a_deadband_before_the_door_the_bound_is_the_same(
    came: list[One], cuts: list[int], restart: bool, interval: int, deviation: float, share: float
) -> None:
    rules = [Rule(tag, deviation * share, deviation, interval, LIMITS, 1) for tag in (1, 2)]
    kept, held = thinned(came, rules, cuts, restart=restart)
    for tag in (1, 2):
        of = once(of_tag(came, tag)), once(of_tag(kept, tag)), once(of_tag(held, tag))
        check_always_kept(*of)
        check_interval(*of, interval)
        check_line(of[0], of[1] + of[2], deviation)


@given(courses(), CUTS, st.booleans(), INTERVALS, st.sampled_from([0.0, 0.5, 2.0]))
def test_the_deadband_keeps_what_a_loop_keeps(
    came: list[One], cuts: list[int], restart: bool, interval: int, band: float
) -> None:
    rules = [Rule(tag, band, None, interval, LIMITS, 1) for tag in (1, 2)]
    kept, held = thinned(came, rules, cuts, restart=restart)
    for tag in (1, 2):
        of = of_tag(came, tag), of_tag(kept, tag), of_tag(held, tag)
        check_always_kept(*of)
        check_interval(*of, interval)
        assert of[1] == by_loop(of[0], band, interval)


def by_loop(came: list[One], band: float, interval: int) -> list[One]:
    kept: list[One] = []
    rows: list[int] = []
    for row, one in enumerate(came):
        before = came[row - 1] if row else None
        new = before is None or one.quality != before.quality or not one.usable or not before.usable
        if not new and before is not None:
            last = kept[-1]
            assert one.value is not None
            assert before.value is not None
            assert last.value is not None
            if interval and one.time - last.time > interval and rows[-1] < row - 1:
                kept.append(before)
                rows.append(row - 1)
                last = before
            assert last.value is not None
            sides = [(one.value > x, one.value >= x) != (before.value > x, before.value >= x) for x in LIMITS]
            differs = abs(one.value - last.value) >= max(band, 5e-324)
            if not (differs or any(sides) or (interval and one.time - last.time >= interval)):
                continue
        elif before is not None and rows[-1] < row - 1:  # the last one before a change
            kept.append(before)
            rows.append(row - 1)
        kept.append(one)
        rows.append(row)
    return kept


@given(courses(), st.lists(st.booleans(), min_size=60, max_size=60), CUTS, st.sampled_from([None, 0.5]))
def test_what_comes_late_or_steps_back_is_kept_and_changes_nothing_else(
    came: list[One], late: list[bool], cuts: list[int], band: float | None
) -> None:
    rules = [Rule(tag, band, 2.0, 0, (), 1) for tag in (1, 2)]
    plain = thinned(came, rules, cuts, restart=False)
    # Between any two samples of a tag, one of the same quality from before them.
    mixed: list[One] = []
    last: dict[int, One] = {}
    for one, often in zip(came, late, strict=False):
        if often and one.tag in last and last[one.tag].usable:
            mixed.append(One(one.tag, 1, 7.0, last[one.tag].quality))
        mixed.append(one)
        last[one.tag] = one
    kept, held = thinned(mixed, rules, [], restart=False)
    assert [one for one in kept if one.time != 1] == thinned(came, rules, [], restart=False)[0]
    assert kept.count(One(1, 1, 7.0)) == mixed.count(One(1, 1, 7.0))
    assert held == plain[1]


@pytest.mark.parametrize("kinds", [[ValueType.INT], [ValueType.FLOAT, ValueType.INT]])
def test_whole_numbers_are_thinned_as_numbers(kinds: list[ValueType]) -> None:
    values = [10, 10, 11, 12, 12, 12]
    bits = [
        np.array([value], np.float64).view(np.int64)[0] if kinds[row % len(kinds)] is ValueType.FLOAT else value
        for row, value in enumerate(values)
    ]
    samples = Arrived(
        np.ones(6, np.uint32), np.arange(6), np.array(bits, np.int64), np.zeros(6, np.uint32),
        np.array([kinds[row % len(kinds)] for row in range(6)], np.uint8), [],
    )  # fmt: skip
    found = Thinner([Rule(1, 2.0, None, 0, (), 1)]).thin(samples, np.zeros(6, np.bool_))
    assert found.kept.times.tolist() == [0, 3]


def test_what_is_held_back_by_a_rule_that_is_another_now_is_given_back() -> None:
    thinner = Thinner([Rule(1, None, 1.0, 0, (), 1), Rule(2, None, 1.0, 0, (), 1)])
    found = thinner.thin(
        arrived([One(1, 1, 1.0), One(1, 2, 1.5), One(2, 1, 7.0), One(2, 2, 7.0)]), np.zeros(4, np.bool_)
    )
    thinner.settle(found)
    assert [(one.tag, one.time) for one in listed(found.kept)] == [(1, 1), (2, 1)]
    after = Thinner([Rule(1, None, 1.0, 0, (), 1), Rule(2, 0.5, None, 0, (), 2)], thinner.states)
    assert listed(after.newest(1)) == [One(1, 2, 1.5)]
    assert listed(after.newest(2)) == [One(2, 2, 7.0)]
    found = after.thin(arrived([One(2, 3, 7.1)]), np.zeros(1, np.bool_))
    assert [(one.tag, one.time) for one in listed(found.kept)] == [(2, 2), (2, 3)]
    assert found.states["flags"].tolist() == [0, KNOWN]
    after.settle(found)
    assert not listed(after.newest(2))
    assert not listed(after.newest(99))
    assert not listed(after.thin(arrived([One(1, 3, 2.0)]), np.zeros(1, np.bool_)).kept)
