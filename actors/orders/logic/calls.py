"""One call of a service from the queue to its end: how far it came, and what is known of it when a session is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from tagwerk.actors.orders.logic.pfdl.talk import Output, Parameter
from tagwerk.actors.orders.logic.queues import EXECUTING, Seen


class Phase(StrEnum):
    """How far a call came. Each is entered before the act that its name tells, so that a crash never came further."""

    NEW = "NEW"
    QUEUED = "QUEUED"
    """Its element was handed to the queue."""
    CLAIMED = "CLAIMED"
    """It stood first, the asset was idle, and we wrote EXECUTING."""
    CALLED = "CALLED"
    """The method was handed over."""
    ACCEPTED = "ACCEPTED"
    """The resource answered that it has begun; an event will tell the end."""
    ENDED = "ENDED"
    """The end is known."""


class Next(StrEnum):
    """What is done with a call when there is a session again."""

    ENQUEUE = "ENQUEUE"
    """It was certainly not called: it takes its place anew."""
    WAIT = "WAIT"
    """It was certainly not called and still has its place."""
    LISTEN = "LISTEN"
    """It was called, and the resource may still be at it: its event may come."""
    UNKNOWN = "UNKNOWN"
    """It was called, and there is nothing to wait for: nobody knows."""


NEXT: Final[Mapping[tuple[Phase, bool], Next]] = MappingProxyType(
    {
        (Phase.NEW, False): Next.ENQUEUE,
        (Phase.NEW, True): Next.WAIT,
        (Phase.QUEUED, False): Next.ENQUEUE,
        (Phase.QUEUED, True): Next.WAIT,
        (Phase.CLAIMED, False): Next.ENQUEUE,
        (Phase.CLAIMED, True): Next.WAIT,
        (Phase.CALLED, False): Next.UNKNOWN,
        (Phase.CALLED, True): Next.LISTEN,
        (Phase.ACCEPTED, False): Next.UNKNOWN,
        (Phase.ACCEPTED, True): Next.LISTEN,
    }
)
"""(phase, its element is still in the queue) -> what is done."""


@dataclass(frozen=True, slots=True)
class Job:
    """A service to be executed on one resource.

    Args:
        service: Its name.
        service_uuid: Of this call.
        task_uuid: Of the task that it belongs to.
        client: The identifier under which it stands in the queue.
        inputs: What the order gives.
        outputs: What the order wants.
        product: What it is made for, shown in the queue.
    """

    service: str
    service_uuid: str
    task_uuid: str
    client: str
    inputs: tuple[Parameter, ...]
    outputs: tuple[Output, ...]
    product: str = ""


def after_loss(phase: Phase, asynchronous: bool, seen: Seen, job: Job) -> Next:
    """Decide what is done with a call that has no session any more, or whose process has died.

    Args:
        phase: How far it came.
        asynchronous: Whether an event tells its end: the answer of a lost session never comes.
        seen: The resource as it stands now.
        job: The call.
    """
    there = seen.place_of(job.client, job.service_uuid) > 0
    what = NEXT[phase, there]
    if what is Next.LISTEN and not (asynchronous and seen.state == EXECUTING):
        return Next.UNKNOWN
    return what
