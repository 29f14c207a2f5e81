"""A simulated device registry and an assignment agent in one server: `python examples/shopfloor/registry.py 8000`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import Node, ua
from asyncua.client.client import Client
from asyncua.server.server import Server
from model import patient

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
class Agent:
    """A resource that registered for one service."""

    service: str
    url: str
    node: Node
    client: Client
    capabilities: dict[str, Any] = field(default_factory=dict[str, Any])
    queue: Node | None = None

    async def datachange_notification(self, _node: Node, value: Any, _data: Any) -> None:
        """Mirror the queue: called by asyncua."""
        if self.queue is not None:
            await self.queue.write_value(ua.Variant(value, ua.VariantType.ExtensionObject))


@dataclass
class Registry:
    """A device registry on 127.0.0.1."""

    port: int
    agents: list[Agent] = field(default_factory=list[Agent])

    @property
    def url(self) -> str:
        """Where it is."""
        return f"opc.tcp://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Build the address space and listen."""
        self._server = server = Server()
        await server.init()
        server.set_endpoint(f"{self.url}/")
        lists = await server.nodes.objects.add_object(ua.NodeId("AgentList", 0), "0:AgentList")
        self._parent = await lists.add_object(ua.NodeId("PFDLServiceAgents", 0), "0:PFDLServiceAgents")
        found = ua.Argument(Name="Agent_List", DataType=ua.NodeId(ua.ObjectIds.NodeId), ValueRank=ua.Int32(1))
        names = ("service_name", "Capability_Names[]", "Capability_Items[]")
        await self._method("Filter_Agents", self._filter, names, [found])
        await self._method("Add_Agent_Server", self._add, ("service_name", "address", "port", "moduleType"))
        await self._method("Remove_Agent_Server", self._remove, ("agent_url", "agent_port", "agent_service"))
        await self._build_agent()
        await server.start()

    async def stop(self) -> None:
        """End everything."""
        for agent in self.agents:
            await agent.client.disconnect()
        await self._server.stop()

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
        found = [one for one in self.agents if one.service == service.Value and fits(one.capabilities, wanted, items)]
        return [ua.Variant([one.node.nodeid for one in found], ua.VariantType.NodeId)]

    async def _add(
        self, _parent: Any, service: ua.Variant, address: ua.Variant, port: ua.Variant, module: ua.Variant
    ) -> list[ua.Variant]:
        url = f"opc.tcp://{address.Value}:{port.Value}"
        client = patient(url)
        await client.connect()
        await client.load_data_type_definitions()
        path = f"{service.Value}/{url}"
        folder = await self._folder(service.Value)
        node = await folder.add_object(ua.NodeId(path, 0), ua.QualifiedName(url))
        status = await node.add_object(ua.NodeId(f"{path}/Status", 0), "0:Status")
        await status.add_variable(ua.NodeId(f"{path}/Address", 0), "0:Address", address.Value)
        await status.add_variable(ua.NodeId(f"{path}/Port", 0), "0:Port", port.Value)
        agent = Agent(service.Value, url, node, client)
        await self._mirror(agent, module.Value.removesuffix("Type"), path)
        self.agents.append(agent)
        return []

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

    async def _mirror(self, agent: Agent, module: str, path: str) -> None:
        source = await child(agent.client.nodes.objects, module)
        own = await agent.node.add_object(ua.NodeId(f"{path}/{module}", 0), ua.QualifiedName(module))
        for name in ("Capabilities", "State"):
            await own.add_object(ua.NodeId(f"{path}/{name}", 0), ua.QualifiedName(name))
        for one in await (await child(source, "Capabilities")).get_children():
            agent.capabilities[(await one.read_browse_name()).Name] = await one.read_value()
        queue = await own.add_object(ua.NodeId(f"{path}/Queue", 0), "0:Queue")
        queue = await queue.add_object(ua.NodeId(f"{path}/ServiceQueue", 0), "0:ServiceQueue")
        mirrored = await child(await child(await child(source, "Queue"), "ServiceQueue"), "queue_variable")
        agent.queue = await queue.add_variable(
            ua.NodeId(f"{path}/queue_variable", 0), "0:queue_variable", await mirrored.read_value(),
            ua.VariantType.ExtensionObject,
        )  # fmt: skip
        subscription = await agent.client.create_subscription(MIRROR_MS, agent)
        await subscription.subscribe_data_change(mirrored)

    async def _remove(
        self, _parent: Any, address: ua.Variant, port: ua.Variant, service: ua.Variant
    ) -> list[ua.Variant]:
        url = f"opc.tcp://{address.Value}:{port.Value}"
        for one in [one for one in self.agents if (one.url, one.service) == (url, service.Value)]:
            self.agents.remove(one)
            await one.client.disconnect()
            folder = await one.node.get_parent()
            await self._server.delete_nodes([one.node], recursive=True)
            if folder is not None and not await folder.get_children():
                await self._server.delete_nodes([folder])
        return []


async def child(parent: Node, name: str) -> Node:
    """Give the child of this name, whatever its namespace."""
    for one in await parent.get_children():
        if (await one.read_browse_name()).Name == name:
            return one
    raise LookupError(name)


async def main() -> None:
    """Run one registry until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    registry = Registry(parser.parse_args().port)
    await registry.start()
    print(registry.url, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await registry.stop()


if __name__ == "__main__":
    asyncio.run(main())
