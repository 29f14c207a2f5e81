"""Whether a resource has come to stand still: a place in its queue, or a claim, that nobody seems to hold."""

from __future__ import annotations

from typing import final

from tagwerk.actors.orders.logic.queues import EXECUTING, Seen


@final
class Watchman:
    """Looks at one resource.

    Args:
        after_s: So long nothing may change before it counts as stuck.
    """

    def __init__(self, after_s: float) -> None:
        self._after_ns = int(after_s * 1e9)
        self._seen: tuple[object, ...] = ()
        self._since_ns = 0

    def look(self, seen: Seen, ours: frozenset[str], now_ns: int) -> str:
        """Give what is wrong, "" if nothing is.

        Args:
            seen: The resource as it stands now.
            ours: Service uuids of the calls that we know to be at work: they may take their time.
            now_ns: Monotonic.
        """
        first = seen.queue[0] if seen.queue else None
        state = (first, seen.state == EXECUTING)
        if state != self._seen:
            self._seen, self._since_ns = state, now_ns
        if now_ns - self._since_ns < self._after_ns:
            return ""
        if first is not None and first.service_uuid not in ours:
            return f"the queue stands still: {first.client} has led it for too long"
        if first is None and seen.state == EXECUTING:
            return "AssetState is EXECUTING, but nobody stands in the queue"
        return ""
