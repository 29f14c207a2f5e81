"""A plant to measure: one shard, as many tags as asked for, in a scratch directory; surely gone after."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self, final

from tagwerk.protocols.errors import TagwerkError, Unavailable
from tagwerk.runtime.attach import attach
from tagwerk.runtime.bench.forks import scratch
from tagwerk.runtime.bench.tasks import TAG
from tagwerk.runtime.bench.work import MODULE, PARENT
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page
from tagwerk.runtime.states import PeerState

ACTORS: Final = ("plant/0", "events/0", "cvt/0", "historian/0", "alarms/0")
"""Who lives in a bench plant of one shard."""
UP_S: Final = 90.0
DOWN_S: Final = 20.0
_HEAD: Final = '[plant]\nname = "bench"\nshards = {shards}\ntag_files = ["tags.csv"]\n[node.main]\nrestarts = 1000\n'


@final
class BenchPlant:
    """A plant that is up inside the `with`.

    Args:
        tags: How many, `bench.t000000` and so on.
        shards: Over how many shards.
        extra: More of the plant file: TOML.
        logged: Whether history keeps the tags' samples.
    """

    def __init__(self, tags: int, *, shards: int = 1, extra: str = "", logged: bool = False) -> None:
        self._things = ExitStack()
        self._shards = shards
        self._extra = extra
        self._rows = "".join(f"{TAG.format(number)},float,{str(logged).lower()}\n" for number in range(tags))
        self.folder = Path()
        self.home = Path()
        self.started_s = 0.0
        """From the node's start to all running."""
        self._node: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.folder = self._things.enter_context(scratch("tw-bench-"))
            self.home = self.folder / "home"
            (self.folder / "tags.csv").write_text("name,type,log\n" + self._rows, encoding="utf-8")
            head = _HEAD.format(shards=self._shards)
            (self.folder / "plant.toml").write_text(head + self._extra, encoding="utf-8")
            self._start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def _start(self) -> None:
        began_s = time.monotonic()
        with (self.folder / "node.log").open("wb") as log:
            self._node = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, "node", self.home, self.folder / "plant.toml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in this terminal is not for it
                env=os.environ | {PARENT: str(os.getpid())},
            )
        while not self._is_up():
            if self._node.poll() is not None or time.monotonic() - began_s > UP_S:
                raise Unavailable(f"the bench plant does not come up: {self._last_words()}")
            time.sleep(0.02)
        self.started_s = time.monotonic() - began_s

    def _last_words(self) -> str:
        lines = (self.folder / "node.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "the node said nothing"

    def _is_up(self) -> bool:
        try:
            page = Page.open(Home(self.home).file("node/main", "page"))
        except (OSError, TagwerkError):
            return False
        try:
            seen = [page.look(name) for name in page.names()]
        finally:
            page.close()
        return len(seen) > 1 and all(one is not None and one.state is PeerState.RUNNING for one in seen)

    def pid(self, actor: str) -> int:
        """Give the process of an actor."""
        page = Page.open(Home(self.home).file("node/main", "page"))
        try:
            seen = page.look(actor)
        finally:
            page.close()
        if seen is None:
            raise Unavailable(f"{actor} is not there")
        return seen.pid

    def fill(self, tags: int) -> None:
        """Give every tag a value."""
        with attach(home=self.home, writer="filler", timeout_s=UP_S) as plant:
            plant.publish(plant.samples([TAG.format(number) for number in range(tags)], [1.0] * tags))

    def remove(self) -> None:
        """Stop it, and remove all of it."""
        if self._node is not None:
            self._node.terminate()
            try:
                self._node.wait(DOWN_S)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):  # Ctrl-C once more: not nicely, but at once
                self._node.kill()  # its actors die with it
                self._node.wait()
        self._sweep_run()
        self._things.close()

    def _sweep_run(self) -> None:
        """The run directory lies elsewhere, on a tmpfs: a node that was killed leaves files in it."""
        link = self.home / "run"
        if link.is_symlink() and link.exists():
            shutil.rmtree(link.readlink())
