"""Orders as observers see them: the feed of what happens to them, and pictures of how they stand.

Nobody is waited for: steps are kept in memory while somebody asks for them, and go out when they are stored.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Final, final

import msgspec

from tagwerk.actors.orders.logic.feed import Feed
from tagwerk.actors.orders.logic.life import Change
from tagwerk.actors.orders.logic.records import Controlled, Record
from tagwerk.protocols.message import Message
from tagwerk.protocols.order_feed import LISTENERS, GetOrderFeed, GetOrderPicture, OrderPicture, TaskPicture
from tagwerk.runtime.actor import Later

if TYPE_CHECKING:
    from tagwerk.actors.orders.crew import Crew, Live
    from tagwerk.runtime.actor import Sender

WAIT_LIMIT_S: Final = 10.0
FORGET_S: Final = 60.0
"""Nothing is kept when nobody has asked for so long."""
PICTURE_BYTES: Final = 16 << 20


@final
class CrewFeed:
    """Serves observers.

    Args:
        crew: Whose orders they see.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._feed: Feed | None = None
        self._asked_ns = 0
        self._waiting: dict[str, tuple[GetOrderFeed, Later]] = {}

    def add(self, live: Live, record: Record, change: Change, shown_before: str) -> None:
        """Take what a record made of an order."""
        feed, order_id, shown = self._feed, live.stored.id, live.order.life.shown
        if feed is None:
            return
        if isinstance(record, Controlled) and record.action == "retry":
            feed.add(order_id, shown, anew=True)
            return
        for command in change.commands:
            feed.add(order_id, shown, command)
        if not change.commands and shown != shown_before:
            feed.add(order_id, shown)

    def flushed(self) -> None:
        """All that was taken is stored: those who wait may hear of it."""
        if self._waiting and self._feed is not None:
            for name, (message, _) in list(self._waiting.items()):
                if self._feed.upto > message.after:
                    self._answer(name)

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """Serve an observer; None if it is no message of one.

        Raises:
            Refused: There is no such order.
        """
        if isinstance(message, GetOrderPicture):
            return self._picture(message.id)
        return self._listen(message, sender.name) if isinstance(message, GetOrderFeed) else None

    def _listen(self, message: GetOrderFeed, name: str) -> Message | Later:
        if self._feed is None:
            self._feed = Feed(secrets.token_hex(8))
            self._crew.after(FORGET_S, self._look)
        self._asked_ns = self._crew.clock.mono_ns()
        answer = self._feed.after(message.epoch, message.after)
        wait_s = min(max(0.0, message.wait_s), WAIT_LIMIT_S)
        if answer.lost or answer.steps or not wait_s:
            return answer
        self._answer(name)  # whom it has asked before is answered: one question of an observer at a time
        if len(self._waiting) >= LISTENERS:
            self._answer(next(iter(self._waiting)))
        later = Later()
        self._waiting[name] = message, later
        self._crew.after(wait_s, partial(self._waited, name, later))
        return later

    def _waited(self, name: str, later: Later) -> None:
        if name in self._waiting and self._waiting[name][1] is later:
            self._answer(name)

    def _answer(self, name: str) -> None:
        if name in self._waiting and self._feed is not None:
            message, later = self._waiting.pop(name)
            later.reply(self._feed.after(message.epoch, message.after))

    def _look(self) -> None:
        """Keep nothing for observers that are gone."""
        if self._waiting or self._crew.clock.mono_ns() - self._asked_ns < FORGET_S * 1e9:
            self._crew.after(FORGET_S, self._look)
        else:
            self._feed = None

    def _picture(self, order_id: str) -> Message:
        live, row = self._crew.seen(order_id)
        tasks: list[TaskPicture] = []
        size, more = 0, False
        for one in live.order.tasks():
            size += len(msgspec.msgpack.encode(one))
            if tasks and size > PICTURE_BYTES:
                more = True
                break
            tasks.append(one)
        feed = self._feed
        epoch, upto = (feed.epoch, feed.upto) if feed is not None else ("", 0)
        return OrderPicture(epoch, upto, row, live.stored.text, tuple(tasks), more)
