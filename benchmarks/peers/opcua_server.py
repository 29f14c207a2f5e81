"""An asyncua server that changes its items at a fixed pace; tagwerk's link and the plain client both read from it.

    opcua_server.py PORT ITEMS PERIOD_S

Every item's source time is when it was set.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from datetime import UTC, datetime

from asyncua import Server, ua

NAMESPACE = "urn:bench"
IN_FOLDER = 100
WRITABLE = 200
AT_ONCE = 500
"""Items set without a pause."""


async def serve(port: int, count: int, period_s: float) -> None:
    """Serve until killed."""
    server = Server()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.init()
    space = await server.register_namespace(NAMESPACE)
    nodes = []
    for number in range(count):
        if number % IN_FOLDER == 0:  # to add to a node takes asyncua a look at all that it has
            folder = await server.nodes.objects.add_folder(ua.NodeId(f"f{number}", space), f"f{number}")
        nodes.append(await folder.add_variable(ua.NodeId(f"i{number}", space), f"i{number}", 0.0))
        if number < WRITABLE:
            await nodes[-1].set_writable()
    async with server:
        due = time.monotonic()
        value = 0.0
        while True:
            value += 1.0
            for start in range(0, count, AT_ONCE):
                # In slices over half the period: whoever asks meanwhile is served.
                now = datetime.now(UTC).replace(tzinfo=None)
                for node in nodes[start : start + AT_ONCE]:
                    data = ua.DataValue(ua.Variant(value, ua.VariantType.Double), SourceTimestamp=now)
                    await server.write_attribute_value(node.nodeid, data)
                await asyncio.sleep(period_s / 2 * AT_ONCE / count if count > AT_ONCE else 0.0)
            due = max(due + period_s, time.monotonic() - period_s)
            await asyncio.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
