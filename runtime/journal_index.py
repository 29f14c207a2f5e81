"""Where records start, in a small file beside each segment: a start reads the end of the journal, not all of it.

The file is a hint. Each entry carries a CRC that begins with the one of its segment's header, so an entry of another
segment is none; what follows the last good entry is found by reading the segment. An entry is written after the
records before it, and never synced: after a power cut it may speak of records that are not there, which reading finds.

    entry   n u64, offset u64, CRC-32 u32: record n starts there, or ends there the segment whose last is n - 1
"""

from __future__ import annotations

import os
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, final
from zlib import crc32

from tagwerk.runtime.journal_segments import HEADER_BYTES, ReadAt, Segment, find_runs

INDEX_NAME: Final = re.compile(r"[0-9a-f]{16}\.idx")

_ENTRY: Final = struct.Struct("<QQI")
_PLACE: Final = struct.Struct("<QQ")
_WRITTEN_AT_ONCE: Final = 4  # marks; so much the next start reads at least, and a write costs as little of a flush


@final
class Index:
    """The index of the segment that is being written.

    A disk that does not take it makes the next start longer, and nothing else: no call raises.

    Args:
        segment: Just begun.
    """

    def __init__(self, segment: Segment) -> None:
        self._seed = segment.seed
        self._waiting: list[tuple[int, int]] = []
        self._written = 0
        self._descriptor = -1
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._descriptor = os.open(index_path(segment.path), flags, 0o600)

    def add(self, n: int, at: int) -> None:
        """Note that the committed record `n` starts at `at`."""
        self._waiting.append((n, at))
        if len(self._waiting) >= _WRITTEN_AT_ONCE:
            self._write()

    def finish(self, segment: Segment) -> None:
        """Note where the segment ends, and close the file."""
        self._waiting.append((segment.last_n + 1, segment.end))
        self._write()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self) -> None:
        if self._descriptor < 0:
            return
        content = b"".join(_entry(n, at, self._seed) for n, at in self._waiting)
        with suppress(OSError):
            if os.pwrite(self._descriptor, content, self._written) == len(content):
                self._written += len(content)
                self._waiting.clear()


def index_path(segment: Path) -> Path:
    """Give the name of a segment's index."""
    return segment.with_suffix(".idx")


def write_index(segment: Segment) -> None:
    """Write the index of a segment that nobody writes to any more, and whose marks are known."""
    index = Index(segment)
    for n, at in zip(segment.marks_n, segment.marks_at, strict=True):
        index.add(n, at)
    index.finish(segment)


def end_of(segment: Segment, size: int) -> int | None:
    """Give the last number of a segment by the last entry of its index; None if that does not speak of its end.

    Args:
        segment: With path and seed.
        size: Bytes of its file.
    """
    try:
        descriptor = os.open(index_path(segment.path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        entries = os.fstat(descriptor).st_size // _ENTRY.size
        place = _place(os.pread(descriptor, _ENTRY.size, max(0, entries - 1) * _ENTRY.size), segment.seed)
    finally:
        os.close(descriptor)
    return place[0] - 1 if place is not None and place[1] == size else None


def read_index(segment: Segment, size: int) -> list[tuple[int, int]]:
    """Give the good entries at the start of a segment's index, as far as its file reaches."""
    try:
        content = index_path(segment.path).read_bytes()
    except FileNotFoundError:
        return []
    places: list[tuple[int, int]] = []
    for start in range(0, len(content), _ENTRY.size):
        place = _place(content[start : start + _ENTRY.size], segment.seed)
        if place is None or place[1] > size:
            break
        places.append(place)
    return places


def find_marks(read_at: ReadAt, segment: Segment) -> None:
    """Fill in a segment's marks: from its index, and by reading what that does not know."""
    places = read_index(segment, segment.end)
    for n, at in places:
        if at < segment.end:
            segment.mark(n, at)
    n, at = places[-1] if places else (segment.first_n, HEADER_BYTES)
    for run in find_runs(read_at, at, segment.end, n):  # nothing is left to read if the index speaks of the end
        for index, start in run.marks:
            segment.mark(run.first_n + index, start)


def _entry(n: int, at: int, seed: int) -> bytes:
    return _ENTRY.pack(n, at, crc32(_PLACE.pack(n, at), seed))


def _place(entry: bytes, seed: int) -> tuple[int, int] | None:
    if len(entry) < _ENTRY.size:
        return None
    n, at, crc = _ENTRY.unpack(entry)
    return (n, at) if crc32(entry[: _PLACE.size], seed) == crc else None
