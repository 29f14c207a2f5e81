"""A whole shop floor in one process: `python examples/shopfloor/shopfloor.py [FIRST_PORT]`, until Ctrl-C.

FIRST_PORT is a device registry, the next one an assignment agent; then come two milling machines (one of them behind
type dictionaries, with a queue that is worked once in 0.2 s), a warehouse that answers at once, and resources that fail
in one way each. A line `{"call": ..., "inputs": ...}` is written for each service that is called.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from registry import AssignmentAgent, Registry
from resource import Resource, Service

FAULTS = ("invalid", "fail", "silent", "missing", "bad")


def reported(resource: Resource, service: Service) -> Service:
    """Write a line for each call of a service."""
    work = service.work

    def told(inputs: dict[str, Any]) -> Mapping[str, Any]:
        print(json.dumps({"call": service.name, "port": resource.port, "inputs": plain(inputs)}), flush=True)
        return work(inputs)

    return dataclasses.replace(service, work=told)


def plain(value: Any) -> Any:
    """Give structures as JSON has them."""
    if dataclasses.is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def resources(first: int) -> list[Resource]:
    """Describe all resources."""
    count = (("number", "Double"),)
    return [
        Resource(
            first, [Service("Milling"), Service("Count", inputs=count, outputs=count, work=one_less, tells_uuid=True)],
            "Milling", {"diameter": ("SmallerOrEqual", 100.0)},
        ),
        Resource(
            first + 1, [Service("Milling"), Service("Gluing")], "OldMilling", {"diameter": ("SmallerOrEqual", 50.0)},
            queue_period_s=0.2, stack="open62541",
        ),
        Resource(first + 2, [Service("GetPartsFromWarehouse", mode="sync")], "Warehouse"),
        Resource(first + 3, [Service(f"{fault.capitalize()}", fault=fault) for fault in FAULTS], "Faulty"),
        Resource(first + 4, [Service("Slow", seconds=2.0), Service("SlowSync", seconds=2.0, mode="sync")], "Slow"),
    ]  # fmt: skip


def one_less(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Count down."""
    return {"number": inputs["number"] - 1}


async def main() -> None:
    """Start all, tell where, wait."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 4840
    registry, agent = Registry(first), AssignmentAgent(first + 1)
    floor = resources(first + 2)
    for resource in floor:
        resource.services = [reported(resource, one) for one in resource.services]
    for server in (registry, agent, *floor):
        await server.start()
    for resource in floor[:2]:
        await resource.join(f"127.0.0.1:{registry.port}")
    print(f"registry {registry.url}, assignment agent {agent.url}", flush=True)
    for resource in floor:
        print(f"{resource.module} {resource.url}: {', '.join(one.name for one in resource.services)}", flush=True)
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        for server in (agent, registry, *floor):
            await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
