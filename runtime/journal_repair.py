"""Repairs of a journal's files: whole records are taken out of damaged segments, ends that do not count are cut off."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Final
from zlib import crc32

from tagwerk.runtime.journal_files import private, remove_segment, set_aside, sync_directory
from tagwerk.runtime.journal_index import find_marks, write_index
from tagwerk.runtime.journal_segments import (
    HEAD,
    HEADER_BYTES,
    Header,
    Run,
    Segment,
    decode_record,
    offset_of,
    reader_of,
    record_number,
    segment_name,
)

_COPY_BYTES: Final = 4 << 20


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
        remove_segment(path)
    sync_directory(path.parent)
    for segment in segments:
        write_index(segment)
    return aside, segments


def _first_body(descriptor: int, run: Run) -> bytes:
    length, _ = HEAD.unpack(os.pread(descriptor, HEAD.size, run.start))
    return os.pread(descriptor, length, run.start + HEAD.size)


def _copy_run(path: Path, descriptor: int, run: Run, header: Header) -> Segment:
    with open(path, "wb", opener=private) as file:
        file.write(header.pack())
        for offset in range(run.start, run.end, _COPY_BYTES):
            file.write(os.pread(descriptor, min(_COPY_BYTES, run.end - offset), offset))
        file.flush()
        os.fdatasync(file.fileno())
    shift = HEADER_BYTES - run.start
    last_n = run.first_n + run.count - 1
    segment = Segment(path, run.first_n, last_n, header.incarnation, run.end + shift, header.seed)
    for index, at in run.marks:
        segment.mark(run.first_n + index, at + shift)
    return segment


def overlapping(segments: list[Segment]) -> list[Segment]:
    """Give those segments that claim numbers of the next one."""
    return [one for one, later in pairwise(segments) if one.last_n >= later.first_n]


def cut_overlaps(segments: list[Segment]) -> int:
    """Let the later segment have the numbers that two claim; gives the bytes that were cut off.

    A power cut can bring back the tail that a failed write left and the journal had cut off, after its numbers were
    given again in the next segment.
    """
    cut = 0
    for earlier, later in pairwise(segments):
        if earlier.last_n >= later.first_n:
            with open(earlier.path, "rb") as file:
                end = offset_of(reader_of(file.fileno()), earlier, later.first_n)
            cut += _cut_to(earlier, later.first_n - 1, end)
    return cut


def cut_unfinished(segments: list[Segment]) -> int:
    """Cut off the records of a frame whose last one is not there; gives the bytes. Its writer sends it again whole."""
    cut = 0
    while segments and (at := _unfinished_at(segments[-1])) is not None:
        segment = segments[-1]
        cut += _cut_to(segment, segment.last_n - 1, at)
        if segment.last_n < segment.first_n:
            remove_segment(segments.pop().path)
    return cut


def _unfinished_at(segment: Segment) -> int | None:
    """Give where the last record starts if more of its frame should follow; None if not, or if it is damaged."""
    with open(segment.path, "rb") as file:
        read_at = reader_of(file.fileno())
        if not segment.marks_n:
            find_marks(read_at, segment)
        try:
            at = offset_of(read_at, segment, segment.last_n)
        except (struct.error, IndexError):
            return None
        data = read_at(at, segment.end - at) if at < segment.end else b""
    body = data[HEAD.size :]
    if len(data) < HEAD.size or HEAD.unpack_from(data) != (len(body), crc32(body)):
        return None
    return at if decode_record(body).sequence < 0 else None


def _cut_to(segment: Segment, last_n: int, end: int) -> int:
    """Cut what is behind a record off a segment; gives the bytes."""
    with open(segment.path, "r+b") as file:
        file.truncate(end)
        os.fdatasync(file.fileno())
    cut = segment.end - end
    segment.end, segment.last_n = end, last_n
    while segment.marks_at and segment.marks_at[-1] >= end:
        segment.marks_n.pop()
        segment.marks_at.pop()
    write_index(segment)
    return cut
