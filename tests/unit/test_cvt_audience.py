"""Who looks at which rows: never one too few, and none too many."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tagwerk.actors.cvt.logic.audience import LOOSE, Audience
from tagwerk.actors.cvt.logic.views import View

ROWS = 12
MASK = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS)
STEPS = st.lists(st.tuples(st.just("add"), MASK) | st.tuples(st.just("drop"), st.sets(st.integers(0, 9))), max_size=25)


def audience_of(audience: Audience, rows: list[int]) -> set[bytes]:
    found = [view.topic for view in audience.of(np.array(rows, np.intp))]
    assert len(found) == len(set(found))
    return set(found)


@settings(deadline=None, max_examples=60)
@given(STEPS, st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=6), st.sampled_from([0, 1_000]))
def test_those_who_look_at_a_row_are_found(steps: list[tuple[str, Any]], rows: list[int], loose: int) -> None:
    tried = Audience(ROWS, loose)
    views: dict[int, View] = {}
    for number, (what, how) in enumerate(steps):
        if what == "add":
            views[number] = View(b"%d" % number, (), np.array(how), 0)
            tried.add(views[number])
        else:
            gone = [views.pop(place) for place in how if place in views]
            tried.drop(gone, views.values())
        assert audience_of(tried, rows) == {view.topic for view in views.values() if view.mask[rows].any()}


def test_no_class_is_left_of_many_views_that_ended() -> None:
    tried = Audience(5_000)
    kept = View(b"kept", (), np.ones(5_000, bool), 0)
    tried.add(kept)
    for number in range(1_500):
        mask = np.zeros(5_000, bool)
        mask[number] = True
        view = View(b"%d" % number, (), mask, 0)
        tried.add(view)
        tried.drop([view], [kept])
    assert len(tried._members) <= LOOSE + 10
    assert audience_of(tried, [3, 4]) == {b"kept"}
