"""The link against a real asyncua server in a process of its own: killed, stopped, late, secured."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shown import Shown, until

from tagwerk.actors.opcua import tool
from tagwerk.actors.opcua.asyncua_mends import quiet_asyncua
from tagwerk.actors.opcua.client import UaDevice
from tagwerk.actors.opcua.link import Link
from tagwerk.actors.opcua.logic.items import ItemTable
from tagwerk.actors.opcua.writer import Writer
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import DeviceGone, NotSent, Refused
from tagwerk.protocols.message import Done, Refusal
from tagwerk.protocols.tags import HoldLease, TagDef, TagWritten, WriteUnknown
from tagwerk.runtime.attach import attach
from tagwerk.runtime.clock import SystemClock
from tagwerk.runtime.home import Home
from tagwerk.runtime.plantfile_models import OpcuaConfig
from tagwerk.runtime.ua_security import Security

pytestmark = pytest.mark.slow

NAMES = {"double": "float", "int": "int", "bool": "bool", "text": "str", "readonly": "float", "counter": "int",
         "late": "float", "array": "float"}  # fmt: skip
HANDLES = {name: number for number, name in enumerate(NAMES, 1)}


class PlcProcess:
    """The server, under our thumb."""

    def __init__(self, secure: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"opc.tcp://127.0.0.1:{self.port}/"
        self._secure = str(secure or "")
        self._process: subprocess.Popen[str] | None = None

    def start(self, late_s: float = 0.05) -> None:
        script = Path(__file__).with_name("opcua_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(self.port), str(late_s), self._secure],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


def counters(shown: Shown) -> list[int]:
    """All values of the counter, as they came."""
    return [int(value) for name, value, _, _ in shown.samples if name == "counter" and value is not None]


@pytest.fixture
def plc() -> Iterator[PlcProcess]:
    process = PlcProcess()
    try:
        process.start()
        yield process
    finally:
        process.kill()


Story = Callable[[Link, Shown, Writer], Awaitable[None]]


def play(plc: PlcProcess, story: Story, **config: Any) -> None:
    """Run a story beside a link; afterwards nothing may be left."""
    security: Security = config.pop("security", Security())

    async def live() -> None:
        tags = [
            TagDef(HANDLES[name], name, kind, 0, node=f"nsu=urn:tagwerk:test;s={name}", writable=True)
            for name, kind in NAMES.items()
        ]
        settings = OpcuaConfig(url=plc.url, publish_interval_s=0.05, sample_interval_s=0.05, **config)
        shown = Shown(HANDLES)
        link = Link(
            settings, ItemTable(tags), lambda events: UaDevice(settings, security, events), shown, SystemClock(),
            random.random, logging.getLogger("link"),
        )  # fmt: skip
        writer = Writer(SystemClock(), lambda: link.device, link)
        life = asyncio.create_task(link.run())
        try:
            await until(lambda: life.done() or shown.quality("double") == q.GOOD)
            await story(link, shown, writer)
        finally:
            life.cancel()
            (ended,) = await asyncio.gather(life, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, limit_s=2.0)

    quiet_asyncua()
    asyncio.run(live())


def test_values_of_every_type_and_the_reason_of_what_is_missing(plc: PlcProcess) -> None:
    async def story(link: Link, shown: Shown, writer: Writer) -> None:
        await until(lambda: shown.value("counter") is not None and shown.quality("late") == q.GOOD)
        assert shown.value("double") == 1.5
        assert shown.value("int") == 7
        assert shown.value("bool") is True or shown.value("bool") == 1
        assert shown.value("text") == "hello"
        assert shown.quality("array") == q.BAD_TYPE_MISMATCH
        await until(lambda: len(counters(shown)) > 30)
        first, last = counters(shown)[0], counters(shown)[-1]
        assert counters(shown) == list(range(first, last + 1))  # nothing lost, nothing twice
        assert link.counts.gaps == 0

    play(plc, story)


def test_writes_in_the_nodes_own_type(plc: PlcProcess) -> None:
    async def story(link: Link, shown: Shown, writer: Writer) -> None:
        tags = {name: TagDef(HANDLES[name], name, kind, 0, node=f"nsu=urn:tagwerk:test;s={name}", writable=True)
                for name, kind in NAMES.items()}  # fmt: skip

        async def write(name: str, value: Any) -> Any:
            return await writer.write(tags[name], value, 0, lambda: None)

        for name, value in [("double", 65), ("int", 12), ("bool", False), ("text", "grün")]:
            answer = await write(name, value)
            assert isinstance(answer, TagWritten), answer
            assert answer.value == value
            assert shown.value(name) == value
        for name, value, code in [
            ("int", 40_000, "OutOfRange"), ("readonly", 1.0, "ReadOnly"), ("array", 1.0, "WrongType"),
        ]:  # fmt: skip
            answer = await write(name, value)
            assert isinstance(answer, Refusal), answer
            assert answer.code == code

    play(plc, story)


def test_a_killed_server_is_seen_at_once_and_a_new_one_soon_with_its_late_node(plc: PlcProcess) -> None:
    async def story(link: Link, shown: Shown, writer: Writer) -> None:
        await until(lambda: shown.quality("late") == q.GOOD)
        killed_ns = time.time_ns()
        plc.kill()
        took_s = await until(lambda: shown.quality("double") == q.BAD_NO_COMMUNICATION)
        logging.getLogger("measured").info("kill -9 to BadNoCommunication: %.0f ms", took_s * 1000)
        assert took_s < 3.0
        assert abs(shown.now[HANDLES["double"]][2] - killed_ns) < 1_000_000_000
        assert shown.value("double") == 1.5
        await asyncio.get_running_loop().run_in_executor(None, plc.start, 3.0)
        took_s = await until(lambda: shown.quality("double") == q.GOOD)
        logging.getLogger("measured").info("server up to Good: %.0f ms", took_s * 1000)
        assert took_s < 5.0
        assert shown.births == 2
        await until(lambda: shown.quality("late") == q.BAD_NODE_ID_UNKNOWN)
        await until(lambda: shown.quality("late") == q.GOOD)

    play(plc, story)


def test_a_stopped_server_is_seen_in_two_seconds_and_comes_back_even_if_it_is_killed_then(plc: PlcProcess) -> None:
    async def story(link: Link, shown: Shown, writer: Writer) -> None:
        await until(lambda: shown.quality("late") == q.GOOD)
        plc.signal(signal.SIGSTOP)
        took_s = await until(lambda: shown.quality("double") == q.BAD_NO_COMMUNICATION)
        logging.getLogger("measured").info("SIGSTOP to BadNoCommunication: %.0f ms", took_s * 1000)
        assert took_s < 3.0
        await asyncio.sleep(1.0)
        plc.signal(signal.SIGCONT)
        took_s = await until(lambda: shown.quality("double") == q.GOOD)
        logging.getLogger("measured").info("SIGCONT to Good: %.0f ms", took_s * 1000)
        assert took_s < 6.0
        plc.kill()
        await until(lambda: shown.quality("double") == q.BAD_NO_COMMUNICATION)
        await asyncio.get_running_loop().run_in_executor(None, plc.start)
        await until(lambda: shown.quality("late") == q.GOOD and shown.quality("counter") == q.GOOD)

    play(plc, story)


def test_a_write_to_a_hanging_server_is_unknown_and_shown_as_it_is_when_it_wakes(plc: PlcProcess) -> None:
    async def story(link: Link, shown: Shown, writer: Writer) -> None:
        tag = TagDef(HANDLES["double"], "double", "float", 0, node="nsu=urn:tagwerk:test;s=double", writable=True)
        assert isinstance(await writer.write(tag, 3.0, 0, lambda: None), TagWritten)
        plc.signal(signal.SIGSTOP)
        assert isinstance(await writer.write(tag, 99.0, 0, lambda: None), WriteUnknown)
        await until(lambda: shown.quality("double") == q.BAD_NO_COMMUNICATION)
        plc.signal(signal.SIGCONT)
        await until(lambda: shown.quality("double") == q.GOOD)
        # The request lay in the server's socket: whether its kernel kept it is the server's affair, so it is Unknown.
        assert shown.value("double") in (3.0, 99.0)

    play(plc, story)


def test_the_watchdog_node_toggles(plc: PlcProcess) -> None:
    async def story(link: Link, shown: Shown, writer: Writer) -> None:
        seen: set[bool] = set()
        deadline = time.monotonic() + 10
        while seen != {True, False}:
            assert time.monotonic() < deadline
            assert link.device is not None
            (reading,) = await link.device.read(["nsu=urn:tagwerk:test;s=watchdog"])
            seen.add(bool(reading.value))

    play(plc, story, watchdog="nsu=urn:tagwerk:test;s=watchdog", watchdog_period_s=0.1)


def test_an_encrypted_channel_pins_the_server_and_refuses_another(tmp_path: Path) -> None:
    ours = tmp_path / "link"
    ours.mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    plc = PlcProcess(tmp_path / "one")
    impostor = PlcProcess(tmp_path / "two")
    impostor.port, impostor.url = plc.port, plc.url
    security = Security("sign_and_encrypt", ours, "anna", "geheim")

    async def story(link: Link, shown: Shown, writer: Writer) -> None:
        assert (ours / "server.der").read_bytes() == (tmp_path / "one" / "server.der").read_bytes()
        assert (ours / "own.pem").stat().st_mode & 0o077 == 0
        plc.kill()
        await asyncio.get_running_loop().run_in_executor(None, impostor.start)
        await asyncio.sleep(3.0)
        assert shown.quality("double") == q.BAD_NO_COMMUNICATION
        impostor.kill()
        await asyncio.get_running_loop().run_in_executor(None, plc.start)
        await until(lambda: shown.quality("double") == q.GOOD)

    try:
        plc.start()
        play(plc, story, security=security)
    finally:
        plc.kill()
        impostor.kill()


def test_the_tool_without_a_plant(plc: PlcProcess) -> None:
    async def story() -> None:
        (endpoint,) = await tool.discover(plc.url)
        assert endpoint.security_mode == "None"
        rows = [row async for row in tool.browse(plc.url)]
        by_node = {row.node: row for row in rows}
        assert len(by_node) == len(rows)  # the cycle was walked once
        row = by_node["nsu=urn:tagwerk:test;s=int"]
        assert (row.type_name, row.tag_type, row.writable, row.tag_name) == ("Int16", "int", True, "plant.int")
        assert row.csv_row("opcua/plc")["node"] == "nsu=urn:tagwerk:test;s=int"
        assert not by_node["nsu=urn:tagwerk:test;s=readonly"].writable
        assert by_node["nsu=urn:tagwerk:test;s=array"].tag_type == ""
        few = [row async for row in tool.browse(plc.url, "nsu=urn:tagwerk:test;s=plant", 1, 5)]
        assert len(few) == 5
        written = await tool.write(plc.url, "nsu=urn:tagwerk:test;s=int", "12")
        assert written.reading.value == 12
        assert (await tool.read(plc.url, "nsu=urn:tagwerk:test;s=int")).reading.value == 12
        with pytest.raises(Refused):
            await tool.write(plc.url, "nsu=urn:tagwerk:test;s=int", "twelve")
        plc.kill()
        with pytest.raises(DeviceGone):
            await tool.read(plc.url, "i=2258")
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


PLANT = """
[plant]
name = "t"
shards = 2
[opcua.plc]
url = "{url}"
[tag."p.double"]
type = "float"
source = "opcua/plc"
node = "nsu=urn:tagwerk:test;s=double"
writable = true
"""
NODE = """
import sys
from pathlib import Path
from tagwerk.runtime.home import Home
from tagwerk.runtime.node import run_node
sys.exit(run_node(Home(Path(sys.argv[1])), Path(sys.argv[2])))
"""


def reached(condition: Callable[[], bool], limit_s: float = 20.0) -> bool:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def pid_of(home: Home, actor: str) -> int:
    return int(home.file(actor, "lock").read_text().split()[0])


def test_in_a_plant_a_killed_link_comes_back_and_the_safe_value_of_a_silent_holder_is_written(
    plc: PlcProcess, tmp_path: Path
) -> None:
    (tmp_path / "plant.toml").write_text(PLANT.format(url=plc.url))
    home = Home(tmp_path / "home")
    arguments = [sys.executable, "-c", NODE, str(home.root), str(tmp_path / "plant.toml")]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as node:
        try:
            assert reached(lambda: (home.data / "opcua-plc").exists() and home.file("opcua/plc", "lock").exists())
            with attach(home=home.root, timeout_s=10.0) as plant:
                assert reached(lambda: plant.read("p.double").good)
                assert plant.write("p.double", 50.0).value == 50.0
                hold = HoldLease("mash", (plant.definition("p.double").handle,), (2.0,), 2.0)
                assert plant.call("opcua/plc", hold, 5.0) == Done()
                with pytest.raises(Refused, match="mash"):
                    plant.write("p.double", 60.0)
                before = pid_of(home, "opcua/plc")
                os.kill(before, signal.SIGKILL)
                assert reached(lambda: plant.read("p.double").good and pid_of(home, "opcua/plc") != before)
                assert reached(lambda: plant.read("p.double").value == 2.0, limit_s=5.0)
                plc.kill()
                assert reached(lambda: plant.read("p.double").quality == q.BAD_NO_COMMUNICATION, limit_s=3.0)
                with pytest.raises(NotSent):
                    plant.write("p.double", 60.0)
        finally:
            node.terminate()
            assert node.wait(timeout=30) == 0
