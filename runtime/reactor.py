"""The reactor: ports, timers and calls from other threads, waited on together. One thread runs it."""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.clock import Clock
    from tagwerk.runtime.transport import Port, Transport

SECOND_NS: Final = 1_000_000_000


class Timer:
    """Something that is due at a time of the monotonic clock."""

    __slots__ = ("_call", "due_ns", "every_ns")

    def __init__(self, due_ns: int, every_ns: int, call: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.every_ns = every_ns
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """It will not fire any more."""
        self._call = None

    @property
    def live(self) -> bool:
        """False once it was cancelled."""
        return self._call is not None

    def fire(self) -> None:
        """Do it now, unless it was cancelled meanwhile."""
        if self._call is not None:
            self._call()


class Reactor:
    """Ports and timers of one thread.

    Args:
        transport: Makes the ports and waits on them.
        clock: Gives the monotonic time.
        on_due: What to do with a due timer's call or a posted call: run it (default), or queue it as a message.
    """

    def __init__(
        self, transport: Transport, clock: Clock, on_due: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        self.transport = transport
        self.clock = clock
        self._on_due = on_due
        self._handlers: dict[Port, Callable[[], None]] = {}
        self._ports: list[Port] = []
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = count()
        self._born_ns = clock.mono_ns()
        self._posted: deque[Callable[[], None]] = deque()
        self._turn_ends: list[Callable[[], None]] = []
        self.turns = 0
        """How often ports were served."""
        self.on_ports_changed: Callable[[], None] | None = None
        self.on_touched: Callable[[], None] | None = None

    def add(self, port: Port, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever the port has something; it drains the port."""
        self._handlers[port] = on_readable
        self._ports.append(port)
        if self.on_ports_changed is not None:
            self.on_ports_changed()

    def remove(self, port: Port) -> None:
        """Close a port and forget it."""
        del self._handlers[port]
        self._ports.remove(port)
        self.transport.forget(port)
        if self.on_ports_changed is not None:
            self.on_ports_changed()

    @property
    def ports(self) -> list[Port]:
        """The ports waited on."""
        return self._ports

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, so much later."""
        return self._add_timer(int(seconds * SECOND_NS), 0, call)

    def every(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call again and again, first within one period. Late turns are skipped, not made up for.

        Periods are counted from the reactor's birth, so that timers of one period, or of multiples of it, share a wake;
        those of other processes have theirs at another time.
        """
        period = max(1, int(seconds * SECOND_NS))
        return self._add_timer(self.period_from_ns(seconds) + period - self.clock.mono_ns(), period, call)

    def period_from_ns(self, seconds: float) -> int:
        """Give the monotonic time when the last period of so many seconds began, as `every` counts them."""
        now_ns, period = self.clock.mono_ns(), max(1, int(seconds * SECOND_NS))
        return now_ns - (now_ns - self._born_ns) % period

    def _add_timer(self, delay_ns: int, every_ns: int, call: Callable[[], None]) -> Timer:
        timer = Timer(self.clock.mono_ns() + delay_ns, every_ns, call)
        heapq.heappush(self._timers, (timer.due_ns, next(self._order), timer))
        self.touched()
        return timer

    def touched(self) -> None:
        """A port was sent on, or a timer added: a loop that drives this reactor from outside must look again.

        ZeroMQ's descriptors are edge-triggered: after a send, what arrived meanwhile raises no edge.
        """
        if self.on_touched is not None:
            self.on_touched()

    def post(self, call: Callable[[], None]) -> None:
        """Have the reactor's thread call it. May be used from any thread."""
        self._posted.append(call)
        if len(self._posted) == 1:  # behind others: the wake for the first one is under way
            self.transport.wake()

    def soon(self, call: Callable[[], None]) -> None:
        """Call it after the ports of this turn were served, or first in the next. For the reactor's own thread."""
        self._posted.append(call)

    def at_turn_end(self, call: Callable[[], None]) -> None:
        """Call at the end of every round: what was gathered in it goes out together."""
        self._turn_ends.append(call)

    def next_due_ns(self, limit_ns: int) -> int:
        """How long until the next timer, at most `limit_ns`."""
        timers = self._timers
        while timers and not timers[0][2].live:
            heapq.heappop(timers)
        if not timers:
            return limit_ns
        left_ns = timers[0][0] - self.clock.mono_ns()
        return limit_ns if left_ns > limit_ns else max(0, left_ns)

    def step(self, limit_ns: int) -> bool:
        """One round: wait at most so long, serve what is ready. True if anything was."""
        wait_ns = 0 if self._posted else self.next_due_ns(limit_ns)
        ready = self.transport.wait(self._ports, wait_ns)
        for port in ready:
            handler = self._handlers.get(port)
            if handler is not None:
                handler()
        self.turns += bool(ready)
        fired = self._fire()
        for call in self._turn_ends:
            call()
        return fired or bool(ready)

    def _fire(self) -> bool:
        fired = False
        for _ in range(len(self._posted)):
            self._due(self._posted.popleft())
            fired = True
        if not self._timers or self._timers[0][0] > (now := self.clock.mono_ns()):
            return fired
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            if not timer.live:
                continue
            if timer.every_ns:
                missed = max(0, (now - timer.due_ns) // timer.every_ns)
                timer.due_ns += (missed + 1) * timer.every_ns
                heapq.heappush(self._timers, (timer.due_ns, next(self._order), timer))
            self._due(timer.fire)
            fired = True
        return fired

    def _due(self, call: Callable[[], None]) -> None:
        if self._on_due is None:
            call()
        else:
            self._on_due(call)
