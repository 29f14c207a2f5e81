"""The short way into the table is the long way: the same table, and the same made current, whatever comes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tagwerk.actors.cvt.logic.familiar import Familiar
from tagwerk.actors.cvt.logic.table import AHEAD_NS, ANYONE, LATE_WINDOW_NS, Table
from tagwerk.protocols.samples import Samples, ValueType, make
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import TagDef

KINDS = {1: "float", 2: "float", 3: "float", 5: "int", 6: "bool", 7: "str", 8: "float"}
TAGS = TagRows.of(TagDef(handle, f"t{handle}", kind, 0, deadband=2.0 * (handle == 8)) for handle, kind in KINDS.items())
COLUMNS = ([1], [2], [1, 2, 3], [2, 1], [3, 3, 1], [1, 3], [5], [5, 5], [6], [7], [8], [8, 1], [9], [1, 5])
WRITERS = 4
NOW_NS = 1_000 * AHEAD_NS
STATE = ("floats", "ints", "has_value", "times", "received", "heard", "quality", "owner", "born")

step = st.tuples(
    st.sampled_from(COLUMNS),
    st.integers(1, WRITERS - 1),
    st.integers(1, 2),
    st.lists(st.sampled_from([0, 1, 2, 5, LATE_WINDOW_NS, 3 * LATE_WINDOW_NS, -AHEAD_NS - 2]), min_size=3, max_size=3),
    st.lists(st.sampled_from([1.0, 2.5, 7.0, float("nan"), float("inf")]), min_size=3, max_size=3),
    st.sampled_from([0, 0, 0x80000000]),
    st.sampled_from(["apply", "apply", "apply", "apply", "lose", "disown"]),
)


def batch_of(tags: list[int], at_ns: int, ages: list[int], numbers: list[float], quality: int) -> Samples:
    kind = {"float": ValueType.FLOAT, "int": ValueType.INT, "bool": ValueType.BOOL, "str": ValueType.STR}[
        KINDS.get(tags[0], "float")
    ]
    given: list[Any] = numbers[: len(tags)]
    if kind is not ValueType.FLOAT:
        made = {ValueType.INT: int, ValueType.BOOL: bool, ValueType.STR: str}[kind]
        given = [made(np.nan_to_num(value, posinf=9.0)) for value in given]
    return make(kind, tags, given, np.array([at_ns - age for age in ages[: len(tags)]]), quality)


@settings(max_examples=150)
@given(st.lists(step, max_size=30), st.sampled_from([ANYONE, 1, 2]))
def test_the_short_way_is_the_long_way(steps: list[Any], required: int) -> None:
    plain, quick = Table(TAGS), Table(TAGS)
    plain.required[0] = quick.required[0] = required
    familiar = Familiar(quick)
    dead = np.zeros(WRITERS, np.bool_)
    session_of = dict.fromkeys(range(WRITERS), 0)
    for number, (tags, writer, born, ages, numbers, quality, what) in enumerate(steps):
        now_ns = NOW_NS + number
        session_of[writer] = session = max(session_of[writer], born)
        batch = batch_of(tags, now_ns, ages, numbers, quality)
        if what == "disown":
            plain.disown(writer)
            quick.disown(writer)
            continue
        if what == "lose":
            for table in (plain, quick):
                mine = table.owned_by(writer)
                lost = make(ValueType.QUALITY, table.handles[mine], None, now_ns, 0x80000000)
                table.lose(lost, mine, now_ns)
            continue
        long = plain.apply(batch, writer, session, now_ns, dead)
        rows = familiar.apply(batch, writer, session, now_ns, now_ns)
        if rows is not None:
            assert long.untouched
            assert [one.tolist() for one in long.rows] == [rows.tolist()]
        else:
            done = quick.apply(batch, writer, session, now_ns, dead)
            familiar.learn(batch, writer, session, done)
            assert done.refused == long.refused
            assert len(done.current) == len(long.current)
        for name in STATE:
            assert np.array_equal(getattr(plain, name), getattr(quick, name), equal_nan=name == "floats"), name
        assert plain.strings == quick.strings


def test_what_comes_again_goes_the_short_way() -> None:
    table = Table(TAGS)
    familiar = Familiar(table)
    dead = np.zeros(WRITERS, np.bool_)
    taken = []
    for number in range(4):
        for tags in ([1, 2, 3], [2], [5, 5]):
            batch = batch_of(tags, NOW_NS + number, [0, 0, 0], [1.0, 2.0, 3.0], 0)
            rows = familiar.apply(batch, 1, 1, NOW_NS, NOW_NS)
            taken.append(rows is not None)
            if rows is None:
                familiar.learn(batch, 1, 1, table.apply(batch, 1, 1, NOW_NS, dead))
    assert taken[0] is False
    assert all(taken[6:]), "what another column's first sample changed is learnt once more"
