"""The committed segments: which one holds a number, what a consumer's place means, and what may go."""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Final, final

from tagwerk.runtime.journal_files import remove_segment, set_aside
from tagwerk.runtime.journal_read import Hole, Page, Reader
from tagwerk.runtime.journal_recovery import Found
from tagwerk.runtime.journal_repair import salvage
from tagwerk.runtime.journal_segments import (
    HEADER_BYTES,
    Position,
    Segment,
    find_runs,
    reader_of,
)

_LAST_N: Final = attrgetter("last_n")
_REPLAY_BYTES: Final = 1 << 20


@final
class Shelf:
    """Segments in the order of their numbers. Numbers may be missing between two of them, never inside one.

    Args:
        found: What the journal's directory holds.
        incarnation: The owner's; it has written none of it.
    """

    def __init__(self, found: Found, incarnation: int) -> None:
        self.journal_id = found.identity.journal_id
        self._identity = found.identity
        self.last_n = found.next_n - 1
        self.set_aside: list[Path] = list(found.set_aside)
        self.size_bytes = sum(segment.end for segment in found.segments)
        self._segments = found.segments
        self._reader = Reader()
        self._last_incarnation = self._segments[-1].incarnation if self._segments else incarnation
        self._position: Position | None = None

    @property
    def position(self) -> Position:
        """The place behind the last record."""
        if self._position is None:
            self._position = Position(self.journal_id, self._last_incarnation, self.last_n)
        return self._position

    @property
    def first_n(self) -> int:
        """The first record there is; the next one to come if there is none."""
        return self._segments[0].first_n if self._segments else self.last_n + 1

    @property
    def last_whole_n(self) -> int:
        """The last record that is there, 0 if there is none; `last_n` may be one that was found damaged."""
        return self._segments[-1].last_n if self._segments else 0

    def written(self, segment: Segment, last_n: int, size: int) -> None:
        """Account for a flush that was written to the end of a segment."""
        if segment.last_n < segment.first_n:
            self._segments.append(segment)
            self.size_bytes += HEADER_BYTES
        segment.end += size
        segment.last_n = self.last_n = last_n
        self.size_bytes += size
        self._last_incarnation = segment.incarnation
        self._position = None

    def reached(self, place: Position | None) -> int:
        """Give the number up to which a consumer has what is here.

        What an incarnation wrote ends where the next one began: a place behind that is of records which a power cut
        took, and whose numbers now belong to others.
        """
        if place is None or place.journal != self.journal_id:
            return 0
        end_n = self._identity.end_of(place.incarnation)
        return min(place.n, self.last_n if end_n is None else end_n)

    def read(self, after: Position | None, limit_bytes: int, limit_records: int) -> Page:
        """Give the records after a place, from one segment.

        Raises:
            DamagedSegment: The next record is damaged; `replace` the segment and read again.
            OSError: The file cannot be read.
        """
        if after is not None and after.n == self.last_n and after == self.position:
            return Page([], after.n + 1, after.n, after, True, None)
        n = self.reached(after) + 1
        index = bisect_left(self._segments, n, key=_LAST_N)
        if index == len(self._segments):
            position = after if after is not None else Position(self.journal_id, self._last_incarnation, 0)
            return Page([], n, n - 1, position, True, None)
        segment = self._segments[index]
        first_n = max(n, segment.first_n)
        bodies = self._reader.bodies(segment, first_n, limit_bytes, limit_records)
        hole = None
        if after is not None and not (after.journal == self.journal_id and first_n == n == after.n + 1):
            hole = Hole(after, Position(self.journal_id, segment.incarnation, first_n))
        last_n = first_n + len(bodies) - 1
        position = Position(self.journal_id, segment.incarnation, last_n)
        return Page(bodies, first_n, last_n, position, last_n == self._segments[-1].last_n, hole)

    def replay(self, after_n: int) -> Iterator[tuple[list[memoryview], int]]:
        """Give the bodies of all records with a number above `after_n`, many at a time, each with its last number.

        Raises:
            DamagedSegment: The next record is damaged; `replace` the segment and go on behind the last number.
        """
        page_end = after_n
        while (index := bisect_left(self._segments, page_end + 1, key=_LAST_N)) < len(self._segments):
            segment = self._segments[index]
            first_n = max(page_end + 1, segment.first_n)
            bodies = self._reader.views(segment, first_n, _REPLAY_BYTES)
            page_end = first_n + len(bodies) - 1
            yield bodies, page_end
        self._reader.unmap()

    def remove_behind(self, n: int) -> int:
        """Remove the segments all of whose records are at or before `n`, but never the last one.

        Returns:
            How many records went.
        """
        removed = 0
        while len(self._segments) > 1 and self._segments[0].last_n <= n:
            removed += self._remove_first()
        return removed

    def remove_oldest(self, n: int) -> int:
        """Remove the oldest segment if all of its records are at or before `n` and it is not the last one.

        Returns:
            How many records went.
        """
        if len(self._segments) > 1 and self._segments[0].last_n <= n:
            return self._remove_first()
        return 0

    def replace(self, segment: Segment) -> None:
        """Set a damaged segment aside and put its whole records in its place. Nobody may write to it any more.

        Raises:
            OSError: The disk does not take them.
        """
        index = self._segments.index(segment)
        self._reader.drop(segment)
        self._segments[index : index + 1] = self._save(segment)
        self.size_bytes = sum(each.end for each in self._segments)

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def _save(self, segment: Segment) -> list[Segment]:
        descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            runs = find_runs(reader_of(descriptor), HEADER_BYTES, segment.end, segment.first_n)
            aside, segments = salvage(segment.path, descriptor, self.journal_id, runs)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            aside, segments = set_aside(segment.path), []
            remove_segment(segment.path)
        finally:
            os.close(descriptor)
        self.set_aside.append(aside)
        return segments

    def _remove_first(self) -> int:
        segment = self._segments[0]
        remove_segment(segment.path)
        self._reader.drop(segment)
        del self._segments[0]
        self.size_bytes -= segment.end
        return segment.last_n - segment.first_n + 1
