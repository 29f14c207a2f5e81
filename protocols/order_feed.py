"""What an observer of production orders asks `order/0`: what happened since, and how an order stands as a whole.

The feed is pulled, and kept in memory alone: an observer that is too late, or meets another epoch, asks for pictures.
So nobody waits for an observer, and one that died needs nothing but questions.
"""

from __future__ import annotations

from tagwerk.protocols.message import Message, Record
from tagwerk.protocols.orders import Given, OrderRow

LISTENERS: int = 4
"""Observers that may wait for news at the same time; the next one gets the place of the first."""


class GetOrderFeed(Message, frozen=True):
    """What happened after number `after` of an epoch. Answered by `OrderFeed`, after `wait_s` at the latest.

    An epoch that is not the present one, "" too, asks where to begin: nothing is waited for.
    """

    epoch: str
    after: int
    wait_s: float = 2.0


class OrderStep(Record, frozen=True):
    """Something that happened to an order, once it was stored.

    Args:
        number: In the epoch, from 1.
        order: Its id.
        state: How it stands now, as `order list` has it.
        command: A command of its dispatcher, packed; empty if only its state has changed.
        anew: What was known of its tasks counts no more: a picture is to be asked for.
    """

    number: int
    order: str
    state: str
    command: bytes = b""
    anew: bool = False


class OrderFeed(Message, frozen=True):
    """Steps in their order, the last of number `upto`. `lost`: there were others in between; `upto` is the present."""

    epoch: str
    upto: int
    steps: tuple[OrderStep, ...] = ()
    lost: bool = False


class GetOrderPicture(Message, frozen=True):
    """How an order stands, one that has ended too. Answered by `OrderPicture` or `Refusal`."""

    id: str


class TaskPicture(Record, frozen=True):
    """A task of an order.

    Args:
        uuid: Its own.
        context_uuid: Of the task that called it; its own for the first one.
        waits: Whether a service runs for it.
        served: Whether one was ever started for it.
        values: Its variables.
    """

    uuid: str
    name: str
    context_uuid: str
    waits: bool
    served: bool
    values: tuple[Given, ...]


class OrderPicture(Message, frozen=True):
    """An order after step `upto` of an epoch. Tasks come after the ones that called them.

    Args:
        text: Its program; None if another dispatcher says what is to be done.
        tasks: No more than a message takes.
        more: There are others.
    """

    epoch: str
    upto: int
    row: OrderRow
    text: str | None
    tasks: tuple[TaskPicture, ...]
    more: bool
