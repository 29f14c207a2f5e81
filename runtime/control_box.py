"""The control lane, the receiver's half: what arrives is judged at its turn, answered and receipted at the flush."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from tagwerk.protocols.errors import RefusedCode, RemoteProtocolError
from tagwerk.protocols.frames import ASKER_HEADER_LIMIT_BYTES, ControlHeader, Kind, pack_header, read_link_header
from tagwerk.protocols.link import Arrival, ReceiveCounter
from tagwerk.protocols.message import Message, Refusal, decode_message, encode_message
from tagwerk.protocols.plantwide import DeadLetter
from tagwerk.runtime.control import WINDOW
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.transport import CONTROL_LIMIT_BYTES, REQUEST_LIMIT_BYTES, Unreachable

if TYPE_CHECKING:
    from collections import deque

    from tagwerk.runtime.reactor import Reactor
    from tagwerk.runtime.transport import Port

SESSIONS_LIMIT: Final = 10_000
"""Senders that a mailbox remembers; the one heard longest ago is forgotten first."""


class Sender(msgspec.Struct, frozen=True):
    """Who sent a message, and by when it must be done.

    Args:
        name: The actor's name, or what an attached process calls itself.
        deadline_ns: Of the monotonic clock; 0 for none.
    """

    name: str
    deadline_ns: int
    identity: bytes
    session: int
    token: int


class Command(msgspec.Struct, frozen=True):
    """A message that arrived on the control lane, with who sent it.

    Args:
        message: What it says; the `Refusal` that it gets if `readable` is False.
        sender: Who sent it.
        number: Its number in the sender's session.
        incarnation: Whom it is meant for; 0 for anyone.
        readable: False if it is no message that we know.
        size: Bytes of it on the wire.
    """

    message: Message
    sender: Sender
    number: int = 0
    incarnation: int = 0
    readable: bool = True
    size: int = 0


class _Answer(msgspec.Struct, frozen=True):
    """What goes out at the flush: a reply with its body, or the reason why a frame was dropped."""

    to: tuple[bytes, int]
    number: int
    body: bytes = b""
    reason: str = ""

    def frames(self, receipt: int) -> list[bytes]:
        """With the number up to which all was handled, 0 to say nothing of it."""
        identity, session = self.to
        if self.reason:
            return [identity, pack_header(Kind.DROPPED, session, self.number, self.reason)]
        return [identity, pack_header(Kind.REPLY, session, self.number, receipt), self.body]


class ControlBox:
    """The receiver's half of the control lane.

    Args:
        name: Who we are.
        port: Our bound router.
        incarnation: Frames meant for another are dropped, and the sender is told.
        reactor: For the clock.
        dead_letters: Where goes what was nonsense.
    """

    def __init__(self, name: str, port: Port, incarnation: int, reactor: Reactor, dead_letters: DeadLetterBox) -> None:
        self._name = name
        self._port = port
        self._incarnation = incarnation
        self._clock = reactor.clock
        self._dead = dead_letters
        self._counters: dict[tuple[bytes, int], ReceiveCounter] = {}
        self._receipts: dict[tuple[bytes, int], int] = {}
        self._forgot = False
        self._missed: list[tuple[bytes, int, range]] = []
        self._outbox: list[_Answer] = []

    def drain(self, into: deque[Command], limit: int, limit_bytes: int) -> int:
        """Append what arrived, at most about so much, in order; give its bytes.

        Each command is to be handled only if `begin` says so.
        """
        size = looked_at = 0
        for _ in range(limit):
            if looked_at >= limit_bytes or (frames := self._port.recv()) is None:
                break
            looked_at += sum(map(len, frames))
            try:
                command = self._accept(frames)
            except RemoteProtocolError as error:
                self._bury("?", "frame", f"nonsense: {error}", sum(map(len, frames)))
            else:
                into.append(command)
                size += command.size
        return size

    def _accept(self, frames: list[bytes]) -> Command:
        if len(frames) != 3:
            msg = f"a control message has 3 parts, not {len(frames)}"
            raise RemoteProtocolError(msg)
        identity, header = frames[0], read_link_header(frames[1], max_bytes=ASKER_HEADER_LIMIT_BYTES)
        if not isinstance(header, ControlHeader):
            msg = f"kind {header.kind} does not belong to the control lane"
            raise RemoteProtocolError(msg)
        self._count(identity, header)
        sender = Sender(header.sender, header.deadline_ns, identity, header.session, header.token)
        size = len(frames[2])
        try:
            message = decode_message(frames[2], max_bytes=REQUEST_LIMIT_BYTES)
        except RemoteProtocolError as error:
            self._bury(header.sender, "frame", f"nonsense: {error}", size)
            refusal = Refusal(RefusedCode.BAD_VALUE, str(error))
            return Command(refusal, sender, header.number, header.incarnation, readable=False, size=size)
        return Command(message, sender, header.number, header.incarnation, size=size)

    def begin(self, command: Command) -> bool:
        """Its turn has come: True if it is to be handled. Otherwise its sender is told so at the next flush.

        Looked at here and not when it came: it may have waited behind something long, and what is handled late is
        as bad as what is sent late.
        """
        sender = command.sender
        self._receipts[(sender.identity, sender.session)] = command.number
        if command.incarnation not in (0, self._incarnation):
            self._drop(command, "old", "it was meant for an earlier incarnation")
        elif sender.deadline_ns and self._clock.mono_ns() >= sender.deadline_ns:
            self._drop(command, "not done", "its deadline had passed")
        elif not command.readable:
            self.reply(sender, command.message)
        else:
            return True
        return False

    def _count(self, identity: bytes, header: ControlHeader) -> None:
        session, number = header.session, header.number
        key = (identity, session)
        counter = self._counters.pop(key, None)
        if counter is None:
            # A session that is new to us begins at 1, unless it began with our predecessor or we forgot it.
            known = header.incarnation == self._incarnation and not self._forgot
            counter = ReceiveCounter(0 if known else number - 1)
        self._counters[key] = counter  # newest last
        if len(self._counters) > SESSIONS_LIMIT:
            self._counters.pop(next(iter(self._counters)))
            self._forgot = True
        arrival = counter.judge(number)
        if arrival is Arrival.AGAIN:
            msg = f"frame {number} came twice"
            raise RemoteProtocolError(msg)
        if number > counter.last + WINDOW:  # and it does not move the count: the next honest frame is still taken
            msg = f"frame {number} comes after {counter.last}: at most {WINDOW} may be without receipt"
            raise RemoteProtocolError(msg)
        if arrival is Arrival.AHEAD:
            self._missed.append((identity, session, range(counter.last + 1, number)))
        counter.last = number

    def _drop(self, command: Command, sort: str, reason: str) -> None:
        sender = command.sender
        self._bury(sender.name, type(command.message).__name__, f"{sort}: {reason}", command.size)
        self._outbox.append(_Answer((sender.identity, sender.session), command.number, reason=reason))

    def reply(self, sender: Sender, message: Message) -> None:
        """Answer an ask; goes out at the next flush. A tell has nobody who waits for it."""
        if sender.token:
            body = encode_message(message)
            if len(body) > CONTROL_LIMIT_BYTES:  # it would end the asker's connection
                text = f"the answer has {len(body)} bytes, at most {CONTROL_LIMIT_BYTES} are sent: ask for less"
                body = encode_message(Refusal(RefusedCode.OUT_OF_RANGE, text))
            self._outbox.append(_Answer((sender.identity, sender.session), sender.token, body))

    def flush(self) -> None:
        """Send replies, then receipts; a reply that is the last to its asker carries the receipt."""
        missed, self._missed = self._missed, []
        for identity, session, numbers in missed:
            for number in numbers:
                if not self._send([identity, pack_header(Kind.DROPPED, session, number, "it never arrived")]):
                    break
        outbox, self._outbox = self._outbox, []
        last = {answer.to: answer for answer in outbox}
        for answer in outbox:
            carries = last[answer.to] is answer and not answer.reason
            self._send(answer.frames(self._receipts.pop(answer.to, 0) if carries else 0))
        for (identity, session), number in self._receipts.items():
            self._send([identity, pack_header(Kind.RECEIPT, session, number)])
        self._receipts.clear()

    def _send(self, frames: list[bytes]) -> bool:
        try:
            taken = self._port.send(frames)
        except Unreachable:
            taken = False
        if not taken:
            size = sum(map(len, frames))
            self._bury("?", "reply", "not done: the asker is gone, or takes nothing", size)
        return taken

    def _bury(self, to: str, what: str, reason: str, size: int) -> None:
        self._dead.put(DeadLetter(self._clock.now_ns(), self._name, to, what, reason, size))
