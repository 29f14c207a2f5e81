"""Each mend of asyncua: what asyncua itself does, which is still wrong, and what we do instead.

If one of these fails after an upgrade of asyncua, look whether the mend is still needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.client.ua_session import UaSession
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.subscription import Subscription, SubscriptionItemData
from asyncua.common.utils import Buffer, wait_for
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.server.subscription_service import SubscriptionService
from asyncua.ua.ua_binary import Primitives, struct_to_binary, variant_from_binary
from asyncua.ua.uaerrors import BadSecureChannelClosed, UaError

from tagwerk.actors.opcua import asyncua_mends as mends
from tagwerk.protocols.errors import RemoteProtocolError


class Wire:
    """A transport into which one can look."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = ""

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return bool(self.ended)

    def get_extra_info(self, _name: str) -> None:
        return None

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"


def wired() -> tuple[Client, UASocketProtocol, Wire]:
    """A client on such a transport."""
    client, wire = Client("opc.tcp://nobody:4840"), Wire()
    protocol = UASocketProtocol()
    protocol.connection_made(cast("asyncio.Transport", wire))
    client.uaclient.protocol = protocol
    return client, protocol, wire


def test_the_previous_token_lives_by_no_wall_clock() -> None:
    connection = SecureConnection(SecurityPolicyNone(), TransportLimits())  # type: ignore[no-untyped-call]
    for token, behind in ((1, timedelta(hours=2)), (2, timedelta())):  # the server's clock says when it was made
        connection.next_security_token = ua.ChannelSecurityToken(
            ua.UInt32(1), ua.UInt32(token), datetime.now(UTC) - behind, ua.UInt32(3_600_000)
        )
        connection.revolve_tokens()
    connection._allow_prev_token = True
    under_the_old = ua.SymmetricAlgorithmHeader(ua.UInt32(1))
    with pytest.raises(UaError, match="timed out"):
        connection._check_sym_header(under_the_old)
    mends.keep_previous_token(connection)
    connection._check_sym_header(under_the_old)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_for2 is not used there")
def test_a_cancellation_is_one_by_its_exact_class() -> None:
    async def raced() -> None:
        """The answer comes in the moment in which the limit ends."""
        answer = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(answer.set_result, 1)
        asyncio.get_running_loop().call_soon(task.cancel)
        await wait_for(answer, 5)

    async def story() -> None:
        async def inside(*, mended: bool) -> type[BaseException] | None:
            try:
                with mends.plain_cancellation() if mended else contextlib.nullcontext():
                    await raced()
            except asyncio.CancelledError as error:
                return type(error)
            return None

        assert await asyncio.create_task(inside(mended=False)) is not asyncio.CancelledError
        assert await asyncio.create_task(inside(mended=True)) is asyncio.CancelledError

    asyncio.run(story())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio.wait_for is mended there")
def test_a_cancellation_in_the_moment_of_the_connection_is_not_lost() -> None:
    async def connects(client: Client, *, mended: bool) -> str:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        async def connection(*_: Any) -> None:
            loop.call_soon(task.cancel)

        loop.create_connection = connection  # type: ignore[method-assign,assignment]
        step = client.uaclient.connect_socket("nobody", 4840)
        await (mends.unlost_cancellation(step) if mended else step)
        return "goes on"

    async def story() -> None:
        assert await asyncio.create_task(connects(Client("opc.tcp://nobody"), mended=False)) == "goes on"
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(connects(Client("opc.tcp://nobody"), mended=True))

    asyncio.run(story())


def test_the_status_that_ends_a_connection_is_no_answer_to_a_write() -> None:
    async def story() -> None:
        message = ua.WriteRequest()
        ended = BadSecureChannelClosed()  # type: ignore[no-untyped-call]
        client, protocol, _ = wired()
        unmended = asyncio.ensure_future(protocol.send_request(message, 1.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        protocol._fail_all_pending(ended)
        with pytest.raises(BadSecureChannelClosed):  # as if the server had said no to it
            await unmended
        mended = asyncio.ensure_future(mends.send_last(client, message, 1.0, lambda: None))
        await asyncio.sleep(0)
        protocol._fail_all_pending(ended)
        with pytest.raises(ConnectionError, match="the connection ended"):
            await mended

    asyncio.run(story())


def test_a_subscription_starts_no_publish_loop_of_asyncua() -> None:
    async def story() -> None:
        answer = ua.CreateSubscriptionResponse()
        answer.Parameters.SubscriptionId = ua.IntegerId(7)

        async def granted(*_: Any) -> Buffer:
            return Buffer(struct_to_binary(answer))

        client, protocol, _ = wired()
        session: UaSession = client.uaclient.session
        protocol.send_request = granted  # type: ignore[method-assign,assignment]
        wanted = ua.CreateSubscriptionParameters()
        assert (await mends.create_subscription(client, wanted, 1.0)).SubscriptionId == 7
        assert session._publish_task is None
        await session.create_subscription(wanted, print)
        assert session._publish_task is not None
        session._publish_task.cancel()
        await asyncio.gather(session._publish_task, return_exceptions=True)

    asyncio.run(story())


def test_an_abort_drops_what_is_still_buffered() -> None:
    client, protocol, wire = wired()
    protocol.disconnect_socket()
    assert wire.ended == "closed"  # after all that is buffered was sent
    client, protocol, wire = wired()
    mends.abort(client)
    assert wire.ended == "aborted"


def test_a_text_is_one_that_a_wire_takes() -> None:
    text = Primitives.String.unpack(Buffer(b"\x02\x00\x00\x00\xe4!"))
    assert text is not None
    with pytest.raises(UnicodeEncodeError):
        text.encode()
    assert mends.scalar(ua.Variant(text, ua.VariantType.String)).encode() == b"?!"


def test_a_strange_variant_is_the_peers_fault_not_a_bug_of_ours() -> None:
    scalar_with_dimensions = bytes([0x40 | 6]) + bytes(4) + bytes([1, 0, 0, 0, 5, 0, 0, 0])
    with pytest.raises(TypeError):
        variant_from_binary(Buffer(scalar_with_dimensions))
    with pytest.raises(RemoteProtocolError):
        mends.odd_variant(scalar_with_dimensions, 0)


def test_a_url_without_a_port_has_the_registered_one() -> None:
    assert Client("opc.tcp://plc/x").server_url.port is None
    assert Client(mends.tcp_url("opc.tcp://plc/x")).server_url.port == 4840
    assert mends.tcp_url("opc.tcp://[fe80::1]/") == "opc.tcp://[fe80::1]:4840/"
    assert mends.tcp_url("opc.tcp://plc:4841") == "opc.tcp://plc:4841"


# --- why the reconnect of asyncua is not used ------------------------------------------------------------------------


def subscription(session: Any) -> Subscription:
    made = Subscription(session, ua.CreateSubscriptionParameters(), None)
    made.subscription_id = 7
    return made


def test_its_republish_has_no_end_against_a_lax_server() -> None:
    async def story() -> None:
        asked = 0
        server = SubscriptionService(cast("Any", None))

        class Lax(UaSession):
            def __init__(self) -> None:
                pass

            async def republish(self, subscription_id: int, retransmit_sequence_number: int) -> ua.NotificationMessage:
                nonlocal asked
                asked += 1
                number = retransmit_sequence_number
                if asked > 5_000:
                    raise asyncio.CancelledError
                return server.republish(ua.RepublishParameters(ua.IntegerId(subscription_id), ua.Counter(number)))

        with pytest.raises(asyncio.CancelledError):
            await subscription(Lax())._republish_gaps([])
        assert asked == 5_001

    asyncio.run(story())


def test_its_recreate_loses_all_items_if_it_fails_once() -> None:
    async def story() -> None:
        class Down:
            async def create_subscription(self, *_: Any, **__: Any) -> None:
                raise ConnectionError("the server is away again")

        made = subscription(Down())
        item = SubscriptionItemData()
        item.server_handle = 1
        made._monitored_items[1] = item
        with pytest.raises(ConnectionError):
            await made.recreate()
        assert not made._monitored_items

    asyncio.run(story())
