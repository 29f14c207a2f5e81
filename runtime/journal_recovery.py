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
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from tagwerk.runtime.journal_files import remove_segment, set_aside, write_whole
from tagwerk.runtime.journal_index import INDEX_NAME, end_of, index_path, read_index, write_index
from tagwerk.runtime.journal_repair import cut_overlaps, cut_unfinished, overlapping, salvage
from tagwerk.runtime.journal_segments import (
    HEADER_BYTES,
    SEGMENT_NAME,
    Header,
    ReadAt,
    Segment,
    find_runs,
    reader_of,
    segment_name,
)

ID_FILE: Final = "journal.id"
_INCARNATIONS_LIMIT: Final = 10_000  # one a restart; a place older than all of them is a hole


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
    """Look at a journal's directory and repair its end.

    Of a segment only its header and the last entry of its index are read; records are read from the last one that the
    index knows on, which is the whole file if there is no index. Damage before that is found by who reads there.

    Raises:
        LocalProtocolError: A segment was written by a version with another layout; nothing is changed then.
        OSError: The directory cannot be read or repaired.
    """
    names = os.listdir(directory)
    for name in names:
        path = directory / name
        if name.endswith(".tmp") or (INDEX_NAME.fullmatch(name) and not path.with_suffix(".seg").exists()):
            path.unlink()
    paths = sorted(directory / name for name in names if SEGMENT_NAME.fullmatch(name))
    headers = {path: _header(path) for path in paths}
    found = Found(_identity(directory, [header for header in headers.values() if header is not None]))
    by_first_n: dict[int, Segment] = {}
    for path, header in headers.items():
        indexed = _indexed(path, header, found.identity)
        for segment in [indexed] if indexed is not None else _load(path, header, found):
            by_first_n[segment.first_n] = segment
    for earlier in overlapping(_in_order(by_first_n)):  # rare enough to read the whole file
        index_path(earlier.path).unlink(missing_ok=True)
        del by_first_n[earlier.first_n]
        for segment in _load(earlier.path, headers[earlier.path], found):
            by_first_n[segment.first_n] = segment
    found.segments = _in_order(by_first_n)
    found.torn_bytes += cut_overlaps(found.segments)
    found.torn_bytes += cut_unfinished(found.segments)
    if found.segments:
        found.next_n = max(found.next_n, found.segments[-1].last_n + 1)
    if found.identity.journal_id == 0 or (not found.segments and (found.torn_bytes or found.set_aside)):
        found.identity = Identity(int.from_bytes(os.urandom(8), "little") or 1)
        found.new = True
        found.next_n = 1
    return found


def _in_order(by_first_n: dict[int, Segment]) -> list[Segment]:
    return [by_first_n[n] for n in sorted(by_first_n)]


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


def _indexed(path: Path, header: Header | None, identity: Identity) -> Segment | None:
    """Give a segment that was ended and whose index says so; nothing of it needs to be read."""
    if header is None or header.journal != identity.journal_id:
        return None
    size = path.stat().st_size
    segment = Segment(path, header.first_n, header.first_n - 1, header.incarnation, size, header.seed)
    last_n = end_of(segment, size)
    if last_n is None or last_n < header.first_n:
        return None
    segment.last_n = last_n
    return segment


def _load(path: Path, header: Header | None, found: Found) -> list[Segment]:
    if header is not None and header.journal != found.identity.journal_id:
        found.set_aside.append(set_aside(path))
        remove_segment(path)
        return []
    descriptor = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        segment = _end_read(path, header, reader_of(descriptor), size) if header is not None else None
        if segment is not None and header is not None:
            return _cut_torn(segment, header, descriptor, size, found)
        runs = find_runs(reader_of(descriptor), HEADER_BYTES, size, int(path.stem, 16))
        if not runs:
            _drop_empty(path, header, size, found)
            return []
        aside, segments = salvage(path, descriptor, found.identity.journal_id, runs)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        aside, segments = set_aside(path), []
        remove_segment(path)
    finally:
        os.close(descriptor)
    found.set_aside.append(aside)
    return segments


def _end_read(path: Path, header: Header, read_at: ReadAt, size: int) -> Segment | None:
    """Read a segment from the last record that its index knows; None if a whole record follows a damaged one."""
    segment = Segment(path, header.first_n, header.first_n - 1, header.incarnation, HEADER_BYTES, header.seed)
    places = read_index(segment, size)
    for n, at in places:
        segment.mark(n, at)
    n, start = places[-1] if places else (header.first_n, HEADER_BYTES)
    runs = find_runs(read_at, start, size, n)
    if len(runs) > 1 or (runs and runs[0].start != start):
        return None
    segment.end, segment.last_n = start, n - 1
    for run in runs:
        segment.end, segment.last_n = run.end, n + run.count - 1
        for index, at in run.marks:
            segment.mark(n + index, at)
    return segment


def _cut_torn(segment: Segment, header: Header, descriptor: int, size: int, found: Found) -> list[Segment]:
    if segment.last_n < segment.first_n:
        _drop_empty(segment.path, header, size, found)
        return []
    found.torn_bytes += size - segment.end
    if size > segment.end:
        os.ftruncate(descriptor, segment.end)
        os.fdatasync(descriptor)
    write_index(segment)
    return [segment]


def _drop_empty(path: Path, header: Header | None, size: int, found: Found) -> None:
    """Remove a segment without a whole record. Its name still tells that the numbers before it are taken."""
    if header is None and size > HEADER_BYTES:
        found.set_aside.append(set_aside(path))
    else:
        found.torn_bytes += size - HEADER_BYTES if header is not None else size
    if header is not None:
        found.next_n = max(found.next_n, header.first_n)
    remove_segment(path)
