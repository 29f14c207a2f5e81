"""What a script publishes faster than it is taken."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from tagwerk.protocols.errors import WindowFull
from tagwerk.protocols.samples import ValueType, make
from tagwerk.runtime import attach_publish
from tagwerk.runtime.attach_publish import PublishQueue


class FullPublisher:
    """Its window is full until `room`."""

    room = False

    def publish(self, samples: Any, ticket: Any, *, backfill: bool) -> None:
        if not self.room:
            raise WindowFull("full")


class Engine:
    """Carries out at once what it is told; timers wait for `later`."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.reactor = SimpleNamespace(after=lambda _, call: self.waiting.append(call))

    def call(self, work: Callable[[Future[Any]], None]) -> Future[Any]:
        future: Future[Any] = Future()
        work(future)
        return future

    def later(self) -> None:
        calls, self.waiting = self.waiting, []
        for call in calls:
            call()


def test_a_line_that_is_too_long_refuses_and_takes_again_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, publisher = Engine(), FullPublisher()
    queue = PublishQueue(engine, None, "w", named=False)  # type: ignore[arg-type]
    monkeypatch.setattr(queue, "_publisher", publisher)
    batch = make(ValueType.FLOAT, range(1_000), [0.0] * 1_000, 1)
    monkeypatch.setattr(attach_publish, "LINE_BYTES", 5 * (batch.size + 2_000))
    futures = [queue.put(batch, 60.0, backfill=False) for _ in range(8)]
    assert [type(f.exception()) if f.done() else None for f in futures] == [None] * 5 + [WindowFull] * 3
    publisher.room = True
    engine.later()
    assert all(f.done() for f in futures[:5])
    assert queue.put(batch, 60.0, backfill=False).done()
