"""A whole shop floor in one process: `python examples/shopfloor/shopfloor.py [FIRST_PORT]`, until Ctrl-C.

FIRST_PORT is a device registry with an assignment agent; then come a new milling machine and an old one, its types in
dictionaries, its queue worked once in 0.2 s. The new one also has services that it does not register: some fail in one
way each, some wait for you and end when Enter is pressed here. A line `{"call": ..., "port": ..., "inputs": ...}` is
written for each service called.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any

from registry import Registry
from resource_server import Resource, Service

RELEASE_S = 0.2
REGISTERED = ("Milling", "GetPartsFromWarehouse", "Gluing")
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


def resources(first: int, held: asyncio.Event) -> list[Resource]:
    """Describe all resources."""
    count = (("count", "Double"),)
    order = [Service("Milling"), Service("GetPartsFromWarehouse", mode="sync")]
    counting = Service("Count", inputs=count, outputs=count, work=one_less, tells_uuid=True)
    faulty = [Service(fault.capitalize(), fault=fault) for fault in FAULTS]
    waiting = [Service("Held", held=held), Service("HeldSync", mode="sync", held=held)]
    return [
        Resource(first, [*order, counting, *faulty, *waiting], "Milling", {"diameter": ("SmallerOrEqual", 100.0)}),
        Resource(
            first + 1, [Service("Milling"), Service("Gluing")], "OldMilling", {"diameter": ("SmallerOrEqual", 50.0)},
            queue_period_s=0.2, stack="open62541",
        ),
    ]  # fmt: skip


def one_less(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Count down."""
    return {"count": inputs["count"] - 1}


def read_lines(loop: asyncio.AbstractEventLoop, held: asyncio.Event) -> None:
    """Let services end that wait for a line; those that are called later wait for the next one."""

    def release() -> None:
        held.set()
        loop.call_later(RELEASE_S, hold)

    def hold() -> None:
        held.clear()
        print("holding again", flush=True)

    for _ in sys.stdin:
        loop.call_soon_threadsafe(release)


async def main() -> None:
    """Start all, tell where, wait."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 4840
    held = asyncio.Event()
    registry, floor = Registry(first), resources(first + 1, held)
    for resource in floor:
        resource.services = [reported(resource, one) for one in resource.services]
    for server in (registry, *floor):
        await server.start()
    for resource in floor:
        await resource.join(f"127.0.0.1:{registry.port}", REGISTERED)
    print(f"registry and assignment agent {registry.url}", flush=True)
    for resource in floor:
        print(f"{resource.module} {resource.url}: {', '.join(one.name for one in resource.services)}", flush=True)
    threading.Thread(target=read_lines, args=(asyncio.get_running_loop(), held), daemon=True).start()
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        for server in (registry, *floor):
            await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
