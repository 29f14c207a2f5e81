"""The simulated PLC as clients meet it: a process, a port, an OPC UA server."""

import asyncio
import csv
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client

pytestmark = pytest.mark.slow

BREWHOUSE = Path(__file__).parents[2] / "examples" / "brewhouse"
NAMESPACE = "urn:tagwerk:brewhouse"
START_S = 20.0
REACT_S = 15.0
VARIANTS = {
    "float": {ua.VariantType.Float, ua.VariantType.Double},
    "int": {ua.VariantType.Int32, ua.VariantType.Int64},
    "bool": {ua.VariantType.Boolean},
    "str": {ua.VariantType.String},
}

Start = Callable[..., "Plc"]


class Plc:
    """A running plc.py."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, str(BREWHOUSE / "plc.py"), "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.url = ""

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_S)
        assert readable, "no ready line"
        line = self.process.stdout.readline()
        assert line.startswith("brewhouse PLC ready: opc.tcp://127.0.0.1:"), line
        self.url = line.split()[3]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts PLCs, and ends what is left of them."""
    running: list[Plc] = []

    def start_one(*arguments: str) -> Plc:
        plc = Plc(*arguments)
        running.append(plc)
        plc.wait_ready()
        return plc

    yield start_one
    for plc in running:
        plc.end()


class Session:
    """A client that speaks in node names."""

    def __init__(self, client: Client, namespace: int) -> None:
        self.client = client
        self.namespace = namespace

    def node(self, name: str) -> Any:
        return self.client.get_node(f"ns={self.namespace};s={name}")

    async def data(self, name: str) -> ua.DataValue:
        return await self.node(name).read_data_value()  # type: ignore[no-any-return]

    async def read(self, name: str) -> Any:
        return await self.node(name).read_value()

    async def write(self, name: str, value: object, variant: ua.VariantType = ua.VariantType.Boolean) -> None:
        await self.node(name).write_value(ua.DataValue(ua.Variant(value, variant)))

    async def until(self, name: str, holds: Callable[[Any], bool], within_s: float = REACT_S) -> Any:
        deadline_s = time.monotonic() + within_s
        while not holds(value := await self.read(name)):
            assert time.monotonic() < deadline_s, f"{name} is still {value}"
            await asyncio.sleep(0.05)
        return value


def talk(plc: Plc, what: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
    async def go() -> None:
        client = Client(plc.url)
        client.session_timeout = 60_000  # the server's cap is 10 minutes, asyncua warns above it
        async with client:
            await what(Session(client, await client.get_namespace_index(NAMESPACE)))

    asyncio.run(go())


def tag_rows() -> list[dict[str, str]]:
    with (BREWHOUSE / "tags.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def node_name(row: dict[str, str]) -> str:
    head = f"nsu={NAMESPACE};s="
    assert row["node"].startswith(head)
    return row["node"].removeprefix(head)


def test_every_tag_has_a_node_of_its_type_on_the_scan_grid(start: Start) -> None:
    async def what(session: Session) -> None:
        for row in tag_rows():
            value = await session.data(node_name(row))
            assert value.StatusCode is not None
            assert value.StatusCode.is_good(), row
            assert value.Value is not None
            assert value.Value.VariantType in VARIANTS[row["type"]], row
            assert value.SourceTimestamp is not None
            assert value.SourceTimestamp.microsecond % 100_000 == 0, row
            access = await session.node(node_name(row)).get_access_level()
            writable = ua.AccessLevel.CurrentWrite in access
            assert writable == (row["writable"] == "true" or row["name"] == "plc.watchdog"), row
            if row["low"]:
                assert float(row["low"]) <= float(value.Value.Value) <= float(row["high"]), row
        names = await session.read("phase.EnumStrings")
        assert [name.Text for name in names][:2] == ["Idle", "Heating"]

    talk(start(), what)


def test_a_write_holds_and_is_counted_once(start: Start) -> None:
    async def what(session: Session) -> None:
        assert await session.read("plc.write_count") == 0
        await session.write("kettle.setpoint", 65.0, ua.VariantType.Float)
        assert await session.read("plc.write_count") == 1
        stamp = (await session.data("kettle.setpoint")).SourceTimestamp
        assert stamp is not None
        assert stamp.microsecond % 100_000 == 0
        scans = await session.read("plc.scan_count")
        await session.until("plc.scan_count", lambda now: now > scans + 3)
        assert await session.read("kettle.setpoint") == 65.0
        await session.until("kettle.output", lambda now: now == 100.0)
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await session.write("kettle.temperature", 1.0, ua.VariantType.Float)
        with pytest.raises(ua.uaerrors.BadTypeMismatch):
            await session.write("kettle.setpoint", 1.0, ua.VariantType.Double)
        await session.write("plc.watchdog", True)
        assert await session.read("plc.write_count") == 1
        await session.write("kettle.setpoint", float("nan"), ua.VariantType.Float)
        await session.until("kettle.setpoint", lambda now: now == 65.0)

    talk(start(), what)


def test_faults_act_on_the_process_and_on_the_clock(start: Start) -> None:
    async def what(session: Session) -> None:
        await session.write("faults.heater_contactor_stuck", True)
        await session.until("mash.temperature", lambda now: now > 82.0)
        await session.until("kettle.temperature", lambda now: now > 106.0)
        await session.write("faults.clock_offset_s", 30.0, ua.VariantType.Float)
        scans = await session.read("plc.scan_count")
        await session.until("plc.scan_count", lambda now: now > scans)
        value = await session.data("plc.scan_count")
        assert value.SourceTimestamp is not None
        assert value.ServerTimestamp is not None
        assert 29.0 < (value.SourceTimestamp - value.ServerTimestamp).total_seconds() < 31.0

    talk(start("--speed", "300"), what)


def test_the_heaters_trip_when_the_watchdog_stands_still_and_come_back(start: Start) -> None:
    async def what(session: Session) -> None:
        assert await session.read("heater_trip") is False
        await session.write("plc.watchdog", True)
        moved_s = time.monotonic()
        await session.until("heater_trip", lambda now: now is True)
        assert time.monotonic() - moved_s > 4.5
        await session.write("plc.watchdog", True)  # the same value is no sign of life
        scans = await session.read("plc.scan_count")
        await session.until("plc.scan_count", lambda now: now > scans + 1)
        assert await session.read("heater_trip") is True
        await session.write("plc.watchdog", False)
        await session.until("heater_trip", lambda now: now is False)

    talk(start("--speed", "30"), what)


def test_noise_changes_and_late_nodes_come_late(start: Start) -> None:
    async def what(session: Session) -> None:
        with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
            await session.read("cellar.fermenter1.temperature")
        before = await session.read("noise.119")
        await session.until("noise.119", lambda now: now != before)
        deadline_s = time.monotonic() + REACT_S
        temperature = session.node("cellar.fermenter1.temperature")
        while not (await temperature.read_data_value(raise_on_bad_status=False)).StatusCode.is_good():
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.05)

    talk(start("--nodes", "120", "--late-nodes", "3"), what)


def test_a_republish_that_cannot_be_served_is_refused(start: Start) -> None:
    async def what(session: Session) -> None:
        class Silent:
            def datachange_notification(self, node: object, val: object, data: object) -> None:
                """Nothing is looked at here."""

        subscription = await session.client.create_subscription(100, Silent())
        assert subscription.subscription_id is not None
        with pytest.raises(ua.uaerrors.BadMessageNotAvailable):
            await session.client.uaclient.session.republish(subscription.subscription_id, 4711)
        with pytest.raises(ua.uaerrors.BadSubscriptionIdInvalid):
            await session.client.uaclient.session.republish(999_999, 1)

    talk(start(), what)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_under_a_client(start: Start, number: signal.Signals) -> None:
    plc = start()

    async def what(session: Session) -> None:
        await session.read("phase")
        plc.process.send_signal(number)
        assert await asyncio.to_thread(plc.process.wait, 5.0) == 0

    talk(plc, what)
    assert plc.process.stderr is not None
    assert plc.process.stderr.read() == ""


def test_a_taken_port_is_said_and_ends_with_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [sys.executable, str(BREWHOUSE / "plc.py")],
            env={**os.environ, "TAGWERK_PLC_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr == f"plc.py: cannot listen on 127.0.0.1:{port}: Address already in use\n"


ENCODES_AS_ASYNCUA = """
import math
from datetime import datetime, timezone
from asyncua import ua
from asyncua.ua import ua_binary
import asyncua_mends

stamp = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
kinds = ua.VariantType
variants = [
    ua.Variant(True, kinds.Boolean), ua.Variant(65535, kinds.UInt16), ua.Variant(-1, kinds.Int32),
    ua.Variant(-(2**63), kinds.Int64), ua.Variant(1.5, kinds.Float), ua.Variant(math.pi, kinds.Double),
    ua.Variant(math.nan, kinds.Double), ua.Variant("text", kinds.String), ua.Variant([1.0, 2.0], kinds.Double),
    ua.Variant(None, kinds.Null),
]
statuses = [ua.StatusCode(), ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown), None]
times = [(stamp, stamp), (stamp, None), (None, None)]
told = [
    ua.MonitoredItemNotification(7, ua.DataValue(variant, status, source, server))
    for variant in variants for status in statuses for source, server in times
]
whole = ua_binary.create_dataclass_serializer(ua.MonitoredItemNotification)
expected = [whole(one) for one in told]
asyncua_mends.mend_encoding()
quick = ua_binary.create_dataclass_serializer(ua.MonitoredItemNotification)
assert quick is not whole
assert [quick(one) for one in told] == expected
print(len(told))
"""


def test_a_notification_is_encoded_as_asyncua_does() -> None:
    ran = subprocess.run([sys.executable, "-c", ENCODES_AS_ASYNCUA], cwd=BREWHOUSE, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, "90"), ran.stderr
