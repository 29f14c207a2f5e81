"""What happened to orders lately, numbered, for whoever observes them: the newest steps, so many as a bound allows."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final, final

from tagwerk.actors.orders.logic.pfdl.talk import Command, pack_command
from tagwerk.protocols.order_feed import OrderFeed, OrderStep

STEPS_LIMIT: Final = 20_000
BYTES_LIMIT: Final = 32 << 20
"""Of all that is kept."""
PAGE_STEPS: Final = 1_000
PAGE_BYTES: Final = 2 << 20
"""Of one answer, unless its first step alone is larger."""


@final
class Feed:
    """The newest steps.

    Args:
        epoch: What tells these numbers from those of another process.
    """

    def __init__(self, epoch: str) -> None:
        self.epoch: Final = epoch
        self._steps: deque[OrderStep] = deque()
        self._bytes = 0
        self.upto = 0

    def add(self, order_id: str, state: str, command: Command | None = None, *, anew: bool = False) -> None:
        """Add a step; the oldest go when there are too many."""
        self.upto += 1
        packed = b"" if command is None else pack_command(command)
        self._steps.append(OrderStep(self.upto, order_id, state, packed, anew))
        self._bytes += len(packed)
        while len(self._steps) > STEPS_LIMIT or self._bytes > BYTES_LIMIT:
            self._bytes -= len(self._steps.popleft().command)

    def after(self, epoch: str, number: int) -> OrderFeed:
        """Give the steps after a number, no more than a message takes."""
        if epoch != self.epoch or not self.upto - len(self._steps) <= number <= self.upto:
            return OrderFeed(self.epoch, self.upto, lost=True)
        found: list[OrderStep] = []
        size = 0
        for step in islice(self._steps, number - self.upto + len(self._steps), None):
            size += len(step.command)
            if found and (size > PAGE_BYTES or len(found) >= PAGE_STEPS):
                break
            found.append(step)
        return OrderFeed(self.epoch, found[-1].number if found else number, tuple(found))
