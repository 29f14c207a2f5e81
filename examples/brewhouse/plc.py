"""The simulated PLC of the example plant: a real OPC UA server in a process of its own.

    python plc.py --port 4840 --speed 30

Physics and control run at 10 Hz. Every value is written only when it changed, quantised, with a SourceTimestamp on the
scan grid (multiples of 100 ms). The endpoint is anonymous and without security, for loopback only.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Final

from asyncua import ua
from asyncua.common.callback import CallbackType, ServerItemCallback
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua_mends import mend_notifications, mend_republish
from physics import Brewhouse, Phase
from signals import BREWHOUSE, FERMENTER, Kind, Signal, Value
from small_server import SmallInternalServer

NAMESPACE: Final = "urn:tagwerk:brewhouse"
SCAN_NS: Final = 100_000_000
EARLY_NS: Final = 5_000_000  # a sleep may end this much before its time
CATCH_UP_S: Final = 1.0  # a process that was stopped does not race through what it slept over
WATCHDOG_S: Final = 5.0  # real seconds
CLOCK_OFFSET_S: Final = 86400.0  # the largest that the fault may ask for, either way
NOISE_PER_FOLDER: Final = 100  # adding a node compares it with all its siblings
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNECE: Final = {  # pint's name: display name, UNECE Recommendation 20 code
    "degC": ("°C", "CEL"),
    "percent": ("%", "P1"),
    "bar": ("bar", "BAR"),
    "liter/minute": ("l/min", "L2"),
    "liter": ("l", "LTR"),
    "second": ("s", "SEC"),
    "millisecond": ("ms", "C26"),
    "kelvin/minute": ("K/min", "F02"),
}
VARIANT: Final = {
    Kind.ANALOG: ua.VariantType.Float,
    Kind.FLOAT: ua.VariantType.Float,
    Kind.RAW: ua.VariantType.UInt16,
    Kind.BOOL: ua.VariantType.Boolean,
    Kind.INT32: ua.VariantType.Int32,
    Kind.INT64: ua.VariantType.Int64,
    Kind.STRING: ua.VariantType.String,
}
_GOOD: Final = ua.StatusCode()


@dataclass(slots=True)
class Point:
    """A signal with its node, what was last written there, and what of the model that was."""

    signal: Signal
    nodeid: ua.NodeId
    last: Value | None
    seen: Value | None = None  # None: whatever the model has is looked at


class Plc:
    """The scan and the OPC UA server around the model."""

    def __init__(self, model: Brewhouse, noise_count: int, late_s: float) -> None:
        self.model = model
        self.noise_count = noise_count
        self.late_s = late_s
        self.server = Server(iserver=SmallInternalServer())
        self.points: dict[ua.NodeId, Point] = {}
        self.read_all: Callable[[Brewhouse], Sequence[Value]] = lambda _: ()
        """Gives what the model has for each of the points."""
        self.noise: list[ua.NodeId] = []
        self.folders: dict[str, ua.NodeId] = {}
        self.namespace = 0
        self.watchdog_s: float | None = None  # monotonic time of its last change; None before the first

    async def start(self, host: str, port: int) -> int:
        """Build the address space and listen; returns the port."""
        server = self.server
        server.set_endpoint(f"opc.tcp://{host}:{port}/brewhouse/")
        server.set_server_name("tagwerk example brewhouse")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        await server.init()
        await server.set_application_uri("urn:tagwerk:brewhouse:plc")
        self.namespace = await server.register_namespace(NAMESPACE)
        for sig in BREWHOUSE if self.late_s else BREWHOUSE + FERMENTER:
            await self.add_signal(sig)
        for number in range(self.noise_count):
            folder = await self.folder(f"noise/{number // NOISE_PER_FOLDER}")
            await self._add_variable(f"noise.{number}", folder, 0.0, ua.VariantType.Float)
            self.noise.append(self._id(f"noise.{number}"))
        server.subscribe_server_callback(CallbackType.PreWrite, self.before_write)
        server.subscribe_server_callback(CallbackType.PostWrite, self.after_write)
        await server.start()
        if server.bserver is None:
            raise RuntimeError("asyncua started without a listening socket")
        return server.bserver.port

    async def stop(self) -> None:
        """Close connections and nodes."""
        clock = self.server.iserver.time_task
        if clock is not None:
            # asyncua waits for it up to a second, which is most of a supervisor's patience.
            clock.cancel()
            await asyncio.gather(clock, return_exceptions=True)
            self.server.iserver.time_task = None
        await self.server.stop()

    async def folder(self, path: str) -> ua.NodeId:
        """Returns the folder `path` ("a/b"), made when it is missing."""
        if path not in self.folders:
            parent, _, name = path.rpartition("/")
            above = self.server.get_node(await self.folder(parent)) if parent else self.server.nodes.objects
            node = await above.add_folder(self._id(f"{path}/"), ua.QualifiedName(name, self.namespace))
            self.folders[path] = node.nodeid
        return self.folders[path]

    async def add_signal(self, sig: Signal) -> None:
        """Make the signal's node, with range and unit where it has one."""
        path = "/".join(sig.node.split(".")[:-1])
        folder = await self.folder(path if path.startswith("cellar") else f"brewhouse/{path}".rstrip("/"))
        value = sig.read(self.model)
        node = await self._add_variable(sig.node, folder, value, VARIANT[sig.kind])
        if sig.writable:
            await node.set_writable()
        if sig.node == "phase":
            names = [ua.LocalizedText(phase.name.title()) for phase in Phase]
            await node.add_property(self._id("phase.EnumStrings"), self._standard("EnumStrings"), names)
        if sig.unit:
            await self._add_range_and_unit(node, sig)
        self.points[node.nodeid] = Point(sig, node.nodeid, value)
        self.read_all = attrgetter(*[point.signal.path for point in self.points.values()])

    async def _add_range_and_unit(self, node: Node, sig: Signal) -> None:
        name, code = UNECE[sig.unit]
        unit = ua.EUInformation(
            NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
            UnitId=ua.Int32(int.from_bytes(code.encode(), "big")),
            DisplayName=ua.LocalizedText(name),
        )
        span = ua.Range(Low=ua.Double(sig.low), High=ua.Double(sig.high))
        await node.add_property(self._id(f"{sig.node}.EURange"), self._standard("EURange"), span)
        await node.add_property(self._id(f"{sig.node}.EngineeringUnits"), self._standard("EngineeringUnits"), unit)

    async def _add_variable(self, name: str, folder: ua.NodeId, value: Value, variant: ua.VariantType) -> Node:
        parent = self.server.get_node(folder)
        node = await parent.add_variable(
            self._id(name), ua.QualifiedName(name.rpartition(".")[2], self.namespace), value, variant
        )
        first = stamped(value, variant, self._stamp(), datetime.now(UTC))
        await self.server.write_attribute_value(node.nodeid, first)
        return node

    def _id(self, name: str) -> ua.NodeId:
        return ua.NodeId(name, self.namespace)  # type: ignore[arg-type]

    def _standard(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, 0)

    def before_write(self, event: ServerItemCallback, _: object) -> None:
        """Stamp what a client writes: its own SourceTimestamp is no business of the PLC's clock."""
        if event.is_external:
            stamp = self._stamp()
            for item in event.request_params.NodesToWrite:
                if item.AttributeId == AttributeIds.Value and item.NodeId in self.points:
                    item.Value.SourceTimestamp = stamp

    async def after_write(self, event: ServerItemCallback, _: object) -> None:
        """Take what a client wrote into the model, and count it."""
        if not event.is_external:
            return
        for item, result in zip(event.request_params.NodesToWrite, event.response_params, strict=True):
            point = self.points.get(item.NodeId)
            if point is None or not result.is_good():
                continue
            value = item.Value.Value.Value if item.Value.Value is not None else None
            point.seen = None
            if point.signal.node == "plc.watchdog":
                if value != self.model.plc.watchdog:
                    self.watchdog_s = time.monotonic()
            else:
                self.model.plc.write_count += 1
            if value is None or (isinstance(value, float) and not abs(value) < float("inf")):
                point.last = None  # not a number: the scan puts the PLC's own value back
                continue
            point.signal.write(self.model, value)
            point.last = value
        # At once, not with the next scan: who reads the count after a write sees that write.
        await self._write_changed(self._stamp(), only="plc.write_count")

    async def scan(self, elapsed_s: float) -> None:
        """One cycle: watchdog, physics and control, outputs."""
        started = time.perf_counter()
        now_s = time.monotonic()
        watchdog_ok = self.watchdog_s is None or now_s - self.watchdog_s < WATCHDOG_S
        self.model.step(elapsed_s * self.model.plc.speed, watchdog_ok=watchdog_ok)
        self.model.plc.scan_count += 1
        stamp = self._stamp()
        await self._write_changed(stamp)
        await self._write_noise(stamp)
        self.model.plc.scan_time_ms = round((time.perf_counter() - started) * 1e3, 1)

    async def _write_changed(self, stamp: datetime, only: str = "") -> None:
        write, now = self.server.iserver.aspace.write_attribute_value, datetime.now(UTC)
        # Most of the model stands still from scan to scan: that is found out for all of it in one call.
        for point, raw in zip(self.points.values(), self.read_all(self.model), strict=True):
            if raw == point.seen or (only and point.signal.node != only):
                continue
            point.seen = raw
            value = point.signal.shown(raw)
            if value != point.last:
                point.last = value
                await write(point.nodeid, AttributeIds.Value, stamped(value, VARIANT[point.signal.kind], stamp, now))

    async def _write_noise(self, stamp: datetime) -> None:
        scan = self.model.plc.scan_count
        write, now = self.server.iserver.aspace.write_attribute_value, datetime.now(UTC)
        for number, nodeid in enumerate(self.noise):
            value = (scan * 7919 + number * 104729) % 65536 / 655.36
            await write(nodeid, AttributeIds.Value, stamped(value, ua.VariantType.Float, stamp, now))

    async def run(self) -> None:
        """Scan for ever, on multiples of 100 ms of the wall clock."""
        started_s = last_s = time.monotonic()
        while True:
            wait_ns = SCAN_NS - time.time_ns() % SCAN_NS
            await asyncio.sleep((wait_ns if wait_ns > EARLY_NS else wait_ns + SCAN_NS) / 1e9)
            now_s = time.monotonic()
            if self.late_s and now_s - started_s >= self.late_s:
                self.late_s = 0.0
                for sig in FERMENTER:
                    await self.add_signal(sig)
            await self.scan(min(now_s - last_s, CATCH_UP_S))
            last_s = now_s

    def _stamp(self) -> datetime:
        grid_ns = (time.time_ns() + EARLY_NS) // SCAN_NS * SCAN_NS
        offset_s = min(max(self.model.faults.clock_offset_s, -CLOCK_OFFSET_S), CLOCK_OFFSET_S)
        offset_ns = round(offset_s * 1e9 / SCAN_NS) * SCAN_NS
        return EPOCH + timedelta(microseconds=(grid_ns + offset_ns) // 1000)


def stamped(value: Value, variant: ua.VariantType, stamp: datetime, now: datetime) -> ua.DataValue:
    """Returns a value as the server keeps it, from the source's time and the server's."""
    return ua.DataValue(ua.Variant(value, variant), _GOOD, stamp, now)  # type: ignore[arg-type]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the command line's options; TAGWERK_PLC_PORT and TAGWERK_PLC_SPEED are defaults."""
    environment = os.environ
    parser = argparse.ArgumentParser(description="Simulated brewhouse PLC: an OPC UA server, anonymous and unsecured.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; keep it to loopback")
    parser.add_argument(
        "--port", type=int, default=environment.get("TAGWERK_PLC_PORT", "4840"), help="0: any free port"
    )
    parser.add_argument(
        "--speed",
        type=_positive,
        default=environment.get("TAGWERK_PLC_SPEED", "1"),
        help="simulated seconds per second",
    )
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="N more signals, new at every scan")
    parser.add_argument(
        "--late-nodes", type=float, default=0.0, metavar="SECONDS", help="add cellar.fermenter1 only after so long"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 1000.0:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and at most 1000")
    return value


async def serve(options: argparse.Namespace) -> None:
    """Serve until cancelled."""
    model = Brewhouse()
    model.plc.speed = options.speed
    plc = Plc(model, options.nodes, options.late_nodes)
    try:
        port = await plc.start(options.host, options.port)
        # Thousands of nodes that live as long as the process: no collection needs to visit them again.
        gc.freeze()
        gc.enable()
        url = f"opc.tcp://{options.host}:{port}/brewhouse/"
        print(
            f"brewhouse PLC ready: {url} speed {options.speed:g}, {len(plc.points) + len(plc.noise)} nodes", flush=True
        )
        await plc.run()
    finally:
        await plc.stop()


async def serve_until_signal(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    task = asyncio.create_task(serve(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()


def main() -> int:
    """Run the PLC; returns the exit code."""
    options = parse()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        # Before the second that the address space takes, and before asyncua logs a trace of it.
        socket.create_server((options.host, options.port)).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        print(f"plc.py: cannot listen on {options.host}:{options.port}: {reason}", file=sys.stderr)
        return 2
    mend_republish()
    mend_notifications()
    # Building the address space makes half a million objects and no garbage.
    gc.disable()
    asyncio.run(serve_until_signal(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
