"""Who publishes: sessions, births, losses, and who may take over from whom."""

from __future__ import annotations

import pytest

from tagwerk.actors.cvt.logic.writers import FORGET_NS, LEASE_NS, Writer, Writers, may_take_over
from tagwerk.protocols.link import ReceiveCounter


def alive(writers: Writers, name: str, identity: bytes = b"one", *, named: bool = True) -> Writer:
    writer = writers.get(name, named=named)
    writers.born(writer, 5, 1)
    writers.connect(writer, identity, 0)
    return writer


def test_indexes_rise_and_stay() -> None:
    writers = Writers()
    assert [writers.get(name, named=True).index for name in ("a", "b", "a")] == [1, 2, 1]
    assert writers.size == 3


def test_a_birth_is_a_new_session_and_trusts_the_clock_again() -> None:
    writers = Writers()
    writer = alive(writers, "a")
    writer.clock_wrong = True
    writers.born(writer, 6, 2)
    assert (writer.session, writer.incarnation, writer.birth, writer.clock_wrong) == (6, 2, 2, False)


def test_a_connection_speaks_for_one_writer() -> None:
    writers = Writers()
    one, two = alive(writers, "a"), alive(writers, "b")
    assert writers.by_identity == {b"one": two}
    writers.gone(one, 9)
    assert writers.by_identity == {b"one": two}
    writers.connect(two, b"two", 1)
    assert writers.by_identity == {b"two": two}
    assert (one.alive, one.lost_ns, one.identity) == (False, 9, b"")


def test_silence_is_a_loss() -> None:
    writers = Writers()
    writer = alive(writers, "a")
    assert writers.silent(LEASE_NS) == []
    assert writers.silent(LEASE_NS + 1) == [writer]
    writers.gone(writer, 1)
    assert writers.silent(10 * LEASE_NS) == []


def test_the_nameless_are_forgotten_after_a_day() -> None:
    writers = Writers()
    gone = alive(writers, "anon_1", b"1", named=False)
    here = alive(writers, "anon_2", b"2", named=False)
    named = alive(writers, "erp", b"3")
    for writer in (gone, named):
        writers.gone(writer, 1_000)
    assert writers.forget(1_000 + FORGET_NS) == []
    assert writers.forget(1_001 + FORGET_NS) == [gone]
    assert set(writers.by_name) == {"anon_2", "erp"}
    assert here.alive


def test_every_coming_and_going_shows() -> None:
    writers = Writers()
    seen = {writers.changes}
    writer = writers.get("a", named=False)
    seen.add(writers.changes)
    writers.connect(writer, b"1", 0)
    seen.add(writers.changes)
    writers.gone(writer, 0)
    seen.add(writers.changes)
    writers.forget(2 * FORGET_NS)
    seen.add(writers.changes)
    assert len(seen) == 5


def test_a_writer_of_a_snapshot_keeps_its_index() -> None:
    writers = Writers()
    writers.restore(Writer(7, "a", True, counter=ReceiveCounter(41)))
    assert writers.get("a", named=True).counter.last == 41
    assert writers.get("b", named=True).index == 8


@pytest.mark.parametrize(
    ("name", "session", "incarnation", "reachable", "may"),
    [
        ("erp", 6, 9, True, False),
        ("erp", 6, 9, False, True),
        ("erp", 5, 1, True, True),
        ("opcua/plc", 6, 2, True, True),
        ("opcua/plc", 6, 1, True, False),
        ("opcua/plc", 6, 1, False, True),
    ],
)
def test_who_may_take_over(name: str, session: int, incarnation: int, reachable: bool, may: bool) -> None:
    writer = alive(Writers(), name)
    assert may_take_over(writer, session, incarnation, reachable=reachable) is may


def test_anybody_may_follow_one_that_is_gone() -> None:
    writers = Writers()
    writer = alive(writers, "erp")
    writers.gone(writer, 1)
    assert may_take_over(writer, 6, 0, reachable=True)
