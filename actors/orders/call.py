"""One call of a service on a resource, and how long is waited for what in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tagwerk.actors.orders.logic.calls import Job, Phase
from tagwerk.actors.orders.logic.services import Service, ServiceFault


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what, in seconds.

    Args:
        connect_s: For a session, from the first attempt on.
        again_s: Between two attempts.
        poll_s: Between two looks at the queue when the server tells of no change.
        appear_s: For an element to appear in the queue; the template in C takes up to a second.
        idle_s: For a resource whose queue we lead to become IDLE.
        gap_s: Beyond the expected duration, for the event of a call whose session was lost.
        linger_s: For the end of a call that nobody waits for any more, before its place is given up.
    """

    connect_s: float = 5.0
    again_s: float = 0.2
    poll_s: float = 0.1
    appear_s: float = 10.0
    idle_s: float = 30.0
    gap_s: float = 10.0
    linger_s: float = 5.0


@dataclass(slots=True)
class Call:
    """One call of a service, as far as it came.

    Args:
        job: What is to be done.
        progress: Told each phase *before* the act.
        settled: Told what came of it before the resource is given back; not told if it was cancelled.
        phase: How far it came; of a call that another process began, how far that one came.
    """

    job: Job
    progress: Callable[[Phase], None]
    settled: Callable[[dict[str, Any] | ServiceFault], None] | None = None
    phase: Phase = Phase.NEW
    service: Service | None = None
    values: list[Any] = field(default_factory=list[Any])
    expected_s: float = 0.0
    lost_at: float | None = None  # by the loop's clock, when a session was lost for the first time
    claimed: bool = False
    abandoned: bool = False
    releasing: bool = False  # from here on it must not be cancelled: its place would stay taken
    released: bool = False  # its place is given back, or it never had one
    unknown: bool = False

    def enter(self, phase: Phase) -> None:
        """Go on to a phase, and tell."""
        self.phase = phase
        self.claimed = self.claimed or phase is Phase.CLAIMED
        self.progress(phase)
