"""A question taken apart: what its frames alone cost, before anybody looks after them.

Run `python -m benchmarks.ask_parts` from the checkout. Three round trips between two processes, in turns, each p50 in
us and as a ratio to the first: the floor (`tagwerk.runtime.bench.floor`: one part, a blocking receive), the frames of
`docs/wire.md` with bare libraries (two parts, a poll over the sockets of an actor, header and message encoded and
decoded on both sides; nothing is remembered, checked or restarted), and a question to a shard as an actor asks it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import zmq

from tagwerk.protocols.frames import Kind, pack_header, read_header
from tagwerk.protocols.message import decode_message, encode_message
from tagwerk.protocols.tags import ReadTags, TagState, TagStates
from tagwerk.runtime.bench.forks import Fork, scratch
from tagwerk.runtime.bench.plant import BenchPlant
from tagwerk.runtime.bench.tasks import Asks
from tagwerk.runtime.bench.work import measured

SOCKETS: Final = 3
"""A shard has its box, its ingest and its feed."""
SESSION: Final = 1 << 62
PATIENCE_S: Final = 60.0
PATIENCE_MS: Final = 60_000


def main() -> None:
    """Measure in turns and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--asks", type=int, default=2_000, help="questions a round (default 2000)")
    given = parser.parse_args()
    found: dict[str, list[float]] = {}
    with BenchPlant(1_000) as plant:
        for _ in range(given.rounds):
            for name, p50 in (
                ("the floor", statistics.median(measured(Asks(given.asks)).figures)),
                ("the frames alone", _frames_alone(given.asks)),
                ("a question to a shard", statistics.median(measured(Asks(given.asks, str(plant.home))).figures)),
            ):
                found.setdefault(name, []).append(p50)
    floor = found["the floor"]
    for name, figures in found.items():
        ratio = statistics.median(one / least for one, least in zip(figures, floor, strict=True))
        print(f"{name:<22} p50 {statistics.median(figures):6.0f} us  {ratio:5.2f} of the floor")


def _frames_alone(count: int) -> float:
    """Give the p50 of so many round trips, us."""
    with scratch("tw-ask-") as folder, Fork(_answerer, folder) as answerer:
        answerer.hear(PATIENCE_S)
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(_address(folder, 0))
        wake = os.eventfd(0)
        waited: list[tuple[Any, int]] = [(wake, zmq.POLLIN), (dealer, zmq.POLLIN)]
        found: list[float] = []
        for number in range(1, count + 1):
            began_ns = time.perf_counter_ns()
            header = pack_header(Kind.ASK, SESSION, number, 1, time.monotonic_ns(), "attach/bench", number)
            _send(dealer, [header, encode_message(ReadTags((1,)))])
            zmq.zmq_poll(waited, PATIENCE_MS)
            header, body = _receive(dealer)
            read_header(header)
            decode_message(body)
            found.append((time.perf_counter_ns() - began_ns) / 1e3)
        context.destroy(0)
        os.close(wake)
        return statistics.median(found)


def _answerer(pipe: Connection, folder: Path) -> None:
    context = zmq.Context()
    routers = [context.socket(zmq.ROUTER) for _ in range(SOCKETS)]
    for number, router in enumerate(routers):
        router.bind(_address(folder, number))
    waited: list[tuple[Any, int]] = [(os.eventfd(0), zmq.POLLIN), *((router, zmq.POLLIN) for router in routers)]
    answer = TagStates((TagState(1, 1.0, 0, 1, 1, ""),), False)
    pipe.send("bound")
    while True:
        zmq.zmq_poll(waited, PATIENCE_MS)
        identity, header, body = _receive(routers[0])
        asked = read_header(header)
        decode_message(body)
        reply = pack_header(Kind.REPLY, asked.session, asked.token, asked.number)
        _send(routers[0], [identity, reply, encode_message(answer)])


def _address(folder: Path, number: int) -> str:
    return f"ipc://{folder}/{number}"


def _send(socket: zmq.Socket[bytes], parts: list[bytes]) -> None:
    for part in parts[:-1]:
        socket.send(part, zmq.SNDMORE)
    socket.send(parts[-1])


def _receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    frame = socket.recv(zmq.NOBLOCK, copy=False)
    parts = [frame.bytes]
    while frame.more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        parts.append(frame.bytes)
    return parts


if __name__ == "__main__":
    main()
