"""A sink of an OPC UA link: what an operator would see, and in which order it came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Samples, ValueType


class Shown:
    """The newest of each tag, and the story.

    Args:
        handles: Of the tags, by name.
    """

    def __init__(self, handles: Mapping[str, int]) -> None:
        self._handles = handles
        self._names = {handle: name for name, handle in handles.items()}
        self.now: dict[int, tuple[Any, int, int]] = {}
        self.samples: list[tuple[str, Any, int, int]] = []
        """(name, value or None, quality, source time) of all that was published."""
        self.births = 0
        self.events: list[tuple[bool, str]] = []

    def begin_session(self) -> None:
        self.births += 1

    def publish(self, samples: Samples) -> None:
        values = [None] * len(samples) if samples.kind is ValueType.QUALITY else list(samples.values)
        columns = zip(samples.tags.tolist(), values, samples.times.tolist(), samples.quality.tolist(), strict=True)
        for tag, value, at_ns, quality in columns:
            kept = self.now.get(tag, (None, 0, 0))[0] if samples.kind is ValueType.QUALITY else value
            self.now[tag] = (kept, quality, at_ns)
            self.samples.append((self._names[tag], value, quality, at_ns))

    def quality(self, name: str) -> int:
        return self.now.get(self._handles[name], (None, q.BAD_WAITING_FOR_INITIAL_DATA, 0))[1]

    def value(self, name: str) -> Any:
        return self.now.get(self._handles[name], (None, 0, 0))[0]

    def stale(self, names: list[str], since: float) -> list[str]:
        """Those that do not show a Good value that the server wrote after `since` (ms since 1970)."""
        return [name for name in names if self.quality(name) != q.GOOD or (self.value(name) or 0) <= since]


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> float:
    """Wait until it is so; gives how long that took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit_s, "it did not happen in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - start
