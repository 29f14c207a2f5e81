"""The ingest lane, the writer's half: a numbered link to one shard, frames sent again until they are in its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tagwerk.protocols.errors import Refused, RemoteProtocolError
from tagwerk.protocols.frames import AckHeader, Kind, pack_header, read_link_header
from tagwerk.protocols.link import SendWindow
from tagwerk.protocols.samples import BUDGET_BYTES, Samples, encode, join, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.transport import Port

WINDOW: Final = 256
"""Frames to one shard that may wait for their acknowledgement: at most 16 MB."""

ALIVE_S: Final = 0.5
"""How often a writer says that it lives; also how soon it finds a restarted shard."""

STALL_TICKS: Final = 2
"""After so many turns of `ALIVE_S` without an acknowledgement the link is opened again: something got lost."""


class Batch(msgspec.Struct, frozen=True):
    """One frame: which rows of it belong to which publish, as (first row after them, ticket)."""

    frame: bytes
    backfill: bool
    parts: tuple[tuple[int, Ticket | None], ...]

    def tickets_of(self, row: int) -> list[Ticket | None]:
        """The publish that a row came with; those of the whole frame if `row` is below 0."""
        if row < 0:
            return [ticket for _, ticket in self.parts]
        return [next((ticket for end, ticket in self.parts if row < end), self.parts[-1][1])]


class Ticket:
    """One publish: how many frames of it are out, and what became of them.

    Args:
        on_done: Called once, when all its frames are acknowledged.
    """

    __slots__ = ("_closed", "_on_done", "_out", "not_journaled", "refused")

    def __init__(self, on_done: Callable[[Ticket], None] | None = None) -> None:
        self._out = 0
        self._closed = False
        self._on_done = on_done
        self.refused: list[tuple[int, str]] = []
        """(handle, code) of each sample that was not taken."""
        self.not_journaled = False

    def add(self) -> None:
        """One more frame is out."""
        self._out += 1

    def close(self) -> None:
        """No further frame will come."""
        self._closed = True
        self._check()

    def done(self) -> None:
        """One frame is acknowledged."""
        self._out -= 1
        self._check()

    def _check(self) -> None:
        if self._closed and self._out == 0 and self._on_done is not None:
            on_done, self._on_done = self._on_done, None
            on_done(self)


class WriterLink:
    """One writer's numbered link to one shard. Single-threaded, on its owner's reactor.

    Args:
        writer: Our name at the shard.
        shard: The shard's actor name.
        port: A dealer on its ingest socket.
        incarnation: A number that grows with each life of this writer.
        named: The shard remembers our number for good.
    """

    def __init__(self, writer: str, shard: str, port: Port, incarnation: int, *, named: bool) -> None:
        self.writer = writer
        self.shard = shard
        self.port = port
        self.incarnation = incarnation
        self.named = named
        self.session = 0
        self.opened = False
        self.refusal: Refused | None = None
        self.window: SendWindow[Batch] = SendWindow(WINDOW)
        self._gathered: list[tuple[Samples, int, Ticket | None, bool]] = []
        self._gathered_bytes = 0
        self._gathered_turns = 0
        self.on_refused: Callable[[int, str], None] | None = None
        self.on_change: Callable[[], None] | None = None
        self.on_reborn: Callable[[], None] | None = None
        self._expects_birth = False
        self._oldest = 0
        self._stalled = 0
        self._spoke = False
        """A batch went out since the last sign of life: it is one."""

    def open(self, session: int | None = None) -> None:
        """(Re)open the link; a new session is a new birth of what we own."""
        if session is not None:
            self.session = session
            self._expects_birth = True
        self.opened = False
        self._send_open()

    def _send_open(self) -> None:
        self.port.send([pack_header(Kind.OPEN, self.session, self.writer, self.incarnation, self.named)])

    def room_for(self, size: int) -> bool:
        """May so many bytes more be gathered? Counted in frames that may be half full, so never too late."""
        frames = 2 * (self._gathered_bytes + size) // BUDGET_BYTES + self._gathered_turns + 2
        return len(self.window) + frames < WINDOW

    def gather(self, samples: Samples, size: int, ticket: Ticket | None, *, backfill: bool) -> None:
        """Take a batch; it is sent at the next `flush`, together with its neighbours."""
        if self._gathered and self._gathered[-1][3] != backfill:
            self._gathered_turns += 1  # each begins a frame
        self._gathered.append((samples, size, ticket, backfill))
        self._gathered_bytes += size
        if ticket is not None:
            ticket.add()

    @property
    def waiting(self) -> int:
        """Frames that are not acknowledged, and batches that are not sent."""
        return len(self.window) + len(self._gathered)

    def _number(self) -> None:
        """What was gathered becomes frames with numbers."""
        gathered, self._gathered = self._gathered, []
        self._gathered_bytes = self._gathered_turns = 0
        if len(gathered) == 1 and gathered[0][1] <= BUDGET_BYTES:  # one batch, one frame: its ticket counts one already
            samples, _, ticket, backfill = gathered[0]
            self.window.push(Batch(encode([samples]), backfill, ((len(samples), ticket),)))
            return
        frame = _Frame()
        for samples, size, ticket, backfill in gathered:
            whole = [[samples]] if size <= BUDGET_BYTES else split([samples])
            for piece in (piece for group in whole for piece in group):
                bytes_of = size if piece is samples else piece.size
                if not frame.takes(bytes_of, backfill):
                    self.window.push(frame.batch())
                    frame = _Frame()
                frame.add(piece, bytes_of, ticket, backfill)
            if ticket is not None:
                ticket.done()  # its frames count from here
        if frame.batches:
            self.window.push(frame.batch())

    def flush(self) -> None:
        """Send what was not sent yet, as far as the socket takes it."""
        if self._gathered:
            self._number()
        while self.opened and (turn := self.window.to_send()) is not None:
            number, batch = turn
            if not self.port.send([pack_header(Kind.PUBLISH, self.session, number, batch.backfill), batch.frame]):
                return
            self.window.sent()
            self._spoke = True

    def nudge(self) -> None:
        """Something waits for its acknowledgement: a shard that does not know us any more says so."""
        if self.opened:
            self.port.send([pack_header(Kind.ALIVE, self.session)])
            self.flush()

    def tick(self) -> None:
        """Twice a second: say that we live, if nothing else did, or knock again."""
        if not self.opened:
            if self.session:
                self._send_open()
        elif self._is_stalled():
            self.open()
        else:
            if not self._spoke:
                self.port.send([pack_header(Kind.ALIVE, self.session)])
            self._spoke = False
            self.flush()

    def _is_stalled(self) -> bool:
        # A frame, or an answer to one, that is lost with nothing behind it is asked for by nobody.
        oldest = self.window.first_number if len(self.window) else 0
        self._stalled = self._stalled + 1 if oldest and oldest == self._oldest else 0
        self._oldest = oldest
        return self._stalled >= STALL_TICKS

    def goodbye(self) -> None:
        """A clean end: our tags stay usable, and say so. Only a new session opens the link again."""
        self.flush()
        if self.opened:
            self.port.send([pack_header(Kind.GOODBYE, self.session)])
        self.opened = False
        self.session = 0

    def readable(self) -> None:
        """Take what the shard says."""
        while (frames := self.port.recv()) is not None:
            try:
                self._receive(read_link_header(frames[0]))
            except RemoteProtocolError:
                # The shard was restarted with other numbers than ours: open again settles them.
                self.open()
        if self.on_change is not None:
            self.on_change()

    def _receive(self, header: Any) -> None:
        # A beat only tries the connection: that we live `tick` says, whether one comes or not.
        if header.session != self.session or header.kind == Kind.BEAT:
            return
        if header.kind == Kind.ACK:
            self._acknowledged(header)
        elif header.kind == Kind.OPENED:
            if self.opened:
                return  # the answer to one knock more
            self.refusal = None
            self._stalled = 0
            first = self.window.first_number
            self._finish(self.window.renumber(header.number), first, header.not_journaled)
            self.opened = True
            reborn = header.born and not self._expects_birth
            self._expects_birth = False
            self.flush()
            if reborn and self.on_reborn is not None:
                self.on_reborn()
        elif header.kind == Kind.EXPECTED:
            self.window.go_back(header.number)
            self.flush()
        elif header.kind == Kind.REOPEN:
            if self.opened:  # each frame that was under way is answered so; one opening is enough
                self.open()
        elif header.kind == Kind.REFUSED:
            self.refusal = Refused(header.code, header.message)

    def _acknowledged(self, ack: AckHeader) -> None:
        first = self.window.first_number
        waiting = list(self.window.waiting())[: max(0, ack.number - first + 1)] if ack.refused else []
        for number, row, handle, code in ack.refused:
            if first <= number < first + len(waiting):
                for ticket in waiting[number - first].tickets_of(row):
                    if ticket is not None:
                        ticket.refused.append((handle, code))
            if self.on_refused is not None:
                self.on_refused(handle, code)
        done = self.window.acknowledge(ack.number) if ack.number >= first else []
        self._finish(done, first, ack.not_journaled)
        self.flush()

    def _finish(self, batches: list[Batch], first: int, not_journaled: tuple[int, ...]) -> None:
        """These batches, from number `first` on, are done with; some of them could not be stored."""
        for number in not_journaled:
            if first <= number < first + len(batches):
                for _, ticket in batches[number - first].parts:
                    if ticket is not None:
                        ticket.not_journaled = True
        for batch in batches:
            for _, ticket in batch.parts:
                if ticket is not None:
                    ticket.done()


class _Frame:
    """A frame in the making: batches in order, as many as fit."""

    __slots__ = ("_backfill", "_bytes", "_parts", "_rows", "batches")

    def __init__(self) -> None:
        self.batches: list[Samples] = []
        self._parts: list[tuple[int, Ticket | None]] = []
        self._rows = 0
        self._bytes = 0
        self._backfill = False

    def takes(self, size: int, backfill: bool) -> bool:
        """Does it still fit in?"""
        return not self.batches or (self._bytes + size <= BUDGET_BYTES and backfill == self._backfill)

    def add(self, batch: Samples, size: int, ticket: Ticket | None, backfill: bool) -> None:
        """Put a batch behind the others."""
        self.batches.append(batch)
        self._rows += len(batch)
        self._bytes += size
        self._backfill = backfill
        self._parts.append((self._rows, ticket))
        if ticket is not None:
            ticket.add()

    def batch(self) -> Batch:
        """The frame as it goes out."""
        return Batch(encode(join(self.batches)), self._backfill, tuple(self._parts))
