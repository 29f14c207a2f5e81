"""From the link to the shards: a bounded queue before the publisher, and births in their place among the batches."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final

from tagwerk.protocols.errors import Refused, WindowFull
from tagwerk.protocols.samples import Samples

QUEUE_LIMIT: Final = 1_000  # batches
RETRY_S: Final = 0.02


class Publisher(Protocol):
    """What is used of `runtime.publisher.Publisher`."""

    on_room: Callable[[], None] | None

    def begin_session(self) -> None:
        """A birth."""
        ...

    def publish(self, samples: Samples) -> None:
        """Send a batch."""
        ...


class Later(Protocol):
    """Call once, so much later."""

    def __call__(self, seconds: float, call: Callable[[], None], /) -> object:
        """Arrange it."""
        ...


@final
class Outflow:
    """Takes every batch, never blocks, drops the oldest when the shards take none for long, and counts that.

    Args:
        publisher: Sends to the shards.
        after: The actor's timer.
        log: The actor's log.
    """

    def __init__(self, publisher: Publisher, after: Later, log: logging.Logger) -> None:
        self._publisher = publisher
        self._after = after
        self._log = log
        self._queue: deque[Samples | None] = deque()
        self._waiting = False
        self._dropping = False
        self.dropped = 0
        """Batches lost so far because the shards took none."""
        self.refused = 0
        """Batches that a shard will never take."""
        self.on_caught_up: Callable[[], None] | None = None
        """Called when the queue is empty again after batches were dropped: values have to be read anew."""
        publisher.on_room = self.drain

    def __len__(self) -> int:
        return len(self._queue)

    def begin_session(self) -> None:
        """A birth, after all that was published before it."""
        self._queue.append(None)
        self.drain()

    def publish(self, samples: Samples) -> None:
        """Take a batch."""
        if len(self._queue) >= QUEUE_LIMIT:
            self._drop_oldest()
        self._queue.append(samples)
        self.drain()

    def drain(self) -> None:
        """Send as much as the publisher takes."""
        while self._queue:
            batch = self._queue[0]
            try:
                if batch is None:
                    self._publisher.begin_session()
                else:
                    self._publisher.publish(batch)
            except WindowFull:
                self._come_back()
                return
            except Refused as error:
                if self.refused == 0:
                    self._log.error("a shard refuses our samples: %s", error)
                self.refused += 1
            self._queue.popleft()
        if self._dropping:
            self._dropping = False
            self._log.warning("the shards take samples again; %d batches were dropped so far", self.dropped)
            if self.on_caught_up is not None:
                self.on_caught_up()

    def _drop_oldest(self) -> None:
        place = 0 if self._queue[0] is not None else 1  # a birth stays
        del self._queue[place]
        self.dropped += 1
        if not self._dropping:
            self._dropping = True
            self._log.error("the shards take no samples: %d batches wait, the oldest are dropped", QUEUE_LIMIT)

    def _come_back(self) -> None:
        # `on_room` is not called for a birth that waits for acknowledgements, so time brings us back, too.
        if not self._waiting:
            self._waiting = True
            self._after(RETRY_S, self._again)

    def _again(self) -> None:
        self._waiting = False
        self.drain()
