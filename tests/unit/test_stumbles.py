"""A record that kills its consumer twice is condemned, and no other one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagwerk.protocols.tags import PositionMark
from tagwerk.runtime.journal_segments import HEAD, MIN_BODY_BYTES
from tagwerk.runtime.stumbles import KILLED_LIMIT, PIECE_BYTES, Stumbles

JOURNAL = (1 << 64) - 1
BEFORE = PositionMark(JOURNAL, 3, 9)
USUAL = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stumbles"


def test_an_exception_over_one_record_twice_condemns_it(path: Path) -> None:
    for condemned in (False, False, True):
        life = Stumbles(path)
        assert life.condemns(JOURNAL, 10) is condemned
        assert not life.condemns(JOURNAL, 11)
        assert not life.condemns(7, 10)
        life.begin(JOURNAL, 10, 10)
        life.failed()


def test_after_a_page_its_records_come_one_by_one_and_the_second_death_counts(path: Path) -> None:
    first = Stumbles(path)
    assert first.page_bytes(BEFORE, USUAL) == USUAL
    first.begin(JOURNAL, 10, 30)
    first.failed()
    second = Stumbles(path)
    for n in range(10, 17):
        assert second.page_bytes(PositionMark(JOURNAL, 3, n - 1), USUAL) == 1
        second.begin(JOURNAL, n, n)
        second.end()
    second.begin(JOURNAL, 17, 17)
    second.failed()
    third = Stumbles(path)
    assert third.condemns(JOURNAL, 17)
    assert third.page_bytes(BEFORE, USUAL) == 1
    assert third.page_bytes(PositionMark(JOURNAL, 3, 17), USUAL) == USUAL
    third.end()
    assert Stumbles(path).page_bytes(BEFORE, USUAL) == USUAL


def test_after_a_large_page_small_ones_come_and_single_records_only_where_one_of_them_killed(path: Path) -> None:
    Stumbles(path).begin(JOURNAL, 10, 4_000)
    second = Stumbles(path)
    for first_n in (10, 110):
        assert second.page_bytes(PositionMark(JOURNAL, 3, first_n - 1), USUAL) == PIECE_BYTES
        second.begin(JOURNAL, first_n, first_n + 99)
        second.end()
    second.begin(JOURNAL, 210, 309)
    third = Stumbles(path)
    assert third.page_bytes(PositionMark(JOURNAL, 3, 209), USUAL) == 1
    for n in range(210, 310):
        third.begin(JOURNAL, n, n)
        third.end()
    assert third.page_bytes(PositionMark(JOURNAL, 3, 309), USUAL) == USUAL
    assert not third.condemns(JOURNAL, 309)


def test_a_page_and_a_part_of_it_that_raise_condemn_no_record_over_which_a_kill_comes(path: Path) -> None:
    for first_n, last_n in ((10, 4_000), (10, 109), (10, 10)):
        life = Stumbles(path)
        assert not life.condemns(JOURNAL, 10)
        life.begin(JOURNAL, first_n, last_n)
        if last_n > first_n:
            life.failed()  # the third one is killed
    assert not Stumbles(path).condemns(JOURNAL, 10)


def test_of_a_page_and_a_part_and_a_record_that_raise_the_record_is_condemned(path: Path) -> None:
    for first_n, last_n in ((10, 4_000), (10, 109), (50, 50)):
        life = Stumbles(path)
        life.begin(JOURNAL, first_n, last_n)
        life.failed()
    assert Stumbles(path).condemns(JOURNAL, 50)


def test_a_small_page_of_the_smallest_records_is_followed_by_single_ones(path: Path) -> None:
    least_bytes = HEAD.size + MIN_BODY_BYTES
    Stumbles(path).begin(JOURNAL, 1, PIECE_BYTES // least_bytes)
    assert Stumbles(path).page_bytes(None, USUAL) == 1


def test_what_came_through_counts_no_more(path: Path) -> None:
    first = Stumbles(path)
    first.begin(JOURNAL, 10, 10)
    first.failed()
    second = Stumbles(path)
    second.begin(JOURNAL, 10, 10)
    second.end()
    assert second.page_bytes(BEFORE, USUAL) == USUAL
    third = Stumbles(path)
    third.begin(JOURNAL, 10, 10)
    third.failed()
    assert not Stumbles(path).condemns(JOURNAL, 10)


def test_a_kill_makes_careful_and_condemns_only_what_dies_again_and_again(path: Path) -> None:
    killed = Stumbles(path)
    killed.begin(JOURNAL, 10, 30)
    for life in range(KILLED_LIMIT):
        again = Stumbles(path)
        assert again.page_bytes(BEFORE, USUAL) == 1
        assert not again.condemns(JOURNAL, 10), life
        again.begin(JOURNAL, 10, 10)
    assert Stumbles(path).condemns(JOURNAL, 10)


def test_a_journal_that_is_gone_is_no_trouble_for_long(path: Path) -> None:
    first = Stumbles(path)
    first.begin(JOURNAL, 10, 30)
    second = Stumbles(path)
    assert second.page_bytes(None, USUAL) == 1
    second.begin(7, 1, 1)
    second.end()
    assert second.page_bytes(PositionMark(7, 4, 1), USUAL) == USUAL


def test_damage_is_no_trouble(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)
    assert Stumbles(path).page_bytes(None, USUAL) == USUAL
    path.write_bytes(b"\xff")
    assert Stumbles(path).page_bytes(None, USUAL) == USUAL
