"""Which of the plant's own resources executes a service."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tagwerk.actors.orders.logic.services import Failure, ServiceFault


class Candidate(NamedTuple):
    """A resource of the plant.

    Args:
        name: The actor's.
        url: Of it.
        connected: Whether there is a session with it.
        services: What it offers; empty if that was never seen.
        load: How many wait or run there.
    """

    name: str
    url: str
    connected: bool
    services: tuple[str, ...]
    load: int


def chosen(
    service: str, candidates: Sequence[Candidate], avoid: Collection[str] = (), exclude: Collection[str] = ()
) -> tuple[Candidate, str]:
    """Give the resource for a service, and why it is this one: connected, not avoided, with the shortest line.

    Args:
        service: Its name.
        candidates: All resources, in the order of the plant file: the first of several equal ones is taken.
        avoid: Those that failed at it before.
        exclude: Those that could not be reached for it.

    Raises:
        ServiceFault: There is none: for now (UNREACHABLE), or at all (REJECTED).
    """
    able = [one for one in candidates if service in one.services and one.name not in exclude]
    ready = [one for one in able if one.connected]
    if ready:
        found = min(ready, key=lambda one: (one.name in avoid, one.load))
        words = f"the shortest line of {len(ready)} that offer it: {found.load}"
        if found.name in avoid:
            words += "; it failed there before, and there is no other"
        return found, words
    unseen = [one.name for one in candidates if not one.services and not one.connected and one.name not in exclude]
    if able:
        names = ", ".join(one.name for one in able)
        raise ServiceFault(Failure.UNREACHABLE, f"no resource for {service} now: {names} cannot be reached")
    if unseen:
        reason = f"no resource for {service} now: what {', '.join(unseen)} offers is not known yet"
        raise ServiceFault(Failure.UNREACHABLE, reason)
    tried = f"; not reached: {', '.join(exclude)}" if exclude else ""
    offered = sorted({each for one in candidates for each in one.services})
    raise ServiceFault(Failure.REJECTED, f"no resource of the plant offers {service} ({', '.join(offered)}){tried}")
