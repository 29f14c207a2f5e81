"""One process an actor: a file lock that dies with its holder and names it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final, NamedTuple, final

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.process import Identity

_RETRY_AFTER_S: Final = 0.002


class Holder(NamedTuple):
    """Who wrote itself into a lock file."""

    process: Identity
    name: str


class Locked(Unavailable):
    """Another process holds the lock.

    Args:
        path: The lock file.
        holder: Who holds it, None if it has not written itself in yet.
    """

    def __init__(self, path: Path, holder: Holder | None) -> None:
        self.path = path
        self.holder = holder
        who = f"{holder.name}, pid {holder.process.pid}" if holder else "a process that has not written its pid yet"
        super().__init__(f"{path} is held by {who}")


@final
class ActorLock:
    """An exclusive lock on a file, held from `take` until `release` or the end of the process.

    Take it after the fork: a lock taken before belongs to parent and child together.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, name: str, *, timeout_s: float = 0.0, inheritable: bool = False) -> ActorLock:
        """Take the lock and write pid, start time and name into it.

        Args:
            path: The lock file; made if it is not there.
            name: Whose lock it is, `cvt/0`.
            timeout_s: How long to try.
            inheritable: Let the lock outlive `exec`, so that it lasts as long as the program.

        Raises:
            Locked: Another process holds it.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                descriptor = _open_locked(path)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise Locked(path, cls.holder(path)) from error
                time.sleep(_RETRY_AFTER_S)
        own = Identity.own()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{own.pid} {own.start_ticks} {name}\n".encode(), 0)
        os.set_inheritable(descriptor, inheritable)
        return cls(path, descriptor)

    @staticmethod
    def holder(path: Path) -> Holder | None:
        """Read who wrote itself in last; that it still holds the lock is not said."""
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").split()
            return Holder(Identity(int(fields[0]), int(fields[1])), fields[2])
        except (FileNotFoundError, IndexError, ValueError):  # gone, or its holder is just writing
            return None

    def release(self) -> None:
        """Remove the file, then let go: whoever waits on the removed file sees that it is not the one at the path."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        os.close(self._descriptor)

    def close_inherited(self) -> None:
        """Close the copy that a fork made, in the child; the parent goes on holding the lock."""
        os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Say whether some process holds the lock. Takes it for a moment: only for who ends the holders anyway."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open_locked(path: Path) -> int:
    """Open and lock the file that stands at `path`: one that was removed meanwhile locks nobody out."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
