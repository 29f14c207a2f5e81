"""Pyro5: a remote object in a daemon in another process, over a Unix socket; ask. It restarts nothing by itself."""

from __future__ import annotations

import multiprocessing as mp
import os
import tempfile
from typing import Any

import Pyro5.api
import speak


@Pyro5.api.expose
class Table:
    """Answers with its process."""

    def pid(self) -> int:
        """Give it."""
        return os.getpid()


def serve(pipe: Any, path: str) -> None:
    """The daemon's process."""
    with Pyro5.api.Daemon(unixsocket=path) as daemon:
        pipe.send(str(daemon.register(Table)))
        daemon.requestLoop()


def main() -> None:
    """Measure."""
    sizes = speak.sizes()
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="tw-peer-") as folder:
        server = context.Process(target=serve, args=(theirs, f"{folder}/socket"), daemon=True)
        server.start()
        try:
            with Pyro5.api.Proxy(ours.recv()) as table:
                asked = speak.timed(sizes["asks"], lambda _: table.pid(), 1e6)
        finally:
            server.kill()
    speak.tell(speak.delays("ask", "Pyro5", asked, "us", tail=False))


if __name__ == "__main__":
    main()
