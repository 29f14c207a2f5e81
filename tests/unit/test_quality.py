"""Quality codes: their class, their names, as columns and one by one."""

from __future__ import annotations

import numpy as np
import pytest

from tagwerk.protocols import quality as q


@pytest.mark.parametrize(
    ("code", "good", "bad", "name"),
    [
        (q.GOOD, True, False, "Good"),
        (q.GOOD_LOCAL_OVERRIDE, True, False, "GoodLocalOverride"),
        (0x0000_0400, True, False, "Good"),
        (q.UNCERTAIN, False, False, "Uncertain"),
        (q.UNCERTAIN_NO_COMMUNICATION, False, False, "UncertainNoCommunicationLastUsableValue"),
        (q.BAD, False, True, "Bad"),
        (q.BAD_NO_COMMUNICATION | 0x0400, False, True, "BadNoCommunication"),
        (q.BAD_WAITING_FOR_INITIAL_DATA, False, True, "BadWaitingForInitialData"),
        (0x8077_0000, False, True, "Bad(0x80770000)"),
        (0x0077_0000, True, False, "Good(0x00770000)"),
        (0x4077_0000, False, False, "Uncertain(0x40770000)"),
        (0xC000_0000, False, True, "Bad(0xC0000000)"),
        (0xFFFF_FFFF, False, True, "Bad(0xFFFFFFFF)"),
    ],
)
def test_class_and_name(code: int, good: bool, bad: bool, name: str) -> None:
    assert (q.is_good(code), q.is_bad(code), q.name_of(code)) == (good, bad, name)
    column = np.array([code], "<u4")
    assert q.good_mask(column).tolist() == [good]
    assert q.bad_mask(column).tolist() == [bad]


def test_every_listed_name_says_its_class() -> None:
    for code, name in q.NAMES.items():
        assert name.startswith(("Good", "Uncertain", "Bad")[code >> 30])
    assert len(set(q.NAMES.values())) == len(q.NAMES)


def test_a_column_of_good() -> None:
    assert q.all_good(3).tolist() == [0, 0, 0]
    assert q.all_good(0).dtype == np.uint32
