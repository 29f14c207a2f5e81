"""The floor of a restart: a warm parent forks a child, sees its death by pidfd, and forks another. No bookkeeping."""

from __future__ import annotations

import os
import select
import signal
import time
from multiprocessing.connection import Connection
from typing import Final

import msgspec
import numpy as np
import pykka
import zmq

from tagwerk.protocols.errors import Unavailable
from tagwerk.runtime.bench.floor import BOX
from tagwerk.runtime.bench.forks import Fork
from tagwerk.runtime.bench.tasks import Delays, Kills
from tagwerk.runtime.process import die_with_parent

WARM: Final = (msgspec, np, pykka, zmq)
"""What the parent has loaded before it forks."""
RESEND_MS: Final = 5
PATIENCE_S: Final = 20.0
TABLE: Final = "table"
ROW: Final = np.dtype("<u4,<f8,<i8,<u4")


def kills(task: Kills) -> Delays:
    """From SIGKILL to the first answer of the successor, ms; with `tags` to an answer that carries a table of them."""
    np.zeros(task.tags, ROW).tofile(TABLE)
    with Fork(_parent) as parent:
        return _strike(parent, task.count * len(task.actors))


def _strike(parent: Fork, count: int) -> Delays:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.RECONNECT_IVL, 5)
    dealer.connect(BOX)
    pid = parent.hear(PATIENCE_S)
    _until_answered(dealer, pid)
    found: list[float] = []
    for _ in range(count):
        began_s = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        pid = parent.hear(PATIENCE_S)
        _until_answered(dealer, pid)
        found.append(1e3 * (time.perf_counter() - began_s))
    context.destroy(0)
    return Delays(tuple(found))


def _until_answered(dealer: zmq.Socket[bytes], pid: int) -> None:
    """Ask again and again until an answer of this process is here."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        dealer.send(b"ask")
        while dealer.poll(RESEND_MS):
            if int.from_bytes(dealer.recv_multipart()[0], "little") == pid:
                return
    raise Unavailable("the floor's child does not answer")


def _parent(pipe: Connection) -> None:
    while True:
        us = os.getpid()
        child = os.fork()
        if child == 0:
            die_with_parent(us)
            _child()
        pipe.send(child)
        watched = os.pidfd_open(child)
        select.select([watched], [], [])
        os.close(watched)
        os.waitpid(child, 0)


def _child() -> None:
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(BOX)
    own = os.getpid().to_bytes(8, "little")
    table = np.fromfile(TABLE, ROW)
    while True:
        identity, _ = router.recv_multipart()
        router.send_multipart([identity, own, table.tobytes()])
