"""Whose turn it is on a resource that many orders share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Waiting(NamedTuple):
    """A service that waits for its turn.

    Args:
        service_uuid: Of it.
        order: Whose.
        priority: Of the order; a higher one goes first.
        number: In the order of arrival.
    """

    service_uuid: str
    order: str
    priority: int
    number: int


def next_one(waiting: Iterable[Waiting], served: Mapping[str, int]) -> Waiting | None:
    """Give the service whose turn it is: of the highest priority; of the order served least lately; that came first.

    Args:
        waiting: Those that wait.
        served: Order -> the number of the turn in which it was served last; one that never was is not there.
    """
    return min(waiting, key=lambda one: (-one.priority, served.get(one.order, -1), one.number), default=None)
