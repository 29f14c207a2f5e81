"""When to start, to stop, to restart, to give up and to kill: pure, with the time as an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, final

from tagwerk.runtime.clock import NS_PER_S
from tagwerk.runtime.states import Event

BACKOFF_S: Final = 0.1  # before the second restart in a row; the first comes at once
BACKOFF_MAX_S: Final = 5.0
JITTER: Final = 0.2  # +- this part, so that what fails together does not come back together
STABLE_S: Final = 1.0  # who has run so long did not fail at its start: the next restart comes at once
FATAL_RETRY_S: Final = 60.0  # doubling
FATAL_RETRY_MAX_S: Final = 900.0
START_LIMIT_S: Final = 30.0  # to the first beat: many processes may start at once on few cores


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an actor whose process has ended."""

    event: Event  # ENDED or GAVE_UP
    retry_after_ns: int | None  # None: only when somebody asks for it
    counts: bool = False  # a new FATAL, which raises one alarm and one event


@final
class Restarts:
    """How often an actor has failed lately, and what follows from it.

    More than `restarts` ends in `period_s` make it FATAL. From then on it is on trial: each further end makes it FATAL
    again, without counting again, until it has run for a whole period.

    Args:
        restarts: How many restarts a period may have.
        period_s: The period.
        on_trial: It was given up under an earlier node, and has not proven itself since: the same trouble.
    """

    def __init__(self, restarts: int, period_s: float, *, on_trial: bool = False) -> None:
        self._restarts = restarts
        self._period_ns = round(period_s * NS_PER_S)
        self._ends: deque[int] = deque(maxlen=restarts + 1)
        self._row = 0
        self._fatal_retry_s = FATAL_RETRY_S
        self.on_trial = on_trial

    def ended(self, now_ns: int, ran_ns: int, *, config_error: bool, jitter: float, silent_ns: int = 0) -> Verdict:
        """Judge an end that nobody asked for.

        Args:
            now_ns: Monotonic time.
            ran_ns: How long it ran well.
            config_error: It ended because what it was told to run is wrong; trying again would not help.
            jitter: A random number in [0, 1).
            silent_ns: How long it hung before that. It does not count into the period: else who hangs at every start
                would never fail too often.
        """
        self.proven(ran_ns)
        if ran_ns >= STABLE_S * NS_PER_S:
            self._row = 0
        counts = not self.on_trial
        if config_error:
            self.on_trial = True
            return Verdict(Event.GAVE_UP, None, counts)
        self._row += 1
        self._ends = deque((end_ns + silent_ns for end_ns in self._ends), self._ends.maxlen)
        self._ends.append(now_ns)
        too_many = len(self._ends) > self._restarts and now_ns - self._ends[0] <= self._period_ns
        if too_many or self.on_trial:
            self.on_trial = True
            retry_s = self._fatal_retry_s
            self._fatal_retry_s = min(2 * retry_s, FATAL_RETRY_MAX_S)
            return Verdict(Event.GAVE_UP, _spread_ns(retry_s, jitter), counts)
        if self._row == 1:
            return Verdict(Event.ENDED, 0)
        delay_s = min(BACKOFF_S * 2.0 ** min(self._row - 2, 30), BACKOFF_MAX_S)
        return Verdict(Event.ENDED, _spread_ns(delay_s, jitter))

    def proven(self, ran_ns: int) -> bool:
        """End a trial that was stood: a whole period without an end. Give whether one ended now."""
        if not self.on_trial or ran_ns < self._period_ns:
            return False
        self.forgive()
        return True

    def forgive(self) -> None:
        """Forget all failures: somebody has mended it, or it has mended itself."""
        self._ends.clear()
        self._row = 0
        self._fatal_retry_s = FATAL_RETRY_S
        self.on_trial = False


def _spread_ns(delay_s: float, jitter: float) -> int:
    return round(delay_s * (1 - JITTER + 2 * JITTER * jitter) * NS_PER_S)


def may_start(needs: Collection[str], passed: Collection[str]) -> bool:
    """Say whether an actor's turn in the first start has come.

    Args:
        needs: Those it depends on.
        passed: Those that were ready once, that nobody wants, or that are FATAL: the rest of the plant does not wait.
    """
    return all(need in passed for need in needs)


def may_stop(name: str, needs: Mapping[str, Collection[str]], alive: Collection[str]) -> bool:
    """Say whether an actor's turn in the last stop has come: nobody who lives depends on it."""
    return not any(name in needs[other] for other in alive if other != name)


def overdue_at_ns(*, beat_ns: int, busy_until_ns: int, grace_from_ns: int, limit_ns: int) -> int:
    """Give the monotonic time from which an actor hangs: no beat for more than `limit_ns`.

    Args:
        beat_ns: Its last beat, monotonic as all others, 0 for none.
        busy_until_ns: Until when it said that no beat will come, 0 for never: from there on the limit is counted.
        grace_from_ns: Since when the node could have seen a beat: it was itself late before.
        limit_ns: The time between beats that makes a hung actor.
    """
    return max(beat_ns, busy_until_ns, grace_from_ns) + limit_ns + 1
