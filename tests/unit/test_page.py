from __future__ import annotations

from pathlib import Path

import pytest

from tagwerk.protocols.errors import ConfigError, LocalProtocolError, Unavailable
from tagwerk.runtime import page_layout as at
from tagwerk.runtime.page import Page, Peer, PeerState, Slot
from tagwerk.runtime.process import Identity

NAMES = ["node/main", "cvt/0", "opcua/plc"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node-main.page"


@pytest.fixture
def page(path: Path) -> Page:
    return Page.create(path, NAMES, Identity.own(), capacity=4)


def say(slot: Slot, state: PeerState, *, pid: int = 7, reason: str = "") -> None:
    slot.write_node(
        state=state,
        pid=pid,
        start_ticks=70,
        since_mono_ns=5,
        restarts=2,
        fatal_count=1,
        fatal=state is PeerState.FATAL,
        retry_at_mono_ns=9,
        hang_after_ns=5_000,
        reason=reason,
    )


def test_a_new_page_knows_all_names_and_nobody_runs(page: Page, path: Path) -> None:
    assert page.names() == tuple(NAMES)
    assert Page.open(path).look("cvt/0") == Peer(PeerState.STOPPED, 0, 0)
    assert page.look("cvt/7") is None
    assert not list(path.parent.glob("*new*"))


def test_both_halves_are_read_from_another_mapping(page: Page, path: Path) -> None:
    slot = page.slot("cvt/0")
    say(slot, PeerState.RUNNING, reason="wärmer")
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    slot.write_state(PeerState.RUNNING)
    slot.write_busy("vacuum", 900)
    slot.write_gauges(
        beat_mono_ns=200,
        inbox_depth=4,
        inbox_oldest_mono_ns=150,
        handled=50,
        deadletters=1,
        handler_total_ns=6000,
        handler_max_ns=700,
    )
    slot.write_counter(7, 77)
    view = Page.open(path).slot("cvt/0").read()
    assert (view.name, view.state, view.pid, view.incarnation) == ("cvt/0", PeerState.RUNNING, 7, 3)
    assert (view.beat_mono_ns, view.busy_reason, view.busy_until_mono_ns) == (200, "vacuum", 900)
    assert (view.inbox_depth, view.inbox_oldest_mono_ns, view.handled, view.deadletters) == (4, 150, 50, 1)
    assert (view.handler_total_ns, view.handler_max_ns, view.counters[7]) == (6000, 700, 77)
    assert (view.restarts, view.fatal_count, view.reason, view.hang_after_ns) == (2, 1, "wärmer", 5000)


def test_ready_is_seen_before_the_node_has_looked(page: Page) -> None:
    slot = page.slot("cvt/0")
    say(slot, PeerState.STARTING)
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    assert page.look("cvt/0") == Peer(PeerState.STARTING, 3, 7)
    slot.write_state(PeerState.RUNNING)
    assert page.look("cvt/0") == Peer(PeerState.RUNNING, 3, 7)
    assert slot.is_ready(7)
    assert not slot.is_ready(8)


def test_the_predecessor_does_not_speak_for_the_successor(page: Page) -> None:
    slot = page.slot("cvt/0")
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    slot.write_state(PeerState.RUNNING)
    say(slot, PeerState.STARTING, pid=8)
    assert page.look("cvt/0") == Peer(PeerState.STARTING, 3, 7)
    assert slot.read().state is PeerState.STARTING
    assert slot.beat_of(8) == (0, 0)


def test_attach_clears_what_the_predecessor_left(page: Page) -> None:
    slot = page.slot("cvt/0")
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    slot.write_busy("vacuum", 900)
    slot.write_counter(0, 5)
    slot.leave_words("RuntimeError: x")
    slot.attach(pid=8, incarnation=4, mono_ns=200)
    view = slot.read()
    assert (view.busy_until_mono_ns, view.busy_reason, view.counters[0], view.last_words) == (0, "", 0, "")


def test_who_was_killed_while_it_wrote_is_unknown_until_its_successor_comes(page: Page) -> None:
    slot = page.slot("cvt/0")
    say(slot, PeerState.RUNNING)
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    slot._begin(at.A_FIRST, at.A_LAST)
    assert slot.read().state is PeerState.UNKNOWN
    say(slot, PeerState.BACKOFF, pid=0)
    assert slot.read().state is PeerState.BACKOFF
    say(slot, PeerState.STARTING, pid=8)
    slot.attach(pid=8, incarnation=4, mono_ns=200)
    slot.write_state(PeerState.RUNNING)
    assert slot.read().state is PeerState.RUNNING


def test_a_torn_half_of_the_node_is_unknown(page: Page) -> None:
    slot = page.slot("cvt/0")
    say(slot, PeerState.RUNNING)
    slot._begin(at.N_FIRST, at.N_LAST)
    assert slot.read().state is PeerState.UNKNOWN


def test_long_texts_are_cut_between_characters(page: Page) -> None:
    slot = page.slot("cvt/0")
    slot.leave_words("x" * (at.REASON_BYTES - 1) + "ü")
    assert slot.read().last_words == "x" * (at.REASON_BYTES - 1)


def test_slots_are_added_up_to_the_capacity(page: Page, path: Path) -> None:
    other = Page.open(path)
    page.add("machine/mash")
    assert other.look("machine/mash") == Peer(PeerState.STOPPED, 0, 0)
    with pytest.raises(ConfigError, match="full"):
        page.add("machine/lauter")
    with pytest.raises(ConfigError, match="too long"):
        Page.create(path, ["x" * 65], Identity.own())


def test_a_name_has_one_slot(page: Page) -> None:
    with pytest.raises(LocalProtocolError):
        page.add("cvt/0")


def test_the_old_page_leads_to_the_new_one(page: Page, path: Path) -> None:
    reader = Page.open(path)
    page.supersede()
    assert reader.look("cvt/0") == Peer(PeerState.UNKNOWN, 0, 0)
    successor = Page.create(path, NAMES, Identity.own())
    slot = successor.slot("cvt/0")
    slot.attach(pid=9, incarnation=12, mono_ns=1)
    say(slot, PeerState.RUNNING, pid=9)
    assert reader.look("cvt/0") == Peer(PeerState.RUNNING, 12, 9)


def test_a_dead_node_makes_all_unknown(path: Path) -> None:
    Page.create(path, NAMES, Identity(2**22 + 1, 5))  # no pid is as large
    reader = Page.open(path)
    assert not reader.reopen_if_replaced()
    assert reader.look("cvt/0") == Peer(PeerState.UNKNOWN, 0, 0)
    assert not reader.node_is_alive()


def test_a_living_node_is_believed(page: Page) -> None:
    assert page.node_is_alive()
    assert not page.reopen_if_replaced()
    assert page.look("cvt/0") == Peer(PeerState.STOPPED, 0, 0)


@pytest.mark.parametrize("content", [b"", b"x" * 100_000, bytes(600)])
def test_what_is_no_page_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Unavailable, match="gauge page"):
        Page.open(path)


def test_a_cut_page_is_refused(page: Page, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(Unavailable, match="cut"):
        Page.open(path)


def test_no_page_is_no_node(path: Path) -> None:
    with pytest.raises(Unavailable, match="no node is up"):
        Page.open(path)


def words_of(path: Path, **changed: int) -> bytes:
    raw = bytearray(path.read_bytes())
    words = memoryview(raw).cast("Q")
    for name, value in changed.items():
        words[getattr(at, name)] = value
    return bytes(raw)


def test_a_page_of_another_layout_is_refused_and_leads_nobody_astray(page: Page, path: Path) -> None:
    slot = page.slot("cvt/0")
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    say(slot, PeerState.RUNNING)
    reader = Page.open(path)
    assert reader.look("cvt/0") == Peer(PeerState.RUNNING, 3, 7)
    newer = path.with_suffix(".newer")
    newer.write_bytes(words_of(path, H_VERSION=at.VERSION + 1))
    newer.replace(path)
    with pytest.raises(Unavailable, match=f"says layout {at.VERSION + 1}"):
        Page.open(path)
    assert not reader.reopen_if_replaced()
    assert reader.look("cvt/0") == Peer(PeerState.UNKNOWN, 0, 0)


def test_a_page_of_another_boot_is_not_believed(page: Page, path: Path) -> None:
    slot = page.slot("cvt/0")
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    say(slot, PeerState.RUNNING)
    path.write_bytes(words_of(path, H_BOOT=12345))  # the node's pid and start time may well have come again
    reader = Page.open(path)
    assert not reader.node_is_alive()
    assert reader.look("cvt/0") == Peer(PeerState.UNKNOWN, 0, 0)


def test_what_a_dead_node_left_is_not_believed_at_the_first_look(path: Path) -> None:
    left = Page.create(path, NAMES, Identity(2**22 + 1, 5))
    slot = left.slot("cvt/0")
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    say(slot, PeerState.RUNNING)
    assert Page.open(path).look("cvt/0") == Peer(PeerState.UNKNOWN, 0, 0)


def test_a_state_that_nobody_knows_is_unknown(page: Page) -> None:
    slot = page.slot("cvt/0")
    slot.attach(pid=7, incarnation=3, mono_ns=100)
    say(slot, PeerState.RUNNING)
    page._words[slot._at + at.N_STATE] = 2**64 - 1
    assert page.look("cvt/0") == Peer(PeerState.UNKNOWN, 3, 7)
    assert slot.read().state is PeerState.UNKNOWN


def test_more_slots_than_there_is_room_for_are_refused_or_not_seen(page: Page, path: Path) -> None:
    page._words[at.H_COUNT] = 2**40
    assert page.look("cvt/7") is None
    assert page.names()[: len(NAMES)] == tuple(NAMES)
    with pytest.raises(Unavailable, match="cut"):
        Page.open(path)
