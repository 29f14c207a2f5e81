"""Where a durable consumer died: so that a record which kills it twice is set aside, and no other one is.

A small file, written in place and never synced: it must outlive the process, not the host. A death that comes from
outside (kill -9, out of memory) leaves "at work" behind; it makes the next life careful, which takes small pages, and
pages of one record where a small one killed: each page costs a commit, and a consumer that was killed has to catch up.
An exception counts against the record at which it arose. A death without a word counts only if it came over a single
record, and must come more often: it is somebody's kill -9, as a rule.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final
from zlib import crc32

if TYPE_CHECKING:
    from pathlib import Path

    from tagwerk.protocols.tags import PositionMark

RAISED_LIMIT: Final = 2
"""Deaths by an exception after which a record is set aside."""
KILLED_LIMIT: Final = 5
"""The same for deaths without a word: a record in whose commit two kills happen to fall must not be lost."""
PIECE_RECORDS: Final = 256
"""Over more records than these the consumer may have died of any, or of none: they come in small pages first."""
PIECE_BYTES: Final = 4 << 10
"""A small page: never as many as `PIECE_RECORDS`, since no record has less than 18 bytes. One that killed would else be
followed by itself, for ever."""
_ENTRY: Final = struct.Struct("<QQQIII")
_CRC: Final = struct.Struct("<I")
_NOTHING, _AT_WORK, _DEAD = range(3)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Records of a journal, `first_n` to `last_n`, over which the consumer died.

    Args:
        journal: Which journal.
        first_n: The first of them.
        last_n: The last of them.
        raised: How often by an exception.
        killed: How often without a word.
    """

    journal: int
    first_n: int
    last_n: int
    raised: int = 0
    killed: int = 0

    @property
    def single(self) -> bool:
        """It is certain which record it was."""
        return self.first_n == self.last_n


@final
class Stumbles:
    """The deaths of one consumer over one shard's journal.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._trouble = self._load()
        self._at_work: Trouble | None = None

    def page_bytes(self, after: PositionMark | None, usual: int) -> int:
        """How large the page behind `after` may be: as usual, a small one, or one record alone (1 byte)."""
        trouble = self._trouble
        if trouble is None or (after is not None and after.journal == trouble.journal and after.n >= trouble.last_n):
            return usual
        return PIECE_BYTES if trouble.last_n - trouble.first_n >= PIECE_RECORDS else 1

    def condemns(self, journal: int, n: int) -> bool:
        """Whether this record has killed often enough."""
        trouble = self._trouble
        return (
            trouble is not None
            and trouble.single
            and (trouble.journal, trouble.first_n) == (journal, n)
            and (trouble.raised >= RAISED_LIMIT or trouble.killed >= KILLED_LIMIT)
        )

    def begin(self, journal: int, first_n: int, last_n: int) -> None:
        """These records are worked on from now."""
        work = Trouble(journal, first_n, last_n)
        known = self._trouble
        if known is not None and known.journal == journal and known.first_n <= first_n and last_n <= known.last_n:
            killed = known.killed if known.single and work.single else 0
            work = replace(work, raised=known.raised, killed=killed)
        self._at_work = work
        self._write(_AT_WORK, work)

    def failed(self) -> None:
        """What was begun raised an exception, and the process is about to end."""
        work = self._at_work
        if work is not None:
            # What a page and its parts raised counts once: each of its records would else be condemned by a kill.
            raised = work.raised + 1 if work.single else 1
            self._write(_DEAD, replace(work, raised=raised))

    def end(self) -> None:
        """What was begun is done."""
        work, trouble = self._at_work, self._trouble
        self._at_work = None
        passed = work is None or trouble is None or work.journal != trouble.journal or work.last_n >= trouble.last_n
        if passed:
            self._trouble = trouble = None
        if trouble is None:
            self._write(_NOTHING, Trouble(0, 0, 0))
        else:  # further records of a page that killed are to come
            self._write(_DEAD, trouble)

    def _write(self, state: int, of: Trouble) -> None:
        body = _ENTRY.pack(of.journal, of.first_n, of.last_n, of.raised, of.killed, state)
        os.pwrite(self._file, body + _CRC.pack(crc32(body)), 0)

    def _load(self) -> Trouble | None:
        raw = os.pread(self._file, _ENTRY.size + _CRC.size, 0)
        body = raw[: _ENTRY.size]
        if len(raw) < _ENTRY.size + _CRC.size or _CRC.unpack(raw[_ENTRY.size :])[0] != crc32(body):
            return None
        journal, first_n, last_n, raised, killed, state = _ENTRY.unpack(body)
        if state == _NOTHING:
            return None
        found = Trouble(journal, first_n, last_n, raised, killed)
        return replace(found, killed=killed + 1) if state == _AT_WORK and found.single else found
