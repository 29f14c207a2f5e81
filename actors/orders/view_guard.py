"""asyncua 2.1.0's server as it must be where anybody may connect. All that is private of it is touched here.

- All connections share one object of limits, which the first message of each may lower for all
  (`common/connection.py:58`): here each has its own.
- What has come of a message is gathered until it is whole, however long it says it is
  (`server/binary_server_asyncio.py`, `data_received`), and what a client does not read waits without a bound.
- A channel without security is opened whatever is offered (`common/connection.py:345`), so that endpoints can be
  asked for; a session on it was not refused.
- Whoever names the number of a session of somebody else, and they are counted, has it before he has said who he is
  (`server/uaprocessor.py`, `ActivateSession`): a session belongs to its connection here.
- What a request asks for is done in one go, however much it is: see `view_session`.
- Sessions made without end on one connection are kept; servers are registered by anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.server import binary_server_asyncio
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from tagwerk.actors.orders.view_session import ViewSession

GATHERED_BYTES: Final = 4 << 20
"""What one connection may have sent of a message that is not whole; chunks have 64 kB."""
UNREAD_BYTES: Final = 32 << 20
"""What may wait for a client that does not read."""
MESSAGE_BYTES: Final = 8 << 20
REQUEST_BYTES: Final = 1 << 20
"""Of one request: what is in it is read in one go."""


def _id(number: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(number))


_CREATE: Final = _id(ObjectIds.CreateSessionRequest_Encoding_DefaultBinary)
_ACTIVATE: Final = _id(ObjectIds.ActivateSessionRequest_Encoding_DefaultBinary)
_REGISTER: Final = (
    _id(ObjectIds.RegisterServerRequest_Encoding_DefaultBinary),
    _id(ObjectIds.RegisterServer2Request_Encoding_DefaultBinary),
)


class _Processor(UaProcessor):
    """Answers the requests of one connection."""

    async def _process_message(self, typeid: ua.NodeId, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        if len(body) > REQUEST_BYTES:
            raise ServiceError(StatusCodes.BadRequestTooLarge)
        if typeid in _REGISTER:
            raise ServiceError(StatusCodes.BadServiceUnsupported)
        if typeid in (_CREATE, _ACTIVATE) and not self._is_offered():
            raise ServiceError(StatusCodes.BadSecurityPolicyRejected)
        if typeid == _ACTIVATE and self.session is None:
            raise ServiceError(StatusCodes.BadSessionIdInvalid)
        if typeid == _CREATE and self.session is not None:
            await self.session.close_session(True)
        return await super()._process_message(typeid, requesthdr, seqhdr, body)  # type: ignore[no-untyped-call]

    def _is_offered(self) -> bool:
        """Tell whether the security of the channel is one of those that the server offers."""
        policy = self._connection.security_policy
        return any(one.matches(policy.URI, policy.Mode) for one in self._connection._policies)  # noqa: SLF001


class _Connection(binary_server_asyncio.OPCUAProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=UNREAD_BYTES)
            self.processor = _Processor(self.iserver, self.transport, self.limits)
            self.processor.set_policies(self.policies)  # type: ignore[no-untyped-call]

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
    def __init__(self, iserver: Any, *args: Any, **words: Any) -> None:
        super().__init__(iserver, *args, **words)
        iserver.create_session = partial(ViewSession, iserver, iserver.aspace, iserver.subscription_service)

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
