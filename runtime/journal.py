"""The journal of a shard: what is in it is acknowledged, and stays until every durable consumer has it.

One owner, one thread, no locks. Records are appended in memory, and `commit` puts all of a flush into the file, or
nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, final

from tagwerk.protocols.errors import LocalProtocolError, NotJournaled
from tagwerk.runtime.clock import NS_PER_S, Clock
from tagwerk.runtime.journal_consumers import Consumers
from tagwerk.runtime.journal_read import DamagedSegment, Hole, Page
from tagwerk.runtime.journal_recovery import Recovery, recover
from tagwerk.runtime.journal_segments import (
    HEADER_BYTES,
    MARK_BYTES,
    Buffer,
    Frame,
    Position,
    Record,
    Segment,
    decode_record,
    encode_record,
    lean_record,
)
from tagwerk.runtime.journal_shelf import Shelf
from tagwerk.runtime.journal_tail import Disk, Tail

__all__ = ["Disk", "Hole", "Journal", "JournalFull", "Page", "Position", "Record", "Recovery", "lean_record"]

Sync = Literal["interval", "always"]
AtCap = Literal["live_only", "drop_oldest"]

_SEGMENTS_IN_CAP: Final = 8  # only sealed segments can be removed, so a small cap makes small segments
_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
_YOUNG: Final = 0.45  # of the interval: what has waited for less is not synced yet
_PAGE_BYTES: Final = 1 << 20
_PAGE_RECORDS: Final = 4096


class JournalFull(NotJournaled):
    """The journal is at its cap, or the disk is full or fails: nothing of this flush is in it."""


@final
class Journal:
    """An append-only log in segment files.

    Args:
        directory: Where it lives; made by `open`.
        incarnation: Of the actor that owns it; larger than that of any earlier owner.
        clock: For the age of what is not synced.
        segment_bytes: A file is ended before it becomes larger.
        sync: `interval`: written at `commit`, on the disk after `sync_interval_s`; `always`: on the disk at `commit`.
        sync_interval_s: Seconds that a power cut may take with `interval`.
        cap_bytes: The journal never becomes larger.
        cap_pct: Nor larger than this share of its file system.
        at_cap: `live_only`: `commit` raises; `drop_oldest`: the oldest records go, read or not.
        revision: The ownership revision, the first half of the fence.
        disk: The system calls that may fail.
    """

    def __init__(
        self,
        directory: Path,
        *,
        incarnation: int,
        clock: Clock,
        cap_bytes: int,
        cap_pct: float = 100.0,
        at_cap: AtCap = "live_only",
        segment_bytes: int = 64 << 20,
        sync: Sync = "interval",
        sync_interval_s: float = 1.0,
        revision: int = 0,
        disk: Disk | None = None,
    ) -> None:
        self._directory = directory
        self._incarnation = incarnation
        self._revision = revision
        self._clock = clock
        self._cap_bytes = cap_bytes
        self._cap_pct = cap_pct
        self._drops_oldest = at_cap == "drop_oldest"
        self._segment_bytes = segment_bytes
        self._sync_always = sync == "always"
        self._sync_interval_ns = round(sync_interval_s * NS_PER_S)
        self._young_ns = round(_YOUNG * sync_interval_s * NS_PER_S)
        self._disk = disk if disk is not None else Disk()
        self._consumers = Consumers(directory)
        self._shelf: Shelf
        self._tail: Tail
        self._needed: Position | None = None
        self._held = False
        self._dropped = 0
        self._failed = False
        self._dirty_since_ns: int | None = None
        self._received_ns = 0
        self._next_n = 1
        self._parts: list[Buffer] = []
        self._flush_bytes = 0
        self._flush_marks: list[tuple[int, int]] = []

    def open(self) -> Recovery:
        """Read what is there, repair it, and make ready for `append`.

        Raises:
            LocalProtocolError: The journal was written by this or a later incarnation, or by another version.
            OSError: The directory cannot be read or repaired.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = recover(self._directory)
        if found.segments and found.segments[-1].incarnation >= self._incarnation:
            written_by = found.segments[-1].incarnation
            raise LocalProtocolError(f"incarnation {self._incarnation} opens a journal written by {written_by}")
        lost_places = self._consumers.load()
        if lost_places is not None:
            found.set_aside.append(lost_places)
        self._shelf = Shelf(found, self._incarnation)
        self._tail = Tail(self._directory, found.identity, self._incarnation, self._disk)
        self._next_n = found.next_n
        file_system = os.statvfs(self._directory)
        self._cap_bytes = min(self._cap_bytes, int(file_system.f_blocks * file_system.f_frsize * self._cap_pct / 100))
        self._segment_bytes = min(self._segment_bytes, self._cap_bytes // _SEGMENTS_IN_CAP)
        self._received_ns = self._last_received_ns()
        try:
            found.identity.save(self._directory)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            self._failed = True  # the first segment writes it, when there is space
        return Recovery(
            self._shelf.first_n, found.next_n - 1, found.torn_bytes, self.set_aside, self._shelf.journal_id, found.new
        )

    def replay(self, after: Position | int) -> Iterator[Record]:
        """Give the committed records after a place, one by one. See `replay_pages`."""
        for bodies in self.replay_pages(after):
            yield from map(decode_record, bodies)

    def replay_pages(self, after: Position | int) -> Iterator[list[memoryview]]:
        """Give the bodies of the committed records after a place, many at a time, to rebuild a table from a snapshot.

        Args:
            after: A snapshot's position; a bare number only if it is known to be of this journal.
        """
        n = after if isinstance(after, int) else self._shelf.reached(after)
        while True:  # each turn replaces a damaged segment by whole ones
            try:
                for bodies, last_n in self._shelf.replay(n):
                    yield bodies
                    n = last_n
                return
            except DamagedSegment as damage:
                self._replace(damage.segment)

    def append(self, kind: int, writer: str, sequence: int, received_ns: int, frame: Frame) -> int:
        """Add a record to this flush and give its number. It is not journaled before `commit` returns.

        Args:
            kind: What the frame is; the owner's own numbers.
            writer: Who sent it.
            sequence: Its number among that writer's frames.
            received_ns: When it came, UTC ns; kept from going back.
            frame: The frame, in one or many pieces, which must stay as they are until `commit`.

        Raises:
            LocalProtocolError: The record is larger than a reader accepts.
        """
        n = self._next_n
        received = max(received_ns, self._received_ns)
        fields = (n, kind, self._revision, self._incarnation, writer, sequence, received)
        parts, size = encode_record(fields, frame)
        marked = self._flush_marks[-1][1] if self._flush_marks else -MARK_BYTES
        if self._flush_bytes - marked >= MARK_BYTES:
            self._flush_marks.append((n, self._flush_bytes))
        self._parts += parts
        self._flush_bytes += size
        self._received_ns = received
        self._next_n = n + 1
        return n

    def commit(self) -> None:
        """Journal what was appended in this flush, all or nothing.

        Raises:
            JournalFull: Nothing of it is journaled, and its numbers will be given again. Try again at any later flush.
        """
        if not self._parts:
            return
        try:
            segment = self._store()
        except BaseException as error:
            with suppress(OSError):  # what cannot be cut off now is cut off before the next write
                self._tail.take_back()
            self._next_n = self._shelf.last_n + 1
            self._failed = True
            self._clear_flush()
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise JournalFull(f"journal {self._directory}: {error.strerror}") from error
            raise
        for n, at in self._flush_marks:
            self._tail.mark(n, segment.end + at)
        self._shelf.written(segment, self._next_n - 1, self._flush_bytes)
        self._failed = False
        self._clear_flush()

    def tick(self, mono_ns: int) -> None:
        """Begin to put on the disk what has waited for about half of `sync_interval_s`.

        It is done on the side, and takes less than a quarter on a disk that keeps up.

        Raises:
            JournalFull: The disk could not; it is tried again. A power cut before that may take more than
                `sync_interval_s`, so whoever gets this tells somebody.
        """
        try:
            if not self._tail.synced():
                return
            if self._dirty_since_ns is None or mono_ns - self._dirty_since_ns < self._young_ns:
                return
            self._tail.start_sync()
        except OSError as error:
            self._dirty_since_ns = mono_ns
            if error.errno not in _DISK_ERRORS:
                raise
            raise JournalFull(f"journal {self._directory} is not synced: {error.strerror}") from error
        self._dirty_since_ns = None

    @property
    def unsynced(self) -> bool:
        """Whether something waits for a sync to be begun."""
        return self._dirty_since_ns is not None

    def sync_after_s(self, mono_ns: int) -> float:
        """Give the seconds after which `tick` has to be called for what is `unsynced`, at the latest."""
        since_ns = mono_ns if self._dirty_since_ns is None else self._dirty_since_ns
        left_ns = since_ns + self._sync_interval_ns * 3 // 4 - mono_ns
        return max(left_ns, self._sync_interval_ns // 4) / NS_PER_S

    def keep_places(self) -> None:
        """Write the places of the consumers, if one has moved: a start that finds older ones keeps more than it must.

        Raises:
            JournalFull: The disk could not.
        """
        try:
            self._consumers.save()
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            raise JournalFull(f"journal {self._directory}: {error.strerror}") from error

    def read(
        self, after: Position | None, *, limit_bytes: int = _PAGE_BYTES, limit_records: int = _PAGE_RECORDS
    ) -> Page:
        """Give the committed records after a place: at least one if there is one, and about `limit_bytes` at most.

        Args:
            after: The `position` of the page before; None starts at the first record there is.
            limit_bytes: Bytes of a page, heads included. Only a single record may be longer.
            limit_records: Records of a page.
        """
        while True:  # each turn replaces a damaged segment by whole ones
            try:
                return self._shelf.read(after, limit_bytes, limit_records)
            except DamagedSegment as damage:
                self._replace(damage.segment)

    def register(self, consumer: str) -> None:
        """Keep for a durable consumer all that is here and comes, from now on and over restarts, until it is consumed.

        Raises:
            OSError: The registration is not on the disk.
        """
        self._consumers.register(consumer)

    def consumed(self, consumer: str, position: Position) -> None:
        """Note that a consumer's own commit up to `position` is synced, and remove what nobody needs any more."""
        self._consumers.move(consumer, position)
        self._truncate()

    def forget(self, consumer: str) -> None:
        """Stop to keep anything for a consumer.

        Raises:
            OSError: That is not on the disk.
        """
        self._consumers.forget(consumer)
        self._truncate()

    def consumers(self) -> dict[str, Position | None]:
        """Give the registered consumers and their places, None for one that has consumed nothing."""
        return self._consumers.places()

    def keep_after(self, place: Position | None) -> None:
        """Say that the table's recovery needs the records after `place`: that of the older of two kept snapshots.

        Nothing is removed, not even by `drop_oldest`, while it is None, as it is after `open`.
        """
        self._needed = place
        self._truncate()

    def hold(self, held: bool) -> None:
        """Remove nothing from now on, whoever has consumed it, until this is called again, or there is no room.

        Args:
            held: Whether it begins or ends.
        """
        self._held = held
        self._truncate()

    @property
    def held(self) -> bool:
        """Whether nothing is removed: `hold` was called, and there was room ever since."""
        return self._held

    def size_bytes(self) -> int:
        """Give the bytes of all segments."""
        return self._shelf.size_bytes

    @property
    def position(self) -> Position:
        """The place behind the last committed record."""
        return self._shelf.position

    @property
    def received_ns(self) -> int:
        """The time of the last record; no later one is older."""
        return self._received_ns

    @property
    def fill(self) -> float:
        """The share of the cap that is used, 0 to 1."""
        return min(1.0, self._shelf.size_bytes / self._cap_bytes)

    @property
    def full(self) -> bool:
        """At the cap, or the last commit failed and none has succeeded since."""
        return self._failed or self._shelf.size_bytes >= self._cap_bytes

    @property
    def dropped(self) -> int:
        """Records removed by `drop_oldest` since `open`, read or not."""
        return self._dropped

    @property
    def set_aside(self) -> tuple[Path, ...]:
        """Damaged files set aside at `open` and since."""
        return tuple(self._shelf.set_aside)

    def close(self) -> None:
        """Put all that is committed on the disk and close the files. What is only appended is forgotten.

        Raises:
            OSError: The last `sync_interval_s` may not be on the disk. The files are closed all the same.
        """
        try:
            self._consumers.save()
            self._tail.sync()
        finally:
            self._tail.close()
            self._shelf.close()

    def _store(self) -> Segment:
        self._make_room()
        tail = self._tail.segment
        if tail is not None and tail.end > HEADER_BYTES and tail.end + self._flush_bytes > self._segment_bytes:
            self._tail.seal()
        while True:  # each turn removes a segment
            try:
                segment = self._tail.write(self._shelf.last_n + 1, self._parts, self._flush_bytes)
                break
            except OSError as error:
                if error.errno != errno.ENOSPC or not (self._let_go() or self._drop_oldest()):
                    raise
        if self._sync_always:
            self._tail.sync()
        elif self._dirty_since_ns is None:
            self._dirty_since_ns = self._clock.mono_ns()
        return segment

    def _make_room(self) -> None:
        needed = self._flush_bytes + HEADER_BYTES
        while self._shelf.size_bytes + needed > self._cap_bytes:
            if not (self._let_go() or self._drop_oldest()):
                raise JournalFull(f"journal {self._directory}: at its cap of {self._cap_bytes} bytes")

    def _let_go(self) -> bool:
        """End the hold: what is acknowledged matters more. Gives whether there was one."""
        if self._held:
            self.hold(False)
            return True
        return False

    def _drop_oldest(self) -> bool:
        dropped = self._shelf.remove_oldest(self._shelf.reached(self._needed)) if self._drops_oldest else 0
        self._dropped += dropped
        return dropped > 0

    def _truncate(self) -> None:
        if not self._consumers.lost and not self._held:
            places = [self._needed, *self._consumers.places().values()]
            self._shelf.remove_behind(min(map(self._shelf.reached, places)))

    def _last_received_ns(self) -> int:
        while self._shelf.last_whole_n:  # a damaged last record is replaced, and the one before it is the last
            for record in self.replay(self._shelf.last_whole_n - 1):
                return record.received_ns
        return 0

    def _replace(self, damaged: Segment) -> None:
        if damaged is self._tail.segment:
            self._tail.seal()
        self._shelf.replace(damaged)

    def _clear_flush(self) -> None:
        self._parts = []
        self._flush_bytes = 0
        self._flush_marks = []
