"""A PostgreSQL of its own, of the binaries that are installed: on a socket in a directory that goes with it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

LIMIT_S = 60.0
PLACE = "/usr/lib/postgresql/*/bin"
CONFIG = """
listen_addresses = ''
unix_socket_directories = '{sockets}'
max_connections = 20
log_min_messages = fatal
"""


def missing() -> str:
    """Say why no server can be started; "" if one can."""
    for name in ("initdb", "postgres"):
        if not _program(name):
            return f"no {name} of PostgreSQL on the PATH or in {PLACE}; Debian: apt install postgresql"
    if os.getuid() == 0 and not _as_user():
        return "PostgreSQL does not run as root, and there is no setpriv, or no user postgres or nobody"
    return ""


def _program(name: str) -> str:
    found = shutil.which(name)
    return found or max((str(path) for path in Path("/").glob(f"{PLACE[1:]}/{name}")), default="")


def _as_user() -> list[str]:
    """What stands before a command, so that another user than root does it."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        return []
    for user in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            continue
        return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    return []


class Cluster:
    """A server that can be started and stopped again, with the user `plant`.

    Args:
        settings: More lines of its configuration.
    """

    def __init__(self, settings: str = "") -> None:
        # Where another user gets to, and near the root: the path of a socket has 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="tw-pg-", dir="/tmp"))
        self.data, self.sockets = self.directory / "data", self.directory / "s"
        self.process: subprocess.Popen[bytes] | None = None
        self._prefix = _as_user()
        try:
            self._make(settings)
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Its address."""
        return f"postgresql://plant@/postgres?host={self.sockets}"

    def _make(self, settings: str) -> None:
        self.directory.chmod(0o755)
        for path in (self.data, self.sockets):
            path.mkdir(mode=0o700)
            if self._prefix:
                user, group = (int(part.partition("=")[2]) for part in self._prefix[1:3])
                os.chown(path, user, group)
        self.sockets.chmod(0o755)
        how = ["-U", "plant", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        command = [*self._prefix, _program("initdb"), "-D", str(self.data), *how]
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S, cwd="/")
        with (self.data / "postgresql.conf").open("a") as config:
            config.write(CONFIG.format(sockets=self.sockets) + settings)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, _program("postgres"), "-D", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + LIMIT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL does not start: {(self.directory / 'log').read_text()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT throws out whoever is connected, SIGQUIT is like a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(LIMIT_S)
            self.process = None

    def close(self) -> None:
        """End it, and remove all that it wrote."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)
