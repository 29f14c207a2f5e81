"""Writing to the device: at most once, in order per node, never late, and every outcome is told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol, final

from tagwerk.actors.opcua.device import Device, Reading
from tagwerk.actors.opcua.logic.writes import as_node_type, check_answer
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import DeviceGone, NotSent, Refused, Unknown
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.tags import TagDef, TagWritten, WriteNotSent, WriteUnknown
from tagwerk.runtime.clock import Clock

WAITING_LIMIT: Final = 1_000  # writes that may wait for their turn
FRESH_NS: Final = 200_000_000
"""A write goes only to a server that has answered within this time; else it is asked for a sign of life first. So a
command is not put into the socket of a server that hangs, to be found there minutes later."""


class Heard(Protocol):
    """Where the new value goes: the `Link`."""

    def writing(self, tag: TagDef) -> AbstractContextManager[None]:
        """Around a write and its `take_reading`."""
        ...

    def take_reading(self, tag: TagDef, reading: Reading) -> None:
        """The value that was read back."""
        ...


@final
class Writer:
    """Writes values to the device that is connected now.

    Args:
        clock: Gives the monotonic time of deadlines.
        device: The session that serves now, or None.
        heard: Is told of each write, and gets each value that was read back.
    """

    def __init__(self, clock: Clock, device: Callable[[], Device | None], heard: Heard) -> None:
        self._clock = clock
        self._device = device
        self._heard = heard
        self._turns: dict[int, asyncio.Lock] = {}
        self.waiting = 0
        """Writes that were asked for and are not answered yet."""

    async def write(
        self, tag: TagDef, value: float | int | bool | str, deadline_ns: int, check: Callable[[], None]
    ) -> Message:
        """Write a value and read it back.

        Args:
            tag: Where to.
            value: Checked against the tag already.
            deadline_ns: Monotonic; after it nothing is sent. 0: none.
            check: Called before and as the last act before sending; raises Refused if it must not be done (any more).

        Returns:
            `TagWritten`, `Refusal`, `WriteNotSent` or `WriteUnknown`.
        """
        if self.waiting >= WAITING_LIMIT:
            return WriteNotSent(f"{WAITING_LIMIT} writes wait already")
        device = self._device()
        if device is None:
            return WriteNotSent("the link is not connected")
        self.waiting += 1
        try:
            async with self._turns.setdefault(tag.handle, asyncio.Lock()):
                return await self._write(device, tag, value, deadline_ns, check)
        except Refused as error:
            return Refusal(error.code, error.message, tag.name)
        except (NotSent, DeviceGone) as error:
            return WriteNotSent(str(error))
        except Unknown as error:
            return WriteUnknown(str(error))
        finally:
            self.waiting -= 1

    async def _write(
        self, device: Device, tag: TagDef, value: float | int | bool | str, deadline_ns: int, check: Callable[[], None]
    ) -> Message:
        # The device of the moment when it was asked for: what waited for its turn is not for another session.
        def may_send() -> None:
            if deadline_ns and self._clock.mono_ns() >= deadline_ns:
                raise NotSent("its time was over before it could be sent")
            if self._device() is not device:
                raise NotSent("the connection was lost before it could be sent")
            check()

        may_send()
        type_name = await device.node_type(tag.node)
        fitting = as_node_type(value, type_name, tag.name)
        if self._clock.mono_ns() - device.last_sign_ns > FRESH_NS:
            await device.probe()
        with self._heard.writing(tag):
            check_answer(await device.write(tag.node, fitting, type_name, may_send), tag.name)
            return await self._read_back(device, tag, value)

    async def _read_back(self, device: Device, tag: TagDef, value: float | int | bool | str) -> TagWritten:
        try:
            (reading,) = await device.read([tag.node])
        except DeviceGone:
            # The server took it; what stands there now nobody could see.
            return TagWritten(tag.handle, value, q.UNCERTAIN_NO_COMMUNICATION, self._clock.now_ns())
        self._heard.take_reading(tag, reading)
        time_ns = reading.source_ns or reading.server_ns or self._clock.now_ns()
        return TagWritten(tag.handle, reading.value, reading.status & q.CODE_MASK, time_ns)
