"""A node whose actors only beat, stop when told, and fail when a file in the home says so: run as a script.

`TINY_RETRY_S` sets after how long an actor that is FATAL is tried again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime import node_logic
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.home import Home, file_form
from tagwerk.runtime.kinds import KINDS
from tagwerk.runtime.node import from_command_line, run_node
from tagwerk.runtime.page import PeerState

BUSY_S = 1.5


class Tiny:
    """Writes `start` and `stop` to `data/diary`; obeys `data/NAME.does`.

    At its start: crash, config, sulk (never ready). At SIGUSR1: spin, deadlock, busy (and silent), burn (and beat).
    """

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._stopped = False
        self._told = False
        self._burns = False

    def run(self) -> int:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_stopped", True))
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "_told", True))
        context = self._context
        order = self._order()
        if order == "crash":
            raise RuntimeError("told to crash")
        if order == "config":
            raise ConfigError("told to refuse", key="machine.mash", value="x", expected="y")
        if order != "sulk":
            context.slot.write_state(PeerState.RUNNING)
        self._note("start")
        while not self._stopped:
            context.slot.write_beat(context.clock.mono_ns())
            if self._told:
                self._obey()
            if not self._burns:
                time.sleep(0.005)
        self._note("stop")
        return 0

    def _obey(self) -> None:
        self._told = False
        order = self._order()
        if order == "spin":
            while True:
                pass
        if order == "deadlock":
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        if order == "busy":
            self._context.slot.write_busy("vacuum", self._context.clock.mono_ns() + round(BUSY_S * 1e9))
            while True:
                time.sleep(1)
        if order == "burn":
            self._burns = True

    def _order(self) -> str:
        path = self._context.home.data / f"{file_form(self._context.name)}.does"
        return path.read_text() if path.exists() else ""

    def _note(self, what: str) -> None:
        line = f"{what} {self._context.name} {self._context.incarnation} {os.getpid()} {self._context.code}\n"
        descriptor = os.open(self._context.home.data / "diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def run_tiny(home: Home, plant: Path, name: str) -> int:
    """Be the node."""
    return run_node(home, plant, name, kinds=dict.fromkeys(KINDS, "tiny_node:Tiny"))


if __name__ == "__main__":
    sys.modules.setdefault("tiny_node", sys.modules["__main__"])
    node_logic.FATAL_RETRY_S = float(os.environ.get("TINY_RETRY_S", node_logic.FATAL_RETRY_S))  # type: ignore[misc]
    sys.exit(from_command_line(run_tiny))
