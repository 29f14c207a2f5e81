"""The gauge page: one file on a tmpfs in which each actor of a node shows how it is, without being asked."""

from __future__ import annotations

import os
from mmap import ACCESS_WRITE, mmap
from pathlib import Path
from typing import NamedTuple, Self, final

from tagwerk.protocols.errors import ConfigError, LocalProtocolError, Unavailable
from tagwerk.runtime import page_layout as at
from tagwerk.runtime.process import Identity, boot_hash
from tagwerk.runtime.slot import Slot, SlotView
from tagwerk.runtime.states import CODES, PeerState, seen_state, state_of

__all__ = ["Page", "Peer", "PeerState", "Slot", "SlotView"]


class Peer(NamedTuple):
    """What a sender must know of a receiver before each message."""

    state: PeerState
    incarnation: int
    pid: int

    @property
    def up(self) -> bool:
        """It may be spoken to."""
        return self.state is PeerState.RUNNING


_GONE = Peer(PeerState.UNKNOWN, 0, 0)


@final
class Page:
    """A mapped gauge page; `create` for the node that owns it, `open` for everyone else.

    Writers: the node's thread for the node's halves, each actor for its own. A page lives as long as its node; the
    successor makes a new file and marks the old one, so that who has it mapped knows at once.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._map(descriptor)

    @classmethod
    def create(cls, path: Path, names: list[str], node: Identity, *, capacity: int = at.CAPACITY) -> Self:
        """Make a node's page, and put it in the place of its predecessor's in one step.

        Args:
            path: Where, on a tmpfs: it is written thousands of times a second.
            names: One slot each, all STOPPED.
            node: The process that owns the page.
            capacity: Slots in all; those left over are for actors made at run time.
        """
        supersede(path)
        new = path.with_suffix(".page-new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, at.page_bytes(capacity))
            header = bytearray(at.HEADER_WORDS * at.WORD)
            words = memoryview(header).cast("Q")
            words[at.H_MAGIC], words[at.H_VERSION], words[at.H_BOOT] = at.MAGIC, at.VERSION, boot_hash()
            words[at.H_NODE_PID], words[at.H_NODE_START] = node.pid, node.start_ticks
            words[at.H_CAPACITY] = capacity
            os.pwrite(descriptor, header, 0)
            page = cls(path, descriptor)
        finally:
            os.close(descriptor)
        for name in names:
            page.add(name)
        new.replace(path)
        return page

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a node's page.

        Raises:
            Unavailable: There is none, or none that this version can read.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Unavailable(f"no node is up: {path} is not there") from error
        try:
            return cls(path, descriptor)
        finally:
            os.close(descriptor)

    @property
    def node(self) -> Identity:
        """The process that owns the page."""
        return Identity(self._words[at.H_NODE_PID], self._words[at.H_NODE_START])

    @property
    def superseded(self) -> bool:
        """Whether a successor takes over or the node has stopped: nothing in the page is true any more."""
        return self._words[at.H_SUPERSEDED] != 0

    def node_is_alive(self) -> bool:
        """Say whether the node that owns the page runs, in this boot. Costs a look into /proc."""
        return not self.superseded and self._words[at.H_BOOT] == boot_hash() and self.node.is_alive()

    def names(self) -> tuple[str, ...]:
        """Give the names of all slots, in the order they were added."""
        self._index_new()
        return tuple(self._bases)

    def slot(self, name: str) -> Slot:
        """Give an actor's slot.

        Raises:
            Unavailable: The node has no such actor.
        """
        self._index_new()
        if name not in self._bases:
            raise Unavailable(f"the node of {self.path} has no actor {name}")
        return Slot(self._memory, self._words, self._index(name))

    def add(self, name: str) -> Slot:
        """Add a slot, STOPPED. Only the node may.

        Raises:
            ConfigError: The name is too long, or no slot is left.
            LocalProtocolError: It has a slot already.
        """
        count, capacity = self._words[at.H_COUNT], self._words[at.H_CAPACITY]
        if len(name.encode()) > at.NAME_BYTES:
            raise ConfigError("the name is too long", key=name, expected=f"at most {at.NAME_BYTES} bytes")
        if count >= capacity:
            raise ConfigError("the node's page is full", key=name, expected=f"at most {capacity} actors a node")
        if name in self._bases:
            raise LocalProtocolError(f"{name} has a slot already")
        base = at.slot_word(count)
        self._memory[base * at.WORD : base * at.WORD + at.NAME_BYTES] = at.encoded(name, at.NAME_BYTES)
        self._words[base + at.N_STATE] = CODES[PeerState.STOPPED]
        self._words[at.H_COUNT] = count + 1  # last: a reader never sees a slot without its name
        return self.slot(name)

    def look(self, name: str) -> Peer | None:
        """Give an actor's state, incarnation and pid; None if the node has no such actor. About 1 us, no system call.

        A page whose node is known to be gone gives UNKNOWN for all; see `reopen_if_replaced`.
        """
        words = self._words
        if words[at.H_SUPERSEDED] or self._orphaned:
            if not self.reopen_if_replaced():
                return _GONE
            words = self._words
        base = self._bases.get(name)
        if base is None:
            self._index_new()
            base = self._bases.get(name)
        if base is None:
            return None
        found = (
            words[base + at.A_PID], words[base + at.A_INCARNATION], words[base + at.A_STATE],
            words[base + at.N_STATE], words[base + at.N_PID], words[base + at.A_PID],
        )  # fmt: skip
        known = self._looked.get(base)
        if known is None or known[0] != found:
            self._looked[base] = known = (found, _peer(*found))
        return known[1]

    def reopen_if_replaced(self) -> bool:
        """Map the successor's page if there is one. Call it about once a second: it costs a look at the file.

        Slots given before then still show the old page. A node that died without a successor is noticed, too.

        Returns:
            Whether another page is mapped now.
        """
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            inode = 0
        if inode in (0, self._inode):
            self._orphaned = not self.node_is_alive()
            return False
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            self._map(descriptor)  # the old map lives as long as a slot given from it
        except Unavailable:  # of another version, or damaged: nobody is to be believed
            self._orphaned = True
            return False
        finally:
            os.close(descriptor)
        return True

    def supersede(self) -> None:
        """Say to all who have this page mapped that it is not true any more."""
        self._words[at.H_SUPERSEDED] = 1

    def close(self) -> None:
        """Unmap. Slots given before must not be used after."""
        self._words.release()
        self._memory.close()

    def _map(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if status.st_size < at.page_bytes(0):
            raise Unavailable(f"{self.path} is not a gauge page: it has {status.st_size} bytes")
        memory = mmap(descriptor, status.st_size, access=ACCESS_WRITE)
        words = memoryview(memory).cast("Q")
        if words[at.H_MAGIC] != at.MAGIC or words[at.H_VERSION] != at.VERSION:
            version = words[at.H_VERSION]
            raise Unavailable(f"{self.path} is not a gauge page of layout {at.VERSION}, it says layout {version}")
        if status.st_size != at.page_bytes(words[at.H_CAPACITY]) or words[at.H_COUNT] > words[at.H_CAPACITY]:
            raise Unavailable(f"{self.path} is cut: {status.st_size} bytes for {words[at.H_CAPACITY]} slots")
        self._memory: mmap = memory
        self._words: memoryview[int] = words
        self._inode: int = status.st_ino
        # What a dead node left, in this boot or before, must not be believed until somebody looks again.
        self._orphaned = not self.node_is_alive()
        self._bases: dict[str, int] = {}
        self._looked: dict[int, tuple[tuple[int, ...], Peer]] = {}  # by a slot's first word: what was found there last
        self._indexed = 0
        self._index_new()

    def _index_new(self) -> None:
        count = min(self._words[at.H_COUNT], self._words[at.H_CAPACITY])
        for index in range(self._indexed, count):
            base = at.slot_word(index)
            self._bases[at.decoded(self._memory[base * at.WORD : base * at.WORD + at.NAME_BYTES])] = base
        self._indexed = count

    def _index(self, name: str) -> int:
        return (self._bases[name] - at.HEADER_WORDS) // at.SLOT_WORDS


def _peer(pid: int, incarnation: int, actor_code: int, node_code: int, node_pid: int, pid_after: int) -> Peer:
    # The pid is 0 while a new process writes itself in: then the node's word counts alone.
    same_process = pid == pid_after == node_pid
    return Peer(seen_state(state_of(node_code), state_of(actor_code), same_process), incarnation, pid)


def supersede(path: Path) -> None:
    """Mark the page at `path`, if there is one: its readers must not believe it while a new node comes up."""
    try:
        page = Page.open(path)
    except Unavailable:  # none, or one of another version, whose readers look for their own layout
        return
    page.supersede()
    page.close()
