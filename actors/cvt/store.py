"""What a shard keeps on disk: its journal, and a snapshot of its table, from which it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.cvt.logic.backlog import Backlog
from tagwerk.actors.cvt.logic.writers import Writer, Writers
from tagwerk.protocols.codec import pack, unpack
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.link import ReceiveCounter
from tagwerk.protocols.samples import decode
from tagwerk.runtime.durable import BIRTH, LOSS, SAMPLES
from tagwerk.runtime.journal import Journal, Position
from tagwerk.runtime.snapshot import kept_after, read_snapshot, write_snapshot

if TYPE_CHECKING:
    import logging
    from pathlib import Path

    from numpy.typing import NDArray

    from tagwerk.actors.cvt.logic.table import Table
    from tagwerk.runtime.journal import Record

FORMAT: Final = 1
SNAPSHOT_RECORDS: Final = 1_000
"""A restart applies about so many records at most, or a tenth of the tags if that is more."""
SNAPSHOT_BYTES: Final = 16 << 20
COLUMNS: Final = ("handles", "floats", "ints", "has_value", "times", "received", "quality", "owner", "born")


class Memory:
    """Brings table and writers back after a restart, and keeps the snapshot that makes it quick.

    Args:
        journal: Opened.
        path: Of the snapshot.
    """

    def __init__(self, journal: Journal, path: Path) -> None:
        self.journal = journal
        self._path = path
        self._since_records = 0
        self._since_bytes = 0
        self._limit = SNAPSHOT_RECORDS

    def restore(self, table: Table, writers: Writers, log: logging.Logger) -> int:
        """Load the snapshot and apply the records after it; returns how many records were applied."""
        self._limit = max(SNAPSHOT_RECORDS, len(table) // 10)
        snapshot = read_snapshot(self._path)
        after: Position | int = 0
        self.journal.keep_after(kept_after(self._path))
        if snapshot is not None and snapshot.position.journal == self.journal.position.journal:
            try:
                _load(table, writers, unpack(snapshot.payload, max_bytes=1 << 32))
                after = snapshot.position
            except (RemoteProtocolError, LookupError, ValueError, TypeError) as error:
                log.error("the snapshot is not usable (%s): the whole journal is applied", error)
        count = 0
        backlog = Backlog(table)
        for record in self.journal.replay(after):
            _replay(table, writers, backlog, record)
            count += 1
        backlog.flush()
        self._since_records = count
        return count

    def note(self, size: int) -> None:
        """So much was journaled since the last snapshot."""
        self._since_records += 1
        self._since_bytes += size

    @property
    def due(self) -> bool:
        """True if a restart would have to apply too much."""
        return self._since_records >= self._limit or self._since_bytes >= SNAPSHOT_BYTES

    def snapshot(self, table: Table, writers: Writers) -> None:
        """Write the table as it is after the last committed record.

        Raises:
            OSError: It is not written; the next one is due after as many records.
        """
        self._since_records = self._since_bytes = 0
        kept = write_snapshot(self._path, self.journal.position, [_dump(table, writers)])
        self.journal.keep_after(kept)


def _replay(table: Table, writers: Writers, backlog: Backlog, record: Record) -> None:
    writer = writers.get(record.writer, named=True) if record.writer else None
    if writer is not None and record.sequence > writer.counter.last:
        writer.counter.last = record.sequence
    if record.kind == SAMPLES:
        index, birth = (writer.index, writer.birth) if writer is not None else (0, 0)
        backlog.add(record.frame, index, birth, record.received_ns)
    elif record.kind == BIRTH and writer is not None:
        session, incarnation, named = unpack(record.frame)
        writer.named = named
        writers.born(writer, session, incarnation)
        writer.alive = True
    elif record.kind == LOSS:
        backlog.flush()  # what was lost keeps the value it had
        for batch in decode(record.frame):
            rows = table.rows(batch.tags)
            ours = rows >= 0  # not a tag that left the plant file meanwhile
            table.lose(batch.select(ours), rows[ours], record.received_ns)
        if writer is not None:
            writer.alive = False


def _dump(table: Table, writers: Writers) -> bytes:
    columns = {name: getattr(table, name).tobytes() for name in COLUMNS}
    people = [
        [w.index, w.name, w.named, w.session, w.birth, w.incarnation, w.counter.last, w.alive]
        for w in writers.by_name.values()
    ]
    return pack([FORMAT, columns, table.strings, people])


def _load(table: Table, writers: Writers, value: Any) -> None:
    if value[0] != FORMAT:
        msg = f"format {value[0]!r}"
        raise ValueError(msg)
    columns: dict[str, NDArray[Any]] = {
        name: np.frombuffer(value[1][name], getattr(table, name).dtype) for name in COLUMNS
    }
    rows = table.rows(columns["handles"])
    ours = rows >= 0
    for name in COLUMNS[1:]:
        getattr(table, name)[rows[ours]] = columns[name][ours]
    for row, text in zip(rows.tolist(), value[2], strict=True):
        if row >= 0:
            table.strings[row] = text
    for index, name, named, session, birth, incarnation, last, alive in value[3]:
        writers.restore(Writer(index, name, named, session, birth, incarnation, ReceiveCounter(last), alive=alive))
