"""A server over the network: one session of asyncua, used once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import BadTimeout, BadTooManyOperations, BadTooManyPublishRequests, UaError, UaStatusCodeError

from tagwerk.actors.opcua import asyncua_mends as mends
from tagwerk.actors.opcua.device import DeviceEvents, Interval, Reading
from tagwerk.actors.opcua.logic.items import CHUNK_ITEMS
from tagwerk.actors.opcua.nodeids import BAD_NODE_ID_INVALID, Namespaces
from tagwerk.actors.opcua.notification import Published, read_published, read_republished
from tagwerk.actors.opcua.together import Together
from tagwerk.actors.opcua.write_request import Write, write_together
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import DeviceGone, RemoteProtocolError, Unknown
from tagwerk.runtime.plantfile_models import OpcuaConfig
from tagwerk.runtime.ua_certificate import pin_hint, pin_server, secure
from tagwerk.runtime.ua_security import Security

SESSION_TIMEOUT_S: Final = 30.0  # a link that was killed leaves its session on a small PLC no longer than this
CONNECT_LIMIT_S: Final = 4.0
REQUEST_LIMIT_S: Final = 4.0
PROBE_LIMIT_S: Final = 1.0
CLOSE_LIMIT_S: Final = 0.5
CLOSE_FRESH_NS: Final = 1_200_000_000  # a server that was silent for longer gets no goodbye: it would not answer
KEEPALIVE_S: Final = 1.0
PUBLISH_REQUESTS: Final = 2  # one on its way back while the other waits on the server; more irritates small servers
REPUBLISH_LIMIT: Final = 100  # notifications in one gap; past that everything is read instead
LAST_SEQUENCE: Final = 0xFFFF_FFFF
NOTIFICATIONS_LIMIT: Final = 5_000  # values in one response: what is read without a pause

_log = logging.getLogger(__name__)


@final
class UaDevice:
    """One session with the server that the plant file names. Implements `Device`.

    Args:
        config: The link's section of the plant file.
        security: How to open the channel.
        events: Who hears what the server says.
    """

    def __init__(self, config: OpcuaConfig, security: Security, events: DeviceEvents) -> None:
        self._config = config
        self._security = security
        self._events = events
        self._client = Client(mends.tcp_url(config.url), timeout=REQUEST_LIMIT_S)
        self._client.session_timeout = round(SESSION_TIMEOUT_S * 1000)
        self._client.name = self._client.description = "tagwerk"
        if security.user:
            self._client.set_user(security.user)
            self._client.set_password(security.password)
        self._namespaces = Namespaces([])
        self._types: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: int | None = None
        self._sequence = 0
        self._acknowledge: list[tuple[int, int]] = []
        self._loops = 0
        self._order = asyncio.Lock()
        self._monitored: dict[int, int] = {}
        self._last_publish_ns = 0
        self._last_sign_ns = 0
        self._interval: Interval | None = None
        self._over = False
        self._reads = Together(self._read_all, self._spawn, lambda: DeviceGone("the session was closed"))
        self._writes = Together(
            partial(write_together, self._client, self._signed), self._spawn,
            lambda: Unknown("the session was closed before the server's answer came"),
        )  # fmt: skip

    @property
    def client(self) -> Client:
        """The session of asyncua, for what a tool asks beyond `Device`."""
        return self._client

    @property
    def namespaces(self) -> Namespaces:
        """The server's namespaces; empty before `connect`."""
        return self._namespaces

    @property
    def last_sign_ns(self) -> int:
        """When the server last answered anything, monotonic ns; 0 before."""
        return self._last_sign_ns

    @property
    def last_publish_ns(self) -> int:
        """When the subscription last said anything, monotonic ns; 0 before it was made."""
        return self._last_publish_ns

    @property
    def interval(self) -> Interval | None:
        """What the server granted; None before `subscribe`."""
        return self._interval

    async def connect(self) -> None:
        """Open channel and session, and learn the namespaces. `Device.connect` says the rest."""
        client = self._client
        try:
            with mends.plain_cancellation():
                if self._security.mode != "none":
                    await secure(client, self._security)
                await mends.open_session(client, self._security.user, self._security.password)
                self._signed()
                await self._learn_namespaces()
        except mends.NONSENSE as error:
            raise DeviceGone(mends.reason(error) + pin_hint(self._security.directory)) from error
        if self._security.directory is not None and pin_server(client, self._security.directory):
            _log.warning("%s: the server's certificate is trusted from now on", self._config.url)
        self._spawn(self._renew())

    async def subscribe(self, items: Sequence[tuple[int, str]]) -> list[int]:
        """Watch nodes; see `Device.subscribe`."""
        try:
            if self._subscription is None:
                await self._create_subscription()
            if any(self._namespaces.resolve(node) is None for _, node in items):
                await self._learn_namespaces()  # a server may load its namespaces after its first answer
            status: list[int] = []
            for start in range(0, len(items), CHUNK_ITEMS):
                status += await self._create_items(items[start : start + CHUNK_ITEMS])
        except mends.NONSENSE as error:
            raise DeviceGone(mends.reason(error)) from error
        return status

    async def read(self, nodes: Sequence[str]) -> list[Reading]:
        """Read values; see `Device.read`."""
        if len(nodes) == 1:
            return [await self._reads.do(nodes[0])]
        return list(await self._read_all(nodes))

    async def _read_all(self, nodes: Sequence[str]) -> Sequence[Reading]:
        readings: list[Reading] = []
        try:
            for start in range(0, len(nodes), CHUNK_ITEMS):
                readings += await self._read_chunk(nodes[start : start + CHUNK_ITEMS])
        except mends.NONSENSE as error:
            raise DeviceGone(mends.reason(error)) from error
        return readings

    async def node_type(self, node: str) -> str:
        """The built-in type a node takes; see `Device.node_type`. Asked once a session."""
        known = self._types.get(node)
        if known is not None:
            return known
        nodeid = self._namespaces.resolve(node)
        if nodeid is None:
            return ""
        try:
            (value,) = await self._read_values([nodeid])
            variant = value.Value
            if variant is not None and variant.VariantType != ua.VariantType.Null:
                name = "" if variant.is_array else variant.VariantType.name
            else:
                name = (await Node(self._client.uaclient.session, nodeid).read_data_type_as_variant_type()).name
            self._signed()
        except UaStatusCodeError:
            return ""  # there is no such node (yet)
        except mends.NONSENSE as error:
            raise DeviceGone(mends.reason(error)) from error
        self._types[node] = name
        return name

    async def write(
        self, node: str, value: float | int | bool | str, type_name: str, may_send: Callable[[], None]
    ) -> int:
        """Write a value; see `Device.write`. What is written in one turn of the loop is one request."""
        nodeid = self._namespaces.resolve(node)
        if nodeid is None:
            return q.BAD_NODE_ID_UNKNOWN
        item = ua.WriteValue()
        item.NodeId = nodeid
        item.AttributeId = AttributeIds.Value
        # Value alone: many servers refuse a status or a timestamp (BadWriteNotSupported).
        item.Value = ua.DataValue(ua.Variant(value, ua.VariantType[type_name]), StatusCode=None)
        return await self._writes.do(Write(item, may_send))

    async def probe(self) -> None:
        """Ask for a sign of life; see `Device.probe`."""
        try:
            await self._read_values([ua.NodeId(ua.Int32(ObjectIds.Server_ServerStatus_State))], PROBE_LIMIT_S)
        except mends.NONSENSE as error:
            raise DeviceGone(mends.reason(error)) from error

    async def close(self) -> None:
        """End everything; see `Device.close`."""
        alive = not self._over and time.monotonic_ns() - self._last_sign_ns < CLOSE_FRESH_NS
        self._over = True
        for task in self._tasks:
            task.cancel()
        if alive:
            try:
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    with mends.plain_cancellation():
                        await self._client.uaclient.close_session(True)
            except mends.FAILURES as error:
                _log.debug("%s: no clean goodbye: %s", self._config.url, mends.reason(error))
        mends.abort(self._client)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_LIMIT_S)

    # --- the session ---

    def _signed(self) -> None:
        self._last_sign_ns = time.monotonic_ns()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._events.on_failed(error)

    def _lose(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._events.on_lost(reason)

    async def _renew(self) -> None:
        """Renew the channel's token after 3/4 of its life (Part 4, 5.5.2)."""
        try:
            while True:
                await asyncio.sleep(self._client.secure_channel_timeout / 1000 * 0.75)
                await mends.renew_channel(self._client)
        except mends.NONSENSE as error:
            self._lose(f"the channel could not be renewed: {mends.reason(error)}")

    async def _learn_namespaces(self) -> None:
        (value,) = await self._read_values([ua.NodeId(ua.Int32(ObjectIds.Server_NamespaceArray))])
        uris = value.Value.Value if value.Value is not None else None
        self._namespaces = Namespaces(uris if isinstance(uris, list) else [])

    async def _read_values(self, nodeids: list[ua.NodeId], timeout_s: float = REQUEST_LIMIT_S) -> list[ua.DataValue]:
        message = ua.ReadRequest()
        message.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        for nodeid in nodeids:
            wanted = ua.ReadValueId()
            wanted.NodeId = nodeid
            wanted.AttributeId = AttributeIds.Value
            message.Parameters.NodesToRead.append(wanted)
        response = struct_from_binary(ua.ReadResponse, await mends.request(self._client, message, timeout_s))
        response.ResponseHeader.ServiceResult.check()
        self._signed()
        if len(response.Results) != len(nodeids):
            raise UaError(f"{len(response.Results)} results for {len(nodeids)} nodes")
        return response.Results

    async def _read_chunk(self, nodes: Sequence[str]) -> list[Reading]:
        nodeids = [self._namespaces.resolve(node) for node in nodes]
        values = iter(await self._read_values([nodeid for nodeid in nodeids if nodeid is not None]))
        unknown = Reading(None, q.BAD_NODE_ID_UNKNOWN, 0, 0)
        return [unknown if nodeid is None else mends.reading(next(values)) for nodeid in nodeids]

    # --- the subscription ---

    async def _create_subscription(self) -> None:
        interval_s = self._config.publish_interval_s
        wanted = ua.CreateSubscriptionParameters()
        wanted.RequestedPublishingInterval = interval_s * 1000
        wanted.RequestedMaxKeepAliveCount = max(1, round(KEEPALIVE_S / interval_s))
        # Part 4, 5.13.2: at least three keep-alives. As long as the session lives, too.
        wanted.RequestedLifetimeCount = max(
            3 * wanted.RequestedMaxKeepAliveCount, round(SESSION_TIMEOUT_S / interval_s)
        )
        wanted.MaxNotificationsPerPublish = NOTIFICATIONS_LIMIT
        wanted.PublishingEnabled = True
        got = await mends.create_subscription(self._client, wanted, REQUEST_LIMIT_S)
        self._signed()
        publish_s = got.RevisedPublishingInterval / 1000
        keepalive_s = publish_s * max(1, got.RevisedMaxKeepAliveCount)
        self._interval = Interval(publish_s, keepalive_s, self._config.sample_interval_s, self._config.queue_size)
        self._subscription = int(got.SubscriptionId)
        self._last_publish_ns = time.monotonic_ns()
        for _ in range(PUBLISH_REQUESTS):
            self._loops += 1
            self._spawn(self._publish())

    async def _create_items(self, items: Sequence[tuple[int, str]]) -> list[int]:
        """One CreateMonitoredItems; in halves if the server wants fewer at once."""
        status = [0] * len(items)
        message = ua.CreateMonitoredItemsRequest()
        message.Parameters.SubscriptionId = ua.IntegerId(self._subscription or 0)
        message.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        asked: list[int] = []
        for place, (number, node) in enumerate(items):
            nodeid = self._namespaces.resolve(node)
            if nodeid is None:
                status[place] = q.BAD_NODE_ID_UNKNOWN if self._namespaces.well_formed(node) else BAD_NODE_ID_INVALID
                continue
            asked.append(place)
            message.Parameters.ItemsToCreate.append(mends.item_request(nodeid, number, self._config))
        if not asked:
            return status
        await self._delete_items([self._monitored.pop(items[place][0], 0) for place in asked])
        try:
            data = await mends.request(self._client, message, REQUEST_LIMIT_S)
        except BadTooManyOperations:
            if len(items) == 1:
                raise
            middle = len(items) // 2
            return await self._create_items(items[:middle]) + await self._create_items(items[middle:])
        response = struct_from_binary(ua.CreateMonitoredItemsResponse, data)
        response.ResponseHeader.ServiceResult.check()
        self._signed()
        for place, result in zip(asked, response.Results, strict=True):
            status[place] = int(result.StatusCode.value)
            if result.StatusCode.is_good():
                self._monitored[items[place][0]] = int(result.MonitoredItemId)
            if result.StatusCode.is_good() and self._interval is not None:
                granted = (result.RevisedSamplingInterval / 1000, int(result.RevisedQueueSize))
                self._interval = Interval(self._interval.publish_s, self._interval.keepalive_s, *granted)
        return status

    async def _delete_items(self, monitored: Sequence[int]) -> None:
        """Of a node that is asked for anew nothing old may go on. A server that has it no more says so: good."""
        message = ua.DeleteMonitoredItemsRequest()
        message.Parameters.SubscriptionId = ua.IntegerId(self._subscription or 0)
        message.Parameters.MonitoredItemIds = [ua.IntegerId(number) for number in monitored if number]
        if message.Parameters.MonitoredItemIds:
            await mends.request(self._client, message, REQUEST_LIMIT_S)

    async def _publish(self) -> None:
        """One of the publish requests that are always out: send, take the answer, send again."""
        while not self._over:
            acknowledge, self._acknowledge = self._acknowledge, []
            try:
                data = await mends.publish(self._client, acknowledge)
            except BadTimeout:
                continue
            except BadTooManyPublishRequests as error:
                self._loops -= 1
                if self._loops == 0:
                    self._lose(mends.reason(error))
                return
            except mends.NONSENSE as error:
                self._lose(mends.reason(error))
                return
            received_ns = time.time_ns()
            self._signed()
            self._last_publish_ns = self._last_sign_ns
            try:
                published = read_published(data, mends.odd_variant)
            except RemoteProtocolError as error:
                self._events.on_gap(str(error))
                continue
            if published.subscription == self._subscription:
                async with self._order:
                    await self._take(published, received_ns)

    async def _take(self, published: Published, received_ns: int) -> None:
        if self._over:
            return
        if published.status:
            self._lose(f"the server ended the subscription: {q.name_of(published.status[0])}")
            return
        expected = self._sequence % LAST_SEQUENCE + 1  # after 2^32 - 1 comes 1 (Part 4, 7.7)
        missed = self._sequence != 0 and published.sequence != expected
        if published.keepalive:
            # It names the next one. Some servers name another, older one: nothing is missing then.
            if missed and 0 < published.sequence - expected <= REPUBLISH_LIMIT:
                self._sequence = published.sequence - 1
                await self._fetch(expected, published.sequence)
            return
        self._sequence = published.sequence
        if missed:
            await self._fetch(expected, published.sequence)
        self._acknowledge.append((published.subscription, published.sequence))
        self._events.on_data(published.runs, received_ns)

    async def _fetch(self, first: int, end: int) -> None:
        """Ask for the notifications from `first` to before `end` again, each once; without them all values are read."""
        text = f"notification {end} came where {first} was expected"
        if not 0 < end - first <= REPUBLISH_LIMIT:
            self._events.on_gap(text)
            return
        for number in range(first, end):
            try:
                data = await mends.republish(self._client, self._subscription or 0, number, REQUEST_LIMIT_S)
                again = read_republished(data, mends.odd_variant)
            except UaStatusCodeError as error:
                self._events.on_gap(f"{text}: {mends.reason(error)}")
                return
            except (*mends.NONSENSE, RemoteProtocolError) as error:
                self._lose(mends.reason(error))
                return
            self._signed()
            if again.sequence != number or again.keepalive:  # a lax server gives an empty one instead of a no
                self._events.on_gap(f"{text}, and the server has it no more")
                return
            self._events.on_data(again.runs, time.time_ns())
            self._acknowledge.append((self._subscription or 0, number))
        _log.info(
            "%s: %d notifications were lost, and came when they were asked for again", self._config.url, end - first
        )
