"""The life of a forked process, from the fork to its exit code. Each step says why it comes there."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.clock import Clock
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.home import Home, file_form
from tagwerk.runtime.incarnation import next_incarnation
from tagwerk.runtime.kinds import import_actor
from tagwerk.runtime.lock import ActorLock
from tagwerk.runtime.log import configure_logging, redirect_output
from tagwerk.runtime.node_plan import ChildSpec, Plan
from tagwerk.runtime.page import Page
from tagwerk.runtime.process import die_with_parent

EX_CONFIG: Final = 78  # sysexits.h: the node does not try again by itself
EX_FAILED: Final = 1
NODE_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_SIGNALS: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
PYTHON_IGNORES: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
_LOCK_TIMEOUT_S: Final = 1.0  # the predecessor is dead; what it forked is being killed, and may still hold the lock
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cradle:
    """What all children of a node get from it."""

    home: Home
    plan: Plan
    page: Page
    clock: Clock
    kinds: Mapping[str, str]
    code: Path
    node_pid: int
    close_inherited: Callable[[], None]  # closes, in the child, every descriptor of the node


def run_child(spec: ChildSpec, cradle: Cradle) -> NoReturn:
    """Be the process that `spec` asks for. To be called right after the fork, with the node's signals blocked."""
    code = EX_FAILED
    try:
        _leave_the_node(spec, cradle)
        code = _run_external(spec, cradle) if spec.command else _run_actor(spec, cradle)
    except BaseException as error:  # whatever it is, it ends this process and no other
        code = _last_words(spec, cradle, error)
    finally:
        with contextlib.suppress(OSError, ValueError):  # a full disk must not keep the process alive
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # not sys.exit: the node's stack, with its own cleaning up, lies below


def _leave_the_node(spec: ChildSpec, cradle: Cradle) -> None:
    # First, because a node that dies before this line leaves an orphan.
    die_with_parent(cradle.node_pid)
    # Its own group, so that all it ever starts can be ended with it, and Ctrl-C in a terminal reaches the node alone.
    os.setpgid(0, 0)
    # Before signals are let in: a handler of the node would run here, and wake the node through the shared descriptor.
    signal.set_wakeup_fd(-1)
    _default_signals(kept=PYTHON_IGNORES)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # The node's lock, socket and pidfds: a copy would keep them alive after the node.
    cradle.close_inherited()
    # Its own log before anything that may have something to say.
    redirect_output(cradle.home.log / f"{file_form(spec.name)}.log")
    configure_logging(spec.name)
    # Forks of one parent would all draw the same numbers: backoffs and session ids must differ.
    random.seed()
    if "numpy.random" in sys.modules:
        np.random.seed()


def _default_signals(kept: frozenset[signal.Signals]) -> None:
    """Undo the node's handlers, and what the one who started the node had ignored: `exec` would hand that on, too."""
    for number in _SIGNALS - kept:
        signal.signal(number, signal.SIG_DFL)


def _run_actor(spec: ChildSpec, cradle: Cradle) -> int:
    # The lock before the first byte of state is read: two processes of one actor must never both be at it.
    lock = _take_lock(spec, cradle, inheritable=False)
    incarnation = _attach(spec, cradle)
    # Each connection takes a descriptor, and libzmq ends a process that has none left.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    actor_class = import_actor(spec.kind, cradle.kinds)
    actor = actor_class(
        ActorContext(
            name=spec.name,
            home=cradle.home,
            plant=cradle.plan.plant,
            incarnation=incarnation,
            slot=cradle.page.slot(spec.name),
            page=cradle.page,
            clock=cradle.clock,
            code=cradle.code,
        )
    )
    code = actor.run()
    # Last, after the actor has closed its sockets: a successor that has the lock binds the same paths.
    lock.release()
    return code


def _run_external(spec: ChildSpec, cradle: Cradle) -> int:
    _take_lock(spec, cradle, inheritable=True)  # the program never heard of it, and holds it until it ends
    _attach(spec, cradle)
    os.chdir(cradle.plan.folder)
    _default_signals(kept=frozenset())  # other programs rely on those that Python ignores
    environment = {**os.environ, **spec.env, "TAGWERK_HOME": str(cradle.home.root)}
    try:
        os.execvpe(spec.command[0], spec.command, environment)
    except OSError as error:
        raise ConfigError(
            f"cannot be run: {error.strerror}", key=spec.name, value=spec.command[0], expected="a program"
        ) from error


def _take_lock(spec: ChildSpec, cradle: Cradle, *, inheritable: bool) -> ActorLock:
    path = cradle.home.file(spec.name, "lock")
    return ActorLock.take(path, spec.name, timeout_s=_LOCK_TIMEOUT_S, inheritable=inheritable)


def _attach(spec: ChildSpec, cradle: Cradle) -> int:
    incarnation = next_incarnation(cradle.home.actor_data(spec.name), cradle.clock)
    slot = cradle.page.slot(spec.name)
    slot.attach(pid=os.getpid(), incarnation=incarnation, mono_ns=cradle.clock.mono_ns())
    return incarnation


def _last_words(spec: ChildSpec, cradle: Cradle, error: BaseException) -> int:
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return error.code or 0
    _log.critical("ends by %s", type(error).__name__, exc_info=error)
    cradle.page.slot(spec.name).leave_words(f"{type(error).__name__}: {error}")
    return EX_CONFIG if isinstance(error, ConfigError) else EX_FAILED
