"""The floor of `orders.py`: the calls that an engine makes on resources, with asyncua's client and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from asyncua import ua
from asyncua.client.client import Client


class Floor:
    """The same calls with asyncua alone: one session a machine."""

    def __init__(self, registry: str) -> None:
        self._registry_url = registry
        self._registry: Client | None = None
        self._machines: dict[str, Plain] = {}
        self._opening = asyncio.Lock()
        self._agents_of: dict[str, tuple[str, Any]] = {}

    async def serve(self, service: str, order: Any) -> Any:
        """Have a service done on the machine that offers it."""
        return await (await self.machine(await self.url_of(service))).serve(service, order)

    async def first_order(self, service: str, make: Callable[[], Any]) -> Any:
        """Make an order, once the machine of the first service has told its types."""
        await self.machine(await self.url_of(service))
        return make()

    async def url_of(self, service: str) -> str:
        """Ask the registry who offers a service, and how many wait there."""
        async with self._opening:
            if self._registry is None:
                self._registry = Client(self._registry_url)
                await self._registry.connect()
                self._agents = await self._registry.nodes.objects.get_child(["0:AgentList", "0:PFDLServiceAgents"])
        found = await self._agents.call_method("1:Filter_Agents", service, ["None"], ["None"])
        if service not in self._agents_of:
            agent = self._registry.get_node(found[0] if isinstance(found, list) else found)
            name = await agent.read_browse_name()
            (module,) = [one for one in await agent.get_children() if str(one.nodeid.Identifier).endswith("Module")]
            queue = await module.get_child(["0:Queue", "0:ServiceQueue", "0:queue_variable"])
            self._agents_of[service] = (str(name.Name), queue)
        url, queue = self._agents_of[service]
        await queue.read_value()
        return url

    async def machine(self, url: str) -> Plain:
        """Give the session with a machine."""
        async with self._opening:
            if url not in self._machines:
                self._machines[url] = Plain(url)
                await self._machines[url].open()
        return self._machines[url]

    async def close(self) -> None:
        """End all sessions."""
        clients = [one.client for one in self._machines.values()]
        for client in [*clients, *([self._registry] if self._registry else [])]:
            await client.disconnect()


class Plain:
    """One session with a machine."""

    def __init__(self, url: str) -> None:
        self.client = Client(url)
        self._events: dict[str, asyncio.Queue[Any]] = {}
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Connect and look everything up once."""
        await self.client.connect()
        await self.client.load_data_type_definitions()
        objects = await self.client.nodes.objects.get_children_descriptions()
        (found,) = [one.NodeId for one in objects if one.BrowseName.Name.endswith("Module")]
        module = self.client.get_node(found)
        self._queue = await module.get_child(["2:Queue", "2:ServiceQueue"])
        self._line = await self._queue.get_child("2:queue_variable")
        self._state = await module.get_child(["2:State", "2:AssetState"])
        self._services = await module.get_child("2:Services")
        self._subscription = await self.client.create_subscription(10, self)
        await self._subscription.subscribe_data_change([self._line, self._state])

    def datachange_notification(self, _node: Any, _value: Any, _data: Any) -> None:
        """Called by asyncua."""
        self._changed.set()

    def event_notification(self, event: Any) -> None:
        """Called by asyncua."""
        self._events[event.Message.Text.split()[0]].put_nowait(event)  # "Milling finished"

    async def serve(self, service: str, order: Any) -> Any:
        """Have one service done."""
        async with self._lock:
            if service not in self._events:
                self._events[service] = asyncio.Queue()
                base = self.client.nodes.base_event_type
                event = await base.get_child(["2:ServiceFinishedEventType", f"4:{service}"])
                await self._subscription.subscribe_events(evtypes=event)
        identity = f"{id(order)}-{time.monotonic_ns()}"
        element = ua.Queue_Data_Type(Client_Identifier="floor", Service_UUID=identity)
        await self._queue.call_method("2:add_queue_element", element)
        while not await self._is_first(identity):
            self._changed.clear()
            await self._changed.wait()
        await self._state.write_value(ua.DataValue(ua.Variant(5, ua.VariantType.Int32)))
        await self._services.call_method(f"2:{service}", order)
        event = await self._events[service].get()
        await self._state.read_value()
        await self._state.write_value(ua.DataValue(ua.Variant(4, ua.VariantType.Int32)))
        await self._queue.call_method("2:remove_queue_element", element)
        return event.order

    async def _is_first(self, identity: str) -> bool:
        queue, state = await self.client.read_values([self._line, self._state])
        return isinstance(queue, list) and queue[0].Service_UUID == identity and state == 4
