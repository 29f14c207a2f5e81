"""Attach for asyncio: the same names as coroutines. The work is done in the client's own thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, final

from tagwerk.runtime.attach import Plant, attach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Literal, TypeVar

    from tagwerk.protocols.alarms import AlarmRow
    from tagwerk.protocols.message import Message
    from tagwerk.protocols.samples import Samples, TagValue
    from tagwerk.runtime.attach_watch import TagWatch

    T = TypeVar("T")


@final
class AsyncPlant:
    """A plant that runs, for asyncio. Made by `attach_async`. See `Plant` for what each call does and raises."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye."""
        await _run(self.plant.close)

    async def read(self, tag: str) -> TagValue:
        """The current value of a tag."""
        return await _run(self.plant.read, tag)

    async def read_many(self, tags: Iterable[str]) -> list[TagValue]:
        """The current values of these tags."""
        return await _run(self.plant.read_many, tags)

    async def write(self, tag: str, value: float | int | bool | str, **options: Any) -> TagValue:
        """Set a tag, at most once; gives the value read back."""
        return await _run(lambda: self.plant.write(tag, value, **options))

    def samples(self, names: Sequence[str], values: Any, times: Any = None, quality: Any = None) -> Samples:
        """A batch to publish."""
        return self.plant.samples(names, values, times, quality)

    async def publish(self, samples: Samples, *, timeout_s: float | None = None) -> None:
        """Publish measured values; returns when they are journaled."""
        await _run(lambda: self.plant.publish(samples, timeout_s=timeout_s))

    def on_lost(self, call: Callable[[], object] | None) -> None:
        """Call this, in the event loop, when the plant had taken this process for lost. See `Plant.on_lost`."""
        if call is None:
            self.plant.on_lost(None)
            return
        loop = asyncio.get_running_loop()
        self.plant.on_lost(lambda: loop.call_soon_threadsafe(call))

    async def history(
        self, tags: str | Iterable[str], start: datetime | int, end: datetime | int, *, limit: int | None = None
    ) -> dict[str, Samples]:
        """Samples of these tags with `start <= time < end`."""
        return await _run(lambda: self.plant.history(tags, start, end, limit=limit))

    async def alarms(self, *, only_open: bool = False) -> list[AlarmRow]:
        """The alarms of the plant."""
        return await _run(lambda: self.plant.alarms(only_open=only_open))

    async def ack(self, name: str, *, occurrence: str = "", comment: str = "") -> AlarmRow:
        """Acknowledge an alarm."""
        return await _run(lambda: self.plant.ack(name, occurrence=occurrence, comment=comment))

    async def call(self, actor: str, message: Message, timeout_s: float | None = None) -> Message:
        """Send any message to any actor and wait for its reply."""
        return await _run(self.plant.call, actor, message, timeout_s)

    async def watch(self, *globs: str, mode: Literal["latest", "every"] = "latest") -> AsyncIterator[Samples]:
        """Follow the tags that match: the snapshot first, then what changes."""
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        watch: TagWatch = await _run(lambda: self.plant.watch(*globs, mode=mode))
        watch.on_arrival(lambda: loop.call_soon_threadsafe(arrived.set))
        try:
            while not watch.closed:
                arrived.clear()
                while (batch := watch.get(0)) is not None:
                    yield batch
                await arrived.wait()
        finally:
            watch.on_arrival(None)
            await _run(watch.close)


async def _run(work: Callable[..., T], *arguments: Any) -> T:
    """Blocking calls end by their timeouts, so a thread of asyncio's pool is held for a bounded time."""
    return await asyncio.to_thread(work, *arguments)


async def attach_async(
    address: str | None = None,
    *,
    writer: str | None = None,
    home: Path | str | None = None,
    key: Path | None = None,
    timeout_s: float = 5.0,
) -> AsyncPlant:
    """Take part in a running plant. See `attach`.

    Raises:
        Unavailable: No plant runs there.
        ConfigError: An argument is wrong.
    """
    return AsyncPlant(await _run(lambda: attach(address, writer=writer, home=home, key=key, timeout_s=timeout_s)))
