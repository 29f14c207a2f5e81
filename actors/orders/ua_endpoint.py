"""A resource over the network. Implements `Endpoint`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from tagwerk.actors.orders.explore import Explorer
from tagwerk.actors.orders.logic.calls import Job
from tagwerk.actors.orders.logic.queues import Seen, elements
from tagwerk.actors.orders.logic.services import EVENT_STATUS, Argument, Service
from tagwerk.actors.orders.session import Session, nodeid, value_of
from tagwerk.protocols.errors import (
    DeviceGone,
    NotSent,
    Refused,
    RefusedCode,
    RemoteProtocolError,
    Unknown,
)
from tagwerk.runtime.ua_security import Security

ASYNC_RESULT: Final = "ServiceExecutionAsyncResultDataType"
FINISHED_EVENT: Final = "ServiceFinishedEventType"
EVENT_FIELDS: Final = (EVENT_STATUS, "service_uuid", "task_uuid")
EVENTS_LIMIT: Final = 100
_OWN_METHODS: Final = frozenset(("register", "unregister"))
_QUEUE_FIELDS: Final = ("Client_Identifier", "Service_UUID", "Entry_Number", "Queue_Element_State", "ProductId")


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The nodes of a module that are always the same."""

    queue: ua.NodeId
    add: ua.NodeId
    remove: ua.NodeId
    variable: ua.NodeId
    state: ua.NodeId
    services: ua.NodeId


@dataclass(frozen=True, slots=True)
class _Method:
    """A service's method, the type of what it answers, and how its event's fields are named."""

    service: Service
    node: ua.NodeId
    result: str
    fields: tuple[Argument, ...]


@final
class UaEndpoint:
    """One session with a resource server; nodes and types are looked up once.

    Args:
        url: Of it.
        security: How the channel is opened.
    """

    def __init__(self, url: str, security: Security | None = None) -> None:
        self._session = Session(url, self, security)
        self._url = url
        self._explorer = Explorer(self._session)
        self._nodes: _Nodes | None = None
        self._element = ""
        self._methods: dict[str, _Method] = {}
        self._learning = asyncio.Lock()
        self._boxes: dict[str, asyncio.Queue[Mapping[str, Any] | Exception]] = {}
        self._change = asyncio.Event()
        self._changes = 0
        self._looking: asyncio.Task[Seen] | None = None
        self._lost = ""
        self._heard: Callable[[Service, Mapping[str, Any]], None] | None = None

    async def open(self) -> None:
        """Connect; see `Endpoint.open`."""
        await self._session.open()
        try:
            self._nodes = nodes = await self._find_module()
            inputs, _ = await self._arguments(nodes.add)
            self._element = inputs[0].key if inputs else ""
            if self._element not in self._explorer.types:
                raise Refused(RefusedCode.WRONG_TYPE, f"{self._url}: add_queue_element takes no element")
            await self._session.watch([nodes.variable, nodes.state])
        except BaseException:
            await self._session.close()
            raise

    async def close(self) -> None:
        """End it; see `Endpoint.close`."""
        if self._looking is not None:
            self._looking.cancel()
        await self._session.close()

    async def service(self, name: str) -> Service:
        """Learn a service; see `Endpoint.service`."""
        async with self._learning:
            if name not in self._methods:
                self._methods[name] = await self._learn(name)
        return self._methods[name].service

    async def names(self) -> tuple[str, ...]:
        """Give the names of its services; see `Endpoint.names`."""
        found = await self._session.children(self._known.services)
        return tuple(
            name for name, one in found.items() if one.NodeClass == ua.NodeClass.Method and name not in _OWN_METHODS
        )

    async def look(self) -> Seen:
        """See queue and state; see `Endpoint.look`. Who asks in the same moment gets the same answer."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        return await asyncio.shield(self._looking)

    async def changed(self, seen: Seen, within_s: float) -> None:
        """Wait for a change; see `Endpoint.changed`."""
        if self._changes != seen.version:
            return  # while that look was on its way, or since
        change = self._change
        try:
            async with asyncio.timeout(within_s):
                await change.wait()
        except TimeoutError:
            return

    async def add(self, job: Job) -> None:
        """Put an element into the queue; see `Endpoint.add`."""
        await self._queue_method(self._known.add, job.client, job.service_uuid, job.product)

    async def remove(self, client: str, service_uuid: str) -> None:
        """Take an element out of the queue; see `Endpoint.remove`."""
        await self._queue_method(self._known.remove, client, service_uuid, "")
        self.on_change()  # who waits behind it need not wait for the server to tell

    async def set_state(self, state: int) -> None:
        """Write the AssetState; see `Endpoint.set_state`."""
        await self._session.write(self._known.state, ua.Variant(state, ua.VariantType.Int32))

    def begin_listening(self, service: str) -> None:
        """Keep events; see `Endpoint.begin_listening`."""
        self._boxes[service] = asyncio.Queue(EVENTS_LIMIT)

    def listen(self, heard: Callable[[Service, Mapping[str, Any]], None]) -> None:
        """Tell of every event; see `Endpoint.listen`."""
        self._heard = heard

    async def call(self, service: Service, values: Sequence[Any]) -> Mapping[str, Any]:
        """Call a service; see `Endpoint.call`."""
        method, types = self._methods[service.name], self._explorer.types
        given = [
            types.variant(argument.key, argument.array, value)
            for argument, value in zip(service.inputs, values, strict=True)
        ]
        answer = await self._session.call(self._known.services, method.node, given, timeout_s=0)
        result = types.plain(answer[0], method.result) if answer else None
        if not isinstance(result, dict):
            raise RemoteProtocolError(f"{service.name} answered without a result")
        return result

    async def event(self, service: str) -> Mapping[str, Any]:
        """Give the next event; see `Endpoint.event`."""
        box = self._boxes[service]
        if self._lost and box.empty():
            raise DeviceGone(self._lost)
        found = await box.get()
        if isinstance(found, Exception):
            raise found
        return found

    # --- what the session says ---

    def on_change(self) -> None:
        """Queue or state have changed. Implements `Hearer`."""
        self._changes += 1
        self._change.set()
        self._change = asyncio.Event()

    def on_event(self, name: str, fields: Sequence[ua.Variant]) -> None:
        """A service has ended. Implements `Hearer`."""
        method, box = self._methods.get(name), self._boxes.get(name)
        if method is None:
            return
        found: dict[str, Any] | Exception
        try:
            given = zip(method.fields, fields, strict=True)
            found = {one.name: self._explorer.types.plain(value, one.key) for one, value in given}
        except (RemoteProtocolError, ValueError) as error:
            found = RemoteProtocolError(f"the event of {name} cannot be read: {error}")
        if self._heard is not None and isinstance(found, dict):
            self._heard(method.service, found)
        if box is not None and not box.full():  # else a flood: who waits has enough to choose from
            box.put_nowait(found)

    def on_lost(self, reason: str) -> None:
        """The session is over. Implements `Hearer`."""
        self._lost = f"{self._url}: {reason}"
        self.on_change()
        for box in self._boxes.values():
            if not box.full():
                box.put_nowait(DeviceGone(self._lost))

    # --- what is there ---

    @property
    def _known(self) -> _Nodes:
        if self._nodes is None:
            raise DeviceGone(f"{self._url}: not connected")
        return self._nodes

    async def _find_module(self) -> _Nodes:
        """Find the object with a queue, a state and services: names tell, ids differ from server to server."""
        session = self._session
        for one in (await session.children(nodeid(ObjectIds.ObjectsFolder))).values():
            if one.NodeClass != ua.NodeClass.Object or one.NodeId == nodeid(ObjectIds.Server):
                continue
            parts = await session.children(one.NodeId)
            if {"Queue", "State", "Services"} <= set(parts):
                queue = await session.below(parts["Queue"].NodeId, "ServiceQueue")
                methods = await session.children(queue)
                missing = {"queue_variable", "add_queue_element", "remove_queue_element"} - set(methods)
                if missing:
                    raise Refused(RefusedCode.UNKNOWN_TAG, f"{self._url}: its queue has no {sorted(missing)[0]}")
                state = await session.below(parts["State"].NodeId, "AssetState")
                return _Nodes(
                    queue, methods["add_queue_element"].NodeId, methods["remove_queue_element"].NodeId,
                    methods["queue_variable"].NodeId, state, parts["Services"].NodeId,
                )  # fmt: skip
        raise Refused(RefusedCode.UNKNOWN_TAG, f"{self._url} is no resource: no object has Queue, State and Services")

    async def _arguments(self, method: ua.NodeId) -> tuple[tuple[Argument, ...], tuple[ua.Argument, ...]]:
        """Give the inputs of a method, their types learnt, and its outputs as they are declared."""
        properties = await self._session.children(method)
        found: dict[str, list[ua.Argument]] = {"InputArguments": [], "OutputArguments": []}
        for name in found:
            if name in properties:
                (value,) = await self._session.read([properties[name].NodeId])
                found[name] = value_of(value) or []
        inputs = [
            await self._explorer.argument(one.Name, one.DataType, one.ValueRank) for one in found["InputArguments"]
        ]
        return tuple(inputs), tuple(found["OutputArguments"])

    async def _learn(self, name: str) -> _Method:
        children = await self._session.children(self._known.services)
        found = children.get(name)
        if found is None or found.NodeClass != ua.NodeClass.Method:
            raise Refused(RefusedCode.UNKNOWN_TAG, f"{self._url} has no service {name}")
        inputs, answers = await self._arguments(found.NodeId)
        if len(answers) != 1:
            raise RemoteProtocolError(f"{self._url}: the method {name} declares {len(answers)} results instead of one")
        result = await self._explorer.key_of(answers[0].DataType)
        await self._explorer.learn_subtypes(answers[0].DataType)
        if await self._is_asynchronous(answers[0].DataType):
            outputs = await self._hear(name)
            fields = tuple(Argument(field, "", False, "Variant") for field in EVENT_FIELDS) + outputs
            return _Method(Service(name, inputs, outputs, True), found.NodeId, result, fields)
        types = self._explorer.types
        of_result = tuple(types.argument(one.name, one.key, one.array) for one in types.fields_of(result))
        return _Method(Service(name, inputs, of_result, False), found.NodeId, result, ())

    async def _is_asynchronous(self, data_type: ua.NodeId) -> bool:
        """Tell whether a type is, or descends from, the result of an asynchronous service."""
        for _ in range(10):
            types = await self._session.related(data_type, ObjectIds.HasSubtype, inverse=True)
            name = self._explorer.types.argument("", await self._explorer.key_of(data_type), False).type
            if name == ASYNC_RESULT:
                return True
            if not types or types[0].NodeId.NamespaceIndex == 0:
                return False
            data_type = types[0].NodeId
        return False

    async def _hear(self, name: str) -> tuple[Argument, ...]:
        """Hear of the event that is named like the service; give its own properties."""
        session = self._session
        base = next(
            (one for one in await session.related(nodeid(ObjectIds.BaseEventType), ObjectIds.HasSubtype)
             if one.BrowseName.Name == FINISHED_EVENT), None,
        )  # fmt: skip
        if base is None:
            raise RemoteProtocolError(f"{self._url} has no {FINISHED_EVENT}")
        own = next(
            (one for one in await session.related(base.NodeId, ObjectIds.HasSubtype) if one.BrowseName.Name == name),
            None,
        )
        if own is None:
            raise RemoteProtocolError(f"{self._url} has no event {name} below {FINISHED_EVENT}")
        common = {one.BrowseName.Name: one.BrowseName for one in (await session.children(base.NodeId)).values()}
        properties = [
            one for one in (await session.children(own.NodeId)).values()
            if one.NodeClass == ua.NodeClass.Variable and one.BrowseName.Name not in EVENT_FIELDS
        ]  # fmt: skip
        nodes = [one.NodeId for one in properties]
        types = await session.read(nodes, AttributeIds.DataType) if nodes else []
        ranks = await session.read(nodes, AttributeIds.ValueRank) if nodes else []
        outputs: list[Argument] = []
        for one, type_, rank in zip(properties, types, ranks, strict=True):
            told = value_of(rank)
            declared = value_of(type_) or nodeid(ObjectIds.BaseDataType)
            outputs.append(await self._explorer.argument(one.BrowseName.Name, declared, -1 if told is None else told))
        fallback = {field: ua.QualifiedName(field, own.BrowseName.NamespaceIndex) for field in EVENT_FIELDS}
        names = [common.get(field, fallback[field]) for field in EVENT_FIELDS]
        await session.hear(name, own.NodeId, [*names, *(one.BrowseName for one in properties)])
        return tuple(outputs)

    async def _look(self) -> Seen:
        nodes = self._known
        version = self._changes
        queue, state = await self._session.read([nodes.variable, nodes.state])
        number = self._explorer.types.plain(state)
        waiting = elements(self._explorer.types.plain(queue, self._element))
        return Seen(waiting, number if isinstance(number, int) else None, version)

    async def _queue_method(self, method: ua.NodeId, client: str, service_uuid: str, product: str) -> None:
        values: dict[str, Any] = dict(zip(_QUEUE_FIELDS, (client, service_uuid, 0, 0, product), strict=True))
        types = self._explorer.types
        for one in types.fields_of(self._element):
            if one.name not in values:
                values[one.name] = [] if one.array else 0
        element = types.variant(self._element, False, values)
        try:
            await self._session.call(self._known.queue, method, [element])
        except (NotSent, Unknown) as error:
            raise DeviceGone(str(error)) from error  # whether it is in the queue shows the queue itself
