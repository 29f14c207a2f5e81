"""Reading committed records in pages: each consumer goes on where it stopped, without searching."""

from __future__ import annotations

import mmap
import os
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final
from zlib import crc32

from tagwerk.protocols.errors import TagwerkError
from tagwerk.runtime.journal_index import find_marks
from tagwerk.runtime.journal_segments import (
    HEAD,
    MAX_BODY_BYTES,
    Position,
    Segment,
    offset_of,
    reader_of,
    record_number,
)

_FILES_LIMIT: Final = 8  # open files for reading
_PLACES_LIMIT: Final = 64  # remembered offsets: one a consumer is enough


@dataclass(frozen=True, slots=True)
class Hole:
    """Records that a consumer will never see: those after `start` and before `end`.

    Attributes:
        start: The place the consumer asked from.
        end: The first record that is there.
    """

    start: Position
    end: Position


@dataclass(frozen=True, slots=True)
class Page:
    """Records in a row.

    Attributes:
        records: Their bodies, msgpack, as they are on the disk.
        first_n: The number of the first; of the next one to come if there is none.
        last_n: The number of the last; `first_n - 1` if there is none.
        position: The place behind the last: ask from here next.
        at_end: Nothing is committed behind `position`.
        hole: What is missing before the first record, or None.
    """

    records: list[bytes]
    first_n: int
    last_n: int
    position: Position
    at_end: bool
    hole: Hole | None


class DamagedSegment(TagwerkError):  # noqa: N818  a state of the disk, not a fault of the caller
    """A committed record is not what was written; the journal sets its segment aside.

    Args:
        segment: Where it is.
        n: The record's number.
    """

    def __init__(self, segment: Segment, n: int) -> None:
        self.segment = segment
        super().__init__(f"{segment.path}: record {n} is damaged")


@final
class Reader:
    """Reads segments through a few open files, and remembers where the next record of each cursor starts."""

    def __init__(self) -> None:
        self._mapped: tuple[int, memoryview] | None = None  # first n of a segment, its file
        self._files: OrderedDict[int, int] = OrderedDict()  # first n of a segment -> descriptor
        self._places: OrderedDict[int, tuple[int, int]] = OrderedDict()  # n -> (first n of its segment, offset)

    def bodies(self, segment: Segment, n: int, limit_bytes: int, limit_records: int) -> list[bytes]:
        """Give the bodies of records from `n` on, at least one, within one segment.

        Raises:
            DamagedSegment: A record's CRC is wrong, or the file is shorter than it was.
            OSError: The file cannot be read.
        """
        descriptor = self._open(segment)

        def read(size: int, offset: int) -> memoryview:
            return memoryview(os.pread(descriptor, size, offset))

        return [bytes(body) for body in self._bodies(segment, n, limit_bytes, limit_records, read)]

    def views(self, segment: Segment, n: int, limit_bytes: int) -> list[memoryview]:
        """As `bodies`, of a file that is mapped: half the time for one who reads all of it once. Ends with `unmap`."""
        if self._mapped is None or self._mapped[0] != segment.first_n or len(self._mapped[1]) < segment.end:
            descriptor = self._open(segment)
            size = os.fstat(descriptor).st_size
            whole = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else b"")
            self._mapped = (segment.first_n, whole)
        whole = self._mapped[1]
        return self._bodies(segment, n, limit_bytes, limit_bytes, lambda size, offset: whole[offset : offset + size])

    def unmap(self) -> None:
        """Let go of what `views` has mapped; what it gave keeps its own hold."""
        self._mapped = None

    def _bodies(
        self, segment: Segment, n: int, limit_bytes: int, limit_records: int, read: Callable[[int, int], memoryview]
    ) -> list[memoryview]:
        file, offset = self._places.pop(n, (-1, 0))
        if file != segment.first_n:  # the segment that held the record before may have been its file's last
            offset = _search(self._open(segment), segment, n)
        chunk = read(max(HEAD.size, min(limit_bytes, segment.end - offset)), offset)
        bodies, used = _split(chunk, limit_records)
        if not bodies:  # the record is longer than the page
            length = HEAD.unpack_from(chunk)[0] if len(chunk) >= HEAD.size else MAX_BODY_BYTES + 1
            if length > MAX_BODY_BYTES:
                raise DamagedSegment(segment, n)
            bodies, used = _split(read(HEAD.size + length, offset), 1)
        if not bodies or record_number(bodies[0]) != n:
            raise DamagedSegment(segment, n)
        self._places[n + len(bodies)] = (segment.first_n, offset + used)
        if len(self._places) > _PLACES_LIMIT:
            self._places.popitem(last=False)
        return bodies

    def drop(self, segment: Segment) -> None:
        """Forget a segment that is removed or replaced."""
        self.unmap()
        descriptor = self._files.pop(segment.first_n, None)
        if descriptor is not None:
            os.close(descriptor)
        for n in [n for n, (file, _) in self._places.items() if file == segment.first_n]:
            del self._places[n]

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._places.clear()

    def _open(self, segment: Segment) -> int:
        descriptor = self._files.get(segment.first_n)
        if descriptor is None:
            descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            self._files[segment.first_n] = descriptor
            if len(self._files) > _FILES_LIMIT:
                os.close(self._files.popitem(last=False)[1])
        else:
            self._files.move_to_end(segment.first_n)
        return descriptor


def _search(descriptor: int, segment: Segment, n: int) -> int:
    if not segment.marks_n:
        find_marks(reader_of(descriptor), segment)
    if not segment.marks_n:
        raise DamagedSegment(segment, n)
    try:
        return offset_of(reader_of(descriptor), segment, n)
    except struct.error as error:
        raise DamagedSegment(segment, n) from error


def _split(chunk: memoryview, limit_records: int) -> tuple[list[memoryview], int]:
    bodies: list[memoryview] = []
    place, last_head = 0, len(chunk) - HEAD.size
    while place <= last_head and len(bodies) < limit_records:
        length, crc = HEAD.unpack_from(chunk, place)
        stop = place + HEAD.size + length
        if stop > len(chunk):
            break
        body = chunk[place + HEAD.size : stop]
        if crc32(body) != crc:
            break  # the pages end before it; the one that starts with it tells
        bodies.append(body)
        place = stop
    return bodies, place
