"""A simulated SWAP-IT resource server: `python examples/shopfloor/resource_server.py 4840 --service Milling`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import Node, ua
from asyncua.server.server import Server
from model import COMMON, SYNC, Fields, Model, patient

IDLE = 4
ORDER: Fields = (("order", "SWAP_Order"),)

Work = Callable[[dict[str, Any]], Mapping[str, Any]]


def echo(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Give back what was given."""
    return inputs


@dataclass(frozen=True)
class Service:
    """One service of a resource.

    Args:
        name: As the order calls it.
        seconds: How long it takes.
        mode: `async` tells its end by an event, `sync` by the result of the method.
        fault: "", or how it misbehaves: `invalid` refuses the parameters, `fail` ends with the status FAIL, `silent`
            tells no end, `missing` gives no output, `bad` answers the call with a bad status.
        inputs: Name and type of its arguments.
        outputs: Name and type of what it gives.
        work: Inputs in, outputs out.
        tells_uuid: Whether its event says which service it was: the first element of the queue knows.
        held: It does not end before this is set.
    """

    name: str
    seconds: float = 0.05
    mode: str = "async"
    fault: str = ""
    inputs: Fields = ORDER
    outputs: Fields = ORDER
    work: Work = echo
    tells_uuid: bool = False
    held: asyncio.Event | None = None

    async def over(self, outputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Wait until it is done.

        Args:
            outputs: What `work` gave when it was called.

        Returns:
            What it gives in the end; None if it failed.
        """
        await asyncio.sleep(self.seconds)
        if self.held is not None:
            await self.held.wait()
        return None if self.fault == "fail" else outputs


@dataclass
class Resource:
    """One resource server.

    Args:
        port: Where it listens, on 127.0.0.1.
        services: What it can do.
        module: The name of the module.
        capabilities: Name -> (operator, value).
        queue_period_s: The queue is worked once in this time, as the template in C does once a second; 0: at once.
        stack: `open62541` shows its types in dictionaries only.
    """

    port: int
    services: Sequence[Service]
    module: str = "Module"
    capabilities: Mapping[str, tuple[str, Any]] = field(default_factory=dict[str, tuple[str, Any]])
    queue_period_s: float = 0.0
    stack: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    """Every call of a service, in order."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"opc.tcp://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Build the address space and listen."""
        self._server = server = Server()
        await server.init()
        server.set_endpoint(f"{self.url}/")
        server.set_server_name(self.module)
        await server.set_build_info("", self.stack or "tagwerk", self.module, "1", "1", ua.DateTime.now())
        self._model = Model(server, f"http://swap.demo.scenario.{self.module.lower()}.fraunhofer.de")
        self._asks: list[tuple[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: dict[str, Any] = {}
        await self._model.build()
        await self._build_results()
        await server.load_data_type_definitions()
        await self._build_module()
        if self.stack == "open62541":
            await self._model.forget_definitions()
        await server.start()
        if self.queue_period_s:
            self._spawn(self._work_queue())

    async def stop(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.stop()

    async def join(self, registry: str, services: Sequence[str] = ()) -> None:
        """Register with a device registry, `host:port`, for some services; for all if none are named."""
        module = self._name_of_registered()
        async with patient(f"opc.tcp://{registry}") as client:
            agents = await client.nodes.objects.get_child(["0:AgentList", "0:PFDLServiceAgents"])
            for service in [one for one in self.services if not services or one.name in services]:
                await agents.call_method("1:Add_Agent_Server", service.name, "127.0.0.1", str(self.port), module)
        await self._registered.write_value(True)

    async def queue(self) -> list[Any]:
        """Give the elements of the queue."""
        value = await self._queue.read_value()
        return value if isinstance(value, list) else []

    async def state(self) -> int:
        """Give the state of the asset."""
        return int(await self._state.read_value())

    def _name_of_registered(self) -> str:
        return f"{self.module}Type"

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the address space ---

    async def _build_results(self) -> None:
        model = self._model
        parent = self._server.get_node(model.types["ServiceExecutionSyncResultDataType"])
        for service in self.services:
            if service.mode == "sync":
                fields = (*SYNC, *service.outputs)
                await model.struct(model.module_uri, f"{service.name}Result", fields, parent)

    async def _build_module(self) -> None:
        model, types = self._model, self._server.nodes.base_object_type
        module_type = await types.add_object_type(model.id(COMMON, "ModuleType"), model.name(COMMON, "ModuleType"))
        name = self._name_of_registered()
        own = await module_type.add_object_type(model.id(model.module_uri, name), model.name(model.module_uri, name))
        module = await self._server.nodes.objects.add_object(
            model.id(model.module_uri, self.module), model.name(model.module_uri, self.module), own.nodeid, False
        )
        await self._build_queue(await model.object(module, "Queue", "Queue"))
        state = await model.object(module, "State", "State")
        self._state = await model.variable(state, "AssetState", "AssetState", IDLE, "AssetStateType")
        await self._state.set_writable()
        await model.variable(state, "Location", "Location", "here", "String")
        capabilities = await model.object(module, "Capabilities", "Capabilities")
        for key, (operator, value) in self.capabilities.items():
            kind = {bool: "Boolean", float: "Number", str: "String"}[type(value)]
            struct = getattr(ua, f"Capability_Struct_{kind}")(getattr(ua.Operator_Type, operator), value)
            path = f"Capabilities/{key}"
            await model.variable(capabilities, key, path, struct, f"Capability_Struct_{kind}")
        await self._build_services(await model.object(module, "Services", "Services"))

    async def _build_queue(self, parent: Node) -> None:
        model = self._model
        queue = await model.object(parent, "ServiceQueue", "ServiceQueue")
        empty = ua.Queue_Data_Type()
        self._queue = await model.variable(queue, "queue_variable", "queue_variable", empty, "Queue_Data_Type")
        given: Fields = (("element", "Queue_Data_Type"),)
        await model.method(queue, "add_queue_element", "add_queue_element", self._add, given)
        await model.method(queue, "remove_queue_element", "remove_queue_element", self._remove, given)

    async def _build_services(self, parent: Node) -> None:
        model = self._model
        base = self._server.get_node(ua.NodeId(ua.Int32(ua.ObjectIds.BaseEventType)))
        finished = await self._event_type(base, COMMON, "ServiceFinishedEventType", (
            ("ServiceExecutionResult", "ServiceExecutionStatus"), ("service_uuid", "String"), ("task_uuid", "String"),
        ))  # fmt: skip
        self._registered = await model.variable(parent, "registered", "registered", False, "Boolean")
        urls: Fields = (("Registry URL", "String"), ("Resource URL", "String"))
        await model.method(parent, "register", "register", self._register, urls)
        for service in self.services:
            result = "ServiceExecutionAsyncResultDataType"
            if service.mode == "sync":
                result = f"{service.name}Result"
            else:
                event = await self._event_type(finished, model.module_uri, service.name, service.outputs)
                self._events[service.name] = await self._server.get_event_generator(event)
            path = f"Services/{service.name}"
            work = self._method_of(service)
            await model.method(parent, service.name, path, work, service.inputs, (("Results", result),))

    async def _event_type(self, parent: Node, uri: str, name: str, fields: Fields) -> Node:
        model = self._model
        path = f"event {name}"
        node = await parent.add_object_type(model.id(uri, path), model.name(uri, name))
        for field_, type_ in fields:
            plain = type_.removesuffix("[]")
            if plain in model.fields:
                value, kind = getattr(ua, plain)(), ua.VariantType.ExtensionObject
            elif plain in model.types:
                value, kind = 0, ua.VariantType.Int32
            else:
                kind = ua.VariantType[plain]
                value = {"String": "", "Boolean": False}.get(plain, 0)
            value = [value] if type_.endswith("[]") else value
            await node.add_property(
                model.id(uri, f"{path}/{field_}"), model.name(uri, field_), value, kind, model.type_of(type_)
            )
        return node

    # --- the queue ---

    async def _register(self, _parent: ua.NodeId, registry: ua.Variant, _resource: ua.Variant) -> list[ua.Variant]:
        self._spawn(self.join(registry.Value))
        return []

    async def _add(self, _parent: ua.NodeId, element: ua.Variant) -> list[ua.Variant]:
        await self._ask("add", element.Value)
        return []

    async def _remove(self, _parent: ua.NodeId, element: ua.Variant) -> list[ua.Variant]:
        await self._ask("remove", element.Value)
        return []

    async def _ask(self, what: str, element: Any) -> None:
        self._asks.append((what, element))
        if not self.queue_period_s:
            await self._work()

    async def _work_queue(self) -> None:
        while True:
            await asyncio.sleep(self.queue_period_s)
            await self._work()

    async def _work(self) -> None:
        """Apply what was asked for: adds first, then removals; number them anew; the first one is ready."""
        asks, self._asks = self._asks, []
        if not asks:
            return
        queue = [*await self.queue(), *(element for what, element in asks if what == "add")]
        gone = {(one.Service_UUID, one.Client_Identifier) for what, one in asks if what == "remove"}
        queue = [one for one in queue if (one.Service_UUID, one.Client_Identifier) not in gone]
        states = ua.Queue_State_Variable_Type
        for place, one in enumerate(queue, 1):
            one.Entry_Number = ua.Int16(place)
            one.Queue_Element_State = states.Ready_For_Execution if place == 1 else states.Waiting_For_Execution
        value: Any = list(queue) or ua.Queue_Data_Type()  # an empty queue is one default element, not an empty array
        await self._queue.write_value(ua.Variant(value, ua.VariantType.ExtensionObject))

    # --- the services ---

    def _method_of(self, service: Service) -> Callable[..., Awaitable[Any]]:
        async def run(_parent: ua.NodeId, *arguments: ua.Variant) -> Any:
            inputs = {name: one.Value for (name, _), one in zip(service.inputs, arguments, strict=True)}
            self.calls.append((service.name, inputs))
            if service.fault == "bad":
                return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInvalidState))
            outputs = {name: value for name, value in service.work(inputs).items() if service.fault != "missing"}
            if service.mode == "sync":
                given = await service.over(outputs)
                status = ua.ServiceExecutionStatus(1 if given is None else 0)
                struct = getattr(ua, f"{service.name}Result")("done", ua.Int32(0), status, **(given or outputs))
                return [ua.Variant(struct, ua.VariantType.ExtensionObject)]
            trigger = ua.ServiceTriggerResult(0 if service.fault == "invalid" else 1)
            if service.fault not in ("invalid", "silent"):
                self._spawn(self._finish(service, outputs))
            expected = ua.Double(service.seconds * 1000)
            struct = ua.ServiceExecutionAsyncResultDataType("accepted", ua.Int32(0), expected, trigger)
            return [ua.Variant(struct, ua.VariantType.ExtensionObject)]

        return run

    async def _finish(self, service: Service, outputs: Mapping[str, Any]) -> None:
        first = next(iter(await self.queue()), None)
        given = await service.over(outputs)
        generator = self._events[service.name]
        generator.event.ServiceExecutionResult = 1 if given is None else 0
        generator.event.service_uuid = first.Service_UUID if service.tells_uuid and first is not None else ""
        for name, _ in service.outputs:
            setattr(generator.event, name, (given or outputs).get(name))
        await generator.trigger(message=f"{service.name} finished")


async def main() -> None:
    """Run one server until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--service", action="append", default=[], metavar="NAME", help="may be given more than once")
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--mode", choices=("async", "sync"), default="async")
    parser.add_argument("--fault", choices=("", "invalid", "fail", "silent", "missing", "bad"), default="")
    parser.add_argument("--queue-period", type=float, default=0.0, metavar="S")
    parser.add_argument("--stack", choices=("", "open62541"), default="")
    parser.add_argument("--registry", default="", metavar="HOST:PORT")
    given = parser.parse_args()
    services = [Service(name, given.seconds, given.mode, given.fault) for name in given.service]
    resource = Resource(given.port, services, queue_period_s=given.queue_period, stack=given.stack)
    await resource.start()
    if given.registry:
        await resource.join(given.registry)
    print(f"{resource.url}: {', '.join(given.service)}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await resource.stop()


if __name__ == "__main__":
    asyncio.run(main())
