"""supervisord alone: a ZeroMQ server that imports what tagwerk's actors import, restarted by supervisord.

`startsecs = 0` and `autorestart = true`: it starts the next one as soon as it sees the death.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import speak
import zmq

SERVER = """
import os, sys
import msgpack, msgspec, numpy, pykka, zmq
router = zmq.Context().socket(zmq.ROUTER)
router.bind(sys.argv[1])
while True:
    identity, _ = router.recv_multipart()
    router.send_multipart([identity, str(os.getpid()).encode()])
"""
CONF = """
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
[program:table]
command = {python} {folder}/server.py ipc://{folder}/box
autorestart = true
startsecs = 0
"""


def main() -> None:
    """Run supervisord, kill its program, time the next answer."""
    sizes = speak.sizes()
    with tempfile.TemporaryDirectory(prefix="tw-peer-") as folder:
        Path(folder, "server.py").write_text(SERVER)
        Path(folder, "supervisord.conf").write_text(CONF.format(folder=folder, python=sys.executable))
        supervisord = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", f"{folder}/supervisord.conf"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            found = kills(f"ipc://{folder}/box", sizes["kills"])
        finally:
            supervisord.terminate()
            supervisord.wait(20)
    speak.tell(speak.delays("kill -9 to the next answer", "supervisord alone", found, tail=False))


def kills(address: str, count: int) -> list[float]:
    """Kill so often; ms each."""
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.RECONNECT_IVL, 5)
    dealer.connect(address)
    pid = answer(dealer, 0)
    found: list[float] = []
    for _ in range(count):
        time.sleep(0.5)
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        pid = answer(dealer, pid)
        found.append(1e3 * (time.perf_counter() - began))
    return found


def answer(dealer: zmq.Socket[bytes], old: int) -> int:
    """Ask until another process than `old` answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        dealer.send(b"who")
        while dealer.poll(5):
            pid = int(dealer.recv())
            if pid != old:
                return pid
    raise TimeoutError("supervisord started nothing")


if __name__ == "__main__":
    main()
