"""One link: connect, subscribe, watch over the session, notice its end, and begin again. For ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, final

from tagwerk.actors.opcua.device import Device, DeviceMaker, Reading
from tagwerk.actors.opcua.front import Front, LinkCounts, Sink
from tagwerk.actors.opcua.logic.columns import Run
from tagwerk.actors.opcua.logic.items import CHUNK_ITEMS, ItemTable
from tagwerk.actors.opcua.logic.retry import item_delay_s, reconnect_delay_s
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import DeviceGone, NotSent, Unknown
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.clock import Clock
from tagwerk.runtime.plantfile_models import OpcuaConfig

CONNECT_LIMIT_S: Final = 4.0
CLOSE_LIMIT_S: Final = 2.0
START_GRACE_S: Final = 1.0
"""Without a session so long after the start its tags are Bad."""
PATIENCE_S: Final = 6.0
"""A device that starts with its plant has so long to come up before it counts as lost."""
CHECK_S: Final = 0.25
PROBE_AFTER_S: Final = 0.5
"""The server is asked for a sign of life after so long a silence and has 1 s: its end is seen within 1.75 s."""
STOOD_STILL_S: Final = 0.5
COMPARE_S: Final = 60.0
COMPARE_GRACE_S: Final = 1.0


@final
class Link:
    """The life of one link. Implements `DeviceEvents`.

    Args:
        config: Its section of the plant file.
        items: The nodes it wants.
        make: Makes a fresh device for each connection.
        sink: Where samples go.
        clock: Wall and monotonic time.
        chance: Uniform in [0, 1), for the jitter of delays.
        log: The actor's log.
    """

    def __init__(
        self, config: OpcuaConfig, items: ItemTable, make: DeviceMaker, sink: Sink, clock: Clock,
        chance: Callable[[], float], log: logging.Logger,
    ) -> None:  # fmt: skip
        self._config = config
        self._items = items
        self._make = make
        self._clock = clock
        self._chance = chance
        self._log = log
        self._lost: asyncio.Future[str] | None = None
        self._said = ""
        self._is_up: bool | None = None
        self._again = asyncio.Event()
        self._untold = asyncio.Event()  # nodes are missing that were not
        self._served = False
        self.counts = LinkCounts()
        self._front = Front(config.time, items, sink, clock, self.counts)
        self.compare_s = COMPARE_S
        """How often all nodes are read, to find what the server did not tell."""
        self.device: Device | None = None
        """The session that serves; None while not connected."""
        self.on_connection: Callable[[bool, str], None] | None = None
        """Told once a change: a session serves (True); it is lost, or there is none at the start (False, reason)."""
        self.first_act: Callable[[], Awaitable[None]] | None = None
        """Started before anything else in each session: the safe values that are due."""

    @property
    def connected(self) -> bool | None:
        """Whether a session serves; None as long as it may still be the first one that comes up."""
        return self._is_up

    # --- what the device says ---

    def on_data(self, runs: Sequence[Run], received_ns: int) -> None:
        """One publish response becomes at most one batch a type."""
        self._front.hear(runs, received_ns)

    def on_gap(self, reason: str) -> None:
        """Something was missed: everything is read again."""
        self.counts.gaps += 1
        self._log.warning("values were missed, all are read again: %s", reason)
        self._again.set()

    def on_lost(self, reason: str) -> None:
        """The session is over."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    def on_failed(self, error: BaseException) -> None:
        """A bug of ours, met in the device's own task: the actor fails of it."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)

    def read_all_again(self) -> None:
        """What is current in the shards may be older than what is here, or nothing at all."""
        self._items.forget_shown()
        self._again.set()

    def take_reading(self, tag: TagDef, reading: Reading) -> None:
        """A value that was read back after a write, as a sample."""
        self._front.read_back(self._items.number_of[tag.handle], reading)

    def writing(self, tag: TagDef) -> AbstractContextManager[None]:
        """Around a write and the reading that follows it: the two of it that come are one sample."""
        return self._front.echoes.writing(tag.handle)

    # --- the life of the link ---

    async def run(self) -> None:
        """Connect and serve, again and again."""
        loop = asyncio.get_running_loop()
        waits = [
            loop.call_later(START_GRACE_S, self._not_there, self._clock.now_ns()),
            loop.call_later(PATIENCE_S, self._still_not_there),
        ]
        failures = 0
        try:
            while True:
                device = self._make(self)
                self._lost = loop.create_future()
                session = loop.create_task(self._session(device, failures))
                try:
                    # Not awaited itself: below Python 3.13 a TaskGroup forgets a cancellation that comes in the moment
                    # when its tasks fail (cpython #116720), and this loop would go on for ever.
                    await asyncio.wait({session})
                    failures = session.result()
                finally:
                    session.cancel()
                    await asyncio.gather(session, return_exceptions=True)
                    self.device = None
                    await self._close(device)
                await asyncio.sleep(reconnect_delay_s(failures, self._chance()))
        finally:
            for wait in waits:
                wait.cancel()
            self._front.unmark()

    async def _session(self, device: Device, failures: int) -> int:
        """One connection from its birth to its loss. Returns the number of failures in a row."""
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                await device.connect()
        except (DeviceGone, TimeoutError) as error:
            self._say(f"cannot connect to {self._config.url}: {str(error) or 'no answer in time'}")
            self._front.down(self._clock.now_ns())
            return failures + 1
        self.counts.connects += 1
        self.device = device
        self._served = False
        reasons: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._until_lost())
                group.create_task(self._watch(device))
                group.create_task(self._serve(device))
        except* DeviceGone as errors:
            reasons = sorted({str(error) for error in _leaves(errors)})
        self.device = None
        self._items.forget_session()
        self._front.echoes.forget()
        silent_ns = self._clock.mono_ns() - device.last_sign_ns
        reason = "; ".join(reasons)
        self._say(f"lost {self._config.url}: {reason}")
        self._tell(up=False, reason=reason)
        self._front.down(self._clock.now_ns() - max(0, silent_ns))
        return 1 if self._served else failures + 1

    async def _serve(self, device: Device) -> None:
        """The birth, safe values before all else, the data; and then what goes on as long as the session lives."""
        self._front.begin()
        self._again.clear()
        if self.first_act is not None:
            await self.first_act()
        await self._subscribe(device)
        self._served = True
        self._front.unmark()
        self._connected(device)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_asking(device))
            group.create_task(self._keep_reading(device))
            group.create_task(self._keep_comparing(device))
            if self._config.watchdog:
                group.create_task(self._toggle(device))

    async def _until_lost(self) -> None:
        if self._lost is not None:
            raise DeviceGone(await self._lost)

    async def _watch(self, device: Device) -> None:
        """Raise DeviceGone when the server, or its subscription, has been silent for too long."""
        while True:
            wait_s = self._check_after_s(device)
            planned_ns = self._clock.mono_ns() + round(wait_s * 1e9)
            await asyncio.sleep(wait_s)
            now_ns = self._clock.mono_ns()
            if now_ns - planned_ns > STOOD_STILL_S * 1e9:
                continue  # we stood still, not the server: what it said meanwhile is read first
            interval = device.interval
            if interval is not None and now_ns - device.last_publish_ns > (3 * interval.keepalive_s + 1) * 1e9:
                raise DeviceGone("the subscription fell silent")
            before_ns = device.last_sign_ns
            if now_ns - before_ns <= PROBE_AFTER_S * 1e9:
                continue
            try:
                await device.probe()
            except DeviceGone:
                if device.last_sign_ns == before_ns:
                    raise

    def _check_after_s(self, device: Device) -> float:
        """How long nothing can be amiss, seconds: a server that goes on talking is looked at once it might be late."""
        now_ns = self._clock.mono_ns()
        at_ns = device.last_sign_ns + round((PROBE_AFTER_S + CHECK_S) * 1e9)
        if (interval := device.interval) is not None:
            at_ns = min(at_ns, device.last_publish_ns + round((3 * interval.keepalive_s + 1) * 1e9))
        return max(CHECK_S, (at_ns - now_ns) / 1e9)

    async def _subscribe(self, device: Device) -> None:
        missing = self._items.missing
        for start in range(0, len(missing), CHUNK_ITEMS):
            part = missing[start : start + CHUNK_ITEMS]
            refused = self._items.answered(part, await device.subscribe(part), self._clock.now_ns())
            if refused is not None:
                self._front.mark(refused)

    async def _keep_asking(self, device: Device) -> None:
        """Nodes that the server does not have (yet) are asked for again, for ever: it may still be loading them."""
        failures = 0
        before = len(self._items.missing)
        while True:
            if not self._items.missing:
                failures = 0
                self._untold.clear()
                await self._untold.wait()
            failures += 1
            await asyncio.sleep(item_delay_s(failures, self._chance()))
            await self._subscribe(device)
            left = len(self._items.missing)
            if left < before:
                self._log.info("%d nodes came, %d are missing", before - left, left)
                failures = 0
            before = left

    async def _keep_reading(self, device: Device) -> None:
        """After a gap: read all watched nodes."""
        while True:
            await self._again.wait()
            self._again.clear()
            watched = self._items.watched
            for start in range(0, len(watched), CHUNK_ITEMS):
                part = watched[start : start + CHUNK_ITEMS]
                readings = await device.read([node for _, node in part])
                for batch in self._front.taken([number for number, _ in part], readings):
                    self._front.publish(batch)

    async def _keep_comparing(self, device: Device) -> None:
        """Now and then: read all watched nodes, a part at a time. A server may lose a watched node, and say nothing."""
        while True:
            await asyncio.sleep(self.compare_s * (0.75 + 0.25 * self._chance()))
            watched = self._items.watched
            for start in range(0, len(watched), CHUNK_ITEMS):
                await self._compare(device, watched[start : start + CHUNK_ITEMS])

    async def _compare(self, device: Device, part: Sequence[tuple[int, str]]) -> None:
        turns = self._items.turns
        readings = await device.read([node for _, node in part])
        interval = device.interval
        await asyncio.sleep(COMPARE_GRACE_S + (2 * (interval.publish_s + interval.sample_s) if interval else 0.0))
        for batch in self._front.taken([number for number, _ in part], readings):
            untold = self._items.untold(batch, turns)
            if not len(untold):
                continue
            self.counts.gaps += 1
            names = [self._items.by_handle[handle].name for handle in untold.tags.tolist()]
            self._say(f"the server does not tell of {len(names)} nodes that it gives; asked again: {names[0]}, ...")
            self._front.publish(untold)
            self._items.mistrust(untold)
            self._untold.set()

    async def _toggle(self, device: Device) -> None:
        """Show the PLC that this link lives."""
        value = False
        failed = ""
        while True:
            value = not value
            try:
                status = await device.write(self._config.watchdog, value, "Boolean", lambda: None)
                problem = q.name_of(status) if q.is_bad(status) else ""
            except (NotSent, Unknown) as error:
                problem = str(error)
            if problem and problem != failed:
                self._log.error("watchdog node %s: %s", self._config.watchdog, problem)
            failed = problem
            await asyncio.sleep(self._config.watchdog_period_s)

    async def _close(self, device: Device) -> None:
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await device.close()
        except TimeoutError:
            self._log.error("%s: closing the connection took too long", self._config.url)

    # --- what is told ---

    def _not_there(self, since_ns: int) -> None:
        """The start: there is no connection, and the attempt to make one goes on."""
        if self.device is None and self._is_up is None:
            self._front.down(since_ns)

    def _still_not_there(self) -> None:
        """Not told before: a device that comes up with its plant is not lost, and nobody has to answer for it."""
        if self.device is None and self._is_up is None:
            self._tell(up=False, reason=self._said or f"no answer from {self._config.url} yet")

    def _tell(self, *, up: bool, reason: str) -> None:
        """One event a change, however often it is tried meanwhile."""
        if up != self._is_up:
            self._is_up = up
            if self.on_connection is not None:
                self.on_connection(up, reason)

    def _connected(self, device: Device) -> None:
        self._tell(up=True, reason="")
        missing = len(self._items.missing)
        text = f"connected to {self._config.url}: {len(self._items.watched)} nodes"
        if missing:
            text += f", {missing} missing"
        if device.interval is not None:
            got = device.interval
            text += f"; publishing every {got.publish_s:g} s, sampling every {got.sample_s:g} s, queue {got.queue_size}"
        self._say(text)

    def _say(self, text: str) -> None:
        """Once a change: a server that is away for a night is one line, not ten thousand."""
        if text != self._said:
            self._said = text
            self._log.warning("%s", text)


def _leaves(group: BaseExceptionGroup[DeviceGone]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
