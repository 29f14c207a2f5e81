"""The keeper: supervisord's child. It imports and checks all that a node needs, forks the node, and forks it again.

A node that is killed has a successor within milliseconds, from the image that its keeper holds warm; supervisord alone
would notice within a second, and the imports take two more. A node that stands still is ended, too: without it nobody
is started again. The keeper itself does nothing else: if it is killed the plant runs on, and the next keeper's node
takes the old one's place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.child import NODE_SIGNALS
from tagwerk.runtime.home import Home
from tagwerk.runtime.log import configure_logging, redirect_output
from tagwerk.runtime.node import (
    EX_DONE,
    EX_UNAVAILABLE,
    EX_USAGE,
    Prepared,
    from_command_line,
    hold_signals,
    live,
    prepare,
)
from tagwerk.runtime.page import Page

STABLE_S: Final = 1.0  # a node that has not lived so long is left to supervisord, which waits longer each time
HANG_AFTER_S: Final = 30.0
"""A node that has not beaten for so long is ended. Its actors end with it and work till then: there is no hurry."""
LOOK_S: Final = 1.0
_log = logging.getLogger(__name__)


def keep_node(home: Home, plant: Path, name: str = "main", hang_after_s: float = HANG_AFTER_S) -> int:
    """Keep a node alive until it stops as asked. Every successor runs what this keeper read at its start.

    Args:
        home: The plant's home.
        plant: The plant file.
        name: The node's name.
        hang_after_s: A node that has not beaten for so long is ended.

    Returns:
        The exit code: 0 stopped as asked, 1 the node failed and is left to supervisord, 2 the plant file is wrong.
    """
    supervisor_pid = os.getppid()
    hold_signals()
    prepared = prepare(home, plant, name)
    if prepared is None:
        return EX_USAGE
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        if not os.isatty(2):
            redirect_output(prepared.log)
        configure_logging(f"keeper of {prepared.plan.node}")
        began_s = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _be_node(prepared)
        code, asked = _wait(pid, Beats(home, prepared.plan.node, pid), hang_after_s)
        if code == EX_DONE or asked:
            return EX_DONE
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if time.monotonic() - began_s < STABLE_S:
            _log.error("the node, pid %d, %s at its start", pid, how)
            return EX_UNAVAILABLE
        if os.getppid() != supervisor_pid:
            # The next supervisord has a keeper of its own: two would end each other's nodes.
            _log.error("the node, pid %d, %s, and nobody keeps its keeper", pid, how)
            return EX_UNAVAILABLE
        _log.error("the node, pid %d, %s; its successor starts at once", pid, how)


def _be_node(prepared: Prepared) -> NoReturn:
    code = EX_UNAVAILABLE
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        code = live(prepared)
    except BaseException as error:  # whatever it is, it ends this process and not the keeper
        _log.critical("the node ends by %s", type(error).__name__, exc_info=error)
    finally:
        with contextlib.suppress(OSError, ValueError):  # a full disk must not keep the process alive
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # not sys.exit: the keeper's stack lies below


class Beats:
    """Looks at a node's beat.

    Args:
        home: Where its page is.
        name: `node/main`.
        pid: Its process.
    """

    def __init__(self, home: Home, name: str, pid: int) -> None:
        self._path = home.file(name, "page")
        self._name = name
        self._pid = pid
        self._last_ns = 0
        self.silent = 0
        """Looks without a new beat. Looks are counted, not seconds: if the whole host stood still, nobody hangs."""

    def look(self) -> None:
        """See whether there is a new one. A node that is about to make its page has none."""
        beat_ns = self._last_ns
        with contextlib.suppress(Unavailable):
            page = Page.open(self._path)
            if page.node.pid == self._pid:
                beat_ns = page.slot(self._name).beat_of(self._pid)[0]
            page.close()
        self.silent = 0 if beat_ns != self._last_ns else self.silent + 1
        self._last_ns = beat_ns


def _wait(pid: int, beats: Beats, hang_after_s: float) -> tuple[int, bool]:
    """Pass every stop on to the node until it has ended. Give its exit code, and whether there was one."""
    asked = False
    while True:
        info = signal.sigtimedwait({signal.SIGCHLD, *NODE_SIGNALS}, LOOK_S)
        if info is None:
            beats.look()
            if beats.silent * LOOK_S >= hang_after_s:
                _log.error("the node, pid %d, has not beaten for %g s: it is ended", pid, hang_after_s)
                os.kill(pid, signal.SIGKILL)
            continue
        if info.si_signo in NODE_SIGNALS:
            asked = True
            os.kill(pid, info.si_signo)  # not reaped yet, so the number is its own
            continue
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), asked


if __name__ == "__main__":
    sys.exit(from_command_line(keep_node))
