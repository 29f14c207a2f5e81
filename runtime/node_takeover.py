"""Taking the place of an older node: end it, wait until all it ran is gone, begin on clean ground."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.home import Home, file_form
from tagwerk.runtime.lock import ActorLock, Locked, is_held
from tagwerk.runtime.page import Page, supersede
from tagwerk.runtime.process import Identity, end, group_members

OLD_NODE_TERM_S: Final = 5.0
ACTORS_GONE_S: Final = 5.0  # they die with the old node; then whoever holds a lock is killed
TAKE_TRIES: Final = 20
_POLL_S: Final = 0.005
_log = logging.getLogger(__name__)


def take_over(home: Home, node: str, actors: list[str]) -> ActorLock:
    """Become the node: afterwards no other process runs as it or as one of its actors.

    Args:
        home: The plant's home.
        node: The node's name, `node/main`.
        actors: What it is going to run.

    Raises:
        Unavailable: A process of the old node cannot be ended.
    """
    lock = _take_node_lock(home, node)
    page_path = home.file(node, "page")
    # From here on nobody believes the old page, whoever of the old actors still dies.
    names = {*actors, *_names_of(page_path)} - {node}
    supersede(page_path)
    paths = [home.file(name, "lock") for name in sorted(names)]
    leaders = [holder.process for path in paths if (holder := ActorLock.holder(path)) is not None]
    for path in paths:
        _wait_until_free(path)
    # With an actor that was killed dies nobody whom it has started, and not all of those hold its lock.
    for process in group_members(leaders) if leaders else ():
        _kill(process, "is left over from the old node")
    return lock


def remove_files(home: Home, names: list[str]) -> None:
    """Remove whatever these actors left in the run directory; only while none of them runs."""
    for name in names:
        for path in home.file(name, "x").parent.glob(f"{file_form(name)}.*"):
            path.unlink(missing_ok=True)


def _take_node_lock(home: Home, node: str) -> ActorLock:
    for _ in range(TAKE_TRIES):
        home.create()  # again each time: a node that stops cleanly takes the run directory with it
        try:
            return ActorLock.take(home.file(node, "lock"), node)
        except FileNotFoundError:
            continue
        except Locked as locked:
            if locked.holder is None:
                time.sleep(_POLL_S)  # it is just writing itself in
                continue
            old = locked.holder.process
            _log.warning("%s is up already as pid %d: it is ended", node, old.pid)
            if not end(old, term_s=OLD_NODE_TERM_S):
                raise Unavailable(f"{node}, pid {old.pid}, cannot be ended") from locked
    raise Unavailable(f"{node}: others take its lock again and again")


def _names_of(page_path: Path) -> tuple[str, ...]:
    try:
        page = Page.open(page_path)
    except Unavailable:
        return ()
    names = page.names()
    page.close()
    return names


def _wait_until_free(path: Path) -> None:
    deadline = time.monotonic() + ACTORS_GONE_S
    while is_held(path):
        holder = ActorLock.holder(path)
        # Who holds the lock of a dead actor was forked by it, and does not die with the node.
        if time.monotonic() < deadline and (holder is None or holder.process.is_alive()):
            time.sleep(_POLL_S)
            continue
        for process in _openers(path):
            _kill(process, f"still holds {path}")
        deadline = time.monotonic() + ACTORS_GONE_S


def _kill(process: Identity, why: str) -> None:
    _log.warning("pid %d %s: it is killed", process.pid, why)
    try:
        gone = end(process, term_s=0)
    except PermissionError as error:
        raise Unavailable(f"pid {process.pid} {why} and belongs to another user") from error
    if not gone:
        raise Unavailable(f"pid {process.pid} {why} and cannot be killed")


def _openers(path: Path) -> list[Identity]:
    """Find who has a file open: what an actor forked holds its lock, though another name stands in it."""
    inode = path.stat().st_ino
    found: list[Identity] = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            descriptors = list(os.scandir(f"/proc/{entry.name}/fd"))
            held = any(os.stat(f.path).st_ino == inode and os.readlink(f.path) == str(path) for f in descriptors)
        except OSError:  # it has ended, or belongs to somebody else
            continue
        identity = Identity.of(int(entry.name))
        if held and identity is not None:
            found.append(identity)
    return found
