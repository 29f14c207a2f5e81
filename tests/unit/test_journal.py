from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from tagwerk.protocols.errors import LocalProtocolError, NotJournaled
from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.journal import Journal, JournalFull, Position, Record
from tagwerk.runtime.journal_segments import Frame

Opener = Callable[..., Journal]
CAP = 1 << 20


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock) -> Iterator[Opener]:
    journals: list[Journal] = []

    def make(incarnation: int, **options: object) -> Journal:
        settings: dict[str, object] = {"incarnation": incarnation, "clock": clock, "cap_bytes": CAP, **options}
        journal = Journal(tmp_path, **settings)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        journal.open()
        journals.append(journal)
        return journal

    yield make
    for journal in journals:
        journal.close()


def put(journal: Journal, count: int = 1, frame: Frame = b"frame") -> int:
    n = 0
    for _ in range(count):
        n = journal.append(1, "erp", 7, 1000, frame)
    journal.commit()
    return n


def numbers(journal: Journal) -> list[int]:
    return [record.n for record in journal.replay(0)]


def all_pages(journal: Journal, after: Position | None = None) -> list[int]:
    seen: list[int] = []
    while True:
        page = journal.read(after)
        seen += [msgpack.unpackb(body)[0] for body in page.records]
        if page.at_end:
            return seen
        after = page.position


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def test_what_is_committed_comes_back(opened: Opener) -> None:
    journal = opened(3, revision=9)
    assert journal.append(2, "erp", 7, 1000, b"frame") == 1
    journal.commit()
    assert list(journal.replay(0)) == [Record(1, 2, 9, 3, "erp", 7, 1000, b"frame")]


@pytest.mark.parametrize("size", [0, 200, 70_000, 1_000_000])
def test_a_frame_in_pieces_is_one_frame(opened: Opener, size: int) -> None:
    journal = opened(1)
    journal.append(1, "w", 1, 1, [b"a" * size, memoryview(b"b" * 5), bytearray(b"c")])
    journal.append(1, "w", 2, 1, b"next")
    journal.commit()
    assert [record.frame for record in journal.replay(0)] == [b"a" * size + b"bbbbbc", b"next"]


def test_a_record_that_no_reader_takes_is_refused_and_leaves_no_trace(opened: Opener) -> None:
    journal = opened(1)
    with pytest.raises(LocalProtocolError, match="1048576"):
        journal.append(1, "w", 1, 1, b"a" * (1 << 20))
    assert put(journal) == 1


def test_only_committed_records_are_read(opened: Opener) -> None:
    journal = opened(1)
    put(journal)
    journal.append(1, "w", 1, 1, b"")
    assert all_pages(journal) == [1]
    journal.commit()
    assert all_pages(journal) == [1, 2]


def test_received_time_never_goes_back_not_even_over_a_restart(opened: Opener) -> None:
    journal = opened(1)
    for received_ns in (50, 40, 60):
        journal.append(1, "w", 1, received_ns, b"")
    journal.commit()
    journal.close()
    journal = opened(2)
    put(journal)
    journal.append(1, "w", 1, 5, b"")
    journal.commit()
    assert [record.received_ns for record in journal.replay(0)] == [50, 50, 60, 1000, 1000]


def test_numbers_go_on_after_a_restart_and_the_id_stays(opened: Opener) -> None:
    journal = opened(1)
    put(journal, 3)
    place = journal.position
    journal.close()
    journal = opened(2)
    assert journal.position == place
    assert put(journal) == 4
    assert journal.position == Position(place.journal, 2, 4)
    assert journal.read(place).hole is None


def test_an_old_incarnation_does_not_open(opened: Opener) -> None:
    journal = opened(5)
    put(journal)
    journal.close()
    with pytest.raises(LocalProtocolError, match="incarnation 5"):
        opened(5)


def test_segments_end_in_time_and_pages_cross_them(opened: Opener, tmp_path: Path) -> None:
    journal = opened(1, segment_bytes=1000)
    for _ in range(50):
        put(journal, 2, b"x" * 100)
    assert len(segments(tmp_path)) > 5
    assert all(path.stat().st_size <= 1000 for path in segments(tmp_path))
    assert all_pages(journal) == numbers(journal) == list(range(1, 101))
    assert sum(path.stat().st_size for path in segments(tmp_path)) == journal.size_bytes()


def test_any_place_in_a_long_segment_is_found(opened: Opener) -> None:
    journal = opened(1, cap_bytes=1 << 30)
    for size in (10, 70_000, 300):
        for _ in range(20):
            put(journal, 25, b"x" * size)
    total = journal.position.n
    for n in range(0, total, 7):
        page = journal.read(Position(journal.position.journal, 1, n), limit_records=1)
        assert (page.first_n, page.hole) == (n + 1, None)
        assert msgpack.unpackb(page.records[0])[0] == n + 1


def test_a_page_keeps_its_limits_but_gives_one_record(opened: Opener) -> None:
    journal = opened(1)
    put(journal, 10, b"x" * 1000)
    assert len(journal.read(None, limit_records=3).records) == 3
    assert len(journal.read(None, limit_bytes=2500).records) == 2
    page = journal.read(None, limit_bytes=10)
    assert len(page.records) == 1
    assert not page.at_end


def test_at_the_end_a_page_is_empty_and_the_place_stays(opened: Opener) -> None:
    journal = opened(1)
    assert journal.read(None).at_end
    assert journal.read(None).position.n == 0
    put(journal)
    place = journal.read(None).position
    page = journal.read(place)
    assert (page.records, page.position, page.at_end, page.hole) == ([], place, True, None)


def test_a_place_in_another_journal_starts_at_the_first_record(opened: Opener) -> None:
    journal = opened(1)
    put(journal, 3)
    foreign = Position(journal.position.journal ^ 1, 1, 2)
    page = journal.read(foreign)
    assert page.first_n == 1
    assert page.hole is not None
    assert (page.hole.start, page.hole.end) == (foreign, Position(journal.position.journal, 1, 1))


def test_records_that_a_power_cut_took_do_not_hide_those_with_their_numbers(opened: Opener, tmp_path: Path) -> None:
    journal = opened(1)
    put(journal, 10)
    place = journal.position
    journal.close()
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    journal = opened(2)
    lost_from = journal.position.n + 1
    put(journal, 20)
    page = journal.read(place)
    assert page.first_n == lost_from < place.n
    assert page.hole is not None
    assert page.hole.end == Position(place.journal, 2, lost_from)
    assert [record.n for record in journal.replay(place)] == list(range(lost_from, lost_from + 20))


def test_a_torn_tail_is_cut_and_counted(opened: Opener, tmp_path: Path, clock: ManualClock) -> None:
    journal = opened(1)
    put(journal, 3)
    journal.close()
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes() + b"\x20\0\0\0torn")
    journal = Journal(tmp_path, incarnation=2, clock=clock, cap_bytes=CAP)
    recovery = journal.open()
    assert (recovery.first_n, recovery.last_n, recovery.torn_bytes, recovery.set_aside) == (1, 3, 8, ())
    assert not recovery.new
    journal.close()


def test_a_damaged_record_costs_itself_and_its_file_is_kept(opened: Opener, tmp_path: Path, clock: ManualClock) -> None:
    journal = opened(1)
    for mark in b"abcde":
        put(journal, frame=bytes([mark]) * 100)
    place = journal.position
    journal.close()
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes().replace(b"c" * 100, b"c" * 99 + b"!"))
    journal = Journal(tmp_path, incarnation=2, clock=clock, cap_bytes=CAP)
    journal.open()
    assert numbers(journal) == [1, 2, 4, 5]
    assert journal.set_aside == (path.with_name(path.name + ".corrupt"),)
    assert b"c" * 99 + b"!" in journal.set_aside[0].read_bytes()
    page = journal.read(Position(place.journal, 1, 2))
    assert page.hole is not None
    assert page.hole.end.n == 4
    assert put(journal) == 6
    journal.close()


def test_damage_that_a_reader_meets_is_a_hole_too(opened: Opener, tmp_path: Path) -> None:
    journal = opened(1)
    for mark in b"abc":
        put(journal, frame=bytes([mark]) * 100)
    path = segments(tmp_path)[0]
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(b"b" * 100))
        file.write(b"!")
    first = journal.read(None)
    second = journal.read(first.position)
    assert (first.last_n, second.first_n) == (1, 3)
    assert second.hole is not None
    assert len(journal.set_aside) == 1
    assert put(journal) == 4
    assert all_pages(journal) == [1, 3, 4]


def test_a_restart_without_writing_leaves_nothing_behind(opened: Opener, tmp_path: Path) -> None:
    journal_id = opened(1).position.journal
    for incarnation in range(2, 6):
        opened(incarnation).close()
    assert segments(tmp_path) == []
    assert opened(6).position.journal == journal_id


def test_the_id_survives_the_loss_of_its_file(opened: Opener, tmp_path: Path) -> None:
    journal = opened(1)
    put(journal, 3)
    place = journal.position
    journal.close()
    for content in (None, b"{", b'{"journal_id": 1, "incarnations": []}'):
        (tmp_path / "journal.id").unlink()
        if content is not None:
            (tmp_path / "journal.id").write_bytes(content)
        journal = opened(journal.position.incarnation + 1)
        assert journal.read(place).hole is None
        assert journal.position == place
        put(journal)
        place = journal.position
        journal.close()


def test_nothing_is_removed_before_all_need_it_no_more(opened: Opener, tmp_path: Path) -> None:
    journal = opened(1, segment_bytes=500)
    journal.register("historian/0")
    journal.register("alarms/0")
    for _ in range(20):
        put(journal, 1, b"x" * 300)
    end, count = journal.position, len(segments(tmp_path))
    journal.consumed("historian/0", end)
    journal.keep_after(end)
    assert len(segments(tmp_path)) == count
    journal.consumed("alarms/0", Position(end.journal, 1, 10))
    assert numbers(journal)[0] == 11
    journal.keep_after(None)
    journal.forget("alarms/0")
    assert numbers(journal)[0] == 11
    journal.keep_after(end)
    assert numbers(journal) == [20]


def test_consumers_survive_a_restart(opened: Opener) -> None:
    journal = opened(1)
    journal.register("historian/0")
    journal.register("alarms/0")
    put(journal)
    journal.consumed("historian/0", journal.position)
    journal.keep_places()
    assert opened(2).consumers() == {"historian/0": journal.position, "alarms/0": None}


def test_a_lost_list_of_consumers_removes_nothing(opened: Opener, tmp_path: Path) -> None:
    journal = opened(1, segment_bytes=200)
    journal.register("historian/0")
    for _ in range(5):
        put(journal, 1, b"x" * 150)
    journal.close()
    (tmp_path / "consumers.json").write_bytes(b"\0" * 20)
    journal = opened(2, segment_bytes=200)
    assert len(journal.set_aside) == 1
    journal.register("alarms/0")
    journal.consumed("alarms/0", journal.position)
    journal.keep_after(journal.position)
    assert numbers(journal) == [1, 2, 3, 4, 5]


def test_at_the_cap_nothing_of_the_flush_is_written_and_space_brings_it_back(opened: Opener) -> None:
    journal = opened(1, cap_bytes=5000)
    journal.register("historian/0")
    while journal.fill < 0.9:
        put(journal, 1, b"x" * 400)
    before, size = numbers(journal), journal.size_bytes()
    with pytest.raises(NotJournaled, match="cap of 5000"):
        put(journal, 3, b"x" * 400)
    assert journal.full
    assert (numbers(journal), journal.size_bytes()) == (before, size)
    journal.keep_after(journal.position)
    journal.consumed("historian/0", journal.position)
    assert put(journal, 1, b"x" * 400) == before[-1] + 1
    assert not journal.full


def test_drop_oldest_takes_what_is_unread_but_not_what_the_table_needs(opened: Opener) -> None:
    journal = opened(1, cap_bytes=5000, at_cap="drop_oldest")
    journal.register("historian/0")
    while journal.fill < 0.9:
        put(journal, 1, b"x" * 400)
    with pytest.raises(JournalFull):
        put(journal, 1, b"x" * 400)
    journal.keep_after(journal.position)
    start = journal.read(None, limit_records=1).position
    for _ in range(20):
        put(journal, 1, b"x" * 400)
        journal.keep_after(journal.position)
    assert journal.dropped > 10
    page = journal.read(start)
    assert page.hole is not None
    assert page.hole.end.n == page.first_n > start.n + 1
