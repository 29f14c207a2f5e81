"""What the link keeps: its queue to the shards, its lease table, its secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tagwerk.actors.opcua.asyncua_mends import tcp_url
from tagwerk.actors.opcua.lease_store import LeaseFile
from tagwerk.actors.opcua.logic.leases import Lease
from tagwerk.actors.opcua.nodeids import Namespaces
from tagwerk.actors.opcua.outflow import QUEUE_LIMIT, Outflow
from tagwerk.protocols.errors import ConfigError, Refused, WindowFull
from tagwerk.protocols.samples import Samples, ValueType, make
from tagwerk.runtime.ua_certificate import own_certificate
from tagwerk.runtime.ua_security import Security, read_password


class Shards:
    """A publisher that takes what it is told to take."""

    def __init__(self) -> None:
        self.on_room: Callable[[], None] | None = None
        self.room = True
        self.refuses = False
        self.taken: list[int | str] = []

    def begin_session(self) -> None:
        if not self.room:
            raise WindowFull("pending")
        self.taken.append("born")

    def publish(self, samples: Samples) -> None:
        if not self.room:
            raise WindowFull("full")
        if self.refuses:
            raise Refused("NotOwner", "no")
        self.taken.append(int(samples.times[0]))


class Rig:
    def __init__(self) -> None:
        self.shards = Shards()
        self.timers: list[Callable[[], None]] = []
        self.flow = Outflow(self.shards, lambda _, call: self.timers.append(call), logging.getLogger("test"))
        self.caught_up = 0
        self.flow.on_caught_up = self._caught_up

    def _caught_up(self) -> None:
        self.caught_up += 1

    def publish(self, *times: int) -> None:
        for time in times:
            self.flow.publish(make(ValueType.FLOAT, [1], [0.0], time))

    def turn(self) -> None:
        due, self.timers = self.timers, []
        for call in due:
            call()


def test_births_keep_their_place_among_the_batches() -> None:
    rig = Rig()
    rig.publish(1)
    rig.shards.room = False
    rig.publish(2)
    rig.flow.begin_session()
    rig.publish(3)
    assert len(rig.timers) == 1
    rig.turn()
    assert rig.shards.taken == [1]
    rig.shards.room = True
    rig.turn()
    assert rig.shards.taken == [1, 2, "born", 3]
    assert rig.caught_up == 0


def test_room_is_used_at_once() -> None:
    rig = Rig()
    rig.shards.room = False
    rig.publish(1)
    rig.shards.room = True
    assert rig.shards.on_room is not None
    rig.shards.on_room()
    assert rig.shards.taken == [1]


def test_the_oldest_batches_go_when_the_queue_is_full_and_all_is_read_again() -> None:
    rig = Rig()
    rig.shards.room = False
    rig.flow.begin_session()
    rig.publish(*range(QUEUE_LIMIT + 4))
    assert len(rig.flow) == QUEUE_LIMIT
    assert rig.flow.dropped == 5
    rig.shards.room = True
    rig.turn()
    assert rig.shards.taken[:2] == ["born", 5]
    assert rig.caught_up == 1


def test_a_refused_batch_does_not_block_the_next() -> None:
    rig = Rig()
    rig.shards.refuses = True
    rig.publish(1)
    rig.shards.refuses = False
    rig.publish(2)
    assert rig.shards.taken == [2]
    assert rig.flow.refused == 1


def test_leases_survive(tmp_path: Path) -> None:
    store = LeaseFile(tmp_path / "leases.msgpack")
    assert store.load() == ([], {})
    store.save([Lease("mash", (1, 2), (0.5, None), 2.0, 99)], {7: True, 8: "off"})
    assert LeaseFile(tmp_path / "leases.msgpack").load() == (
        [Lease("mash", (1, 2), (0.5, None), 2.0, 0)],
        {7: True, 8: "off"},
    )
    assert [path.name for path in tmp_path.iterdir()] == ["leases.msgpack"]


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x93\x01\x90", b"\x93\x02\x90\x90", b"\x93\x01\x91\x91\xa1a\x90"])
def test_a_spoilt_lease_table_is_not_guessed_at(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "leases.msgpack"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        LeaseFile(path).load()


def test_a_password_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("geheim\n")
    path.chmod(0o600)
    assert read_password(path, "opcua.plc.password_file") == "geheim"
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="600"):
        read_password(path, "opcua.plc.password_file")
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        read_password(path, "opcua.plc.password_file")
    with pytest.raises(ConfigError):
        read_password(tmp_path / "none", "opcua.plc.password_file")
    assert "geheim" not in repr(Security(user="anna", password="geheim"))


def test_our_certificate_is_made_once_and_the_key_is_private(tmp_path: Path) -> None:
    first = own_certificate(tmp_path)
    assert own_certificate(tmp_path) == first
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("opc.tcp://plc", "opc.tcp://plc:4840"),
        ("opc.tcp://plc/path:1", "opc.tcp://plc:4840/path:1"),
        ("opc.tcp://plc:4841/x", "opc.tcp://plc:4841/x"),
        ("opc.tcp://[::1]", "opc.tcp://[::1]:4840"),
        ("opc.tcp://[::1]:5/x", "opc.tcp://[::1]:5/x"),
    ],
)
def test_the_port_that_everybody_means(url: str, expected: str) -> None:
    assert tcp_url(url) == expected


def test_a_node_is_found_wherever_the_server_puts_its_namespace() -> None:
    for place in (1, 3):
        uris = [f"urn:{number}" for number in range(5)]
        uris[place] = "urn:mine"
        namespaces = Namespaces(uris)
        found = namespaces.resolve("nsu=urn:mine;s=a;b=c")
        assert found is not None
        assert (found.NamespaceIndex, found.Identifier) == (place, "a;b=c")
        assert namespaces.portable(found) == "nsu=urn:mine;s=a;b=c"
    assert Namespaces([]).resolve("nsu=urn:mine;s=a") is None
    assert Namespaces([]).well_formed("nsu=urn:mine;s=a")
    assert not Namespaces([]).well_formed("nonsense")
