"""The orders that an observer shows: those that run, and the newest of those that have ended."""

from __future__ import annotations

import logging
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Final, final

from tagwerk.actors.orders.dashboard import FINISHED, STARTED, Dashboard, Poster
from tagwerk.actors.orders.logic.pfdl import Program, read
from tagwerk.actors.orders.logic.pfdl.talk import OrderState, unpack_command
from tagwerk.actors.orders.view_server import ViewServer
from tagwerk.actors.orders.view_tree import OrderTree
from tagwerk.actors.orders.view_types import TYPES_LIMIT
from tagwerk.protocols.order_feed import OrderPicture, OrderStep

PROGRAMS_LIMIT: Final = 100
"""Read programs that are kept: orders of the same text have one."""
ENDED: Final = frozenset({OrderState.FINISHED, OrderState.FAILED, OrderState.CANCELLED})
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Shown:
    """An order that is shown.

    Args:
        name: Its name.
        upto: The step up to which its picture shows it.
        tree: Its nodes; None if there is no server, or no room in it.
        dashboard: What is told of it; None if nobody wants to know.
    """

    name: str
    upto: int
    tree: OrderTree | None
    dashboard: Dashboard | None


@final
class ObservedOrders:
    """See the module. Whatever goes wrong with one order, the others are shown.

    Args:
        space: Where they are looked at; None: nowhere.
        poster: To a dashboard; None: there is none.
        keep_ended: So many of those that have ended.
    """

    def __init__(self, space: ViewServer | None, poster: Poster | None, keep_ended: int) -> None:
        self._space = space
        self._poster = poster
        self._keep_ended = keep_ended
        self._shown: dict[str, _Shown] = {}
        self._ended: dict[str, None] = {}  # in the order of their ends
        self._broken: dict[str, None] = {}
        self._programs: dict[str, Program] = {}

    def wants(self, step: OrderStep) -> bool:
        """Tell whether a picture of the order is needed before this step is taken."""
        return step.order not in self._broken and (step.anew or step.order not in self._shown)

    async def picture(self, picture: OrderPicture, *, steps_follow: bool = False) -> None:
        """Show an order as it is in a picture, and nothing else of it.

        Args:
            picture: Of the order.
            steps_follow: Whether the steps that made it are still to come; a dashboard is told by them.
        """
        if picture.row.id not in self._broken:
            await self._try(picture.row.id, self._picture(picture, steps_follow))

    async def step(self, step: OrderStep) -> None:
        """Show what happened to an order."""
        shown = self._shown.get(step.order)
        if shown is not None:
            await self._try(step.order, self._step(shown, step))

    async def keep(self, order_ids: Collection[str]) -> None:
        """Show no others than these."""
        for order_id in [one for one in self._shown if one not in order_ids]:
            await self._drop(order_id)

    async def _picture(self, picture: OrderPicture, steps_follow: bool) -> None:
        row = picture.row
        shown = self._shown.get(row.id)
        is_new = shown is None
        if shown is None:
            shown = self._shown[row.id] = await self._open(picture)
        shown.upto = picture.upto
        if picture.more:
            _log.warning("order %s has more tasks than can be shown", row.id)
        if shown.tree is not None:
            await shown.tree.restore(picture.tasks)
        if shown.dashboard is not None:
            if row.state not in ENDED or steps_follow:
                shown.dashboard.stands(STARTED)
            else:
                shown.dashboard.stands(FINISHED, row.ended_ns // 1_000_000_000)
            for one in picture.tasks if is_new and row.state not in ENDED else ():
                shown.dashboard.grow(one.uuid, one.name, one.context_uuid)
        await self._state(row.id, shown, row.state)

    async def _open(self, picture: OrderPicture) -> _Shown:
        row, text = picture.row, picture.text
        program = None if text is None else self._program(text)
        tree = dashboard = None
        if self._space is not None:
            types = await self._space.types.take({} if program is None else program.fields)
            if types is None:
                _log.warning("order %s is not shown: there are %d types already", row.id, TYPES_LIMIT)
            else:
                tree = OrderTree(self._space, types, row.id)
        if self._poster is not None:
            dashboard = Dashboard(self._poster, row.id, text or "", program, row.started_ns // 1_000_000_000)
        return _Shown(row.name, 0, tree, dashboard)

    async def _step(self, shown: _Shown, step: OrderStep) -> None:
        command = unpack_command(step.command) if step.command else None
        if command is not None and shown.dashboard is not None:
            shown.dashboard.take(command)
        if step.number <= shown.upto:
            return  # its picture shows it already
        if command is not None and shown.tree is not None:
            await shown.tree.take(command)
        await self._state(step.order, shown, step.state)

    async def _state(self, order_id: str, shown: _Shown, state: str) -> None:
        if shown.tree is not None:
            await shown.tree.label(OrderId=order_id, OrderName=shown.name, OrderState=state)
        if state not in ENDED:
            self._ended.pop(order_id, None)
        elif order_id not in self._ended:
            self._ended[order_id] = None
            while len(self._ended) > self._keep_ended:
                await self._drop(next(iter(self._ended)))

    async def _try(self, order_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Show something of an order. One that cannot be shown is left out from then on, and hides no other."""
        try:
            await work
        except Exception:
            _log.exception("order %s is not shown any more", order_id)
            self._broken[order_id] = None
            if len(self._broken) > PROGRAMS_LIMIT:
                del self._broken[next(iter(self._broken))]
            await self._drop(order_id)

    async def _drop(self, order_id: str) -> None:
        self._ended.pop(order_id, None)
        shown = self._shown.pop(order_id, None)
        if shown is not None and shown.tree is not None:
            try:
                await shown.tree.remove()
            except Exception:
                _log.exception("nodes of order %s are left", order_id)

    def _program(self, text: str) -> Program:
        if text not in self._programs:
            if len(self._programs) >= PROGRAMS_LIMIT:
                self._programs.clear()
            self._programs[text] = read(text)
        return self._programs[text]
