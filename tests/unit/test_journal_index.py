"""A start reads the end of the journal only, and what that leaves unseen is found by who reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagwerk.runtime import journal_segments
from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.journal import Journal, Position

FRAME = b"x" * 1_000
COUNT = 3_000


def opened(directory: Path, incarnation: int) -> Journal:
    journal = Journal(directory, incarnation=incarnation, clock=ManualClock(), cap_bytes=1 << 30, segment_bytes=1 << 20)
    journal.open()
    return journal


@pytest.fixture
def written(tmp_path: Path) -> Position:
    """Some segments, whose writer was killed."""
    journal = opened(tmp_path, 1)
    for _ in range(COUNT):
        journal.append(0, "erp", 1, 1, FRAME)
        journal.commit()
    journal._tail._index = None
    journal.close()
    return journal.position


def read(directory: Path, incarnation: int, after: int = 0) -> list[int]:
    journal = opened(directory, incarnation)
    numbers = [record.n for record in journal.replay(after)]
    journal.close()
    return numbers


def test_a_start_reads_little(tmp_path: Path, written: Position, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    scan = journal_segments._whole_records

    def counting(read_at: journal_segments.ReadAt, start: int, size: int, first_n: int) -> journal_segments.Run:
        sizes.append(size - start)
        return scan(read_at, start, size, first_n)

    monkeypatch.setattr(journal_segments, "_whole_records", counting)
    journal = opened(tmp_path, 2)
    assert sum(sizes) < 6 * journal_segments.MARK_BYTES
    assert journal.position == written
    for n in (1, 17, 1_500, COUNT):
        assert journal.read(Position(written.journal, 1, n - 1), limit_records=1).first_n == n
    journal.close()


@pytest.mark.parametrize("what", ["missing", "empty", "cut", "flipped", "of another"])
def test_an_index_that_is_wrong_is_no_harm(tmp_path: Path, written: Position, what: str) -> None:
    indexes = sorted(tmp_path.glob("*.idx"))
    assert len(indexes) > 2
    for number, path in enumerate(indexes):
        content = bytearray(path.read_bytes())
        if what == "missing":
            path.unlink()
            continue
        if what == "empty":
            content.clear()
        elif what == "cut":
            del content[-7:]
        elif what == "flipped":
            content[len(content) // 2] ^= 1
        else:
            content = bytearray(indexes[number - 1].read_bytes())
        path.write_bytes(content)
    assert read(tmp_path, 2) == list(range(1, COUNT + 1))
    assert read(tmp_path, 3, 2_990) == list(range(2_991, COUNT + 1))
    assert not list(tmp_path.glob("*.corrupt"))


def test_an_index_without_its_segment_goes(tmp_path: Path, written: Position) -> None:
    first = min(tmp_path.glob("*.seg"))
    first.unlink()
    assert read(tmp_path, 2)[0] > 1
    assert not first.with_suffix(".idx").exists()


def test_a_frame_without_its_last_record_is_taken_back(tmp_path: Path) -> None:
    journal = opened(tmp_path, 1)
    for sequence in (1, -2, -2, 2):
        journal.append(0, "erp", sequence, 1, b"part")
    journal.commit()
    journal.close()
    path = min(tmp_path.glob("*.seg"))
    content = path.read_bytes()
    assert read(tmp_path, 2) == [1, 2, 3, 4]
    path.write_bytes(content[:-5])
    assert read(tmp_path, 3) == [1]
    journal = opened(tmp_path, 4)
    assert journal.append(0, "erp", 2, 1, b"again") == 2
    journal.commit()
    journal.close()
    assert read(tmp_path, 5) == [1, 2]
