"""The mailbox: one line for all that an actor has to do, in this order: control, replies and timers, feeds, ingest.

It is a pykka inbox, so a message from another process and one from this process wait in one line. Drain, then flush:
the actor handles what is there, and when the line is empty (or the drain has taken long enough) all is committed and
answered at once. So a batch grows with load by itself.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pykka._envelope import Envelope

from tagwerk.runtime.control_box import Command, ControlBox
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.reactor import Reactor
from tagwerk.runtime.transport import INGEST_LIMIT, INGEST_LIMIT_BYTES, REQUEST_LIMIT_BYTES, REQUESTS_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.clock import Clock
    from tagwerk.runtime.transport import Port, Transport

DRAIN_MESSAGES: Final = 1_000
DRAIN_NS: Final = 5_000_000
INGEST_AT_ONCE: Final = 64
"""Ingest frames taken from the socket at a time: at most 4 MB wait here."""
CONTROL_AT_ONCE: Final = 200
CONTROL_AT_ONCE_BYTES: Final = 16 << 20
"""Control messages that wait here have at most about so many bytes."""
LOOK_NS: Final = 500_000
"""How long ingest may go on before control is looked at again."""
IDLE_NS: Final = 1_000_000_000


class Call(msgspec.Struct, frozen=True):
    """Something of ours that is due: a reply's continuation, a timer, a feed frame."""

    call: Callable[[], None]


class Ingest(msgspec.Struct, frozen=True):
    """One message of the ingest lane: [identity, header] or [identity, header, samples frame]."""

    frames: list[bytes]


class Mailbox:
    """See the module. Made empty, because pykka makes it; `open` connects it."""

    def __init__(self) -> None:
        self._local: deque[Envelope[Any]] = deque()
        self._control: deque[Command] = deque()
        self._control_bytes = 0
        self._calls: deque[Callable[[], None]] = deque()
        self._ingest: deque[list[bytes]] = deque()
        self.dead_letters = DeadLetterBox()
        self.handled = 0
        self.closed = False
        self._served = 0
        self._took_ingest = False
        self._flushed_turns = 0
        self._drain_ns = 0
        self._looked_ns = 0
        self._on_flush: Callable[[], None] = _nothing
        self._in_port: Port | None = None
        self.reactor: Reactor
        self.box: ControlBox
        self._clock: Clock

    def open(
        self,
        name: str,
        transport: Transport,
        clock: Clock,
        incarnation: int,
        sockets: Callable[[str], str],
        on_flush: Callable[[], None],
    ) -> None:
        """Bind the control socket. `sockets` gives the address for a suffix."""
        self._clock = clock
        self._on_flush = on_flush
        self.reactor = Reactor(transport, clock, self._calls.append)
        port = transport.router(sockets("box"), REQUEST_LIMIT_BYTES, REQUESTS_LIMIT)
        self.box = ControlBox(name, port, incarnation, self.reactor, self.dead_letters)
        self.reactor.add(port, self._take_control)

    def open_ingest(self, address: str) -> Port:
        """Bind the ingest socket, too; returns the port for what goes back to the writers."""
        self._in_port = self.reactor.transport.router(address, INGEST_LIMIT_BYTES, INGEST_LIMIT)
        self.reactor.add(self._in_port, self._take_ingest)
        return self._in_port

    # --- pykka's inbox protocol --------------------------------------------------------------------------------------

    def put(self, envelope: Envelope[Any], /) -> None:
        """Put a message of this process into the line. From any thread, or a signal handler."""
        self._local.append(envelope)
        self.reactor.transport.wake()

    def get(self) -> Envelope[Any]:
        """The next message; waits, and flushes whenever the line is empty."""
        while True:
            envelope = self.take()
            if envelope is not None:
                return envelope
            self.flush()
            self.reactor.step(0 if self.depth else IDLE_NS)

    def empty(self) -> bool:
        """True if nothing waits, or the actor has stopped: what waits then was not done, and its senders see that."""
        return self.closed or not (self._local or self._control or self._calls or self._ingest)

    # --- the line ----------------------------------------------------------------------------------------------------

    def take(self) -> Envelope[Any] | None:
        """The next message if there is one and the drain may go on; None means: flush now."""
        if self._served == 0:
            self._drain_ns = self._looked_ns = self._clock.mono_ns()
        elif self._drained():
            return None
        item: object
        if self._local:
            self._served += 1
            return self._local.popleft()
        while self._control:
            command = self._control.popleft()
            self._control_bytes -= command.size
            self._served += 1  # one that is dropped is answered at a flush, too
            if self.box.begin(command):
                self.handled += 1
                return Envelope(command)
        if self._calls:
            item = Call(self._calls.popleft())
        elif self._ingest:
            item = Ingest(self._ingest.popleft())
            self._took_ingest = True
        else:
            return None
        self._served += 1
        self.handled += 1
        return Envelope(item)

    def _drained(self) -> bool:
        now = self._clock.mono_ns()
        if self._served >= DRAIN_MESSAGES or now - self._drain_ns > DRAIN_NS:
            return True
        if now - self._looked_ns > LOOK_NS:
            self.reactor.step(0)
            self._looked_ns = now
        elif self._took_ingest and not self._control and not self._calls and not self._ingest and not self._local:
            self._take_ingest()  # what came meanwhile joins this drain, and its commit
        return False

    def flush(self) -> bool:
        """Commit and answer what was handled since the last flush; False if there was nothing.

        What a port's own handler did (a reply's continuation, a feed frame) is followed by a flush, too.
        """
        if self._served == 0 and self.reactor.turns == self._flushed_turns:
            return False
        self._served = 0
        self._took_ingest = False
        self._flushed_turns = self.reactor.turns
        self._on_flush()
        self.box.flush()
        return True

    @property
    def depth(self) -> int:
        """How many messages wait here."""
        return len(self._local) + len(self._control) + len(self._calls) + len(self._ingest)

    def _take_control(self) -> None:
        room = CONTROL_AT_ONCE_BYTES - self._control_bytes
        if len(self._control) < CONTROL_AT_ONCE and room > 0:
            self._control_bytes += self.box.drain(self._control, CONTROL_AT_ONCE, room)

    def _take_ingest(self) -> None:
        port = self._in_port
        assert port is not None  # only called for it
        while len(self._ingest) < INGEST_AT_ONCE and (frames := port.recv()) is not None:
            self._ingest.append(frames)


def _nothing() -> None:
    """What a mailbox that is not open does at a flush."""
