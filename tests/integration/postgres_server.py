"""A real PostgreSQL for tests, that can also hang. They skip, and say why, where none is installed."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.peers import postgres_cluster

SETTINGS = "shared_buffers = 32MB\nfsync = off\n"


def missing() -> str:
    """Say why there is no server; "" if there can be one."""
    return postgres_cluster.missing() if find_spec("psycopg") else "psycopg is not installed"


class Server(postgres_cluster.Cluster):
    """A cluster that can be frozen with all its processes."""

    def __init__(self) -> None:
        super().__init__(SETTINGS)

    def freeze(self) -> None:
        """Let it hang."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]
