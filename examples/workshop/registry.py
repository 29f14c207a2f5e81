"""A simulated device registry and an assignment agent in one server: `python examples/workshop/registry.py 4840`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import Node, ua
from asyncua.client.client import Client
from model import Model, new_server, patient, quiet

MIRROR_MS = 100

RULES: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equal": lambda own, wanted: wanted == own,
    "Greater": lambda own, wanted: wanted > own,
    "GreaterOrEqual": lambda own, wanted: wanted >= own,
    "Smaller": lambda own, wanted: wanted < own,
    "SmallerOrEqual": lambda own, wanted: wanted <= own,
    "IsTrue": lambda own, wanted: own and wanted,
    "IsFalse": lambda own, wanted: not own and not wanted,
    "EqualString": lambda own, wanted: own == wanted,
}
"""Relation -> whether a resource with its own value fits a product with the wanted one."""


def fits(capabilities: Mapping[str, Any], names: Sequence[str], values: Sequence[str]) -> bool:
    """Tell whether a resource can do it. What it does not mention does not keep it out."""
    for name, text in zip(names, values, strict=True):
        own = capabilities.get(name)
        if own is None:
            continue
        kind = type(own.Value)
        wanted = text == "True" if kind is bool else float(text) if kind is float else text
        if not RULES[own.Relational_Operator.name](own.Value, wanted):
            return False
    return True


@dataclass
class Source:
    """A resource that registered: what it can do, and where its queue is mirrored, once a service."""

    url: str
    module: str
    client: Client | None = None
    capabilities: dict[str, Any] = field(default_factory=dict[str, Any])
    queues: list[Node] = field(default_factory=list[Node])

    async def follow(self) -> None:
        """Open a session with it, and mirror its queue from now on."""
        await self.leave()
        self.client = client = patient(self.url)
        await client.connect()
        module = await child(client.nodes.objects, self.module)
        for one in await (await child(module, "Capabilities")).get_children():
            self.capabilities[str((await one.read_browse_name()).Name)] = await one.read_value()
        mirrored = await child(await child(await child(module, "Queue"), "ServiceQueue"), "queue_variable")
        subscription = await client.create_subscription(MIRROR_MS, self)
        await subscription.subscribe_data_change(mirrored)

    async def leave(self) -> None:
        """End the session. That it is over already does no harm: the resource may have begun anew."""
        if self.client is not None:
            with contextlib.suppress(OSError, TimeoutError, ua.UaError):
                await self.client.disconnect()
            self.client = None

    async def datachange_notification(self, _node: Node, value: Any, _data: Any) -> None:
        """Mirror the queue: called by asyncua."""
        for one in self.queues:
            await one.write_value(ua.Variant(value, ua.VariantType.ExtensionObject))

    def status_change_notification(self, _status: Any) -> None:
        """Do nothing: called by asyncua when a resource has gone. What was mirrored last stays until it is back."""


@dataclass
class Agent:
    """A resource, for one of its services."""

    service: str
    url: str
    node: Node
    queue: Node


@dataclass
class Registry:
    """A device registry on 127.0.0.1."""

    port: int
    agents: list[Agent] = field(default_factory=list[Agent])
    sources: dict[str, Source] = field(default_factory=dict[str, Source])

    @property
    def url(self) -> str:
        """Where it is."""
        return f"opc.tcp://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Build the address space and listen."""
        self._server = server = await new_server(self.url, "registry")
        self._adding = asyncio.Lock()
        await Model(server, "urn:tagwerk:workshop:registry").build()  # capabilities are read by these types
        await server.load_data_type_definitions()
        lists = await server.nodes.objects.add_object(ua.NodeId("AgentList", 0), "0:AgentList")
        self._parent = await lists.add_object(ua.NodeId("PFDLServiceAgents", 0), "0:PFDLServiceAgents")
        found = ua.Argument(Name="Agent_List", DataType=ua.NodeId(ua.ObjectIds.NodeId), ValueRank=ua.Int32(1))
        names = ("service_name", "Capability_Names[]", "Capability_Items[]")
        await self._method("Filter_Agents", self._filter, names, [found])
        await self._method("Add_Agent_Server", self._add, ("service_name", "address", "port", "moduleType"))
        await self._method("Remove_Agent_Server", self._remove, ("agent_url", "agent_port", "agent_service"))
        await self._build_agent()
        await server.start()

    async def _method(
        self, name: str, work: Callable[..., Any], inputs: Sequence[str], outputs: Sequence[ua.Argument] = ()
    ) -> None:
        text = ua.NodeId(ua.ObjectIds.String)
        arguments = [
            ua.Argument(Name=one.removesuffix("[]"), DataType=text, ValueRank=ua.Int32(1 if one.endswith("[]") else -1))
            for one in inputs
        ]
        await self._parent.add_method(ua.NodeId(name, 1), ua.QualifiedName(name, 1), work, arguments, list(outputs))

    async def _filter(self, _parent: Any, service: ua.Variant, names: ua.Variant, values: ua.Variant) -> Any:
        wanted = [] if names.Value == ["None"] else names.Value
        items = [] if names.Value == ["None"] else values.Value
        found = [
            one for one in sorted(self.agents, key=lambda one: one.url)
            if one.service == service.Value and fits(self.sources[one.url].capabilities, wanted, items)
        ]  # fmt: skip
        return [ua.Variant([one.node.nodeid for one in found], ua.VariantType.NodeId)]

    async def _add(
        self, _parent: Any, service: ua.Variant, address: ua.Variant, port: ua.Variant, module: ua.Variant
    ) -> list[ua.Variant]:
        url = f"opc.tcp://{address.Value}:{port.Value}"
        async with self._adding:
            if any((one.service, one.url) == (service.Value, url) for one in self.agents):
                await self.sources[url].follow()  # it has begun anew
            else:
                await self._add_agent(service.Value, url, module.Value.removesuffix("Type"))
        return []

    async def _add_agent(self, service: str, url: str, module: str) -> None:
        path = f"{service}/{url}"
        folder = await self._folder(service)
        node = await folder.add_object(ua.NodeId(path, 0), ua.QualifiedName(url))
        status = await node.add_object(ua.NodeId(f"{path}/Status", 0), "0:Status")
        address, _, port = url.removeprefix("opc.tcp://").rpartition(":")
        await status.add_variable(ua.NodeId(f"{path}/Address", 0), "0:Address", address)
        await status.add_variable(ua.NodeId(f"{path}/Port", 0), "0:Port", port)
        queue = await self._mirror(node, module, path)
        self.agents.append(Agent(service, url, node, queue))
        if url not in self.sources:
            self.sources[url] = Source(url, module)
            await self.sources[url].follow()
        self.sources[url].queues.append(queue)

    async def _build_agent(self) -> None:
        index = await self._server.register_namespace("http://swap.assignment.fraunhofer.de")
        module = await self._server.nodes.objects.add_object(index, "AssignmentModule")
        services = await module.add_object(index, "Services")
        inputs = [
            ua.Argument(Name="registry", DataType=ua.NodeId(ua.ObjectIds.String)),
            ua.Argument(Name="agents", DataType=ua.NodeId(ua.ObjectIds.NodeId), ValueRank=ua.Int32(1)),
        ]
        outputs = [ua.Argument(Name="url", DataType=ua.NodeId(ua.ObjectIds.String))]
        await services.add_method(index, "assign_service", self._assign, inputs, outputs)

    async def _assign(self, _parent: Any, registry: ua.Variant, agents: ua.Variant) -> list[ua.Variant]:
        """Choose the last one: so the choice of the agent can be told from that without one."""
        async with patient(f"opc.tcp://{registry.Value}") as client:
            name = await client.get_node(agents.Value[-1]).read_browse_name()
        return [ua.Variant(name.Name)]

    async def _folder(self, service: str) -> Node:
        for one in await self._parent.get_children():
            if (await one.read_browse_name()).Name == service:
                return one
        return await self._parent.add_object(ua.NodeId(service, 0), ua.QualifiedName(service))

    async def _mirror(self, parent: Node, module: str, path: str) -> Node:
        """Show a module below an agent; give the variable for its queue."""
        own = await parent.add_object(ua.NodeId(f"{path}/{module}", 0), ua.QualifiedName(module))
        for name in ("Capabilities", "State"):
            await own.add_object(ua.NodeId(f"{path}/{name}", 0), ua.QualifiedName(name))
        queue = await own.add_object(ua.NodeId(f"{path}/Queue", 0), "0:Queue")
        queue = await queue.add_object(ua.NodeId(f"{path}/ServiceQueue", 0), "0:ServiceQueue")
        return await queue.add_variable(
            ua.NodeId(f"{path}/queue_variable", 0), "0:queue_variable",
            ua.Variant(None, ua.VariantType.ExtensionObject), datatype=ua.NodeId(ua.ObjectIds.Structure),
        )  # fmt: skip

    async def _remove(
        self, _parent: Any, address: ua.Variant, port: ua.Variant, service: ua.Variant
    ) -> list[ua.Variant]:
        async with self._adding:
            await self._drop(f"opc.tcp://{address.Value}:{port.Value}", service.Value)
        return []

    async def _drop(self, url: str, service: str) -> None:
        """Take an agent out, with the folder of its service and the session with the resource if it was the last."""
        for one in [one for one in self.agents if (one.url, one.service) == (url, service)]:
            self.agents.remove(one)
            source = self.sources[url]
            source.queues.remove(one.queue)
            if not source.queues:
                await self.sources.pop(url).leave()
            folder = await one.node.get_parent()
            await self._server.delete_nodes([one.node], recursive=True)
            if folder is not None and not await folder.get_children():
                await self._server.delete_nodes([folder])


async def child(parent: Node, name: str) -> Node:
    """Give the child of this name, whatever its namespace."""
    for one in await parent.get_children():
        if (await one.read_browse_name()).Name == name:
            return one
    raise LookupError(name)


async def serve(port: int) -> None:
    """Run a registry until it is ended."""
    quiet()
    registry = Registry(port)
    await registry.start()
    print(f"registry and assignment agent {registry.url}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    asyncio.run(serve(parser.parse_args().port))
