"""The device of chaos: a small OPC UA server that writes down every write it carries out.

    python -m tagwerk.runtime.chaos.device --port P --log FILE

Nodes: `beat` counts ten times a second; `command` and `pulse` may be written. A line of the log is
`MONOTONIC_NS NODE VALUE`: the clock is the host's own, so it compares with deadlines that another process has set.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from asyncua import ua
from asyncua.common.callback import CallbackType, ServerItemCallback
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds

from tagwerk.runtime.chaos.commands import COMMAND, NAMESPACE, PULSE, Execution
from tagwerk.runtime.clock import SystemClock

BEAT_S: Final = 0.1


class Device:
    """The server.

    Args:
        log: What it carries out is added to this file before it is answered.
    """

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._clock = SystemClock()
        self._server = Server()
        self._names: dict[ua.NodeId, str] = {}

    async def serve(self, port: int) -> None:
        """Serve until cancelled."""
        server = self._server
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        await server.init()
        self._space = await server.register_namespace(NAMESPACE)
        beat = await self._variable("beat")
        for name in (COMMAND, PULSE):
            await (await self._variable(name)).set_writable()
        server.subscribe_server_callback(CallbackType.PostWrite, self._written)
        await server.start()
        gc.freeze()
        gc.enable()
        try:
            count = 0.0
            while True:
                count += 1.0
                await beat.write_value(count)
                await asyncio.sleep(BEAT_S)
        finally:
            await server.stop()

    async def _variable(self, name: str) -> Node:
        node = await self._server.nodes.objects.add_variable(
            ua.NodeId(name, self._space),  # type: ignore[arg-type]
            ua.QualifiedName(name, self._space),
            0.0,
        )
        self._names[node.nodeid] = name
        return node

    def _written(self, event: ServerItemCallback, _: object) -> None:
        if not event.is_external:
            return
        for item, result in zip(event.request_params.NodesToWrite, event.response_params, strict=True):
            name = self._names.get(item.NodeId)
            if name is None or item.AttributeId != AttributeIds.Value or not result.is_good():
                continue
            value = float(item.Value.Value.Value)
            os.write(self._log, Execution(self._clock.mono_ns(), name, value).line())


async def _until_signal(device: Device, port: int) -> None:
    task = asyncio.create_task(device.serve(port))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()


def main() -> int:
    """Run the device; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    gc.disable()  # building the address space makes half a million objects and no garbage
    logging.basicConfig(level=logging.CRITICAL)  # asyncua tells of each client that is killed
    asyncio.run(_until_signal(Device(given.log), given.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
