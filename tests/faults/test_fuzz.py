"""Bytes of any kind on every socket of a whole plant: nobody dies, nobody grows without bound, all is counted."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import psutil
import pytest
import zmq
from brewery import Brewery, wait_for
from hostile import Hostile, packed

import tagwerk
from tagwerk.protocols.codec import MAX_FRAME_BYTES, VERSION
from tagwerk.protocols.frames import Kind
from tagwerk.protocols.plantwide import DeadLetters, GetDeadLetters
from tagwerk.protocols.samples import ValueType, encode, make
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Peer
from tagwerk.runtime.states import PeerState
from tagwerk.runtime.status import status_rows
from tagwerk.runtime.transport import REQUEST_LIMIT_BYTES

pytestmark = pytest.mark.slow

MAY_GROW_BYTES = 64 << 20
HELD = 40
"""Connections that are kept and say nothing more: a node has 64 places."""
NAMES = ("brewhouse.mash.setpoint", "brewhouse.*", "lab.probe0", "cvt/0", "mash", "historian/0")
ROUNDS = pytest.mark.parametrize("rounds", [300, pytest.param(20_000, marks=pytest.mark.long)])
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)  # of ZMTP 3.0, up to the handshake


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewery]:
    plant = Brewery.start(tmp_path_factory.mktemp("fuzz"))
    try:
        yield plant
    finally:
        plant.stop()


@dataclass
class Before:
    """How all processes stood."""

    plant: Brewery
    peers: dict[str, Peer]
    bytes: dict[str, int]

    @classmethod
    def of(cls, plant: Brewery) -> Before:
        peers = {name: plant.peer(name) for name in plant.names()}
        pids = {name: peer.pid for name, peer in peers.items()} | {"node/main": plant.node.pid}
        return cls(plant, peers, {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()})

    def compare(self) -> None:
        """Nobody was restarted, nobody has grown much, and the plant does what plants do."""
        for name, before in self.peers.items():
            assert self.plant.peer(name).incarnation == before.incarnation, f"{name}: {self.plant.log(name)[-3_000:]}"
            assert self.plant.peer(name).state is PeerState.RUNNING, name
        for row in status_rows(Home(self.plant.home)):
            grown = row["rss_bytes"] - self.bytes[row["name"]]
            assert grown < MAY_GROW_BYTES, f"{row['name']} has grown by {grown >> 20} MiB"
        with self.plant.attach(writer="lab", timeout_s=20.0) as client:
            value = float(secrets.randbelow(1_000))
            client.publish(client.samples("lab.probe4", [value]))
            assert client.read("lab.probe4").value == value
            wait_for("a write to the PLC", lambda: write(client, 60.0) == 60.0)
            assert client.alarms()
            span = time.time_ns() - 10**10, time.time_ns() + 10**10
            wait_for("the history", lambda: value in client.history("lab.probe4", *span)["lab.probe4"].values)


def write(client: tagwerk.Plant, value: float) -> object:
    """The value read back, None while the link connects again."""
    try:
        return client.write("brewhouse.kettle.setpoint", value).value
    except tagwerk.NotSent:
        return None


class Wire:
    """One end that says what it likes, and does not listen. A context manager: it does not outlive the block."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], kind: int, path: str) -> None:
        self.socket = context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close(0)

    def send(self, *parts: bytes) -> None:
        """Wait until it is taken: what does not arrive shows nothing."""
        deadline = time.monotonic() + 20.0
        while True:
            while self.socket.poll(0, zmq.POLLIN):
                self.socket.recv_multipart()
            with contextlib.suppress(zmq.Again):  # what was sent before may have ended the connection
                if self.socket.poll(100, zmq.POLLOUT):
                    self.socket.send_multipart(parts, zmq.NOBLOCK)
                    return
            assert time.monotonic() < deadline, "it takes nothing any more"


@pytest.fixture
def connect() -> Iterator[Callable[[int, str], Wire]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[Wire] = []

    def connect(kind: int, path: str) -> Wire:
        made.append(Wire(context, kind, path))
        return made[-1]

    yield connect
    for wire in made:
        wire.socket.close(0)
    context.term()


def actors(plant: Brewery) -> list[str]:
    return [name for name in plant.names() if not name.startswith("external/")]


def nonsense(plant: Brewery, name: str) -> int:
    """How much of it an actor has counted; also shows that it still answers."""
    with plant.attach(timeout_s=20.0) as client:
        return dict(client.query(name, GetDeadLetters(), DeadLetters).counts).get("nonsense", 0)


@ROUNDS
def test_the_box_of_every_actor(plant: Brewery, connect: Callable[[int, str], Wire], rounds: int) -> None:
    before = Before.of(plant)
    for name in actors(plant):
        counted = nonsense(plant, name)
        hostile = Hostile(rounds, NAMES)
        wire = connect(zmq.DEALER, Home(plant.home).socket(name, "box"))
        certain = 0
        for _ in range(rounds):
            pick = hostile.rng.random()
            if pick < 0.6:
                wire.send(hostile.control_header(), hostile.message())
            elif pick < 0.7:
                wire.send(hostile.control_header(), hostile.junk())
            elif pick < 0.8:
                wire.send(hostile.mutated(hostile.control_header()), hostile.mutated(hostile.message()))
            else:
                wire.send(hostile.noise(), *(hostile.junk() for _ in range(hostile.rng.randrange(4))))
                certain += 1
        wire.send(packed([VERSION, 1, 1, 1, 0, 0, "x" * 200_000]), b"")
        wire.send(hostile.control_header(), bytes(REQUEST_LIMIT_BYTES + 1))  # ends the connection
        wire = connect(zmq.DEALER, Home(plant.home).socket(name, "box"))
        wire.send(*[b""] * 2_000)
        wait_for(f"{name} to count it", lambda: nonsense(plant, name) >= counted + certain + 2)  # noqa: B023
    before.compare()


@ROUNDS
def test_the_ingest_of_every_shard(plant: Brewery, connect: Callable[[int, str], Wire], rounds: int) -> None:
    before = Before.of(plant)
    for name in ("cvt/0", "cvt/1"):
        counted = nonsense(plant, name)
        hostile = Hostile(rounds + 1, NAMES)
        wire = connect(zmq.DEALER, Home(plant.home).socket(name, "in"))
        session, number, header = 5, 0, b""
        wire.send(packed([VERSION, int(Kind.OPEN), session, "fuzz", 1, False]))
        for _ in range(rounds):
            pick = hostile.rng.random()
            header = packed([VERSION, int(Kind.PUBLISH), session, number, hostile.rng.random() < 0.1])
            if pick < 0.6:
                number += 1
                header = packed([VERSION, int(Kind.PUBLISH), session, number, hostile.rng.random() < 0.1])
                frame = samples(hostile)
                wire.send(header, hostile.mutated(frame) if pick < 0.3 else frame)
            elif pick < 0.7:
                wire.send(hostile.mutated(header), samples(hostile))
            elif pick < 0.8:
                wire.send(packed([VERSION, hostile.rng.choice(list(Kind)), *(hostile.value(3) for _ in range(4))]))
            else:
                wire.send(hostile.noise(), *(hostile.junk() for _ in range(hostile.rng.randrange(3))))
        wire.send(header, bytes(MAX_FRAME_BYTES + 1))
        wire.send(b"\xc1")
        wait_for(f"{name} to count it", lambda: nonsense(plant, name) > counted + rounds // 5)  # noqa: B023
    before.compare()


def samples(hostile: Hostile) -> bytes:
    """A frame whose shape is right, and whose values are extreme."""
    rng = hostile.rng
    kind = rng.choice(list(ValueType))
    count = rng.choice((0, 1, 3, 1_000))
    tags = [rng.choice((0, 1, 2, 7, 40, 2**32 - 1)) for _ in range(count)]
    times = [rng.choice((0, -(2**63), 2**63 - 1, time.time_ns())) for _ in range(count)]
    quality = [rng.choice((0, 0x80000000, 0x40000000, 2**32 - 1)) for _ in range(count)]
    choices: dict[ValueType, tuple[object, ...]] = {
        ValueType.FLOAT: (0.0, float("nan"), float("inf"), -1e308),
        ValueType.INT: (0, 2**63 - 1, -(2**63)),
        ValueType.BOOL: (False, True),
        ValueType.STR: ("", "\0", "x" * 30),
        ValueType.QUALITY: (None,),
    }
    values = [rng.choice(choices[kind]) for _ in range(count)]
    return encode([make(kind, tags, values, times, quality)])


@ROUNDS
def test_the_feed_of_every_shard(plant: Brewery, connect: Callable[[int, str], Wire], rounds: int) -> None:
    before = Before.of(plant)
    for name in ("cvt/0", "cvt/1"):
        hostile = Hostile(rounds + 2)
        path = Home(plant.home).socket(name, "feed")
        with plant.attach() as client:
            watch = client.watch("brewhouse.*", mode="every")
            wait_for("the watch in step", lambda: watch.in_step)  # noqa: B023
            for _ in range(rounds // 100):
                with connect(zmq.XSUB, path) as wire:
                    for _ in range(2_000):
                        begin = hostile.rng.choice((b"\0", b"\1", b"\1", b"\2", b""))
                        wire.send(begin + hostile.noise(hostile.rng.choice((1, 9, 9, 9, 60))))
                    wire.send(b"\1" * 10_000)  # ends the connection
            wait_for("further samples", lambda: watch.get(1.0))  # noqa: B023
            wait_for("the watch in step", lambda: watch.in_step)  # noqa: B023
        nonsense(plant, name)
    before.compare()


@ROUNDS
def test_below_the_handshake_of_every_socket(plant: Brewery, rounds: int) -> None:
    before = Before.of(plant)
    home = Home(plant.home)
    hostile = Hostile(rounds + 3)
    paths = [path for path in (home.root / "run").resolve().iterdir() if path.suffix in (".box", ".in", ".feed")]
    assert len(paths) == len(actors(plant)) + 4
    held: list[socket.socket] = []
    try:
        for path in paths:
            for number in range(rounds // 10):
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(os.fspath(path))  # it waits while the line is full
                connection.settimeout(5.0)
                if number % 10 == 0 and number < 100:
                    connection.sendall(GREETING[: hostile.rng.randrange(len(GREETING))])
                    held.append(connection)  # says nothing more
                    continue
                greeting = GREETING if number % 2 else hostile.mutated(GREETING)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has had enough
                    connection.sendall(hostile.rng.choice((b"", greeting, greeting + hostile.noise(), hostile.junk())))
                    # A frame that announces 2^63 - 1 bytes, after a handshake that was never finished.
                    connection.sendall(hostile.rng.choice((b"", b"\2\x7f" + b"\xff" * 7, hostile.noise(2_000))))
                connection.close()
        before.compare()
        for connection in held:  # what never says what it is, is turned out
            connection.settimeout(20.0)
            while connection.recv(4096):
                pass
    finally:
        for connection in held:
            connection.close()


@ROUNDS
def test_the_socket_of_the_node(plant: Brewery, rounds: int) -> None:
    before = Before.of(plant)
    hostile = Hostile(rounds + 4, NAMES)
    path = os.fspath(Home(plant.home).file("node/main", "ctl"))
    verbs = ("", "status", "restar", "STOP", "start", "\0", "x" * 3_000)  # none that does something
    held: list[socket.socket] = []
    answers = 0
    try:
        for number in range(4 * rounds):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.connect(path)
            connection.settimeout(5.0)
            request = packed({"do": hostile.rng.choice(verbs), "name": hostile.value(3)})
            packet = hostile.rng.choice((request, request, hostile.mutated(request), hostile.junk(), bytes(100_000)))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # others take all its places
                connection.send(packet)
                if number % 4:
                    answers += bool(connection.recv(65_536))
            if number % 50 or len(held) >= HELD:
                connection.close()
            else:
                held.append(connection)
        assert answers > rounds
    finally:
        for connection in held:
            connection.close()
    before.compare()
