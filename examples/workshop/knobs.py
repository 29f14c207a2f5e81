"""What can be set on a simulated machine: on the command line, and while it runs as OPC UA variables."""

from __future__ import annotations

import argparse
import asyncio
import random
from dataclasses import dataclass
from typing import Any

from asyncua import Node, ua
from asyncua.server.server import Server

FAULTS = ("invalid", "fail", "silent", "missing", "wrong", "bad", "crash")
WORDS = """invalid: refuses the parameters; fail: ends with the status FAIL; silent: tells no end; missing: gives no
outputs; wrong: gives outputs of another type; bad: answers the call with a bad status; crash: the process ends in the
midst of the service"""
URI = "urn:tagwerk:workshop"


@dataclass(frozen=True)
class Knobs:
    """How a machine behaves.

    Args:
        delay_s: How long a service takes.
        fault: How services misbehave, one of `FAULTS`; "": they do not.
        failure_rate: How often they do, 0 to 1.
        queue_period_s: The queue is worked once in this time, as the template in C does once a second; 0: at once.
        manufacturer: What the server says who made it; `open62541` shows its types in dictionaries only.
    """

    delay_s: float = 0.05
    fault: str = ""
    failure_rate: float = 1.0
    queue_period_s: float = 0.0
    manufacturer: str = "tagwerk"


def options() -> argparse.ArgumentParser:
    """Give the options for knobs, to be a parent of a parser."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("knobs")
    group.add_argument("--delay", type=float, default=0.05, metavar="S", help="what a service takes (0.05)")
    group.add_argument("--fault", choices=("", *FAULTS), default="", help=WORDS)
    group.add_argument("--failure-rate", type=float, default=1.0, metavar="0..1", help="how often it does so (1)")
    group.add_argument("--queue-period", type=float, default=0.0, metavar="S", help="looks at its queue so often (0)")
    group.add_argument("--manufacturer", default="tagwerk", help="open62541: types in dictionaries only")
    return parser


def given_in(given: argparse.Namespace) -> Knobs:
    """Give the knobs as they were set on the command line."""
    return Knobs(given.delay, given.fault, given.failure_rate, given.queue_period, given.manufacturer)


class Panel:
    """The knobs of one running machine, as variables below the object `Simulation`.

    `Delay` (s), `Fault`, `FailureRate` (0 to 1), `NextFault` (for the next call alone), and `Hold`: services do not end
    while it is true. Their ids are `nsu=urn:tagwerk:workshop;s=NAME`.

    Args:
        server: The machine's.
        knobs: How they are set at first.
    """

    def __init__(self, server: Server, knobs: Knobs) -> None:
        self._server = server
        self._knobs = knobs
        self._nodes: dict[str, Node] = {}
        self._going_on = asyncio.Event()
        self._going_on.set()
        self._random = random.Random(1)

    async def build(self) -> None:
        """Make the variables."""
        index = await self._server.register_namespace(URI)
        parent = await self._server.nodes.objects.add_object(ua.NodeId("Simulation", index), "Simulation")
        knobs = self._knobs
        values = {
            "Delay": knobs.delay_s,
            "Fault": knobs.fault,
            "FailureRate": knobs.failure_rate,
            "NextFault": "",
            "Hold": False,
        }
        for name, value in values.items():
            node = await parent.add_variable(ua.NodeId(name, index), ua.QualifiedName(name, index), value)
            await node.set_writable()
            self._nodes[name] = node
        space = self._server.iserver.aspace
        space.add_datachange_callback(self._nodes["Hold"].nodeid, ua.AttributeIds.Value, self._hold)

    async def fault(self) -> str:
        """Give the fault of the call that comes now."""
        one = str(await self._nodes["NextFault"].read_value())
        if one:
            await self._nodes["NextFault"].write_value("")
            return one
        always = str(await self._nodes["Fault"].read_value())
        return always if always and self._random.random() < await self.number("FailureRate") else ""

    async def number(self, name: str) -> float:
        """Give a knob that is a number."""
        return float(await self._nodes[name].read_value())

    async def over(self) -> None:
        """Wait until a service is done."""
        await asyncio.sleep(await self.number("Delay"))
        await self._going_on.wait()

    async def _hold(self, _handle: int, value: Any) -> None:
        if value.Value.Value:
            self._going_on.clear()
        else:
            self._going_on.set()
