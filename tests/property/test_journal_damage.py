"""Whatever happens to the journal's files, what is read was written, and what is missing is a hole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.journal import Journal, Position, Record
from tagwerk.runtime.journal_segments import Segment, decode_record

SEGMENT_BYTES = 600
MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)  # nothing waits for a disk there
FRAMES = st.lists(st.binary(max_size=150), min_size=1, max_size=25)


@contextmanager
def journal_in(directory: Path, incarnation: int) -> Generator[Journal]:
    journal = Journal(
        directory, incarnation=incarnation, clock=ManualClock(), cap_bytes=1 << 20, segment_bytes=SEGMENT_BYTES
    )
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


def write(directory: Path, frames: list[bytes], incarnation: int = 1) -> list[Record]:
    with journal_in(directory, incarnation) as journal:
        for sequence, frame in enumerate(frames):
            journal.append(1, "w", sequence, 1, frame)
            journal.commit()
        return list(journal.replay(0))


def read_all(journal: Journal, after: Position | None) -> tuple[list[Record], list[tuple[int, int]]]:
    records: list[Record] = []
    holes: list[tuple[int, int]] = []
    while True:
        page = journal.read(after, limit_records=3)
        if page.hole is not None:
            holes.append((page.hole.start.n, page.hole.end.n))
        records += map(decode_record, page.records)
        after = page.position
        if page.at_end:
            return records, holes


def segment_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def check_whole_after_damage(directory: Path, written: list[Record], may_lose: int) -> list[Record]:
    """Open, compare, write on, open again."""
    with journal_in(directory, 2) as journal:
        kept, _ = read_all(journal, None)
        assert kept == list(journal.replay(0))
        assert set(kept) <= set(written)
        assert [record.n for record in kept] == sorted({record.n for record in kept})
        assert len(written) - len(kept) <= may_lose
        new_id = journal.position.journal
        start = Position(new_id, 1, 0)
        journal.append(1, "w", 0, 1, b"after")
        journal.commit()
        seen, holes = read_all(journal, start)
        missing = {number for end, first in holes for number in range(end + 1, first)}
        assert {record.n for record in seen} | missing == set(range(1, seen[-1].n + 1))
    with journal_in(directory, 3) as journal:
        assert list(journal.replay(0)) == seen
        assert journal.position.journal == new_id
    return kept


@settings(max_examples=150, deadline=None)
@given(frames=FRAMES, where=st.floats(0, 1), which=st.floats(0, 1, exclude_max=True))
def test_any_truncation_costs_only_what_it_cut(frames: list[bytes], where: float, which: float) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        directory = Path(name)
        written = write(directory, frames)
        files = segment_files(directory)
        path = files[int(which * len(files))]
        first = int(path.stem, 16)
        last = next((int(other.stem, 16) - 1 for other in files if other > path), len(written))
        content = path.read_bytes()
        path.write_bytes(content[: int(where * len(content))])
        kept = check_whole_after_damage(directory, written, last - first + 1)
        assert {record.n for record in written} - {record.n for record in kept} <= set(range(first, last + 1))
        assert not list(directory.glob("*.corrupt")) or int(where * len(content)) < len(content)


@settings(max_examples=300, deadline=None)
@given(
    frames=FRAMES,
    where=st.floats(0, 1, exclude_max=True),
    which=st.floats(0, 1, exclude_max=True),
    bits=st.integers(1, 255),
)
def test_any_flipped_byte_costs_one_record_at_most(frames: list[bytes], where: float, which: float, bits: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        directory = Path(name)
        written = write(directory, frames)
        files = segment_files(directory)
        path = files[int(which * len(files))]
        content = bytearray(path.read_bytes())
        content[int(where * len(content))] ^= bits
        path.write_bytes(content)
        check_whole_after_damage(directory, written, may_lose=1)


@settings(max_examples=150, deadline=None)
@example(frames=[b"\0"], flips=[(0.0, 1)])  # a longer length, and nothing behind to read
@given(frames=FRAMES, flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1))
def test_any_flipped_bytes_while_it_is_read_are_a_hole(frames: list[bytes], flips: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name, journal_in(Path(name), 1) as journal:
        for sequence, frame in enumerate(frames):
            journal.append(1, "w", sequence, 1, frame)
            journal.commit()
        written = list(journal.replay(0))
        for where, bits in flips:
            files = segment_files(Path(name))
            path = files[int(where * len(files))]
            content = bytearray(path.read_bytes())
            content[40 + int(where * (len(content) - 40))] ^= bits
            with path.open("r+b") as file:  # the same file: it is open
                file.write(content)
        records, _ = read_all(journal, Position(journal.position.journal, 1, 0))
        assert set(records) <= set(written)
        assert journal.append(1, "w", 0, 1, b"after") == len(written) + 1
        journal.commit()
        seen, holes = read_all(journal, Position(journal.position.journal, 1, 0))
        assert seen[:-1] == records
        assert len(seen) + sum(first - end - 1 for end, first in holes) == len(written) + 1


@settings(max_examples=150, deadline=None)
@given(starts=st.lists(st.tuples(FRAMES, st.integers(0, 300)), min_size=1, max_size=6), data=st.data())
def test_power_cuts_hide_no_later_record(starts: list[tuple[list[bytes], int]], data: st.DataObject) -> None:
    """Each start writes, then a power cut takes some bytes. A consumer that saw any of it gets all that came after."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        directory = Path(name)
        places: list[tuple[Position, list[Record]]] = []
        for incarnation, (frames, cut_bytes) in enumerate(starts, start=1):
            with journal_in(directory, incarnation) as journal:
                for frame in frames:
                    journal.append(1, "w", incarnation, 1, frame)
                    journal.commit()
                    places.append((journal.position, []))
            last = segment_files(directory)[-1]
            last.write_bytes(last.read_bytes()[: max(40, last.stat().st_size - cut_bytes)])
        with journal_in(directory, len(starts) + 1) as journal:
            journal.append(1, "w", 0, 1, b"end")
            journal.commit()
            kept = list(journal.replay(0))
            place, _ = data.draw(st.sampled_from(places))
            expected = [record for record in kept if (record.incarnation, record.n) > (place.incarnation, place.n)]
            seen, holes = read_all(journal, place)
            assert seen == expected
            survived = any((record.incarnation, record.n) == (place.incarnation, place.n) for record in kept)
            assert survived or holes
            assert list(journal.replay(place)) == expected


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 200_000), min_size=1, max_size=50))
def test_marks_are_close_enough_to_hop_between(sizes: list[int]) -> None:
    segment = Segment(Path(), 1, 0, 1, 40)
    at = 40
    for n, size in enumerate(sizes, start=1):
        segment.mark(n, at)
        at += size
    gaps = zip(segment.marks_at, segment.marks_at[1:], strict=False)
    assert segment.marks_at[0] == 40
    assert all(later - earlier >= 1 << 16 for earlier, later in gaps)
