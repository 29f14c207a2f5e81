"""One supervised process as its node sees it: the only place where its state changes."""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Callable
from typing import final

from tagwerk.runtime.child import EX_CONFIG
from tagwerk.runtime.clock import NS_PER_S
from tagwerk.runtime.node_counts import Count
from tagwerk.runtime.node_logic import START_LIMIT_S, Restarts, overdue_at_ns
from tagwerk.runtime.node_plan import ChildSpec
from tagwerk.runtime.page import Slot
from tagwerk.runtime.process import Identity, kill_group
from tagwerk.runtime.states import ALIVE, Event, PeerState, step

STOP_TIMEOUT_S = 5.0  # from SIGTERM to SIGKILL
EXTERNAL_READY_S = 0.3  # a program says nothing of itself: who lives for so long is up
_log = logging.getLogger(__name__)


@final
class Supervised:
    """A process that should run, or should not.

    Args:
        spec: What it is.
        slot: Its slot, of which the node's half is kept up to date.
        restarts: Its record of failures.
        count: How often it was restarted and given up before this node.
        keep: Called with the count when it has to be durable before anybody sees it in the slot.
    """

    def __init__(
        self, spec: ChildSpec, slot: Slot, restarts: Restarts, count: Count, keep: Callable[[Count], None]
    ) -> None:
        self.spec = spec
        self.slot = slot
        self.state = PeerState.STOPPED
        self.process: Identity | None = None  # not yet reaped
        self.pidfd = -1
        self.wanted = True
        self.passed = False  # the first start of those that need it does not wait for it any more
        self.forks = 0
        self.restarts, self.fatals, _ = count
        self.reason = ""
        self._record = restarts
        self._keep = keep
        self._since_ns = 0
        self._ready_ns = 0  # since when this process is ready, 0: it is not
        self._grace_ns = 0
        self._retry_at_ns = 0
        self._kill_at_ns = 0
        self._killed_for = ""  # why the node itself ended it
        self._publish()

    @property
    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self.state in ALIVE

    @property
    def count(self) -> Count:
        """How often it was restarted and given up, ever."""
        return Count(self.restarts, self.fatals, self._record.on_trial)

    def is_due(self, now_ns: int) -> bool:
        """Say whether it is to be forked now, but for the order of the first start."""
        if not self.wanted or self.is_alive:
            return False
        return self.state is PeerState.STOPPED or 0 < self._retry_at_ns <= now_ns

    def wakes_at_ns(self) -> int:
        """Give when the node has to look at it again by itself, 0 for no time in particular."""
        if self.state is PeerState.STOPPING:
            return self._kill_at_ns
        if self.process is not None:
            return self._overdue_at_ns(self.process)
        return self._retry_at_ns if self.wanted and not self.is_alive else 0

    def forked(self, process: Identity, pidfd: int, now_ns: int) -> None:
        """Note that its process has begun."""
        self.process, self.pidfd = process, pidfd
        self.restarts += self.forks > 0
        self.forks += 1
        self._grace_ns = now_ns
        self._retry_at_ns = 0
        self._ready_ns = 0
        self._killed_for = ""
        self._move(Event.FORKED, now_ns, self.reason)

    def look(self, now_ns: int) -> None:
        """See whether it is ready, hangs, takes too long to stop, or has stood its trial."""
        if self.process is None:
            return
        if self.state is PeerState.STARTING and self._is_ready(now_ns):
            self.passed = True
            self._ready_ns = now_ns
            self._move(Event.READY, now_ns, self.reason)
        elif self.state in (PeerState.STARTING, PeerState.RUNNING):
            self._end_if_hung(now_ns)
        elif self.state is PeerState.STOPPING and now_ns >= self._kill_at_ns:
            kill_group(self.process.pid)
        if self.state is PeerState.RUNNING and self._record.proven(now_ns - self._ready_ns):
            self._keep(self.count)
            self._publish()

    def give_time(self, now_ns: int) -> None:
        """Begin a new period without a beat: the node was late itself, so it did not look."""
        self._grace_ns = now_ns

    def end_for(self, reason: str) -> None:
        """Kill it because it breaks a limit; it counts as a failure."""
        if self.process is not None and self.state in (PeerState.STARTING, PeerState.RUNNING):
            self._killed_for = reason
            _log.error("%s is killed: %s", self.spec.name, reason)
            kill_group(self.process.pid)

    def stop(self, now_ns: int) -> None:
        """Ask it to end, and do not start it again by itself."""
        self.passed = True
        if self.state in (PeerState.STOPPED, PeerState.STOPPING):
            return
        self._kill_at_ns = now_ns + round(STOP_TIMEOUT_S * NS_PER_S)
        self._retry_at_ns = 0
        self._move(Event.STOP, now_ns, "")
        if self.process is not None:
            # To the actor alone: what it has started is its own to stop, and is killed with the group at its end.
            os.kill(self.process.pid, signal.SIGTERM)

    def start_at_once(self, now_ns: int, *, forgive: bool) -> None:
        """Want it, and do not wait for the end of a backoff; `forgive` also forgets its failures."""
        self.wanted = True
        self.passed = True
        if forgive:
            self._record.forgive()
            self._keep(self.count)
        if self.state in (PeerState.BACKOFF, PeerState.FATAL):
            self._retry_at_ns = now_ns
            self._publish()

    def ended(self, now_ns: int) -> None:
        """Reap its process, and judge its end."""
        process = self.process
        assert process is not None, "only a process that was forked is watched"
        # Before the leader is reaped, while its number cannot be another's: whatever it left behind in its group.
        kill_group(process.pid)
        code = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        self.process = None
        if self.state is PeerState.STOPPING:
            self._move(Event.ENDED, now_ns, "")
            return
        reason = self._why(process.pid, code)
        beat_ns = self.slot.beat_of(process.pid)[0] if self.state is PeerState.HUNG else now_ns
        verdict = self._record.ended(
            now_ns,
            max(beat_ns - self._ready_ns, 0) if self._ready_ns else 0,
            config_error=code == EX_CONFIG and not self._killed_for,
            jitter=random.random(),
            silent_ns=now_ns - max(beat_ns, self._grace_ns),
        )
        self._retry_at_ns = 0 if verdict.retry_after_ns is None else now_ns + verdict.retry_after_ns
        self.fatals += verdict.counts and verdict.event is Event.GAVE_UP
        self.passed |= verdict.event is Event.GAVE_UP
        if verdict.counts and verdict.event is Event.GAVE_UP:
            # Events and alarms go by this number: once it was seen it must not come again, whoever dies.
            self._keep(self.count)
        self._move(verdict.event, now_ns, reason)  # who asks is told before the log is
        _log.error("%s %s; %s", self.spec.name, reason, _outlook(verdict.event, verdict.retry_after_ns))

    def _why(self, pid: int, code: int) -> str:
        if self._killed_for:
            return self._killed_for
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        view = self.slot.read()
        return f"{how}: {view.last_words}" if view.actor_pid == pid and view.last_words else how

    def _is_ready(self, now_ns: int) -> bool:
        assert self.process is not None
        if self.spec.command:
            attached = self.slot.beat_of(self.process.pid)[0]
            return attached > 0 and now_ns - attached >= EXTERNAL_READY_S * NS_PER_S
        return self.slot.is_ready(self.process.pid)

    def _end_if_hung(self, now_ns: int) -> None:
        assert self.process is not None
        if not self.spec.hang_after_s:
            return
        if now_ns < self._overdue_at_ns(self.process) or self.process.is_in_disk_wait():
            return
        self._killed_for = f"hung: no beat for {self._silence_s():g} s"
        self._move(Event.OVERDUE, now_ns, self._killed_for)
        _log.error("%s %s; it is killed", self.spec.name, self._killed_for)
        kill_group(self.process.pid)

    def _overdue_at_ns(self, process: Identity) -> int:
        """When it hangs, if it says nothing until then; 0: never."""
        if not self.spec.hang_after_s:
            return 0
        beat_ns, busy_until_ns = self.slot.beat_of(process.pid)
        return overdue_at_ns(
            beat_ns=beat_ns,
            busy_until_ns=busy_until_ns,
            grace_from_ns=self._grace_ns,
            limit_ns=round(self._silence_s() * NS_PER_S),
        )

    def _silence_s(self) -> float:
        """How long it may say nothing."""
        limit_s = self.spec.hang_after_s
        return max(limit_s, START_LIMIT_S) if self.state is PeerState.STARTING else limit_s

    def _move(self, event: Event, now_ns: int, reason: str) -> None:
        self.state = step(self.state, event)
        self.reason = reason
        self._since_ns = now_ns
        self._publish()

    def _publish(self) -> None:
        process = self.process or Identity(0, 0)
        self.slot.write_node(
            state=self.state,
            pid=process.pid,
            start_ticks=process.start_ticks,
            since_mono_ns=self._since_ns,
            restarts=self.restarts,
            fatal_count=self.fatals,
            fatal=self._record.on_trial,
            retry_at_mono_ns=self._retry_at_ns,
            hang_after_ns=round(self.spec.hang_after_s * NS_PER_S),
            reason=self.reason,
        )


def _outlook(event: Event, retry_after_ns: int | None) -> str:
    if retry_after_ns is None:
        return "it waits for `tagwerk revive`"
    what = "FATAL, " if event is Event.GAVE_UP else ""
    return f"{what}tried again after {retry_after_ns / NS_PER_S:.1f} s"
