"""The journal's bytes: segment header, record, and how whole records are found in a damaged file. It opens nothing.

A segment is a 40-byte header and records, all little endian:

    header  magic "TWJ1", layout u32, journal id u64, first n u64, incarnation u64, 0 u32, CRC-32 of all before u32
    record  length of the body u32, CRC-32 of the body u32, body
    body    msgpack [n, kind, revision, incarnation, writer, sequence, received_ns, frame]; it grows only at its end

A segment is written by one incarnation only, so its header says who wrote each number in it.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias
from zlib import crc32

import msgpack
import msgspec

from tagwerk.protocols.errors import LocalProtocolError

Buffer: TypeAlias = bytes | bytearray | memoryview
Frame: TypeAlias = Buffer | list[Buffer] | tuple[Buffer, ...]
ReadAt: TypeAlias = Callable[[int, int], bytes]  # (offset, bytes wanted) -> at most that much

LAYOUT: Final = 1
MAX_BODY_BYTES: Final = 1 << 20  # a longer one is damage: frames are at most 64 KB, so this is generous
MIN_BODY_BYTES: Final = 10
MARK_BYTES: Final = 64 << 10  # a place is found by hopping over records from the nearest mark before it
HEADER_BYTES: Final = 40
HEAD: Final = struct.Struct("<II")
SEGMENT_NAME: Final = re.compile(r"[0-9a-f]{16}\.seg")

_HEADER: Final = struct.Struct("<4sIQQQI")
_CRC: Final = struct.Struct("<I")
_MAGIC: Final = b"TWJ1"
_SCAN_BYTES: Final = 2 << 20  # larger than any record, so a chunk without a whole record is a damaged one
_GATHER_BYTES: Final = 4 << 10  # below this one copy is cheaper than one more buffer in a gathering write
_BODY_START: Final = re.compile(rb"\x98[\x00-\x7f\xcc-\xcf]", re.DOTALL)  # array of 8, then an unsigned integer
_UINT: Final = {
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
}
_PACKER: Final = msgpack.Packer(use_bin_type=True)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a journal: behind record `n`, as `incarnation` wrote it. A bare number would repeat after a power cut.

    Attributes:
        journal: The journal's random id.
        incarnation: Who wrote record `n`.
        n: The record's number, from 1; 0 is before the first.
    """

    journal: int
    incarnation: int
    n: int


@dataclass(frozen=True, slots=True)
class Record:
    """One journaled frame with its fence (revision, incarnation) and its place in its writer's sequence."""

    n: int
    kind: int
    revision: int
    incarnation: int
    writer: str
    sequence: int
    received_ns: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What stands at the start of a segment."""

    journal: int
    first_n: int
    incarnation: int

    @property
    def seed(self) -> int:
        """The CRC-32 that tells this segment from any other."""
        return crc32(self.pack()[: _HEADER.size])  # with its own CRC behind it the CRC is the same for all

    def pack(self) -> bytes:
        """Give the bytes of the header."""
        head = _HEADER.pack(_MAGIC, LAYOUT, self.journal, self.first_n, self.incarnation, 0)
        return head + _CRC.pack(crc32(head))

    @staticmethod
    def unpack(data: bytes) -> Header | None:
        """Read a header; None if it is damaged.

        Raises:
            LocalProtocolError: The header is whole, but of a layout that this version does not know.
        """
        if (
            len(data) < HEADER_BYTES
            or data[:4] != _MAGIC
            or _CRC.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size])
        ):
            return None
        _, layout, journal, first_n, incarnation, _ = _HEADER.unpack_from(data)
        if layout != LAYOUT:
            raise LocalProtocolError(f"journal segment of layout {layout}, this version knows {LAYOUT}")
        return Header(journal, first_n, incarnation)


@dataclass(slots=True, eq=False)
class Segment:
    """One file of the journal, as far as it is committed.

    Attributes:
        path: The file.
        first_n: The number of its first record; also its name.
        last_n: The number of its last record, `first_n - 1` while it is empty.
        incarnation: Who wrote it.
        end: Bytes that count; whatever lies behind is not part of the journal.
        seed: CRC-32 of its header.
        marks_n: Numbers of some records, rising, one about every `MARK_BYTES`. Empty until somebody looks for one.
        marks_at: Where they start in the file.
    """

    path: Path
    first_n: int
    last_n: int
    incarnation: int
    end: int
    seed: int = 0
    marks_n: list[int] = field(default_factory=list[int])
    marks_at: list[int] = field(default_factory=list[int])

    def mark(self, n: int, at: int) -> bool:
        """Remember where record `n` starts, if the last mark is far enough behind.

        Returns:
            Whether it is a mark now.
        """
        if self.marks_at and at - self.marks_at[-1] < MARK_BYTES:
            return False
        self.marks_n.append(n)
        self.marks_at.append(at)
        return True


@dataclass(slots=True)
class Run:
    """Whole records in a row.

    Attributes:
        first_n: The number of the first.
        start: Where the first starts.
        end: Where the last ends.
        count: How many.
        last_at: Where the last starts.
        marks: (index in the run, offset) of some of them.
    """

    first_n: int
    start: int
    end: int
    count: int
    last_at: int
    marks: list[tuple[int, int]]


def segment_name(first_n: int) -> str:
    """Give the file name of the segment that starts with record `first_n`; names sort as numbers do."""
    return f"{first_n:016x}.seg"


def byte_count(part: Buffer) -> int:
    """Give the length of a buffer in bytes, whatever its item type."""
    return part.nbytes if isinstance(part, memoryview) else len(part)


def encode_record(fields: tuple[int, int, int, int, str, int, int], frame: Frame) -> tuple[list[Buffer], int]:
    """Give a record as buffers to be written one after the other, and their bytes. A large frame is not copied.

    Args:
        fields: n, kind, revision, incarnation, writer, sequence, received_ns.
        frame: The frame, in one or many pieces.

    Raises:
        LocalProtocolError: The record is larger than a reader accepts.
    """
    if isinstance(frame, (list, tuple)):
        pieces: list[Buffer] = list(frame)
        frame_bytes = sum(map(byte_count, pieces))
    else:
        pieces, frame_bytes = [frame], byte_count(frame)
    if frame_bytes < _GATHER_BYTES:
        body: bytes = _PACKER.pack((*fields, b"".join(pieces)))
        if len(body) > MAX_BODY_BYTES:
            raise LocalProtocolError(f"record {fields[0]} of {len(body)} bytes, the journal takes {MAX_BODY_BYTES}")
        return [HEAD.pack(len(body), crc32(body)) + body], HEAD.size + len(body)
    # An empty bin ends in two bytes (type and length); what stands before them does not depend on the frame.
    size_head = (
        b"\xc5" + struct.pack(">H", frame_bytes) if frame_bytes < 1 << 16 else b"\xc6" + struct.pack(">I", frame_bytes)
    )
    start: bytes = _PACKER.pack((*fields, b""))[:-2] + size_head
    length = len(start) + frame_bytes
    if length > MAX_BODY_BYTES:
        raise LocalProtocolError(f"record {fields[0]} of {length} bytes, the journal takes {MAX_BODY_BYTES}")
    crc = crc32(start)
    for piece in pieces:
        crc = crc32(piece, crc)
    return [HEAD.pack(length, crc) + start, *pieces], HEAD.size + length


def decode_record(body: bytes | memoryview) -> Record:
    """Read the body of a record whose CRC was right."""
    return Record(*msgpack.unpackb(body)[:8])


class Lean(msgspec.Struct, array_like=True, gc=False):
    """A record as it lies in what was read: its frame is a part of that. The fields are those of `Record`."""

    n: int
    kind: int
    revision: int
    incarnation: int
    writer: str
    sequence: int
    received_ns: int
    frame: memoryview


_LEAN: Final = msgspec.msgpack.Decoder(Lean)


def lean_record(body: memoryview) -> Lean:
    """Read the body of a record whose CRC was right, without a copy of its frame."""
    return _LEAN.decode(body)


def record_number(body: bytes | memoryview) -> int | None:
    """Give the number at the start of a record's body; None if none stands there."""
    lead = body[1]
    if lead < 0x80:  # a positive fixint is its own value
        return lead
    form = _UINT.get(lead)
    return None if form is None or len(body) < 2 + form.size else int(form.unpack_from(body, 2)[0])


def reader_of(descriptor: int) -> ReadAt:
    """Give a function that reads a file at an offset."""

    def read_at(offset: int, size: int) -> bytes:
        return os.pread(descriptor, size, offset)

    return read_at


def find_runs(read_at: ReadAt, start: int, size: int, first_n: int) -> list[Run]:
    """Find all whole records of a segment.

    A file without damage gives one run that ends at `size`. A torn tail gives one that ends before it. Each damaged
    place between whole records ends one run and starts another.

    Args:
        read_at: Reads the file.
        start: Where the first record should start.
        size: Bytes of the file.
        first_n: The number that the first record should have.
    """
    runs: list[Run] = []
    n: int | None = first_n
    while n is not None and start < size:
        run = _whole_records(read_at, start, size, n)
        if run.count:
            runs.append(run)
            n += run.count
        if run.end == size:
            break
        start, n = _next_record(read_at(run.end, size - run.end), run.end, n)
    return runs


def offset_of(read_at: ReadAt, segment: Segment, n: int) -> int:
    """Give the offset at which record `n` of a segment starts."""
    nearest = bisect_right(segment.marks_n, n) - 1
    at, hops = segment.marks_at[nearest], n - segment.marks_n[nearest]
    if not hops:
        return at
    # Two marks are at most 2 * MARK_BYTES apart: one for the end of a flush, one for the flush that follows it.
    chunk = read_at(at, min(2 * MARK_BYTES + HEAD.size, segment.end - at))
    place = 0
    for _ in range(hops):
        place += HEAD.size + HEAD.unpack_from(chunk, place)[0]
    return at + place


def _whole_records(read_at: ReadAt, start: int, size: int, first_n: int) -> Run:
    run = Run(first_n, start, start, 0, start, [])
    next_mark = start
    while run.end < size:
        chunk = memoryview(read_at(run.end, min(_SCAN_BYTES, size - run.end)))
        place, limit, count, last = 0, len(chunk) - HEAD.size, run.count, -1
        while place <= limit:
            length, crc = HEAD.unpack_from(chunk, place)
            stop = place + HEAD.size + length
            if stop > len(chunk) or not MIN_BODY_BYTES <= length <= MAX_BODY_BYTES:
                break  # damaged, or cut off by the end of the chunk: the next chunk starts here and tells
            if crc32(chunk[place + HEAD.size : stop]) != crc:
                break
            if run.end + place >= next_mark:
                run.marks.append((count, run.end + place))
                next_mark = run.end + place + MARK_BYTES
            count += 1
            last, place = place, stop
        if last < 0:
            break
        run.last_at = run.end + last
        run.end += place
        run.count = count
    return run


def _next_record(tail: bytes, offset: int, least_n: int) -> tuple[int, int | None]:
    most_n = least_n + len(tail) // (HEAD.size + MIN_BODY_BYTES)
    for match in _BODY_START.finditer(tail, HEAD.size):
        body_at = match.start()
        length, crc = HEAD.unpack_from(tail, body_at - HEAD.size)
        if MIN_BODY_BYTES <= length <= min(MAX_BODY_BYTES, len(tail) - body_at):
            body = tail[body_at : body_at + length]
            n = record_number(body)
            if n is not None and least_n <= n <= most_n and crc32(body) == crc:
                return offset + body_at - HEAD.size, n
    return offset + len(tail), None
