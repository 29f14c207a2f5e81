"""asyncua 2.1.0 as this link needs it. Everything private of asyncua is touched here.

Each mend names the lines it mends; `tests/unit/test_opcua_mends.py` shows for each that asyncua itself is still wrong.

Not used at all, because a link would not heal with it:

- the reconnect (`client/client.py:858`, `_connection_supervisor`): `common/subscription.py:567` clears the list of
  monitored items before they are made again, so that a second failure loses them for good;
- its Republish (`common/subscription.py:534`): against a server that answers an unknown number with an empty message,
  as asyncua's own does (`server/subscription_service.py:176`, `server/internal_subscription.py:256`), it never ends.
  Ours is bounded, in `client.py`;
- the publish loop (`client/ua_session.py:447`): on a dead connection it logs a traceback a second, for ever.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import SecureConnection
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, variant_from_binary
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from tagwerk.actors.opcua.device import Reading
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import NotSent, RemoteProtocolError
from tagwerk.runtime.plantfile_models import OpcuaConfig

if sys.version_info < (3, 12):
    import_module("wait_for2")  # asyncua imports it with the first request; so each restart of a link has it already

_LOGGERS: Final = ("asyncua",)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_EXPIRY: Final = datetime(9000, 1, 1, tzinfo=UTC)
_FOREIGN: Final = object()
FAILURES: Final = (OSError, TimeoutError, UaError)
"""What a call into asyncua raises when the world is down. UaError is also all that a server answers as an error."""


NONSENSE: Final = (*FAILURES, ValueError, TypeError, AttributeError, KeyError, IndexError, struct.error)
"""What opening a session raises beyond that, if the other side is no OPC UA server, or a strange one."""


def reason(error: BaseException) -> str:
    """One line for the log: what a library's exception says, or its name if it says nothing."""
    if isinstance(error, UaStatusCodeError):
        return q.name_of(int(error.code)) if int(error.code) in q.NAMES else type(error).__name__
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text[:200]}" if text else "no answer in time" if isinstance(error, TimeoutError) else name


def quiet_asyncua() -> None:
    """Silence its loggers, which tell each response and each loss; the link itself says what matters, once."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def protocol_of(client: Client) -> UASocketProtocol:
    """The open transport.

    Raises:
        ConnectionError: There is none.
    """
    protocol = client.uaclient.protocol
    if protocol is None or protocol.transport is None:
        raise ConnectionError("the connection is closed")
    return protocol


async def open_session(client: Client, user: str, password: str) -> None:
    """The steps of `Client.connect`, without the two tasks that it starts beside them (`client/client.py:462`).

    Raises:
        OSError, TimeoutError, UaError, or another of `NONSENSE`: There is no session.
    """
    await unlost_cancellation(client.connect_socket())
    await client.send_hello()
    await client.open_secure_channel()
    await client.create_session()
    await client.activate_session(username=user or None, password=password or None)


async def unlost_cancellation(step: Coroutine[Any, Any, None]) -> None:
    """Await a step that may lose a cancellation which comes in the moment when it is done; raise it then.

    `client/ua_client.py:566` waits with `asyncio.wait_for`, which does so below Python 3.12 (cpython #86296): a
    link that is stopped in that moment would go on for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    await step
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


@contextmanager
def plain_cancellation() -> Generator[None]:
    """Raise a cancellation as what it is: `asyncio.timeout` knows its own by the exact class.

    Below Python 3.12 asyncua waits with wait_for2 (`common/utils.py:147`), which raises a subclass when the answer
    comes in the same moment.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        raise asyncio.CancelledError from error


async def request(client: Client, message: Any, timeout_s: float) -> Buffer:
    """Send a request and wait for its answer. `Client` offers no timeout a call. 0 waits for ever.

    Raises:
        OSError, TimeoutError, ua.UaError: No good answer.
    """
    answer: Buffer = await protocol_of(client).send_request(message, timeout_s)
    return answer


async def send_last(client: Client, message: Any, timeout_s: float, may_send: Callable[[], None]) -> Buffer:
    """Ask `may_send`, then hand the request to the socket, with nothing between; then wait for the answer.

    Raises:
        NotSent: Nothing was handed over. So does whatever `may_send` raises.
        OSError, TimeoutError, ua.UaError: It was handed over; no good answer came.
    """
    try:
        protocol = protocol_of(client)
    except ConnectionError as error:
        raise NotSent("the link is not connected") from error
    transport = protocol.transport
    if transport is None or transport.is_closing() or transport.get_write_buffer_size() > 0:
        # A server that does not read would find the command in its socket much later.
        raise NotSent("the server does not take what was sent before")
    may_send()
    try:
        async with asyncio.timeout(timeout_s):
            data: Buffer = await protocol._send_request(message, timeout_s)  # noqa: SLF001  synchronous up to the socket
    except UaStatusCodeError as error:
        # `client/ua_client.py:148` ends every request with the status that ended the connection; it says nothing
        # about what the server did before.
        raise ConnectionError(f"the connection ended: {reason(error)}") from error
    protocol.check_answer(data, " in response to a write")
    return data


async def renew_channel(client: Client) -> None:
    """Renew the channel's token. What the server still sends under the old one is taken, whatever any clock says.

    `common/connection.py:407-413` compares the time that the *server's* clock gave the old token with our wall clock:
    a PLC that is an hour behind, or a step of our clock, would end the connection at a renewal.

    Raises:
        OSError, TimeoutError, ua.UaError: No good answer.
    """
    await client.open_secure_channel(renew=True)
    client.uaclient.revolve_security_token()
    keep_previous_token(protocol_of(client)._connection)  # noqa: SLF001


def keep_previous_token(connection: SecureConnection) -> None:
    """The previous token stays good until the next renewal takes its place, which is our own (monotonic) timer's."""
    connection.prev_security_token.CreatedAt = _NO_EXPIRY


async def create_subscription(
    client: Client, parameters: ua.CreateSubscriptionParameters, timeout_s: float
) -> ua.CreateSubscriptionResult:
    """CreateSubscription without starting asyncua's publish loop (`client/ua_session.py:366`).

    Raises:
        OSError, TimeoutError, ua.UaError: No good answer.
    """
    message = ua.CreateSubscriptionRequest()
    message.Parameters = parameters
    response = struct_from_binary(ua.CreateSubscriptionResponse, await request(client, message, timeout_s))
    response.ResponseHeader.ServiceResult.check()
    result: ua.CreateSubscriptionResult = response.Parameters
    return result


async def republish(client: Client, subscription: int, sequence: int, timeout_s: float) -> bytes:
    """Ask for one notification again; returns the parameters of the response as bytes, for `read_republished`.

    Raises:
        OSError, TimeoutError, ua.UaError: The connection broke, or the server says no.
    """
    message = ua.RepublishRequest()
    message.Parameters.SubscriptionId = ua.IntegerId(subscription)
    message.Parameters.RetransmitSequenceNumber = ua.Counter(sequence)
    return _parameters(await request(client, message, timeout_s))


def _parameters(data: Buffer) -> bytes:
    """What follows the header of a good response."""
    nodeid_from_binary(data)
    struct_from_binary(ua.ResponseHeader, data).ServiceResult.check()
    return bytes(data)


async def publish(client: Client, acknowledge: list[tuple[int, int]]) -> bytes:
    """One PublishRequest; returns the parameters of the response as bytes, for `notification.read_published`.

    Args:
        client: Connected.
        acknowledge: (subscription, sequence) of what was received.

    Raises:
        OSError, ua.UaError: The connection broke, or the server says no.
    """
    message = ua.PublishRequest()
    message.Parameters.SubscriptionAcknowledgements = [
        ua.SubscriptionAcknowledgement(SubscriptionId=ua.IntegerId(subscription), SequenceNumber=ua.Counter(sequence))
        for subscription, sequence in acknowledge
    ]
    return _parameters(await request(client, message, 0))


def odd_variant(data: bytes, pos: int) -> tuple[Any, int]:
    """A Variant that is no plain number or string: (scalar or None, place after it). Arrays have no place in a tag.

    A type id that is none raises what it happens to hit in asyncua (`ua/ua_binary.py`, `variant_from_binary`).
    """
    buffer = Buffer(data, pos)
    try:
        variant = variant_from_binary(buffer)
    except (UaError, AttributeError, TypeError) as error:
        raise RemoteProtocolError(f"a value cannot be read: {error}") from error
    return scalar(variant, foreign=variant), buffer.cur_pos


def scalar(variant: ua.Variant | None, foreign: Any = None) -> Any:
    """A float, int, bool, str or None; `foreign` stands for anything else."""
    if variant is None or (value := variant.Value) is None:
        return None
    if isinstance(value, ua.LocalizedText):
        value = value.Text
    if isinstance(value, str):  # `ua/ua_binary.py:118` keeps bytes that are no UTF-8 as surrogates, which no wire takes
        return str.__str__(value).encode(errors="replace").decode()
    for kind in (bool, int, float):  # an enumeration of asyncua is an int, too
        if isinstance(value, kind):
            return kind(value)
    return foreign


def reading(value: ua.DataValue) -> Reading:
    """One read value. An array or a structure counts as Bad: it has no place in a tag."""
    status = 0 if value.StatusCode is None else int(value.StatusCode.value)
    given = scalar(value.Value, foreign=_FOREIGN)
    if given is _FOREIGN:
        return Reading(None, status if q.is_bad(status) else q.BAD_TYPE_MISMATCH, 0, 0)
    if given is None and not q.is_bad(status):
        status = q.BAD
    return Reading(given, status, time_ns(value.SourceTimestamp), time_ns(value.ServerTimestamp))


def time_ns(moment: datetime | None) -> int:
    """A time of asyncua in ns since 1970; 0 if there is none."""
    if moment is None:
        return 0
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0, (aware - _EPOCH) // _MICROSECOND * 1000)


def item_request(nodeid: ua.NodeId, number: int, config: OpcuaConfig) -> ua.MonitoredItemCreateRequest:
    """Watch the value of a node under our own number."""
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor.NodeId = nodeid
    item.ItemToMonitor.AttributeId = AttributeIds.Value
    item.MonitoringMode = ua.MonitoringMode.Reporting
    parameters = item.RequestedParameters
    parameters.ClientHandle = ua.IntegerId(number)
    parameters.SamplingInterval = ua.Duration(config.sample_interval_s * 1000)
    parameters.QueueSize = ua.Counter(config.queue_size)
    parameters.DiscardOldest = True
    return item


def abort(client: Client) -> None:
    """Drop the connection now: nothing of what was sent is to reach a server that comes back later.

    `client/ua_client.py:287` (`disconnect_socket`) closes it after what is still buffered was sent.
    """
    protocol = client.uaclient.protocol
    if protocol is not None and protocol.transport is not None:
        # A reset instead of a goodbye: what the server has not read yet is not delivered after it.
        connection = protocol.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        protocol.transport.abort()
    client.uaclient.pre_request_hook = None
    client.uaclient.disconnect_socket()


def tcp_url(url: str) -> str:
    """The URL with the port (4840, Part 6, 7.2) that `client/client.py:651` does not add by itself."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    ends_with_port = host.rpartition(":")[2].isdigit() and not host.endswith("]")
    return f"{scheme}{separator}{host}{'' if ends_with_port else ':4840'}{slash}{path}"
