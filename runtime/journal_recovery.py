"""What a journal's directory holds after a death or a power cut: torn tails are cut, damaged segments set aside.

A torn tail is damage that no whole record follows: what was being written when the process or the host died. Damage
that whole records follow is another matter (a bad block, a bit that fell over, pages that a power cut wrote out of
order): the file is set aside as `*.corrupt`, and its whole records live on in new segments, so that one bad record
costs one record. Readers see the missing numbers as a hole.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from tagwerk.runtime.journal_segments import (
    HEAD,
    HEADER_BYTES,
    SEGMENT_GLOB,
    Header,
    ReadAt,
    Run,
    Segment,
    decode_record,
    find_runs,
    offset_of,
    record_number,
    segment_name,
)

ID_FILE: Final = "journal.id"
_INCARNATIONS_LIMIT: Final = 10_000  # one a restart; a place older than all of them is a hole
_COPY_BYTES: Final = 4 << 20
_PRIVATE: Final = 0o600


@dataclass(slots=True)
class Identity:
    """Which journal this is, and who wrote which numbers in it. A small file holds it, each segment's header a part.

    Attributes:
        journal_id: Random, never 0 once the journal is open.
        incarnations: (incarnation, its first n), both rising. Numbers that a power cut took are given again by the next
            incarnation, so a number means something only with the incarnation that wrote it.
    """

    journal_id: int
    incarnations: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def end_of(self, incarnation: int) -> int | None:
        """Give the last number that counts of those written up to an incarnation; None for the latest one."""
        later = bisect_right(self.incarnations, incarnation, key=itemgetter(0))
        return self.incarnations[later][1] - 1 if later < len(self.incarnations) else None

    def begin(self, directory: Path, incarnation: int, first_n: int) -> None:
        """Note durably that an incarnation writes from `first_n` on, before it does.

        Raises:
            OSError: It is not noted.
        """
        if not self.incarnations or self.incarnations[-1][0] < incarnation:
            kept = [*self.incarnations[1 - _INCARNATIONS_LIMIT :], (incarnation, first_n)]
            Identity(self.journal_id, kept).save(directory)
            self.incarnations = kept

    def save(self, directory: Path) -> None:
        """Write the file durably."""
        write_whole(directory / ID_FILE, msgspec.json.encode(self) + b"\n")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `open` found.

    Attributes:
        first_n: The first record, `last_n + 1` if there is none.
        last_n: The last record.
        torn_bytes: Bytes of unfinished records that were cut off.
        set_aside: Damaged files, renamed; their whole records are still in the journal.
        journal_id: The journal's id.
        new: The id is new: what was journaled before, if anything, is not here.
    """

    first_n: int
    last_n: int
    torn_bytes: int
    set_aside: tuple[Path, ...]
    journal_id: int
    new: bool


@dataclass(slots=True)
class Found:
    """What was found in a journal's directory, after repairs.

    Attributes:
        identity: Whose segments these are.
        new: The journal's id was made now: positions in an earlier journal mean nothing here.
        segments: The segments with records, rising, without overlap.
        next_n: The number of the next record.
        torn_bytes: Bytes that were cut off.
        set_aside: Files that were renamed because they were damaged or foreign.
    """

    identity: Identity
    new: bool = False
    segments: list[Segment] = field(default_factory=list[Segment])
    next_n: int = 1
    torn_bytes: int = 0
    set_aside: list[Path] = field(default_factory=list[Path])


def recover(directory: Path) -> Found:
    """Read and repair a journal's directory. Each retained byte is read once and its CRC compared.

    Raises:
        LocalProtocolError: A segment was written by a version with another layout; nothing is changed then.
        OSError: The directory cannot be read or repaired.
    """
    for left_over in directory.glob("*.tmp"):
        left_over.unlink()
    paths = sorted(directory.glob(SEGMENT_GLOB))
    headers = {path: _header(path) for path in paths}
    found = Found(_identity(directory, [header for header in headers.values() if header is not None]))
    by_first_n: dict[int, Segment] = {}
    for path, header in headers.items():
        for segment in _load(path, header, found):
            by_first_n[segment.first_n] = segment
    found.segments = [by_first_n[n] for n in sorted(by_first_n)]
    _cut_overlaps(found)
    if found.segments:
        found.next_n = max(found.next_n, found.segments[-1].last_n + 1)
    if found.identity.journal_id == 0 or (not found.segments and (found.torn_bytes or found.set_aside)):
        found.identity = Identity(int.from_bytes(os.urandom(8), "little") or 1)
        found.new = True
        found.next_n = 1
    return found


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put `content` in the place of a file: one sees the old or the new one, after a power cut too if `durable`."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb", opener=_private) as file:
        file.write(content)
        if durable:
            file.flush()
            os.fdatasync(file.fileno())
    temporary.replace(path)
    if durable:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Give a damaged file a second name `*.corrupt` under which nobody reads it, and return that name."""
    aside = path.with_name(path.name + ".corrupt")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt-{count}")
    aside.hardlink_to(path)
    return aside


def salvage(path: Path, descriptor: int, journal_id: int, runs: Iterable[Run]) -> tuple[Path, list[Segment]]:
    """Set a damaged segment aside and write its whole records into segments of their own.

    A death on the way loses nothing: until the last rename the damaged file stays in its place, and the next start
    does the same again.

    Returns:
        The name of the damaged file now, and the new segments.
    """
    segments: list[Segment] = []
    for run in runs:
        body = _first_body(descriptor, run)
        run.first_n = record_number(body) or run.first_n  # under a damaged header the file's name proves nothing
        temporary = path.with_name(segment_name(run.first_n) + ".tmp")
        segments.append(
            _copy_run(temporary, descriptor, run, Header(journal_id, run.first_n, decode_record(body).incarnation))
        )
    aside = set_aside(path)
    for segment in reversed(segments):  # the one that may take the damaged file's own name comes last
        target = path.with_name(segment_name(segment.first_n))
        segment.path.replace(target)
        segment.path = target
    if all(segment.path != path for segment in segments):
        path.unlink()
    sync_directory(path.parent)
    return aside, segments


def reader_of(descriptor: int) -> ReadAt:
    """Give a function that reads a file at an offset."""

    def read_at(offset: int, size: int) -> bytes:
        return os.pread(descriptor, size, offset)

    return read_at


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, _PRIVATE)


def _header(path: Path) -> Header | None:
    with path.open("rb") as file:
        header = Header.unpack(file.read(HEADER_BYTES))
    return header if header is not None and path.name == segment_name(header.first_n) else None


def _identity(directory: Path, headers: list[Header]) -> Identity:
    """Believe the segments rather than the small file, which decides only between segments that differ."""
    written = Identity(0)
    with suppress(FileNotFoundError, msgspec.DecodeError):  # missing or damaged: the headers hold the same
        written = msgspec.json.decode((directory / ID_FILE).read_bytes(), type=Identity)
    seen = [header.journal for header in headers]
    if seen and written.journal_id not in seen:
        written = Identity(seen[-1])
    first_of = dict(written.incarnations)
    for header in headers:
        if header.journal == written.journal_id:
            first_of[header.incarnation] = min(header.first_n, first_of.get(header.incarnation, header.first_n))
    return Identity(written.journal_id, sorted(first_of.items()))


def _load(path: Path, header: Header | None, found: Found) -> list[Segment]:
    named_n = int(path.stem, 16)
    if header is not None and header.journal != found.identity.journal_id:
        found.set_aside.append(set_aside(path))
        path.unlink()
        return []
    descriptor = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        runs = find_runs(reader_of(descriptor), HEADER_BYTES, size, named_n)
        if header is not None and len(runs) == 1 and runs[0].start == HEADER_BYTES:
            found.torn_bytes += size - runs[0].end
            if size > runs[0].end:
                os.ftruncate(descriptor, runs[0].end)
                os.fdatasync(descriptor)
            return [_segment(path, runs[0], header.incarnation, 0)]
        if not runs:
            _drop_empty(path, header, size, found)
            return []
        aside, segments = salvage(path, descriptor, found.identity.journal_id, runs)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        aside, segments = set_aside(path), []
        path.unlink()
    finally:
        os.close(descriptor)
    found.set_aside.append(aside)
    return segments


def _drop_empty(path: Path, header: Header | None, size: int, found: Found) -> None:
    """Remove a segment without a whole record. Its name still tells that the numbers before it are taken."""
    if header is None and size > HEADER_BYTES:
        found.set_aside.append(set_aside(path))
    else:
        found.torn_bytes += size - HEADER_BYTES if header is not None else size
    if header is not None:
        found.next_n = max(found.next_n, header.first_n)
    path.unlink()


def _segment(path: Path, run: Run, incarnation: int, shift: int) -> Segment:
    segment = Segment(path, run.first_n, run.first_n + run.count - 1, incarnation, run.end + shift)
    for index, at in run.marks:
        segment.mark(run.first_n + index, at + shift)
    return segment


def _first_body(descriptor: int, run: Run) -> bytes:
    length, _ = HEAD.unpack(os.pread(descriptor, HEAD.size, run.start))
    return os.pread(descriptor, length, run.start + HEAD.size)


def _copy_run(path: Path, descriptor: int, run: Run, header: Header) -> Segment:
    with open(path, "wb", opener=_private) as file:
        file.write(header.pack())
        for offset in range(run.start, run.end, _COPY_BYTES):
            file.write(os.pread(descriptor, min(_COPY_BYTES, run.end - offset), offset))
        file.flush()
        os.fdatasync(file.fileno())
    return _segment(path, run, header.incarnation, HEADER_BYTES - run.start)


def _cut_overlaps(found: Found) -> None:
    """Let the later segment have the numbers that two claim.

    A power cut can bring back the tail that a failed write left and the journal had cut off, after its numbers were
    given again in the next segment.
    """
    for earlier, later in zip(found.segments, found.segments[1:], strict=False):
        if earlier.last_n < later.first_n:
            continue
        descriptor = os.open(earlier.path, os.O_RDWR)
        try:
            end = offset_of(reader_of(descriptor), earlier, later.first_n)
            os.ftruncate(descriptor, end)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        found.torn_bytes += earlier.end - end
        earlier.end, earlier.last_n = end, later.first_n - 1
        while earlier.marks_at[-1] >= end:
            earlier.marks_n.pop()
            earlier.marks_at.pop()
