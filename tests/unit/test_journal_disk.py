"""What the journal does when the disk does not: nothing acknowledged is lost, nothing else is half there."""

from __future__ import annotations

import errno
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from pathlib import Path

import pytest

from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.journal import Disk, Journal, JournalFull
from tagwerk.runtime.journal_segments import Buffer, Frame

Opener = Callable[..., Journal]
CAP = 1 << 20


class FailingDisk(Disk):
    """A disk that lets one call after another fail, and writes as much as it has space for."""

    def __init__(self) -> None:
        self.space: int | None = None
        self.sync_error = 0
        self.truncate_error = 0
        self.synced = 0

    def write(self, descriptor: int, parts: Sequence[Buffer], offset: int) -> int:
        if self.space is None:
            return super().write(descriptor, parts, offset)
        if self.space == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = super().write(descriptor, [memoryview(b"".join(parts))[: self.space]], offset)
        self.space -= written
        return written

    def sync(self, descriptor: int) -> None:
        if self.sync_error:
            raise OSError(self.sync_error, "Input/output error")
        self.synced += 1

    def truncate(self, descriptor: int, size: int) -> None:
        if self.truncate_error:
            raise OSError(self.truncate_error, "Input/output error")
        super().truncate(descriptor, size)


class SlowDisk(Disk):
    """A disk that syncs when it is told to."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.finished = 0

    def sync(self, descriptor: int) -> None:
        self.began.set()
        assert self.go.wait(10)
        super().sync(descriptor)
        self.finished += 1


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


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


@pytest.mark.parametrize("space", [0, 1, 39, 40, 41, 100, 2999])
def test_a_full_disk_leaves_nothing_half_written(opened: Opener, tmp_path: Path, space: int) -> None:
    disk = FailingDisk()
    journal = opened(1, disk=disk)
    if space % 2:  # both with a file and before the first one
        put(journal)
    before = {path.name: path.read_bytes() for path in segments(tmp_path)}
    kept = numbers(journal)
    disk.space = space
    with pytest.raises(JournalFull, match="No space"):
        put(journal, 3, b"x" * 1500)
    assert journal.full
    for path in segments(tmp_path):
        assert path.read_bytes() == before.get(path.name, path.read_bytes()[:40])
    assert list(tmp_path.glob("*.tmp")) == []
    disk.space = None
    assert put(journal) == len(kept) + 1
    assert not journal.full
    journal.close()
    assert numbers(opened(2)) == [*kept, len(kept) + 1]


def test_a_real_limit_of_the_file_size_is_a_full_disk(opened: Opener, tmp_path: Path) -> None:
    journal = opened(1)
    put(journal, 2)
    content = segments(tmp_path)[0].read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 50, limits[1]))
    try:
        with pytest.raises(JournalFull, match="File too large"):
            put(journal, 1, b"x" * 500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert segments(tmp_path)[0].read_bytes() == content
    assert put(journal, 1, b"x" * 500) == 3


def test_what_cannot_be_cut_off_is_cut_before_the_next_write(opened: Opener) -> None:
    disk = FailingDisk()
    journal = opened(1, disk=disk)
    put(journal)
    disk.space, disk.truncate_error = 500, errno.EIO
    with pytest.raises(JournalFull):
        put(journal, 20)
    disk.space = None
    with pytest.raises(JournalFull, match="Input/output"):
        put(journal)
    disk.truncate_error = 0
    assert put(journal) == 2
    journal.close()
    assert numbers(opened(2)) == [1, 2]


def test_with_always_a_failed_sync_journals_nothing(opened: Opener) -> None:
    disk = FailingDisk()
    journal = opened(1, disk=disk, sync="always")
    put(journal)
    assert disk.synced == 1
    disk.sync_error = errno.EIO
    with pytest.raises(JournalFull):
        put(journal, 5)
    disk.sync_error = 0
    assert journal.read(None).last_n == 1
    assert put(journal) == 2


def test_with_interval_a_tick_syncs_once_an_interval_and_only_what_is_new(opened: Opener, clock: ManualClock) -> None:
    disk = FailingDisk()
    journal = opened(1, disk=disk, sync_interval_s=1.0)

    def tick_after(seconds: float) -> int:
        clock.advance(seconds)
        journal.tick(clock.mono_ns())
        under_way = journal._tail._side._under_way
        if under_way is not None:
            wait([under_way], 10)
        return disk.synced

    put(journal)
    assert [tick_after(0.4), tick_after(0.1), tick_after(9)] == [0, 1, 1]
    put(journal)
    disk.sync_error = errno.EIO
    assert tick_after(1) == 1
    with pytest.raises(JournalFull, match="not synced"):
        tick_after(0.1)
    disk.sync_error = 0
    assert [tick_after(0.4), tick_after(0.1)] == [1, 2]


def test_the_owner_does_not_wait_for_the_disk(opened: Opener, clock: ManualClock) -> None:
    disk = SlowDisk()
    journal = opened(1, disk=disk, segment_bytes=300)
    put(journal)
    clock.advance(1)
    journal.tick(clock.mono_ns())
    assert disk.began.wait(10)
    for _ in range(10):  # also into further segments, while the sync is under way
        put(journal, 1, b"x" * 200)
        clock.advance(1)
        journal.tick(clock.mono_ns())
    assert disk.finished == 0
    disk.go.set()
    journal.close()
    assert disk.finished > 1
    assert numbers(opened(2)) == list(range(1, 12))


def test_a_disk_error_that_is_no_disk_error_is_not_hidden(opened: Opener) -> None:
    disk = FailingDisk()
    journal = opened(1, disk=disk, sync="always")
    disk.sync_error = errno.EBADF
    with pytest.raises(OSError, match="Input/output"):
        put(journal)
    disk.sync_error = 0
    assert put(journal) == 1


@pytest.mark.parametrize("full_disk", [False, True])
def test_a_hold_keeps_what_is_consumed_until_there_is_no_room(opened: Opener, tmp_path: Path, full_disk: bool) -> None:
    disk = FailingDisk()
    journal = opened(1, segment_bytes=4_000, disk=disk)
    journal.register("history")
    frame = b"x" * 1_000
    put(journal, 1, frame)
    journal.keep_after(journal.position)
    journal.hold(True)
    for _ in range(40):
        put(journal, 1, frame)
        journal.keep_after(journal.position)
        journal.consumed("history", journal.position)
    assert len(segments(tmp_path)) > 10
    assert journal.held
    if full_disk:
        disk.space = 0
        with pytest.raises(JournalFull):
            put(journal, 1, frame)
        disk.space = None
    else:
        while journal.held:
            put(journal, 100, frame)
    assert not journal.held
    put(journal, 1, frame)
    assert len(segments(tmp_path)) < 10 or not full_disk
    assert numbers(journal)[0] > 1
    journal.hold(True)
    journal.hold(False)
