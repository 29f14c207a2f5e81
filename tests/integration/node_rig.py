"""A real node whose actors are tiny, for tests: started in a subprocess, asked, struck, and surely gone after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page, PeerState, SlotView

SCRIPT = Path(__file__).with_name("tiny_node.py")
NAMES = ("plant/0", "events/0", "cvt/0", "historian/0", "alarms/0")
DEADLINE_S = 20.0


class Rig:
    """A node in a subprocess, and all that a test asks of it."""

    def __init__(self, folder: Path, *, node: str = "", external: str = "") -> None:
        self.environment: dict[str, str] = {}
        self.launcher: tuple[str, ...] = ()  # runs the node's command that follows it
        self.home = Home(folder / "home").create()
        self.plant = folder / "plant" / "plant.toml"
        self.plant.parent.mkdir()
        self.plant.write_text(f"[plant]\nname = 'tiny'\nshards = 1\n[node.main]\n{node}\n{external}\n")
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = [
            *self.launcher,
            sys.executable,
            str(SCRIPT),
            "--home",
            str(self.home.root),
            "--plant",
            str(self.plant),
        ]
        node = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, **self.environment})
        self.nodes.append(node)
        return node

    def up(self, *names: str) -> subprocess.Popen[bytes]:
        node = self.start()
        self.until(lambda: self.all_run(node, names or NAMES))
        return node

    def all_run(self, node: subprocess.Popen[bytes], names: tuple[str, ...]) -> bool:
        page = self.page_of(node)
        return all(page.slot(name).read().state is PeerState.RUNNING for name in names)

    def page_of(self, node: subprocess.Popen[bytes]) -> Page:
        page = Page.open(self.home.file("node/main", "page"))
        if page.node.pid != node.pid:
            raise Unavailable("still the old page")
        return page

    def slot(self, name: str) -> SlotView:
        page = Page.open(self.home.file("node/main", "page"))
        try:
            return page.slot(name).read()
        finally:
            page.close()

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                if holds():
                    return
            except (Unavailable, FileNotFoundError):
                pass
            assert time.monotonic() < deadline, "it does not come to hold"
            time.sleep(0.002)

    def does(self, name: str, order: str) -> None:
        (self.home.data / f"{name.replace('/', '-')}.does").write_text(order)

    def obeys(self, name: str, order: str) -> int:
        """Have a running actor do it now; give its pid."""
        self.does(name, order)
        pid = self.slot(name).pid
        os.kill(pid, signal.SIGUSR1)
        return pid

    def diary(self, what: str) -> list[str]:
        lines = (self.home.data / "diary").read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith(what)]

    def log(self, name: str) -> str:
        return (self.home.log / f"{name}.log").read_text()

    def processes(self) -> list[psutil.Process]:
        """All processes of this rig: those with its home in their command line, which forks keep."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            if str(self.home.root) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
            node.wait()
        for process in self.processes():  # a node that outlived its supervisord
            process.kill()
        self.until(lambda: not self.processes())
        run = self.home.run.resolve()
        if run.is_dir():
            for path in run.iterdir():
                path.unlink()
        self.home.remove_run()


def rigs(folder: Path) -> Iterator[Callable[..., Rig]]:
    """A fixture's body: gives what makes a rig, and closes it after."""
    made: list[Rig] = []

    def make(**sections: str) -> Rig:
        made.append(Rig(folder, **sections))
        return made[-1]

    yield make
    for rig in made:
        rig.close()
