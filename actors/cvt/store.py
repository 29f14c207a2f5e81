"""What a shard keeps on disk: its journal, and a snapshot of its table, from which it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.actors.cvt.logic.backlog import UNREADABLE, Backlog
from tagwerk.actors.cvt.logic.writers import Writer, Writers
from tagwerk.protocols.codec import pack, unpack
from tagwerk.protocols.errors import ConfigError, RemoteProtocolError
from tagwerk.protocols.link import ReceiveCounter
from tagwerk.protocols.samples import decode
from tagwerk.runtime.durable import BIRTH, LOSS, SAMPLES
from tagwerk.runtime.journal import Journal, Position, lean_record
from tagwerk.runtime.journal_side import Side
from tagwerk.runtime.snapshot import hold_snapshot, kept_after, read_snapshot, settle_snapshot, write_snapshot

if TYPE_CHECKING:
    import logging
    from pathlib import Path

    from numpy.typing import NDArray

    from tagwerk.actors.cvt.logic.table import Table

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
        self._side = Side()

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
        count = _replay(table, writers, self.journal, after, log)
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

        The journal lets go of what is behind it when it is on the disk, which takes its time, on the side.

        Raises:
            OSError: It is not written, or the last one did not come to the disk; the next one is due after as many
                records.
        """
        self._since_records = self._since_bytes = 0
        write_snapshot(self._path, self.journal.position, [_dump(table, writers)])
        if self._side.done():
            self.journal.keep_after(kept_after(self._path))
            hold_snapshot(self._path)
            self._side.start(settle_snapshot, self._path)

    def close(self) -> None:
        """Wait until the last snapshot is on the disk, if it is on its way."""
        self._side.close()


def _replay(table: Table, writers: Writers, journal: Journal, after: Position | int, log: logging.Logger) -> int:
    """Apply the records after a place; gives how many. A million small ones may wait, so no object for each."""
    count = 0
    backlog = Backlog(table)
    for bodies in journal.replay_pages(after):
        count += len(bodies)
        for body in bodies:
            record = lean_record(body)
            kind, name, received_ns, frame = record.kind, record.writer, record.received_ns, record.frame
            writer = writers.by_name.get(name) or (writers.get(name, named=True) if name else None)
            if writer is None:
                index = birth = 0
            else:
                index, birth = writer.index, writer.birth
                writer.counter.last = max(writer.counter.last, record.sequence)
            if kind == SAMPLES:
                backlog.add(frame, index, birth, received_ns)
                continue
            try:
                if kind == BIRTH and writer is not None:
                    session, incarnation, writer.named = unpack(frame)
                    writers.born(writer, session, incarnation)
                    writer.alive = True
                    writer.lost_ns = 0
                elif kind == LOSS:
                    backlog.flush()  # what was lost keeps the value it had
                    _replay_loss(table, writer, frame, received_ns)
            except UNREADABLE:
                backlog.unreadable += 1
    backlog.flush()
    if backlog.unreadable:
        log.error("%d journaled frames cannot be read, and are left out of the current values", backlog.unreadable)
    return count


def _replay_loss(table: Table, writer: Writer | None, frame: memoryview, received_ns: int) -> None:
    for batch in decode(frame):
        rows = table.rows(batch.tags)
        ours = rows >= 0  # not a tag that left the plant file meanwhile
        table.lose(batch.select(ours), rows[ours], received_ns)
    if writer is not None:
        writer.alive = False
        writer.lost_ns = received_ns


def _dump(table: Table, writers: Writers) -> bytes:
    columns = {name: getattr(table, name).tobytes() for name in COLUMNS}
    people = [
        [w.index, w.name, w.named, w.session, w.birth, w.incarnation, w.counter.last, w.alive, w.lost_ns]
        for w in writers.by_name.values()
    ]
    return pack([FORMAT, columns, table.strings, people])


def _load(table: Table, writers: Writers, value: Any) -> None:
    if isinstance(value[0], int) and value[0] > FORMAT:  # values would be lost that no journal has any more
        message = "the snapshot of the table has another form, of a newer version of tagwerk"
        raise ConfigError(message, value=str(value[0]), expected=str(FORMAT))
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
    for index, name, named, session, birth, incarnation, last, alive, *ended in value[3]:
        lost_ns = ended[0] if ended else 0  # a snapshot of before does not say when
        writers.restore(
            Writer(index, name, named, session, birth, incarnation, ReceiveCounter(last), alive=alive, lost_ns=lost_ns)
        )
