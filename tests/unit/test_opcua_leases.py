"""Output leases: who holds, until when, what is due."""

from __future__ import annotations

import pytest

from tagwerk.actors.opcua.logic.leases import LEASE_LIMIT, LeaseTable
from tagwerk.protocols.errors import Refused, RefusedCode

S = 1_000_000_000


@pytest.fixture
def table() -> LeaseTable:
    held = LeaseTable()
    assert held.hold("mash", [1, 2], [0.0, None], 2.0, 0)
    return held


def code_of(caught: pytest.ExceptionInfo[Refused]) -> str:
    return caught.value.code


def test_a_renewal_changes_only_the_time(table: LeaseTable) -> None:
    assert not table.hold("mash", [1, 2], [0.0, None], 2.0, S)
    assert table.next_ns == 3 * S


def test_a_renewal_with_other_safe_values_has_to_be_stored(table: LeaseTable) -> None:
    assert table.hold("mash", [1, 2], [5.0, None], 2.0, S)


def test_one_live_lease_an_output(table: LeaseTable) -> None:
    with pytest.raises(Refused) as caught:
        table.hold("boil", [2], [0.0], 2.0, S)
    assert code_of(caught) == RefusedCode.CONFLICT


def test_a_lapsed_lease_holds_nothing_even_before_anybody_looked(table: LeaseTable) -> None:
    assert table.hold("boil", [2], [0.0], 2.0, 2 * S)
    table.check_write(1, "", 2 * S)


def test_others_must_not_write_while_it_is_live(table: LeaseTable) -> None:
    table.check_write(1, "mash", S)
    table.check_write(3, "", S)
    for lease in ("", "boil"):
        with pytest.raises(Refused) as caught:
            table.check_write(1, lease, S)
        assert code_of(caught) == RefusedCode.CONFLICT


def test_a_holder_whose_lease_is_over_must_not_write(table: LeaseTable) -> None:
    with pytest.raises(Refused) as caught:
        table.check_write(1, "mash", 2 * S)
    assert code_of(caught) == RefusedCode.EXPIRED


def test_a_lapse_makes_the_safe_values_due_and_none_keeps(table: LeaseTable) -> None:
    assert table.lapse(2 * S - 1) == ()
    (over,) = table.lapse(2 * S)
    assert over.name == "mash"
    assert table.due == {1: 0.0}
    assert table.lapse(3 * S) == ()
    table.written(1)
    assert table.due == {}


def test_a_hold_after_the_time_was_up_does_not_undo_the_lapse(table: LeaseTable) -> None:
    assert table.hold("mash", [1, 2], [0.0, None], 2.0, 5 * S)
    assert table.due == {1: 0.0}


def test_dropping_writes_safe_values_only_if_asked(table: LeaseTable) -> None:
    assert table.drop("mash", write_safe=False)
    assert table.due == {}
    assert not table.drop("mash", write_safe=True)
    table.hold("mash", [1], [7.0], 2.0, 0)
    table.drop("mash", write_safe=True)
    assert table.due == {1: 7.0}


def test_after_a_restart_each_holder_has_one_lease(table: LeaseTable) -> None:
    successor = LeaseTable()
    successor.restore(table.leases, {9: True}, 100 * S)
    assert successor.holder(1, 102 * S - 1) == "mash"
    assert successor.due == {9: True}
    successor.lapse(102 * S)
    assert successor.due == {9: True, 1: 0.0}


def test_time_in_which_the_link_stood_still_does_not_count(table: LeaseTable) -> None:
    table.extend(10 * S)
    assert table.lapse(11 * S) == ()
    assert table.next_ns == 12 * S


@pytest.mark.parametrize(
    ("name", "handles", "safe", "lease_s"),
    [
        ("", [1], [0.0], 2.0),
        ("a", [], [], 2.0),
        ("a", [5], [], 2.0),
        ("a", [5, 5], [0.0, 0.0], 2.0),
        ("a", [5], [0.0], 0.0),
        ("a", [5], [0.0], float("nan")),
        ("a", [5], [0.0], 1e9),
    ],
)
def test_nonsense_is_refused(
    table: LeaseTable, name: str, handles: list[int], safe: list[float], lease_s: float
) -> None:
    with pytest.raises(Refused) as caught:
        table.hold(name, handles, safe, lease_s, 0)
    assert code_of(caught) == RefusedCode.BAD_VALUE


def test_leases_are_bounded() -> None:
    table = LeaseTable()
    for number in range(LEASE_LIMIT):
        table.hold(f"l{number}", [number], [0.0], 2.0, 0)
    with pytest.raises(Refused):
        table.hold("one more", [LEASE_LIMIT], [0.0], 2.0, 0)
