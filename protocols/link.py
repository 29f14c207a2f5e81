"""The numbered link: a session, rising numbers, a bounded window, cumulative acknowledgement. No I/O.

Both sending lanes use it. The ingest lane goes back and sends again until acknowledged; the control lane never sends
again: what was not receipted is accounted for instead. See `docs/wire.md`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from tagwerk.protocols.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

Item = TypeVar("Item")


class SendWindow(Generic[Item]):
    """The sender's half: what is numbered and not yet acknowledged.

    Args:
        limit: Most items that may wait for their acknowledgement.
        first: The first number to use, from 1.
    """

    __slots__ = ("_high", "_items", "_limit", "_next", "_sent")

    def __init__(self, limit: int, first: int = 1) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._next = first
        self._sent = first
        self._high = first  # one more than the highest number that ever went out; `_sent` may go back behind it

    def __len__(self) -> int:
        return len(self._items)

    @property
    def next_number(self) -> int:
        """The number that the next item gets."""
        return self._next

    @property
    def first_number(self) -> int:
        """The number of the oldest item that is not acknowledged."""
        return self._next - len(self._items)

    @property
    def full(self) -> bool:
        """True if no further item is taken."""
        return len(self._items) >= self._limit

    def push(self, item: Item) -> int:
        """Take an item; returns its number.

        Raises:
            LocalProtocolError: The window is full: ask `full` first.
        """
        if self.full:
            msg = f"window of {self._limit} is full"
            raise LocalProtocolError(msg)
        self._items.append(item)
        self._next += 1
        return self._next - 1

    def to_send(self) -> tuple[int, Item] | None:
        """The next number and item that were not sent yet, or None."""
        if self._sent >= self._next:
            return None
        return self._sent, self._items[self._sent - self.first_number]

    def sent(self) -> None:
        """What `to_send` gave went out."""
        self._sent += 1
        self._high = max(self._high, self._sent)

    def waiting(self) -> Iterator[Item]:
        """All that is not acknowledged, oldest first."""
        return iter(self._items)

    def unsent(self) -> Iterator[Item]:
        """What was never handed over, oldest first."""
        start = self._high - self.first_number
        return (item for i, item in enumerate(self._items) if i >= start)

    def acknowledge(self, upto: int) -> list[Item]:
        """All up to this number arrived; returns them, oldest first. An old acknowledgement returns nothing.

        Raises:
            RemoteProtocolError: The number was never sent.
        """
        if upto >= self._high:
            msg = f"{upto} was acknowledged, but only {self._high - 1} were sent"
            raise RemoteProtocolError(msg)
        count = upto - self.first_number + 1
        done = [self._items.popleft() for _ in range(max(0, count))]
        self._sent = max(self._sent, self.first_number)
        return done

    def go_back(self, expected: int) -> None:
        """The receiver wants this number next: send again from there.

        Raises:
            RemoteProtocolError: It is none of those that wait.
        """
        if not self.first_number <= expected <= self._next:
            msg = f"{expected} is expected, but {self.first_number} to {self._next - 1} wait"
            raise RemoteProtocolError(msg)
        self._sent = min(self._sent, expected)

    def renumber(self, expected: int) -> list[Item]:
        """A (re)opened link: the receiver has all below `expected`. Returns what is thereby acknowledged.

        What waits keeps its numbers if the receiver knows them; a receiver that knows nothing of this sender (it
        expects 1) or more than we sent (we were restarted) gets what waits under new numbers from `expected` on.
        What never went out is never taken for acknowledged: a number of an earlier life of ours may be as high.
        """
        if self.first_number <= expected <= self._high:
            done = [self._items.popleft() for _ in range(expected - self.first_number)]
        else:
            done = []
            self._next = expected + len(self._items)
            self._high = expected
        self._sent = self.first_number
        return done


class Arrival(Enum):
    """What a number means to the receiver."""

    NEXT = "next"
    AGAIN = "again"
    AHEAD = "ahead"


class ReceiveCounter:
    """The receiver's half: one number a sender.

    Args:
        last: The last number taken, 0 if none.
    """

    __slots__ = ("last",)

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def judge(self, number: int) -> Arrival:
        """Is it the next one, one that was taken already, or one ahead (something before it is missing)?"""
        if number == self.last + 1:
            return Arrival.NEXT
        return Arrival.AGAIN if number <= self.last else Arrival.AHEAD

    def take(self, number: int) -> None:
        """The number is used up.

        Raises:
            LocalProtocolError: It is not the next one.
        """
        if number != self.last + 1:
            msg = f"took {number} after {self.last}"
            raise LocalProtocolError(msg)
        self.last = number
