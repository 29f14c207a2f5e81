"""asyncua 2.1.0's server as it must be where anybody may connect: each connection has limits of its own.

There (`server/binary_server_asyncio.py`) all connections share one object of limits, which the first message of each
may lower for all (`common/connection.py:58`); what has come of a message is gathered until it is whole, however long it
says it is (`data_received`), before anybody has said who he is; and what a client does not read waits without a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from asyncua.common.connection import TransportLimits
from asyncua.server import binary_server_asyncio

GATHERED_BYTES: Final = 4 << 20
"""What one connection may have sent of a message that is not whole; chunks have 64 kB."""
UNREAD_BYTES: Final = 32 << 20
"""What may wait for a client that does not read."""
MESSAGE_BYTES: Final = 8 << 20


class _Connection(binary_server_asyncio.OPCUAProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=UNREAD_BYTES)

    def pause_writing(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if len(self._buffer) + len(data) > GATHERED_BYTES:
            self._buffer = b""
            if self.transport is not None:
                self.transport.abort()
            return
        super().data_received(data)


class _Listener(binary_server_asyncio.BinaryServer):
    def _make_protocol(self) -> binary_server_asyncio.OPCUAProtocol:
        limits = TransportLimits(max_chunk_count=MESSAGE_BYTES >> 16, max_message_size=MESSAGE_BYTES)
        return _Connection(self.iserver, self._policies, self.clients, self.closing_tasks, limits)


@contextmanager
def guarded() -> Generator[None]:
    """A server that is started inside has guarded connections."""
    module: Any = import_module("asyncua.server.server")
    plain = module.BinaryServer
    module.BinaryServer = _Listener
    try:
        yield
    finally:
        module.BinaryServer = plain
