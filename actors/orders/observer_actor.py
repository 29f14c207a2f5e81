"""The actor `observer/0`: orders as others see them, over OPC UA and on a dashboard. A view, and never the truth.

It asks `order/0` for what happens, and nobody waits for it. It keeps nothing: one that starts asks for pictures of all
orders that run, and of the newest that have ended.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.orders.dashboard import Poster
from tagwerk.actors.orders.observer_access import door_of
from tagwerk.actors.orders.observer_orders import ENDED, ObservedOrders
from tagwerk.actors.orders.session import quiet_asyncua
from tagwerk.actors.orders.view_server import ViewServer
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.message import Message
from tagwerk.protocols.order_feed import GetOrderFeed, GetOrderPicture, OrderFeed, OrderPicture, OrderStep
from tagwerk.protocols.orders import CREW, GetOrders, OrderRows
from tagwerk.runtime import levels
from tagwerk.runtime.actor import AsyncActor

if TYPE_CHECKING:
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.control import Outcome

WAIT_S: Final = 2.0
"""So long a question for news waits at `order/0`."""
ASK_LIMIT_S: Final = 10.0
AGAIN_S: Final = 0.2
LISTEN_AGAIN_S: Final = 1.0
ROWS_LIMIT: Final = 1_000
START_LIMIT_S: Final = 60.0


@final
class ObserverActor(AsyncActor):
    """See the module."""

    def __init__(self, context: ActorContext) -> None:
        super().__init__(context)
        self._space: ViewServer | None = None
        self._poster: Poster | None = None

    def on_start(self) -> None:
        """Begin to ask.

        Raises:
            ConfigError: The plant file or a file it names is wrong.
        """
        quiet_asyncua()
        order = self.context.plant.order
        self._keep_ended = 0
        if order.observer is not None:
            self._keep_ended = order.observer.ended
            self._space = ViewServer(order.observer.url, door_of(self.context, order.observer))
        if order.dashboard:
            self._poster = Poster(order.dashboard)
        self._orders = ObservedOrders(self._space, self._poster, self._keep_ended)
        self.spawn(self._observe())
        self.ready()

    async def on_stop_async(self) -> None:
        """Send what is left to the dashboard; let the clients go."""
        if self._poster is not None:
            await self._poster.close()
        if self._space is not None:
            await self._space.stop()

    async def _observe(self) -> None:
        if self._space is not None:
            with self.busy("make the address space", START_LIMIT_S):
                await self._space.build()
        place = await self._caught_up()
        if self._space is not None:  # whoever comes sees all that there is
            self.spawn(self._listen(self._space))
        while True:
            answer = await self._asked(GetOrderFeed(*place, WAIT_S))
            if not isinstance(answer, OrderFeed):
                await asyncio.sleep(AGAIN_S)
            elif answer.lost:
                place = await self._caught_up()
            else:
                for step in answer.steps:
                    await self._take(step)
                    await asyncio.sleep(0)  # clients are served meanwhile
                place = answer.epoch, answer.upto

    async def _listen(self, space: ViewServer) -> None:
        """Listen as soon as the port is free."""
        told = ""
        while problem := space.port_problem():
            if problem != told:
                self.log.warning("cannot listen, tried again until it can: %s", problem)
                self._link(levels.LINK_DOWN)
            told = problem
            await asyncio.sleep(LISTEN_AGAIN_S)
        await space.listen()
        self._link(levels.LINK_UP)

    def _link(self, level: int) -> None:
        self.context.slot.write_counter(levels.LINK_COUNTER, level)

    # --- orders ---

    async def _caught_up(self) -> tuple[str, int]:
        """Show all orders as they are; give the epoch and the number of the step after which to go on."""
        while True:
            feed = await self._asked(GetOrderFeed("", 0))
            if isinstance(feed, OrderFeed) and await self._show_all(feed):
                return feed.epoch, feed.upto
            await asyncio.sleep(AGAIN_S)

    async def _show_all(self, feed: OrderFeed) -> bool:
        running = await self._asked(GetOrders(ROWS_LIMIT, False))
        newest = await self._asked(GetOrders(ROWS_LIMIT, True))
        if not isinstance(running, OrderRows) or not isinstance(newest, OrderRows):
            return False
        ended = [one.id for one in newest.orders if one.state in ENDED][: self._keep_ended]
        wanted = dict.fromkeys((*reversed(ended), *(one.id for one in running.orders)))
        await self._orders.keep(wanted)
        for order_id in wanted:
            picture = await self._asked(GetOrderPicture(order_id))
            if isinstance(picture, OrderPicture) and picture.epoch == feed.epoch:
                await self._orders.picture(picture)
            elif not isinstance(picture, Refused):  # it was removed meanwhile
                return False
            await asyncio.sleep(0)
        return True

    async def _take(self, step: OrderStep) -> None:
        if self._orders.wants(step):
            picture = await self._asked(GetOrderPicture(step.order))
            while not isinstance(picture, (OrderPicture, Refused)):
                await asyncio.sleep(AGAIN_S)
                picture = await self._asked(GetOrderPicture(step.order))
            if isinstance(picture, OrderPicture):
                await self._orders.picture(picture, steps_follow=True)
        await self._orders.step(step)

    async def _asked(self, message: Message) -> Outcome:
        answer: asyncio.Future[Outcome] = self.loop.create_future()
        self.ask(CREW, message, partial(_settle, answer), ASK_LIMIT_S)
        return await answer


def _settle(answer: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)
