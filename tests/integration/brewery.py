"""A brewhouse of its own for tests: real node, real PLC on a free port, real link; stopped surely, and clean after."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

import tagwerk
from tagwerk.runtime.home import Home
from tagwerk.runtime.node_ctl import NodeCtl
from tagwerk.runtime.page import Page, Peer
from tagwerk.runtime.states import PeerState

EXAMPLE = Path(__file__).parents[2] / "examples" / "brewhouse"
T = TypeVar("T")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, look: Callable[[], T], timeout_s: float = 20.0) -> T:
    """Look until it is true; fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}; last seen: {found!r}")
        time.sleep(0.005)


@dataclass
class Brewery:
    """A running brewhouse."""

    folder: Path
    home: Path
    port: int
    node: subprocess.Popen[bytes]
    page: Page = field(init=False)

    @classmethod
    def start(cls, folder: Path, *, edit: Callable[[str], str] = lambda text: text) -> Brewery:
        """Copy the example, give its PLC a free port, and bring it up."""
        plant = folder / "plant"
        shutil.copytree(EXAMPLE, plant, ignore=shutil.ignore_patterns("__pycache__", "var"))
        port = free_port()
        path = plant / "plant.toml"
        text = path.read_text().replace("127.0.0.1:4840", f"127.0.0.1:{port}")
        text = text.replace("python plc.py --speed 30", f"python plc.py --speed 30 --port {port}")
        # Kills in a test come closer together than failures in a plant.
        path.write_text(edit(text.replace("[node.main]\n", "[node.main]\nrestarts = 100\n")))
        return cls.bring_up(folder, path, port)

    @classmethod
    def bring_up(cls, folder: Path, path: Path, port: int = 0) -> Brewery:
        """Run any plant file until all of it runs; what does not come up leaves nothing."""
        home = folder / "home"
        node = subprocess.Popen(
            [sys.executable, "-m", "tagwerk.runtime.node", "--home", str(home), "--plant", str(path)]
        )
        brewery = cls(folder, home, port, node)
        try:
            found = wait_for("the gauge page", lambda: _page(home), 60)
            assert found is not None
            brewery.page = found
            wait_for("all actors RUNNING", brewery.all_running, 60)
        except BaseException:
            brewery.stop()
            raise
        return brewery

    def stop(self) -> None:
        """Stop everything, and see that nothing is left."""
        children = psutil.Process(self.node.pid).children(recursive=True) if self.node.poll() is None else []
        self.node.send_signal(signal.SIGTERM)
        try:
            assert self.node.wait(40) == 0, f"the node ended with {self.node.returncode}"
        finally:
            for child in [child for child in children if child.is_running()]:
                child.kill()
            self.node.kill()
        run = self.home / "run"
        assert not run.exists() or not list(run.iterdir()), f"left in run/: {list(run.iterdir())}"

    def attach(self, **options: Any) -> tagwerk.Plant:
        """A client of it."""
        return tagwerk.attach(home=str(self.home), **options)

    def peer(self, name: str) -> Peer:
        """How an actor stands."""
        seen = self.page.look(name)
        assert seen is not None, name
        return seen

    def names(self) -> tuple[str, ...]:
        """All actors and externals."""
        return tuple(name for name in self.page.names() if name != "node/main")

    def all_running(self) -> bool:
        """Everything is up."""
        return all(self.peer(name).state is PeerState.RUNNING for name in self.names())

    def kill(self, name: str, number: int = signal.SIGKILL) -> Peer:
        """Send a signal to an actor's process; gives how it stood before."""
        before = self.peer(name)
        with contextlib.suppress(ProcessLookupError):  # it has just been killed: its page does not know yet
            os.kill(before.pid, number)
        return before

    def reborn(self, name: str, before: Peer) -> bool:
        """Its successor runs."""
        now = self.peer(name)
        return now.incarnation != before.incarnation and now.state is PeerState.RUNNING

    def ask_node(self, do: str, name: str) -> None:
        """Have the node stop or start one of its children."""
        NodeCtl(Home(self.home)).call(do, name, 30)

    def log(self, name: str) -> str:
        """What an actor logged."""
        return (self.home / "log" / f"{name.replace('/', '-')}.log").read_text()


def _page(home: Path) -> Page | None:
    try:
        return Page.open(Home(home).file("node/main", "page"))
    except (OSError, tagwerk.TagwerkError):
        return None
