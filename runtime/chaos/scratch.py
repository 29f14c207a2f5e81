"""A plant to be struck: a copy of the user's in a scratch home, with the writers' tags; what is left of it after."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, final

import psutil

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.chaos.additions import Device, edited
from tagwerk.runtime.chaos.commands import Execution, read_executions
from tagwerk.runtime.chaos.numbers import WriterSpec
from tagwerk.runtime.cli import supervision
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page
from tagwerk.runtime.process import Identity, end
from tagwerk.runtime.states import PeerState

UP_S: Final = 60.0
DOWN_S: Final = 40.0
GONE_S: Final = 5.0
"""After the stop the kernel may take so long to end what died with its parent."""
_POLL_S: Final = 0.005
_IGNORED: Final = shutil.ignore_patterns("__pycache__", "var", ".venv", ".git")


def free_port() -> int:
    """Give a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@final
class Scratch:
    """A plant in a scratch directory.

    Args:
        plant: The user's plant file; its folder is copied.
        writers: Whose tags it gets.
        example: It is the example plant: its PLC gets a port of its own.
    """

    def __init__(self, plant: Path, writers: tuple[WriterSpec, ...], *, example: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tw-chaos-"))
        self.port = free_port() if example else None
        self.plant = self.folder / "plant" / plant.name
        self.device = Device(free_port(), self.folder / "device.log")
        shutil.copytree(plant.absolute().parent, self.plant.parent, ignore=_IGNORED)
        text = self.plant.read_text(encoding="utf-8")
        self.plant.write_text(edited(text, writers, self.port, self.device), encoding="utf-8")
        self.home = Home(self.folder / "home")
        self.supervisord: supervision.Supervisord | None = None
        self._run = self.folder

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder)

    # --- up ----------------------------------------------------------------------------------------------------------

    def up(self) -> Page:
        """Start it under supervisord, and wait until all of it runs.

        Raises:
            Unavailable: It does not come up; the words of who knows why are in the message.
        """
        self.supervise()
        deadline = time.monotonic() + UP_S
        page: Page | None = None
        while time.monotonic() < deadline:
            if self.supervisord is None or self.supervisord.ended is not None or self.supervisord.node_gave_up():
                break
            if page is None:
                page = self._page()
            elif not (missing := not_running(page)):
                self._run = self.home.file("node/main", "lock").parent
                return page
            else:
                deadline = deadline if missing else 0.0
            time.sleep(0.05)
        raise Unavailable(f"the plant does not come up: {self._why(page)}; its logs are in {self.home.log}")

    def executions(self) -> list[Execution]:
        """Give what the device carried out."""
        log = self.device.log
        return read_executions(log.read_bytes() if log.exists() else b"")

    def supervise(self) -> None:
        """Start a supervisord; if another one has died, it takes the plant over."""
        self.supervisord = supervision.Supervisord.start(self.home, self.plant)

    def _page(self) -> Page | None:
        try:
            return Page.open(self.home.file("node/main", "page"))
        except Unavailable:
            return None

    def _why(self, page: Page | None) -> str:
        if page is not None and (missing := not_running(page)):
            return f"{', '.join(missing)} not RUNNING after {UP_S:g} s"
        if self.supervisord is None:
            return "it was never started"
        words = self.supervisord.complaints()
        if not words and self.supervisord.node_log.exists():
            words = self.supervisord.node_log.read_text(errors="replace").strip()
        return words.splitlines()[-1] if words else "supervisord and the node said nothing"

    # --- down --------------------------------------------------------------------------------------------------------

    def down(self, seen: Iterable[Identity]) -> list[str]:
        """Stop it, and give all that is left: processes, sockets, locks, files of it outside of the scratch directory.

        Args:
            seen: Every process that was seen to belong to it.
        """
        self._stop()
        deadline = time.monotonic() + GONE_S
        while (left := self._processes(seen)) and time.monotonic() < deadline:
            time.sleep(0.05)
        found = [f"process {words}" for words in left]
        if self._run != self.folder and self._run.is_dir():
            # What is supervisord's own goes at last: it must live longer than the node.
            own = "supervisord."
            found += [f"file {path}" for path in sorted(self._run.iterdir()) if not path.name.startswith(own)]
        supervision.clean(self.home)
        if self._run != self.folder and self._run.exists():
            found.append(f"directory {self._run}")
        ports = [port for port in (self.port, self.device.port) if port is not None]
        found += (f"somebody listens on port {port}" for port in ports if not left and _is_listening(port))
        return found

    def _stop(self) -> None:
        running = supervision.find(self.home)
        for identity in (running.supervisor, running.node) if running is not None else ():
            if identity is not None:
                end(identity, term_s=DOWN_S)
        if self.supervisord is not None:
            self.supervisord.process.wait(DOWN_S)

    def abandon(self) -> None:
        """End all of it at once: the run was broken off."""
        if self.supervisord is not None and self.supervisord.ended is None:
            self.supervisord.process.terminate()
        self.down(())

    def _processes(self, seen: Iterable[Identity]) -> list[str]:
        found = {identity.pid: f"{identity.pid}" for identity in seen if identity.is_alive()}
        places = (os.fspath(self.folder), os.fspath(self._run))
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                ours = any(place in word for word in (*words, process.cwd()) for place in places)
            except psutil.Error:  # it ended meanwhile, or belongs to another user
                continue
            if ours and process.pid != os.getpid():
                found[process.pid] = f"{process.pid} {' '.join(words)[:100]}"
        return list(found.values())


def not_running(page: Page) -> list[str]:
    """Give the names of all that do not run."""
    missing: list[str] = []
    for name in page.names():
        seen = page.look(name)
        if seen is None or seen.state is not PeerState.RUNNING:
            missing.append(name)
    return missing or ([] if page.names() else ["node/main"])


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
