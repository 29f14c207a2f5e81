"""The node: one process that starts, watches, ends and restarts all actors of a plant on this host.

`python -m tagwerk.runtime.node --home DIR --plant FILE` runs in the foreground, by hand; supervisord runs
`node_keeper`, which forks it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, final

from tagwerk.protocols.errors import ConfigError, ConfigErrors, TagwerkError
from tagwerk.runtime import inspection
from tagwerk.runtime.child import NODE_SIGNALS, Cradle
from tagwerk.runtime.children import Children
from tagwerk.runtime.clock import NS_PER_S, Clock, SystemClock
from tagwerk.runtime.home import Home, file_form
from tagwerk.runtime.kinds import KINDS, preload
from tagwerk.runtime.lock import ActorLock
from tagwerk.runtime.log import configure_logging, redirect_output
from tagwerk.runtime.node_counts import Counts
from tagwerk.runtime.node_plan import Plan, plan
from tagwerk.runtime.node_server import CtlServer
from tagwerk.runtime.node_takeover import remove_files, take_over
from tagwerk.runtime.node_verbs import Verbs
from tagwerk.runtime.page import Page, PeerState
from tagwerk.runtime.page_layout import CAPACITY
from tagwerk.runtime.plantfile import load
from tagwerk.runtime.process import Identity
from tagwerk.runtime.release import release_code

EX_DONE: Final = 0
EX_UNAVAILABLE: Final = 1
EX_USAGE: Final = 2  # the plant file is wrong: supervisord does not try again
LATE_LIMIT_NS: Final = NS_PER_S  # a node that was away for longer could not see anybody's beat
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a node needs before it takes the place of another: checked, imported, and copied from the sources."""

    home: Home
    plan: Plan
    kinds: Mapping[str, str]
    code: Path  # the release of the users' code

    @property
    def log(self) -> Path:
        """The node's log file."""
        return self.home.log / f"{file_form(self.plan.node)}.log"


@final
class Node:
    """The event loop: one thread, one epoll set, nothing in it waits for anybody.

    Args:
        prepared: What is to run, and where.
        lock: The node's lock, taken.
        clock: The time.
    """

    def __init__(self, prepared: Prepared, lock: ActorLock, clock: Clock) -> None:
        home, plan = prepared.home, prepared.plan
        self._home = home
        self._plan = plan
        self._lock = lock
        self._clock = clock
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._wakeup_read, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._names = [plan.node, *(spec.name for spec in plan.specs)]
        capacity = max(CAPACITY, 2 * len(self._names))
        self._page = Page.create(home.file(plan.node, "page"), self._names, Identity.own(), capacity=capacity)
        self._slot = self._page.slot(plan.node)
        cradle = Cradle(
            home=home,
            plan=plan,
            page=self._page,
            clock=clock,
            kinds=prepared.kinds,
            code=prepared.code,
            node_pid=os.getpid(),
            close_inherited=self._close_inherited,
        )
        counts = Counts(home.data / f"{file_form(plan.node)}.db")
        self._children = Children(cradle, counts, watch=self._watch_child, unwatch=self._epoll.unregister)
        self._ctl = CtlServer(home.file(plan.node, "ctl"), Verbs(self._children, self._shut_down), os.getuid())

    def run(self) -> None:
        """Run until a signal or `down` has stopped everything."""
        self._take_signals()
        self._watch(self._ctl.fileno(), self._accept)
        own = Identity.own()
        now_ns = self._clock.mono_ns()
        self._slot.attach(pid=own.pid, incarnation=1, mono_ns=now_ns)
        self._publish(PeerState.RUNNING, own, now_ns)
        _log.info("runs %s with %d processes", self._plan.plant.path, len(self._names) - 1)
        next_ns = now_ns
        while not (self._children.closing and self._children.all_ended):
            self._poll(next_ns - now_ns)
            now_ns = self._clock.mono_ns()
            if now_ns - next_ns > LATE_LIMIT_NS:
                _log.warning("was late by %.1f s: everybody gets a new period", (now_ns - next_ns) / NS_PER_S)
                self._children.give_time(now_ns)
            self._children.tick(now_ns)
            self._ctl.tick(now_ns)
            self._slot.write_beat(now_ns)
            next_ns = self._children.next_tick_ns(now_ns)
            now_ns = self._clock.mono_ns()
        self._end()

    def _poll(self, timeout_ns: int) -> None:
        for descriptor, _ in self._epoll.poll(max(timeout_ns, 0) / NS_PER_S):
            handler = self._handlers.get(descriptor)
            if handler is not None:  # an earlier handler of this round may have closed it
                handler(descriptor)

    def _accept(self, _descriptor: int) -> None:
        client = self._ctl.accept(self._clock.mono_ns())
        if client is not None:
            self._watch(client, lambda descriptor: self._ctl.readable(descriptor, self._clock.mono_ns()))

    def _watch(self, descriptor: int, handler: Callable[[int], None]) -> None:
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, select.EPOLLIN)

    def _watch_child(self, pidfd: int) -> None:
        self._watch(pidfd, lambda ended: self._children.ended(ended, self._clock.mono_ns()))

    def _take_signals(self) -> None:
        def stop(number: int, _frame: FrameType | None) -> None:
            _log.info("%s: stops everything", signal.Signals(number).name)
            self._shut_down()

        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        self._watch(self._wakeup_read, lambda descriptor: drop(os.read(descriptor, 4096)))
        for number in NODE_SIGNALS:
            signal.signal(number, stop)
        # They were held back since `main`, when there was nothing yet that could have stopped in order.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NODE_SIGNALS)

    def _shut_down(self) -> None:
        if not self._children.closing:
            now_ns = self._clock.mono_ns()
            self._publish(PeerState.STOPPING, Identity.own(), now_ns)
            self._children.close(now_ns)

    def _publish(self, state: PeerState, own: Identity, now_ns: int) -> None:
        self._slot.write_state(state)
        self._slot.write_node(
            state=state,
            pid=own.pid if state is not PeerState.STOPPED else 0,
            start_ticks=own.start_ticks,
            since_mono_ns=now_ns,
            restarts=0,
            fatal_count=0,
            fatal=False,
            retry_at_mono_ns=0,
            hang_after_ns=2 * LATE_LIMIT_NS,
            reason="",
        )

    def _end(self) -> None:
        now_ns = self._clock.mono_ns()
        self._children.save(now_ns + NS_PER_S)
        # Nobody can ask any more, before what they could ask about is taken away.
        self._ctl.close()
        self._publish(PeerState.STOPPED, Identity.own(), now_ns)
        remove_files(self._home, [name for name in self._names if name != self._plan.node])
        # Clients that live on have it mapped: they must look for the successor's, which cannot find this one any more.
        self._page.supersede()
        self._home.file(self._plan.node, "page").unlink(missing_ok=True)
        # The lock last: whoever gets it finds the ground clean.
        self._lock.release()
        self._home.remove_run()
        _log.info("has stopped everything")

    def _close_inherited(self) -> None:
        """In a forked child: close what is the node's, through the objects, so that no later number is closed twice."""
        self._epoll.close()
        os.close(self._wakeup_read)
        os.close(self._wakeup_write)
        self._children.close_inherited()
        self._ctl.close_inherited()
        self._lock.close_inherited()


def drop(_read: bytes) -> None:
    """Take what only woke the loop: the handler of the signal has run already."""


def run_node(home: Home, plant: Path, name: str = "main", kinds: Mapping[str, str] = KINDS) -> int:
    """Be a node, from taking over from its predecessor to the stop of everything.

    Args:
        home: The plant's home.
        plant: The plant file.
        name: The node's name.
        kinds: The actor kinds.

    Returns:
        The exit code: 0 stopped as asked, 1 the old node cannot be ended, 2 the plant file is wrong.
    """
    hold_signals()
    prepared = prepare(home, plant, name, kinds)
    return EX_USAGE if prepared is None else live(prepared)


def hold_signals() -> None:
    """Hold back what stops a node until its loop can stop in order: no SIGTERM during the start is lost."""
    signal.pthread_sigmask(signal.SIG_BLOCK, NODE_SIGNALS)
    # Whoever started us may ignore it, and the kernel would reap our children before we learn how they ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def prepare(home: Home, plant: Path, name: str = "main", kinds: Mapping[str, str] = KINDS) -> Prepared | None:
    """Do all that can be refused, before an old node is ended: what cannot run must not replace what runs.

    Returns:
        None if the plant file or the code beside it is wrong; standard error has been told why.
    """
    try:
        plans = _sound_plan(plant, name, kinds)
        home.create()
        prepared = Prepared(home, plans, kinds, release_code(plant, home))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201  before there is a log
        return None
    # What is there now is shared by all forks, as long as nobody writes to it. The collector would, and the interpreter
    # when it replaces an entry of its cache of methods: the entry's name loses a reference.
    sys._clear_type_cache()  # noqa: SLF001  documented, for all its name
    gc.collect()
    gc.freeze()
    return prepared


def live(prepared: Prepared) -> int:
    """Take the place of an older node, and run until everything is stopped. The node's signals are held back.

    Returns:
        The exit code: 0 stopped as asked, 1 the old node cannot be ended.
    """
    if not os.isatty(2):
        # supervisord's pipe is left: if nobody reads it any more, the node must not wait for it.
        redirect_output(prepared.log)
    configure_logging(prepared.plan.node)
    try:
        lock = take_over(prepared.home, prepared.plan.node, [spec.name for spec in prepared.plan.specs])
    except TagwerkError as error:
        _log.critical("%s", error)
        return EX_UNAVAILABLE
    Node(prepared, lock, SystemClock()).run()
    return EX_DONE


def _sound_plan(path: Path, name: str, kinds: Mapping[str, str]) -> Plan:
    """Read the plant file, look at the machines' code that it names, and import what the actors need.

    Raises:
        ConfigErrors: All that is wrong, as `tagwerk check` tells it.
    """
    try:
        plant = load(path)
    except ConfigError:
        plant = load(path, checks=[inspection.check])  # refused again, now with what is wrong in the code, too
    plans = plan(plant, name)
    with contextlib.ExitStack() as stack:
        # Users' code has a process of its own; ours is imported beside it, which takes as long.
        under_way = stack.enter_context(inspection.Inspecting(path, path.parent)) if plant.machines else None
        preload((spec.kind for spec in plans.specs if not spec.command), kinds)
        errors = under_way.result().errors if under_way is not None else ()
    if errors:
        raise ConfigErrors(list(errors))
    return plans


def from_command_line(run: Callable[[Home, Path, str], int]) -> int:
    """Do with a home, a plant file and a name what the command line says; give the exit code."""
    # Started over with BLAS kept to one thread, if an import has started more: a fork takes only the caller along.
    if len(os.listdir("/proc/self/task")) > 1 and os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.execv(sys.executable, sys.orig_argv)
    # What the one who started us left open would stay open in every actor, and as long as the plant runs.
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            with contextlib.suppress(OSError):  # the listing's own has gone already
                os.close(descriptor)
    parser = argparse.ArgumentParser(prog="tagwerk.runtime.node", description="Run the actors of a plant.")
    parser.add_argument("--home", type=Path, required=True, help="directory of the plant's state")
    parser.add_argument("--plant", type=Path, required=True, help="the plant file")
    parser.add_argument("--name", default="main", help="the node's name")
    options = parser.parse_args()
    return run(Home(options.home), options.plant.absolute(), options.name)


if __name__ == "__main__":
    sys.exit(from_command_line(run_node))
