"""Echoes: a value that a write of ours has changed is heard twice, read back and from the subscription."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

import numpy as np

from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Samples, Value, ValueType

ECHO_LIMIT: Final = 100
"""Read-backs of a tag that wait for their echo. A server says nothing about a write that changed nothing."""

_Row: TypeAlias = tuple[int, Value, int]  # time, value, quality
_Test: TypeAlias = Callable[[int, _Row], bool]


@dataclass(slots=True)
class _Turn:
    """What is awaited of one tag.

    Args:
        writes: Writes under way.
        heard: What the subscription said last while they are.
        told: What was read back, and the subscription has not said yet.
    """

    writes: int = 0
    heard: _Row | None = None
    told: deque[_Row] = field(default_factory=lambda: deque(maxlen=ECHO_LIMIT))


@final
class Echoes:
    """Takes out what was published already, whichever of the two comes first.

    Only a row equal in time, value and quality is an echo, and only until the subscription says something else.
    """

    def __init__(self) -> None:
        self._turns: dict[int, _Turn] = {}

    @contextmanager
    def writing(self, handle: int) -> Generator[None]:
        """Around a write and its `read_back`."""
        turn = self._turns.setdefault(handle, _Turn())
        turn.writes += 1
        try:
            yield
        finally:
            turn.writes -= 1
            self._end(handle, turn)

    def forget(self) -> None:
        """The session is over: what comes next is for shards that were told of the loss."""
        self._turns.clear()

    def read_back(self, batch: Samples) -> Samples:
        """Give what is news in a batch that was read back."""
        return self._news(batch, self._was_heard)

    def notified(self, batch: Samples) -> Samples:
        """Give what is news in a batch of a notification."""
        if not self._turns:
            return batch
        return self._news(batch, self._was_told)

    def _news(self, batch: Samples, is_echo: _Test) -> Samples:
        awaited = np.fromiter(self._turns, np.uint32, len(self._turns))
        places = np.flatnonzero(np.isin(batch.tags, awaited)).tolist()
        echoes = [place for place in places if is_echo(int(batch.tags[place]), _row(batch, place))]
        if not echoes:
            return batch
        news = np.ones(len(batch), bool)
        news[echoes] = False
        return batch.select(np.flatnonzero(news))

    def _was_heard(self, handle: int, row: _Row) -> bool:
        turn = self._turns[handle]
        if row == turn.heard:
            return True
        turn.told.append(row)
        return False

    def _was_told(self, handle: int, row: _Row) -> bool:
        turn = self._turns.get(handle)
        if turn is None:  # its end was earlier in this batch
            return False
        if row in turn.told:
            while turn.told.popleft() != row:
                pass  # what the server's queue has dropped
            self._end(handle, turn)
            return True
        if not turn.told or row[0] >= turn.told[0][0] or not q.is_good(row[2]):
            turn.heard = row
            turn.told.clear()
            self._end(handle, turn)
        return False  # else it was on its way before the write, and the echo still comes

    def _end(self, handle: int, turn: _Turn) -> None:
        if turn.writes == 0 and not turn.told and self._turns.get(handle) is turn:
            del self._turns[handle]


def _row(batch: Samples, place: int) -> _Row:
    value: Value = None
    if batch.kind is not ValueType.QUALITY:
        value = batch.values[place] if isinstance(batch.values, list) else batch.values[place].item()
    return int(batch.times[place]), value, int(batch.quality[place])
