"""Where a plant lives on this host: `data`, `log`, and `run` on a tmpfs with a path short enough for a socket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, final

from tagwerk.protocols.errors import ConfigError, Unavailable

RESTORING: Final = "data.restoring"
"""Beside `data`: what a restore has copied so far. Nothing starts in a home with it."""
RESTORED: Final = "restored"
"""In the directory of a machine, of orders or of a resource: it was restored, and no operator has looked since."""
SOCKET_PATH_LIMIT_BYTES: Final = 107  # sockaddr_un.sun_path without its final zero, unix(7)
_PRIVATE: Final = 0o700


def file_form(actor: str) -> str:
    """Give an actor's name as it stands in file names: `cvt/0` is `cvt-0`."""
    return actor.replace("/", "-")


@final
class Home:
    """The directories of one plant on one host.

    Nothing is made or checked before `create` or the first use of the run directory.

    Args:
        root: The home directory (`TAGWERK_HOME`).
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute().resolve()
        self.data = self.root / "data"
        self.log = self.root / "log"
        self.run = self.root / "run"
        self._real_run: str | None = None

    @staticmethod
    def default() -> Home:
        """Give the home that `TAGWERK_HOME` names, `var` in the current directory without it."""
        return Home(Path(os.environ.get("TAGWERK_HOME") or "var"))

    def create(self) -> Home:
        """Make all directories, private to this user, and link `run` to a short directory on a tmpfs.

        Raises:
            ConfigError: A directory is there already, but belongs to somebody else or is open to others; or a restore
                was not finished.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self.refuse_half_restored()
        for directory in (self.data, self.log):
            directory.mkdir(mode=_PRIVATE, exist_ok=True)
            _refuse_foreign(directory)
            directory.chmod(_PRIVATE)
        with self._alone():
            self._create_run()
        return self

    def refuse_half_restored(self) -> None:
        """Make sure that no restore is at work here, or was stopped.

        Raises:
            ConfigError: One is, or was: what is there is not the plant.
        """
        half = self.root / RESTORING
        if half.exists():
            expected = "`tagwerk restore DIR` once more, or the directory removed"
            raise ConfigError("a restore is at work here, or was stopped", file=str(half), expected=expected)

    def remove_run(self) -> bool:
        """Remove the run directory and its link, if nothing is left in it.

        Returns:
            Whether it is gone.
        """
        with self._alone():
            try:
                directory = self._linked_run()
            except Unavailable:
                return True
            try:
                directory.rmdir()
            except OSError:  # something of another node, of supervisord or of a client is still there
                return False
            self.run.unlink()
            self._real_run = None
            return True

    def socket(self, actor: str, suffix: str) -> str:
        """Give the ZeroMQ address of an actor's socket.

        Args:
            actor: Its name, `cvt/0`.
            suffix: Which one: `box`, `in` or `feed`.

        Raises:
            ConfigError: The path does not fit into a socket address.
            Unavailable: No plant was ever started in this home.
        """
        path = f"{self._run_path()}/{file_form(actor)}.{suffix}"
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT_BYTES:
            limit = f"a name that keeps it to {SOCKET_PATH_LIMIT_BYTES} bytes"
            raise ConfigError("the path of its socket is too long", key=actor, value=path, expected=limit)
        return f"ipc://{path}"

    def file(self, actor: str, suffix: str) -> Path:
        """Give the path of an actor's file in the run directory (`lock`, `page`, `ctl`).

        Raises:
            Unavailable: No plant was ever started in this home.
            ConfigError: The run directory is not private to this user.
        """
        return Path(self._run_path()) / f"{file_form(actor)}.{suffix}"

    def actor_data(self, actor: str) -> Path:
        """Give an actor's own data directory; it is made, private, if it is not there."""
        directory = self.data / file_form(actor)
        directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        return directory

    def _run_path(self) -> str:
        if self._real_run is None:
            self._real_run = str(self._linked_run())
        return self._real_run

    def _linked_run(self) -> Path:
        """Follow the link, without believing it: a copied home would point to the original's sockets."""
        try:
            directory = Path(os.readlink(self.run))
        except OSError as error:
            raise Unavailable(f"no plant is up in {self.root}: it has no run directory") from error
        if directory.name != self._run_name() or not directory.is_dir():
            raise Unavailable(f"no plant is up in {self.root}: {self.run} points to {directory}")
        _refuse_foreign(directory, private=True)
        return directory

    def _create_run(self) -> None:
        with contextlib.suppress(Unavailable):
            self._linked_run()
            return
        directory = _short_base() / self._run_name()
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=_PRIVATE)
        _refuse_foreign(directory, private=True)
        if self.run.exists() and not self.run.is_symlink():
            raise ConfigError("is in the way", file=str(self.run), expected="a link that tagwerk makes")
        link = self.root / f".run.{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(directory)
        link.replace(self.run)  # one step: a client sees the old link or the new, never none
        self._real_run = None

    def _run_name(self) -> str:
        digest = blake2b(os.fsencode(self.root), digest_size=4).hexdigest()
        return f"tw-{os.getuid()}-{digest}"

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Keep a node that goes from taking away what its successor has just made."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _short_base() -> Path:
    """Give the first directory for run-time files that is there and can be written."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm", "/tmp"]
    for candidate in candidates:
        if candidate and os.path.isdir(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    raise ConfigError("no directory for run-time files", expected="one of XDG_RUNTIME_DIR, /dev/shm, /tmp, writable")


def _refuse_foreign(directory: Path, *, private: bool = False) -> None:
    """Refuse a directory that another user made or can enter: in /tmp a name can be taken before we come."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError("is not a directory", file=str(directory))
    if status.st_uid != os.getuid():
        raise ConfigError(
            "belongs to another user", file=str(directory), value=f"uid {status.st_uid}", expected=f"uid {os.getuid()}"
        )
    mode = stat.S_IMODE(status.st_mode)
    if private and mode != _PRIVATE:
        raise ConfigError("is open to others", file=str(directory), value=f"{mode:o}", expected=f"mode {_PRIVATE:o}")
