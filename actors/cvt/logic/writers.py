"""Who publishes to a shard: sessions from birth to loss, one number a writer, and who may take over from whom."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from tagwerk.protocols.link import ReceiveCounter

LEASE_NS: Final = 3_000_000_000
FORGET_NS: Final = 24 * 3_600_000_000_000
WRITERS_LIMIT: Final = 100_000
NO_SESSION: Final = 0
"""No writer has this one, so the next opening is a birth."""
LIVE_ONLY_LIMIT: Final = 256
"""As many batches as a writer may have under way."""


@dataclass(slots=True)
class Writer:
    """One writer, as its shard knows it.

    Args:
        index: Its number in the table's owner column, from 1.
        name: Unique.
        named: Its number is remembered for good.
    """

    index: int
    name: str
    named: bool
    session: int = NO_SESSION
    birth: int = 0
    """Rises with each birth; the table's `born` column."""
    incarnation: int = 0
    counter: ReceiveCounter = field(default_factory=ReceiveCounter)
    identity: bytes = b""
    alive: bool = False
    heard_ns: int = 0
    """Monotonic."""
    lost_ns: int = 0
    """Wall time of the loss, 0 if there is none."""
    clock_wrong: bool = False
    clock_told: tuple[int, int] | None = None
    """When a step of its clock was told last, monotonic ns, and how large it was, ns."""
    live_only: deque[int] = field(default_factory=lambda: deque(maxlen=LIVE_ONLY_LIMIT))
    """The newest numbers that are current but could not be journaled, in case the writer has to be told again."""
    asked_back: bool = False


class Writers:
    """All writers of a shard."""

    def __init__(self) -> None:
        self.by_name: dict[str, Writer] = {}
        self.by_index: dict[int, Writer] = {}
        self.by_identity: dict[bytes, Writer] = {}
        self.changes = 0
        """Rises whenever somebody comes or goes."""
        self._next_index = 1

    @property
    def size(self) -> int:
        """One more than the highest index."""
        return self._next_index

    def get(self, name: str, *, named: bool) -> Writer:
        """The writer of this name, made if it is new."""
        writer = self.by_name.get(name)
        if writer is None:
            writer = Writer(self._next_index, name, named)
            self.restore(writer)
            self.changes += 1
        return writer

    def restore(self, writer: Writer) -> None:
        """Put back one of a snapshot."""
        self.by_name[writer.name] = self.by_index[writer.index] = writer
        self._next_index = max(self._next_index, writer.index + 1)

    def connect(self, writer: Writer, identity: bytes, mono_ns: int) -> None:
        """This connection speaks for the writer from now on."""
        self._disconnect(writer)
        self.changes += 1
        writer.identity = identity
        writer.alive = True
        writer.heard_ns = mono_ns
        writer.lost_ns = 0
        writer.asked_back = False
        self.by_identity[identity] = writer

    def born(self, writer: Writer, session: int, incarnation: int) -> None:
        """A new session begins: the first sample of each tag in it is current, whatever its time."""
        writer.session = session
        writer.incarnation = incarnation
        writer.birth += 1
        writer.clock_wrong = False

    def gone(self, writer: Writer, now_ns: int) -> None:
        """The writer is lost, or has said goodbye."""
        self._disconnect(writer)
        self.changes += 1
        writer.alive = False
        writer.lost_ns = now_ns

    def forget(self, now_ns: int) -> list[Writer]:
        """Those without a name that are gone for a day; they are known no more."""
        old = [w for w in self.by_name.values() if not w.named and not w.alive and now_ns - w.lost_ns > FORGET_NS]
        for writer in old:
            del self.by_name[writer.name], self.by_index[writer.index]
            self.changes += 1
        return old

    def await_again(self, mono_ns: int, now_ns: int, *, reborn: bool) -> None:
        """After a start of the shard: one lease for those that lived to be heard again.

        Args:
            mono_ns: Monotonic.
            now_ns: Wall time, for those whose end nobody knows.
            reborn: The table is behind what it was, so each is to publish again what it owns.
        """
        for writer in self.by_name.values():
            writer.heard_ns = mono_ns
            writer.lost_ns = writer.lost_ns or now_ns
            if reborn:
                writer.session = NO_SESSION

    def _disconnect(self, writer: Writer) -> None:
        if self.by_identity.get(writer.identity) is writer:  # the connection may speak for another one by now
            del self.by_identity[writer.identity]
        writer.identity = b""

    def silent(self, mono_ns: int) -> list[Writer]:
        """Those that are taken for alive and were not heard for a lease."""
        return [w for w in self.by_name.values() if w.alive and mono_ns - w.heard_ns > LEASE_NS]


def may_take_over(old: Writer, session: int, incarnation: int, *, reachable: bool) -> bool:
    """May this opening take the writer's name over from the connection that has it?

    An actor's incarnation grows under its lock, so a higher one is the only one; of an attached process nobody knows
    whether the older one still runs, so it must be gone.

    Args:
        old: The writer as it is known.
        session: Of the opening.
        incarnation: Of the opening.
        reachable: The old connection still stands.
    """
    if not old.alive or not old.identity or session == old.session or not reachable:
        return True
    return "/" in old.name and incarnation > old.incarnation
