"""The one session with a resource: opened when somebody needs it, replaced when it is lost, its queue swept first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import final

from tagwerk.actors.orders.call import Patience
from tagwerk.actors.orders.endpoint import Endpoint, EndpointMaker
from tagwerk.actors.orders.latecomers import Latecomers
from tagwerk.actors.orders.logic.queues import EXECUTING, Element, Seen
from tagwerk.actors.orders.logic.services import Failure, ServiceFault
from tagwerk.protocols.errors import DeviceGone, Refused, RemoteProtocolError

_log = logging.getLogger(__name__)


@final
class SessionKeeper:
    """Keeps it.

    Args:
        url: Of the resource.
        make: Makes sessions.
        patience: How long is waited.
        left_behind: Finds elements of ours in the queue whose owners are dead.
        late: Hears of every event, and needs those of its services.
    """

    def __init__(
        self,
        url: str,
        make: EndpointMaker,
        patience: Patience,
        left_behind: Callable[[tuple[Element, ...]], list[Element]],
        late: Latecomers,
    ) -> None:
        self.url = url
        self._make = make
        self._patience = patience
        self._left_behind = left_behind
        self._late = late
        self._endpoint: Endpoint | None = None
        self._opening = asyncio.Lock()

    async def changed(self, seen: Seen, within_s: float) -> None:
        """Wait for a change of queue or state, at most so long; without a session there is none."""
        if self._endpoint is not None:
            await self._endpoint.changed(seen, within_s)

    async def sweep(self) -> None:
        """Take elements of ours out of the queue whose owners are dead; done with each new session, too.

        Raises:
            ServiceFault: There is no session within `connect_s`.
            DeviceGone: The session was lost.
        """
        async with self.session() as endpoint:
            await self._sweep(endpoint)

    async def close(self) -> None:
        """End the session."""
        if self._endpoint is not None:
            await self._endpoint.close()
            self._endpoint = None

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Endpoint]:
        """Give the session; make one if there is none. After DeviceGone the next one is a new one.

        Raises:
            ServiceFault: There is none within `connect_s`.
        """
        endpoint = await self._open()
        try:
            yield endpoint
        except DeviceGone:
            async with self._opening:
                if self._endpoint is endpoint:
                    self._endpoint = None
                    await endpoint.close()
            raise

    async def _open(self) -> Endpoint:
        clock = asyncio.get_running_loop().time
        until = clock() + self._patience.connect_s
        async with self._opening:
            while self._endpoint is None:
                endpoint = self._make(self.url)
                try:
                    await endpoint.open()
                    await self._listen(endpoint)
                    await self._sweep(endpoint)
                    self._endpoint = endpoint
                except DeviceGone as error:
                    await endpoint.close()
                    if clock() >= until:
                        raise ServiceFault(Failure.UNREACHABLE, str(error)) from error
                    await asyncio.sleep(self._patience.again_s)
                except (Refused, RemoteProtocolError) as error:
                    await endpoint.close()
                    raise ServiceFault(Failure.UNREACHABLE, str(error)) from error
            return self._endpoint

    async def _listen(self, endpoint: Endpoint) -> None:
        """Hear of calls whose end is not known."""
        endpoint.listen(self._late.hear)
        for name in self._late.services:
            try:
                await endpoint.service(name)
            except (Refused, RemoteProtocolError) as error:
                _log.warning("%s: the end of %s will not be heard: %s", self.url, name, error)

    async def _sweep(self, endpoint: Endpoint) -> None:
        """Take elements of ours out of the queue whose owners are dead: they would stand there for ever."""
        seen = await endpoint.look()
        for one in self._left_behind(seen.queue):
            executing = one.place == 1 and seen.state == EXECUTING
            _log.warning(
                "%s: %s is dead, its element is removed%s", self.url, one.client,
                "; it was executed, and what came of it is not known" if executing else "",
            )  # fmt: skip
            await endpoint.remove(one.client, one.service_uuid)
