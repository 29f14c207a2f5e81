"""supervisord from outside: who runs a home's plant, starting it, stopping it, leaving nothing behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import psutil

from tagwerk.protocols.errors import TagwerkError, Unavailable
from tagwerk.runtime.home import Home
from tagwerk.runtime.lock import ActorLock, is_held
from tagwerk.runtime.node_ctl import NodeCtl
from tagwerk.runtime.process import Identity, end
from tagwerk.runtime.supervisord_conf import conf_for, shipped_conf

NODE: Final = "node/main"
STOP_S: Final = 30.0  # actors stop in order, the historian writes what it holds
KILL_S: Final = 5.0
_LOOK_S: Final = 0.02


class StillThere(TagwerkError):  # noqa: N818  what the user reads, not what we raise
    """A process that should have ended has not."""


@dataclass(frozen=True, slots=True)
class Running:
    """Who runs the plant of a home.

    Args:
        node: The node, None between two of its starts.
        supervisor: The supervisord above it, None if the node runs by itself.
        alone: That supervisord has no other programs.
    """

    node: Identity | None
    supervisor: Identity | None
    alone: bool = True

    @property
    def pids(self) -> str:
        """Name the processes, for a message."""
        both = (("supervisord", self.supervisor), ("node", self.node))
        return ", ".join(f"{what} pid {who.pid}" for what, who in both if who is not None)


def find(home: Home) -> Running | None:
    """Find who runs the plant of this home, however it was started; None if nobody does."""
    node = _node_of(home)
    if node is not None:
        try:
            below = psutil.Process(node.pid)
            for parent in below.parents()[:2]:  # between them is the node's keeper
                if _is_supervisord(parent):
                    children = [child.pid for child in parent.children()]
                    return Running(node, Identity.of(parent.pid), alone=children == [below.pid])
                below = parent
        except psutil.Error:  # it ended meanwhile; then its pid file counts
            node = _node_of(home)
    supervisor = next(filter(None, map(_by_pid_file, _folders(home))), None)
    return Running(node, supervisor) if node is not None or supervisor is not None else None


def _living(lock: Path) -> Identity | None:
    holder = ActorLock.holder(lock)
    return holder.process if holder is not None and holder.process.is_alive() else None


def _is_supervisord(process: psutil.Process) -> bool:
    return any("supervisord" in word for word in process.cmdline()[:4])


def _folders(home: Home) -> list[Path]:
    """Where a supervisord of this home keeps its pid file and its socket."""
    folders: list[Path] = []
    with contextlib.suppress(Unavailable):
        folders.append(home.file(NODE, "lock").parent)
    if (shipped := shipped_conf(home)) is not None:
        folders.append(shipped.parent)
    return folders


def _by_pid_file(folder: Path) -> Identity | None:
    """Read supervisord's own pid file; a pid that somebody else has by now does not count."""
    try:
        pid = int((folder / "supervisord.pid").read_text(encoding="ascii"))
        process = psutil.Process(pid)
        if _is_supervisord(process) and _is_configured_in(process, folder):
            return Identity.of(pid)
    except (OSError, ValueError, psutil.Error):
        return None
    return None


def _is_configured_in(process: psutil.Process, folder: Path) -> bool:
    cwd = Path(process.cwd())  # `supervisord -c supervisord.conf`, or even without -c
    words = (word.rpartition("=")[2] for word in process.cmdline()[1:])
    return cwd == folder or any((cwd / word).resolve().parent == folder for word in words)


@final
class Supervisord:
    """The supervisord that this process has started.

    Args:
        home: The plant's home.
        process: It.
        conf: Its configuration; its socket stands beside it.
        complaints: The file that has what it said before it had a log.
    """

    def __init__(self, home: Home, process: subprocess.Popen[bytes], conf: Path, complaints: Path) -> None:
        self.home = home
        self.process = process
        self._conf = conf
        self._complaints = complaints

    @classmethod
    def start(cls, home: Home, plant: Path) -> Supervisord:
        """Start it, in a session of its own: a Ctrl-C in this terminal is not for it.

        Args:
            home: The plant's home; its directories are made.
            plant: The plant file.
        """
        conf = conf_for(home, plant)
        complaints = home.log / "supervisord-start.log"
        with complaints.open("wb") as words:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "supervisor.supervisord", "-n", "-c", os.fspath(conf)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,
            )
        return cls(home, process, conf, complaints)

    @property
    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    def complaints(self) -> str:
        """Give what it said before it had a log."""
        return self._complaints.read_text(encoding="utf-8", errors="replace").strip()

    @property
    def node_log(self) -> Path:
        """What the node said before it had a log of its own."""
        folder = self.home.log if self._conf != shipped_conf(self.home) else self._conf.parent
        return folder / "supervisord-node.log"

    def node_gave_up(self) -> bool:
        """Tell whether the node ended and is not tried again: the plant file is wrong, or it was stopped."""
        try:
            return str(self._process_info().get("statename")) in ("EXITED", "FATAL", "STOPPED")
        except (OSError, TagwerkError):  # it does not listen yet
            return False

    def _process_info(self) -> dict[str, Any]:
        from xmlrpc.client import Error, ServerProxy

        from supervisor.xmlrpc import SupervisorTransport

        path = self._conf.with_suffix(".sock")
        if not path.exists():
            raise Unavailable("supervisord does not listen yet")
        transport = SupervisorTransport(None, None, f"unix://{path}")
        try:
            proxy: Any = ServerProxy("http://127.0.0.1", transport=transport)
            info: dict[str, Any] = proxy.supervisor.getProcessInfo("node:main")
        except Error as error:
            raise Unavailable(f"supervisord: {error}") from error
        finally:
            transport.close()
        return info


def stop(home: Home, running: Running, timeout_s: float = STOP_S) -> None:
    """Stop a plant and wait until all of it is gone; its run directory goes with it.

    A supervisord that has other programs, too, is left alone: it is only told about the node.

    Raises:
        StillThere: Something of it cannot be ended.
    """
    deadline = time.monotonic() + timeout_s
    if running.supervisor is not None and running.alone:
        if not end(running.supervisor, term_s=timeout_s, kill_s=KILL_S):
            raise StillThere(f"supervisord, pid {running.supervisor.pid}, cannot be ended")
    elif running.supervisor is not None:
        NodeCtl(home).call("down", timeout_s=timeout_s)
    node = running.node or _node_of(home)
    if node is not None:
        keeper = _keeper_of(node)
        if running.supervisor is not None:
            _wait_gone(node, deadline)
        if not end(node, term_s=max(KILL_S, deadline - time.monotonic()), kill_s=KILL_S):
            raise StillThere(f"the node, pid {node.pid}, cannot be ended")
        if keeper is not None:
            _wait_gone(keeper, deadline)  # it ends by itself when its node was asked to stop
    clean(home)


def _node_of(home: Home) -> Identity | None:
    try:
        return _living(home.file(NODE, "lock"))
    except Unavailable:
        return None


def _keeper_of(node: Identity) -> Identity | None:
    """The process that has forked the node: its command line is the same."""
    with contextlib.suppress(psutil.Error):
        below = psutil.Process(node.pid)
        above = below.parent()
        if above is not None and above.cmdline() == below.cmdline():
            return Identity.of(above.pid)
    return None


def _wait_gone(process: Identity, deadline: float) -> None:
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


def clean(home: Home) -> None:
    """Remove what a plant that is gone left in its run directory, and the directory itself.

    Raises:
        StillThere: Some process of it still lives.
    """
    home = Home(home.root)  # another one may remember a directory that is gone
    with contextlib.suppress(Unavailable, FileNotFoundError):  # the node takes the directory away itself, if it can
        folder = home.file(NODE, "lock").parent
        _wait_until_free(folder)
        for path in sorted(folder.iterdir()):
            path.unlink(missing_ok=True)
        home.remove_run()
    if (shipped := shipped_conf(home)) is not None and _by_pid_file(shipped.parent) is None:
        for name in ("supervisord.pid", "supervisord.sock"):  # one that was killed leaves them
            (shipped.parent / name).unlink(missing_ok=True)


def _wait_until_free(folder: Path) -> None:
    deadline = time.monotonic() + KILL_S
    for lock in sorted(folder.glob("*.lock")):
        while is_held(lock):  # actors that died with their node take a moment
            if time.monotonic() >= deadline:
                holder = ActorLock.holder(lock)
                who = f"{holder.name}, pid {holder.process.pid}," if holder else lock.name
                raise StillThere(f"{who} still runs, though its node is gone")
            time.sleep(_LOOK_S)
