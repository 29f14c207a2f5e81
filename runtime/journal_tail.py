"""The file that the journal writes: all of a flush gets into it, or nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from tagwerk.runtime.journal_files import sync_directory
from tagwerk.runtime.journal_index import Index
from tagwerk.runtime.journal_recovery import Identity
from tagwerk.runtime.journal_segments import HEADER_BYTES, Buffer, Header, Segment, byte_count, segment_name
from tagwerk.runtime.journal_side import Side

_IOV_MAX: Final = 1024  # buffers a gathering write takes, writev(2)
_UNSYNCED_LIMIT: Final = 16  # sealed files that may wait for the next sync
_JOIN_BYTES: Final = 8 << 10  # buffers smaller than this on average are joined: one copy beats many buffers


class Disk:
    """The system calls that a full or failing disk lets fail. Tests put a twin in its place."""

    def write(self, descriptor: int, parts: Sequence[Buffer], offset: int) -> int:
        """Write buffers at an offset and give the bytes written, which may be fewer."""
        return os.pwritev(descriptor, parts, offset)

    def sync(self, descriptor: int) -> None:
        """Wait until a file's content is on the disk."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file to `size` bytes."""
        os.ftruncate(descriptor, size)


@final
class Tail:
    """The end of the journal, where one incarnation writes.

    The file is made by the first write, so that an actor that only starts and dies leaves nothing behind, and so that
    a full disk does not keep it from starting.

    Args:
        directory: Where the segments are.
        identity: Of the journal, for the headers.
        incarnation: Who writes.
        disk: The system calls.
    """

    def __init__(self, directory: Path, identity: Identity, incarnation: int, disk: Disk) -> None:
        self._directory = directory
        self._identity = identity
        self._incarnation = incarnation
        self._disk = disk
        self._descriptor = -1
        self._ragged = False  # bytes of a failed flush are behind the end
        self._names_unsynced = False
        self._sealed_unsynced: list[int] = []
        self._side = Side()
        self._syncing = 0  # sealed files that the sync under way takes
        self.segment: Segment | None = None
        self._index: Index | None = None

    def mark(self, n: int, at: int) -> None:
        """Note that record `n`, which is committed, starts at `at` of the current segment."""
        if self.segment is not None and self._index is not None and self.segment.mark(n, at):
            self._index.add(n, at)

    def write(self, first_n: int, parts: list[Buffer], size: int) -> Segment:
        """Write the records of a flush, the first of which has the number `first_n`.

        Returns:
            The segment that they went into; the caller accounts for them there.

        Raises:
            OSError: They are not in the journal; `take_back` what was written of them.
        """
        segment = self.segment if self.segment is not None else self._start(first_n)
        if self._ragged:
            self.take_back()
        self._ragged = True
        self._write_all(self._descriptor, parts, size, segment.end)
        self._ragged = False
        return segment

    def take_back(self) -> None:
        """Cut off what is behind the segment's committed end.

        Raises:
            OSError: It is still there; the next write tries again before it writes.
        """
        if self.segment is not None:
            self._ragged = True
            self._disk.truncate(self._descriptor, self.segment.end)
            self._ragged = False

    def sync(self) -> None:
        """Wait until all that was written is on the disk.

        Raises:
            OSError: Nobody knows what of it is.
        """
        self.synced(wait=True)
        self._sync_files(*self._unsynced())
        self._close_synced()

    def start_sync(self) -> None:
        """Begin to put all that was written on the disk, on the side; `synced` tells how that goes."""
        self._side.start(self._sync_files, *self._unsynced())

    def synced(self, *, wait: bool = False) -> bool:
        """Say whether no sync is under way.

        Raises:
            OSError: The last one failed: nobody knows what of it is on the disk.
        """
        if not self._side.done(wait=wait):
            return False
        self._close_synced()
        return True

    def _unsynced(self) -> tuple[list[int], bool]:
        # Oldest first: what is on the disk stays a beginning of the journal.
        self._syncing = len(self._sealed_unsynced)
        names, self._names_unsynced = self._names_unsynced, False
        return [*self._sealed_unsynced, *([self._descriptor] if self._descriptor >= 0 else [])], names

    def _sync_files(self, descriptors: list[int], names: bool) -> None:
        try:
            for descriptor in descriptors:
                self._disk.sync(descriptor)
            if names:
                sync_directory(self._directory)
        except OSError:
            self._syncing = 0
            self._names_unsynced = self._names_unsynced or names
            raise

    def _close_synced(self) -> None:
        for descriptor in self._sealed_unsynced[: self._syncing]:
            os.close(descriptor)
        del self._sealed_unsynced[: self._syncing]
        self._syncing = 0

    def seal(self) -> None:
        """End the current segment; the next write starts another.

        Raises:
            OSError: Bytes of a failed flush cannot be cut off, or too much waits to be synced and cannot be.
        """
        if self.segment is None:
            return
        if self._ragged:
            self.take_back()
        if len(self._sealed_unsynced) >= _UNSYNCED_LIMIT:
            self.sync()
        self._sealed_unsynced.append(self._descriptor)
        self._end_segment()

    def close(self) -> None:
        """Close the files; what was not synced stays so."""
        self._side.close()
        for descriptor in (*self._sealed_unsynced, self._descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._sealed_unsynced.clear()
        self._end_segment()

    def _end_segment(self) -> None:
        if self.segment is not None and self._index is not None:
            self._index.finish(self.segment)
        self._descriptor = -1
        self.segment = self._index = None

    def _start(self, first_n: int) -> Segment:
        self._identity.begin(self._directory, self._incarnation, first_n)
        path = self._directory / segment_name(first_n)
        temporary = path.with_suffix(".tmp")
        header = Header(self._identity.journal_id, first_n, self._incarnation)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self._write_all(descriptor, [header.pack()], HEADER_BYTES, 0)
            temporary.replace(path)
        except OSError:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        self._descriptor = descriptor
        self._names_unsynced = True
        self.segment = Segment(path, first_n, first_n - 1, self._incarnation, HEADER_BYTES, header.seed)
        self._index = Index(self.segment)
        return self.segment

    def _write_all(self, descriptor: int, parts: list[Buffer], size: int, offset: int) -> None:
        if len(parts) > 1 and size < len(parts) * _JOIN_BYTES:
            parts = [b"".join(parts)]
        for first in range(0, len(parts), _IOV_MAX):
            batch = parts[first : first + _IOV_MAX]
            left = size if len(batch) == len(parts) else sum(map(byte_count, batch))
            while (written := self._disk.write(descriptor, batch, offset)) < left:
                if not written:
                    raise OSError(errno.ENOSPC, "the disk took nothing of a write")
                offset += written
                left -= written
                batch = [memoryview(b"".join(batch))[written:]]
            offset += written
