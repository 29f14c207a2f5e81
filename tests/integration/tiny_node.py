"""A node whose actors only beat, stop when told, and fail when a file in the home says so: run as a script."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.home import Home, file_form
from tagwerk.runtime.kinds import KINDS
from tagwerk.runtime.node import run_node
from tagwerk.runtime.page import PeerState


class Tiny:
    """Writes `start` and `stop` to `data/diary`; obeys `data/NAME.does`: crash, config, sulk (never ready)."""

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._stopped = False

    def run(self) -> int:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_stopped", True))
        context = self._context
        orders = context.home.data / f"{file_form(context.name)}.does"
        order = orders.read_text() if orders.exists() else ""
        if order == "crash":
            raise RuntimeError("told to crash")
        if order == "config":
            raise ConfigError("told to refuse", key="machine.mash", value="x", expected="y")
        if order != "sulk":
            context.slot.write_state(PeerState.RUNNING)
        self._note("start")
        while not self._stopped:
            context.slot.write_beat(context.clock.mono_ns())
            time.sleep(0.005)
        self._note("stop")
        return 0

    def _note(self, what: str) -> None:
        line = f"{what} {self._context.name} {self._context.incarnation} {os.getpid()} {self._context.code}\n"
        descriptor = os.open(self._context.home.data / "diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)


if __name__ == "__main__":
    sys.modules.setdefault("tiny_node", sys.modules["__main__"])
    sys.exit(run_node(Home(Path(sys.argv[1])), Path(sys.argv[2]), kinds=dict.fromkeys(KINDS, "tiny_node:Tiny")))
