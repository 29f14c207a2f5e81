"""All processes of a node: forked in order, watched, ended in reverse order."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, final

from tagwerk.runtime.child import NODE_SIGNALS, Cradle, run_child
from tagwerk.runtime.clock import NS_PER_S
from tagwerk.runtime.node_counts import Count, Counts
from tagwerk.runtime.node_limits import Limits
from tagwerk.runtime.node_logic import Restarts, may_start, may_stop
from tagwerk.runtime.process import Identity, kill_group
from tagwerk.runtime.states import PeerState
from tagwerk.runtime.supervised import Supervised

TICK_NS: Final = 500_000_000
WEIGHED: Final = 2  # processes a tick whose memory and CPU time are looked at: to read them takes longer than all else
STARTING_TICK_NS: Final = 10_000_000  # while somebody waits for somebody to become ready
SAVE_PERIOD_NS: Final = NS_PER_S
_log = logging.getLogger(__name__)


@final
class Children:
    """The supervised processes. Nothing in here waits.

    Args:
        cradle: What each gets.
        counts: Where restarts and fatals are kept.
        watch: Called with the pidfd of each new process; its end is to be told to `ended`.
        unwatch: Called before such a pidfd is closed.
    """

    def __init__(
        self, cradle: Cradle, counts: Counts, *, watch: Callable[[int], None], unwatch: Callable[[int], None]
    ) -> None:
        plan = cradle.plan
        known = counts.load()
        self._cradle = cradle
        self._counts = counts
        self._watch = watch
        self._unwatch = unwatch
        self._by_pidfd: dict[int, Supervised] = {}
        self._unsaved: dict[str, Count] = {}
        self._save_at_ns = 0
        self._weighed = 0
        self._limits = Limits(plan.memory_limit_bytes, plan.cpu_limit_pct, plan.period_s)
        self._cannot_fork = ""
        self.closing = False
        self._all = {
            spec.name: Supervised(
                spec,
                cradle.page.slot(spec.name),
                Restarts(plan.restarts, plan.period_s, on_trial=known.get(spec.name, Count()).on_trial),
                known.get(spec.name, Count()),
                partial(self._keep, spec.name),
            )
            for spec in plan.specs
        }
        # Who is named as needed but not run by this node cannot be waited for here.
        self._needs = {
            name: tuple(need for need in child.spec.needs if need in self._all) for name, child in self._all.items()
        }

    def __iter__(self) -> Iterator[Supervised]:
        return iter(self._all.values())

    def get(self, name: str) -> Supervised | None:
        """Give a child by its name."""
        return self._all.get(name)

    @property
    def all_ended(self) -> bool:
        """Whether no process is left."""
        return not any(child.is_alive for child in self._all.values())

    def close_inherited(self) -> None:
        """Close the pidfds, in a child that has just been forked."""
        for pidfd in self._by_pidfd:
            os.close(pidfd)

    def tick(self, now_ns: int) -> None:
        """Do whatever is due."""
        for child in self._all.values():
            child.look(now_ns)
        if self.closing:
            self._stop_next(now_ns)
        else:
            self._start_due(now_ns)
            for _ in range(WEIGHED):
                self._weigh_one(now_ns)
        if self._unsaved and now_ns >= self._save_at_ns:
            self.save(now_ns)

    def next_tick_ns(self, now_ns: int) -> int:
        """Give when `tick` is to be called next, if nothing happens before."""
        children = self._all.values()
        period_ns = STARTING_TICK_NS if any(c.state is PeerState.STARTING for c in children) else TICK_NS
        due = [at_ns for child in children if (at_ns := child.wakes_at_ns()) > now_ns]
        return min([now_ns + period_ns, *due])

    def ended(self, pidfd: int, now_ns: int) -> None:
        """Reap the process behind a pidfd, and start its successor in the same breath if it is due at once."""
        child = self._by_pidfd.pop(pidfd)
        self._unwatch(pidfd)
        os.close(pidfd)
        child.ended(now_ns)
        if child.is_due(now_ns) and not self.closing:
            self._fork(child, now_ns)
        self._unsaved[child.spec.name] = child.count

    def give_time(self, now_ns: int) -> None:
        """Begin a new period without a beat for everybody: the node was late itself."""
        for child in self._all.values():
            child.give_time(now_ns)

    def close(self, now_ns: int) -> None:
        """Begin the last stop, in reverse order of the start; `all_ended` says when it is done."""
        self.closing = True
        for child in self._all.values():
            child.wanted = False
        self._stop_next(now_ns)

    def save(self, now_ns: int) -> None:
        """Write the counts that have changed."""
        self._save_at_ns = now_ns + SAVE_PERIOD_NS
        self._save()

    def _keep(self, name: str, count: Count) -> None:
        self._unsaved[name] = count
        self._save()

    def _save(self) -> None:
        if self._unsaved and self._counts.save(self._unsaved):
            self._unsaved = {}

    def _start_due(self, now_ns: int) -> None:
        passed = {name for name, child in self._all.items() if child.passed}
        for name, child in self._all.items():
            # The order is that of the first start. Later each comes back alone, whatever the others do (one for one).
            if child.is_due(now_ns) and (child.forks or child.passed or may_start(self._needs[name], passed)):
                self._fork(child, now_ns)

    def _stop_next(self, now_ns: int) -> None:
        alive = [name for name, child in self._all.items() if child.is_alive]
        for child in self._all.values():
            if not child.is_alive or may_stop(child.spec.name, self._needs, alive):
                child.stop(now_ns)

    def _weigh_one(self, now_ns: int) -> None:
        """Look at memory and CPU time of the next process."""
        alive = [child for child in self._all.values() if child.process is not None]
        if not alive:
            return
        self._weighed = (self._weighed + 1) % len(alive)
        child = alive[self._weighed]
        assert child.process is not None
        broken = self._limits.broken_by(child.spec.name, child.process, now_ns)
        if broken:
            child.end_for(broken)

    def _fork(self, child: Supervised, now_ns: int) -> None:
        try:
            process, pidfd = self._forked(child)
        except OSError as error:  # no memory, pid or descriptor is left: the others run on, and it is tried again
            if str(error) != self._cannot_fork:
                _log.error("%s cannot be started: %s", child.spec.name, error)
            self._cannot_fork = str(error)
            return
        self._cannot_fork = ""
        self._by_pidfd[pidfd] = child
        self._watch(pidfd)
        child.forked(process, pidfd, now_ns)
        self._unsaved[child.spec.name] = child.count

    def _forked(self, child: Supervised) -> tuple[Identity, int]:
        # Blocked over the fork: in the child, the node's handlers must not run before they are taken away.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, NODE_SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                run_child(child.spec, self._cradle)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            os.setpgid(pid, pid)  # the child does it too: whoever comes first, the group is there before it is killed
        except (PermissionError, ProcessLookupError):
            _log.debug("%s was faster than its node", child.spec.name)
        try:
            # It may have ended already, which the pidfd will tell.
            return Identity.of(pid) or Identity(pid, 0), os.pidfd_open(pid)
        except OSError:
            kill_group(pid)  # nobody could watch it
            os.waitpid(pid, 0)
            raise
