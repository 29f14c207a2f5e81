"""One OPC UA session with a resource, a registry or an agent: asyncua, as the clients of orders need it. Used once."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import DeviceGone, NotSent, Refused, RefusedCode, Unknown
from tagwerk.runtime.ua_certificate import pin_hint, pin_server, secure
from tagwerk.runtime.ua_security import Security

CONNECT_LIMIT_S: Final = 5.0
REQUEST_LIMIT_S: Final = 10.0
PROBE_S: Final = 5.0  # a sign of life is asked for this often, and has this long; a closed connection is seen at once
CLOSE_LIMIT_S: Final = 1.0
PUBLISH_MS: Final = 5.0
"""Half of it is what the end of a service waits for. With 2 ms servers on asyncua turn so often that three of them on
the same two cores cost more than is won; 0 would have asyncua's client take the subscription for stale after 1 s."""
KEEPALIVE_S: Final = 10.0
SESSION_TIMEOUT_S: Final = 30.0
NOTIFICATIONS: Final = 10_000
FAILURES: Final = (
    OSError, TimeoutError, UaError, ValueError, TypeError, AttributeError, KeyError, IndexError, struct.error,
)  # fmt: skip
"""What asyncua raises when the world is down, or the other side is no OPC UA server, or a strange one."""
_USER: Final = (
    StatusCodes.BadUserAccessDenied, StatusCodes.BadIdentityTokenInvalid, StatusCodes.BadIdentityTokenRejected,
)  # fmt: skip


_log = logging.getLogger(__name__)


class Hearer(Protocol):
    """Who hears what a session's subscription says, and its end."""

    def on_change(self) -> None:
        """One of the watched variables has changed."""
        ...

    def on_event(self, name: str, fields: Sequence[ua.Variant]) -> None:
        """An event came: the name under which it was asked for, and its fields in the order asked."""
        ...

    def on_lost(self, reason: str) -> None:
        """The session is over."""
        ...


def why(error: BaseException) -> str:
    """Give one line for people: what a library's exception says, or its name if it says nothing."""
    if isinstance(error, UaStatusCodeError):
        return q.name_of(int(error.code)) if int(error.code) in q.NAMES else type(error).__name__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else "no answer in time"


def quiet_asyncua() -> None:
    """Silence its loggers, which tell each response and each loss: the caller says what matters, once."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)


def nodeid(number: int) -> ua.NodeId:
    """Give the id of a node of OPC UA's own namespace."""
    return ua.NodeId(ua.Int32(number))


def value_of(read: ua.DataValue) -> Any:
    """Give what was read; None if there is nothing."""
    return None if read.Value is None else read.Value.Value


@final
class Session:
    """One session.

    Args:
        url: Of the server.
        hearer: Who hears of it; None: nobody needs to.
        security: How the channel is opened; None: without security, anonymous.
    """

    def __init__(self, url: str, hearer: Hearer | None = None, security: Security | None = None) -> None:
        self.url = url
        self._security = security or Security()
        self._hearer = hearer
        self._client = Client(url, timeout=REQUEST_LIMIT_S, watchdog_intervall=PROBE_S)
        self._client.session_timeout = round(SESSION_TIMEOUT_S * 1000)
        self._client.name = self._client.description = "tagwerk"
        self._client.connection_lost_callback = self._lost
        if self._security.user:
            self._client.set_user(self._security.user)
            self._client.set_password(self._security.password)
        self._subscription: Any = None
        self._names: dict[int, str] = {}
        self._paths: dict[tuple[str, tuple[str, ...]], ua.NodeId] = {}
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over

    async def open(self) -> None:
        """Connect.

        Raises:
            DeviceGone: There is no session.
        """
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                if self._security.mode != "none":
                    await secure(self._client, self._security)
                await self._client.connect()
        except FAILURES as error:
            self._over = True
            code = int(error.code) if isinstance(error, UaStatusCodeError) else 0
            hint = " (look at `user` and `password_file`)" if code in _USER else ""
            if not hint and not isinstance(error, ConnectionRefusedError):  # a new certificate looks like a lost line
                hint = pin_hint(self._security.directory)
            raise DeviceGone(f"{self.url} cannot be reached: {why(error)}{hint}") from error
        if self._security.directory is not None and pin_server(self._client, self._security.directory):
            _log.warning("%s: the server's certificate is trusted from now on", self.url)

    async def close(self) -> None:
        """End it. Raises nothing."""
        gone, self._over = self._over, True
        if gone:
            self._client.disconnect_socket()
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self._client.disconnect()
        except FAILURES:
            self._client.disconnect_socket()

    async def children(self, node: ua.NodeId) -> dict[str, ua.ReferenceDescription]:
        """Give what hangs below a node, by name: namespaces differ from server to server, names do not."""
        found = await self._do(self._node(node).get_children_descriptions())
        return {one.BrowseName.Name: one for one in found}

    async def below(self, node: ua.NodeId, *names: str) -> ua.NodeId:
        """Follow names down the tree, once.

        Raises:
            Refused: One is not there.
            DeviceGone: The connection broke.
        """
        key = (node.to_string(), names)
        if key not in self._paths:
            for name in names:
                children = await self.children(node)
                if name not in children:
                    raise Refused(RefusedCode.UNKNOWN_TAG, f"{self.url} has no {'/'.join(names)}: `{name}` is missing")
                node = children[name].NodeId
            self._paths[key] = node
        return self._paths[key]

    async def related(self, node: ua.NodeId, reference: int, *, inverse: bool = False) -> list[ua.ReferenceDescription]:
        """Give the nodes that one kind of reference leads to."""
        direction = ua.BrowseDirection.Inverse if inverse else ua.BrowseDirection.Forward
        found: list[ua.ReferenceDescription] = await self._do(self._node(node).get_references(reference, direction))
        return found

    async def read(
        self, nodes: Sequence[ua.NodeId], attribute: AttributeIds = AttributeIds.Value
    ) -> list[ua.DataValue]:
        """Read one attribute of nodes. A bad value stands in its place with its status."""
        found: list[ua.DataValue] = await self._do(
            self._client.uaclient.session.read_attributes(list(nodes), attribute)
        )
        return found

    async def write(self, node: ua.NodeId, value: ua.Variant) -> None:
        """Write a value.

        Raises:
            Refused: The server says no.
            DeviceGone: The connection broke.
        """
        # Value alone: many servers refuse a status or a timestamp (BadWriteNotSupported).
        await self._do(self._node(node).write_attribute(AttributeIds.Value, ua.DataValue(value, StatusCode=None)))

    async def call(
        self, parent: ua.NodeId, method: ua.NodeId, inputs: Sequence[ua.Variant], timeout_s: float = REQUEST_LIMIT_S
    ) -> list[ua.Variant]:
        """Call a method. A `timeout_s` of 0 waits until the session ends.

        Raises:
            NotSent: It was certainly not handed over.
            Refused: The server says no.
            Unknown: It was handed over, and no answer came.
        """
        message = ua.CallRequest()
        message.Parameters.MethodsToCall = [ua.CallMethodRequest(parent, method, list(inputs))]
        protocol = self._client.uaclient.protocol
        if protocol is None or self._is_down():
            raise NotSent(f"{self.url}: the session is over")
        try:
            data = await protocol.send_request(message, timeout_s)
            response = struct_from_binary(ua.CallResponse, data)
            response.ResponseHeader.ServiceResult.check()
            (result,) = response.Results
            result.StatusCode.check()
        except UaStatusCodeError as error:
            if self._is_down():  # every open request ends with what ended the connection
                raise Unknown(f"{self.url}: the connection ended during a call: {why(error)}") from error
            raise Refused(RefusedCode.BAD_VALUE, f"{self.url}: {why(error)}") from error
        except FAILURES as error:
            raise Unknown(f"{self.url}: no answer to a call: {why(error)}") from error
        found: list[ua.Variant] = result.OutputArguments or []
        return found

    async def watch(self, nodes: Sequence[ua.NodeId]) -> None:
        """Hear of every change of these variables."""
        subscription = await self._subscribed()
        for node in nodes:
            await self._do(subscription.subscribe_data_change(self._node(node)))

    async def hear(self, name: str, event_type: ua.NodeId, fields: Sequence[ua.QualifiedName]) -> None:
        """Hear of every event of a type, under a name."""
        subscription = await self._subscribed()
        wanted = ua.EventFilter()
        for field in fields:
            clause = ua.SimpleAttributeOperand()
            clause.TypeDefinitionId = nodeid(ObjectIds.BaseEventType)
            clause.BrowsePath = [field]
            clause.AttributeId = AttributeIds.Value
            wanted.SelectClauses.append(clause)
        of_type = ua.ContentFilterElement()
        of_type.FilterOperator = ua.FilterOperator.OfType
        of_type.FilterOperands = [ua.LiteralOperand(Value=ua.Variant(event_type))]
        wanted.WhereClause.Elements.append(of_type)
        handle = await self._do(subscription.subscribe_events(nodeid(ObjectIds.Server), evfilter=wanted))
        self._names[handle] = name

    # --- what asyncua's subscription calls ---

    def datachange_notification(self, _node: Node, _value: Any, _data: Any) -> None:
        """Called by asyncua."""
        if self._hearer is not None:
            self._hearer.on_change()

    def event_notification(self, event: Any) -> None:
        """Called by asyncua."""
        if self._hearer is not None and event.server_handle in self._names:
            self._hearer.on_event(self._names[event.server_handle], event.event_fields)

    def status_change_notification(self, _status: Any) -> None:
        """Called by asyncua: the subscription is over, and with it what we would hear."""
        self._end("the server ended the subscription")

    async def _lost(self, error: Exception) -> None:
        self._end(why(error))

    def _end(self, reason: str) -> None:
        if not self._over:
            self._over = True
            if self._hearer is not None:
                self._hearer.on_lost(reason)

    def _is_down(self) -> bool:
        protocol = self._client.uaclient.protocol
        return self._over or protocol is None or protocol.transport is None

    def _node(self, node: ua.NodeId) -> Node:
        return self._client.get_node(node)

    async def _subscribed(self) -> Any:
        if self._subscription is None:
            wanted = ua.CreateSubscriptionParameters()
            wanted.RequestedPublishingInterval = PUBLISH_MS
            wanted.RequestedMaxKeepAliveCount = round(KEEPALIVE_S * 1000 / PUBLISH_MS)
            wanted.RequestedLifetimeCount = 3 * wanted.RequestedMaxKeepAliveCount  # the least: OPC 10000-4, 5.13.2
            wanted.MaxNotificationsPerPublish = NOTIFICATIONS
            wanted.PublishingEnabled = True
            self._subscription = await self._do(self._client.create_subscription(wanted, self))
        return self._subscription

    async def _do(self, work: Any) -> Any:
        if self._over:
            work.close()
            raise DeviceGone(f"{self.url}: the session is over")
        try:
            return await work
        except UaStatusCodeError as error:
            if self._is_down():
                raise DeviceGone(f"{self.url}: {why(error)}") from error
            raise Refused(RefusedCode.BAD_VALUE, f"{self.url}: {why(error)}") from error
        except FAILURES as error:
            raise DeviceGone(f"{self.url}: {why(error)}") from error


Opener = Callable[[str, Hearer | None], Session]
