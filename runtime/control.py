"""The control lane: tell and ask. Numbered, receipted, never sent again; each ask ends.

`Peers` is the sender's half, `control_box` the receiver's. Both run in their owner's thread on its reactor.
"""

from __future__ import annotations

import secrets
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from tagwerk.protocols.errors import (
    MailboxFull,
    NotSent,
    PeerDown,
    Refused,
    RemoteProtocolError,
    TagwerkError,
    Timeout,
)
from tagwerk.protocols.frames import DroppedHeader, Kind, pack_header, read_link_header
from tagwerk.protocols.link import SendWindow
from tagwerk.protocols.message import Message, Refusal, decode_message, encode_message
from tagwerk.protocols.plantwide import DeadLetter
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.directory import Directory
from tagwerk.runtime.reactor import SECOND_NS
from tagwerk.runtime.transport import REQUEST_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.reactor import Reactor, Timer
    from tagwerk.runtime.transport import Port

Outcome = Message | TagwerkError

WINDOW: Final = 1_000
"""Control frames to one actor that may wait for their receipts."""


class _Outgoing(msgspec.Struct):
    header_tail: tuple[object, ...]
    kind: Kind
    message_type: str
    body: bytes
    token: int
    settled: bool = False
    """Its sender knows already what became of it."""


class _Waiting(msgspec.Struct, frozen=True):
    peer: str
    then: Callable[[Outcome], None]
    until_ns: int


class _PeerLink:
    """One peer: its port, its window, the incarnation it is meant for."""

    def __init__(self, name: str, port: Port, incarnation: int) -> None:
        self.name = name
        self.port = port
        self.incarnation = incarnation
        self.session = secrets.randbits(63)
        self.retry_s = Peers.CONNECT_S
        self.window: SendWindow[_Outgoing] = SendWindow(WINDOW)


class Peers:
    """The sender's half of the control lane.

    Args:
        name: Who we are.
        reactor: Where ports and timers live.
        directory: Knows who is there.
        dead_letters: Where goes what was not delivered.
    """

    POLL_S: Final = 0.01
    """How often the directory is asked while something waits for an answer or a receipt."""
    CONNECT_S: Final = 0.001
    """A socket that is still connecting is tried again so soon, then after twice the time, up to `POLL_S`."""

    def __init__(self, name: str, reactor: Reactor, directory: Directory, dead_letters: DeadLetterBox) -> None:
        self._name = name
        self._reactor = reactor
        self._clock = reactor.clock
        self._directory = directory
        self._dead = dead_letters
        self._links: dict[str, _PeerLink] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._next_token = 1
        self._poll: Timer | None = None

    def tell(self, to: str, message: Message, timeout_s: float = 5.0) -> None:
        """Send; what cannot be delivered becomes a dead letter."""
        try:
            self._send(to, message, Kind.TELL, 0, self._clock.mono_ns() + int(timeout_s * SECOND_NS))
        except TagwerkError as error:
            self.bury(to, type(message).__name__, f"not done: {error}", 0)

    def ask(self, to: str, message: Message, then: Callable[[Outcome], None], timeout_s: float = 5.0) -> None:
        """Send and have `then` called exactly once, later: with the reply, or with an error.

        `Refused`: a clear no. `NotSent`: certainly not done. `PeerDown`, `Timeout`: handed over, outcome unknown.
        """
        token = self._next_token
        self._next_token += 1
        until_ns = self._clock.mono_ns() + int(timeout_s * SECOND_NS)
        try:
            # Sent before it waits: a peer found restarted here ends what waits for its predecessor, not this.
            self._send(to, message, Kind.ASK, token, until_ns)
        except TagwerkError as error:
            if isinstance(error, MailboxFull):
                self.bury(to, type(message).__name__, f"not done: {error}", 0)
            failed = error if isinstance(error, NotSent) else NotSent(str(error))
            failed.__cause__ = None if failed is error else error
            self._reactor.after(0, lambda: then(failed))
            return
        self._waiting[token] = _Waiting(to, then, until_ns)

    def _send(self, to: str, message: Message, kind: Kind, token: int, until_ns: int) -> None:
        link = self._link(to)
        if link.window.full:
            msg = f"{to}: {WINDOW} messages wait for their receipts"
            raise MailboxFull(msg)
        try:
            body = encode_message(message)
        except (OverflowError, ValueError, TypeError) as error:  # an int past 64 bits, half a surrogate pair
            msg = f"{type(message).__name__} cannot be encoded: {error}"
            raise NotSent(msg) from error
        if len(body) > REQUEST_LIMIT_BYTES:
            msg = f"{type(message).__name__} of {len(body)} bytes: {to} takes at most {REQUEST_LIMIT_BYTES}"
            raise NotSent(msg)
        tail = (link.incarnation, until_ns, self._name, token)
        link.window.push(_Outgoing(tail, kind, type(message).__name__, body, token))
        self._flush(link)
        self._reactor.touched()
        if self._poll is None:
            self._poll = self._reactor.every(self.POLL_S, self._look_after)

    def _link(self, to: str) -> _PeerLink:
        seen = self._directory.peer(to)
        link = self._links.get(to)
        if seen is None:
            msg = f"there is no {to}"
            raise NotSent(msg)
        if not seen.up:
            msg = f"{to} is not running"
            raise NotSent(msg)
        if link is not None and link.incarnation != seen.incarnation:
            self._lost(link)
            link = None
        if link is None:
            address = self._directory.socket(to, "box")
            port = self._reactor.transport.dealer(address, secrets.token_bytes(8))
            link = self._links[to] = _PeerLink(to, port, seen.incarnation)
            made = link
            self._reactor.add(port, lambda: self._readable(made))
        return link

    def _flush(self, link: _PeerLink) -> None:
        while (turn := link.window.to_send()) is not None:
            number, out = turn
            header = pack_header(out.kind, link.session, number, *out.header_tail)
            if not link.port.send([header, out.body]):
                self._flush_later(link)  # not connected yet, or full
                return
            link.window.sent()
            link.retry_s = self.CONNECT_S

    def _flush_later(self, link: _PeerLink) -> None:
        if link.retry_s < self.POLL_S:  # else `_look_after` does it
            self._reactor.after(link.retry_s, partial(self._flush_again, link))
            link.retry_s *= 2

    def _flush_again(self, link: _PeerLink) -> None:
        if self._links.get(link.name) is link:  # else its port is closed
            self._flush(link)

    def _readable(self, link: _PeerLink) -> None:
        # What an asker does with an answer may find the peer restarted, and end this link.
        while self._links.get(link.name) is link and (frames := link.port.recv()) is not None:
            try:
                self._receive(link, frames)
            except RemoteProtocolError as error:
                self.bury(link.name, "reply", f"nonsense: {error}", sum(map(len, frames)))

    def _receive(self, link: _PeerLink, frames: list[bytes]) -> None:
        header = read_link_header(frames[0])
        size = sum(map(len, frames))
        if header.session != link.session:
            self.bury(link.name, "frame", "old: it is of an earlier life of this link", size)
        elif header.kind == Kind.RECEIPT:
            link.window.acknowledge(header.number)
            self._rest()
        elif isinstance(header, DroppedHeader):
            self._dropped(link, header)
        elif header.kind == Kind.REPLY and len(frames) == 2:
            if header.handled:
                link.window.acknowledge(header.handled)
            reply = decode_message(frames[1])
            refused = Refused(reply.code, reply.message, reply.tag) if isinstance(reply, Refusal) else None
            if header.token in self._waiting:
                self._finish(header.token, refused or reply)
                self._rest()
            else:
                self.bury(link.name, type(reply).__name__, "late: the asker had given up", size)
        else:
            raise RemoteProtocolError(f"kind {header.kind} in {len(frames)} parts does not come from an actor")

    def _dropped(self, link: _PeerLink, header: DroppedHeader) -> None:
        row = header.number - link.window.first_number
        if not 0 <= row < len(link.window):
            raise RemoteProtocolError(f"{header.number} was dropped, but it does not wait")
        out = next(islice(link.window.waiting(), row, None))
        if out.settled:
            return
        out.settled = True
        self.bury(link.name, out.message_type, f"not done: {header.reason}", len(out.body))
        if out.token in self._waiting:
            self._finish(out.token, NotSent(f"{link.name} did not do it: {header.reason}"))

    def _finish(self, token: int, outcome: Outcome, *, later: bool = False) -> None:
        waiting = self._waiting.pop(token)
        if later:
            self._reactor.after(0, partial(waiting.then, outcome))
        else:
            waiting.then(outcome)

    def _expire(self) -> None:
        now_ns = self._clock.mono_ns()
        for token in [token for token, waiting in self._waiting.items() if waiting.until_ns <= now_ns]:
            if token in self._waiting:  # what an asker does may end others
                self._give_up(token, self._waiting[token])

    def _give_up(self, token: int, waiting: _Waiting) -> None:
        link = self._links.get(waiting.peer)
        unsent = link is not None and next((out for out in link.window.unsent() if out.token == token), None)
        if unsent:
            unsent.settled = True
            self._finish(token, NotSent(f"{waiting.peer} took nothing before the deadline"))
        else:
            self._finish(token, Timeout(f"{waiting.peer} did not answer in time"))

    def _look_after(self) -> None:
        """While something is out: are the peers still those that we spoke to, and is anybody's time over?"""
        busy = bool(self._waiting)
        for link in list(self._links.values()):
            if not len(link.window) and not any(w.peer == link.name for w in self._waiting.values()):
                continue
            busy = True
            seen = self._directory.peer(link.name)
            if seen is None or not seen.up or seen.incarnation != link.incarnation:
                self._lost(link)
            else:
                self._flush(link)
        self._expire()
        if not busy:
            self._rest()

    def _rest(self) -> None:
        """Look after nobody if nothing is out: no wake for it."""
        if self._poll is None or self._waiting:
            return
        for link in self._links.values():
            if len(link.window):
                return
        self._poll.cancel()
        self._poll = None

    def _lost(self, link: _PeerLink) -> None:
        # Each asker is told in a turn of its own: what it does may come back here, in the middle of the loops below.
        self._links.pop(link.name, None)
        self._reactor.remove(link.port)
        unsent = {id(out) for out in link.window.unsent()}
        never = {out.token for out in link.window.unsent()}
        for out in link.window.waiting():
            if out.kind is Kind.TELL and not out.settled:
                outcome = "not done" if id(out) in unsent else "unknown"
                self.bury(link.name, out.message_type, f"{outcome}: {link.name} went down", len(out.body))
        for token, waiting in list(self._waiting.items()):
            if waiting.peer != link.name:
                continue
            if token in never:
                self._finish(token, NotSent(f"{link.name} went down before it was handed over"), later=True)
            else:
                self._finish(token, PeerDown(f"{link.name} went down before it answered"), later=True)

    def bury(self, to: str, what: str, reason: str, size: int) -> None:
        """Count what was not delivered; the reason begins with its sort. See `dead_letters`."""
        self._dead.put(DeadLetter(self._clock.now_ns(), self._name, to, what, reason, size))
