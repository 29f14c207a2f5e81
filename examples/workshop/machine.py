"""A simulated SWAP-IT resource server, one machine of the workshop: `python examples/workshop/machine.py milling 4844`.

What it can do is in `machines.py`; how it behaves, and misbehaves, are the knobs of `knobs.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from asyncua import Node, ua
from knobs import Knobs, Panel, given_in, options
from machines import KINDS, Service
from model import COMMON, SYNC, Fields, Model, new_server, patient, quiet

IDLE = 4
ASYNC_RESULT = "ServiceExecutionAsyncResultDataType"
VERSION = "1"
CRASHED = 70


def plain(value: Any) -> Any:
    """Give structures as JSON has them."""
    if dataclasses.is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


class Machine:
    """One resource server.

    Args:
        name: Its module is named so, with `Module` behind it.
        port: Where it listens, on 127.0.0.1.
        services: What it can do.
        capabilities: Name -> relation and value.
        knobs: How it behaves.
    """

    def __init__(
        self, name: str, port: int, services: Sequence[Service], capabilities: Mapping[str, tuple[str, Any]],
        knobs: Knobs,
    ) -> None:  # fmt: skip
        self.name = name
        self.url = f"opc.tcp://127.0.0.1:{port}"
        self._port = port
        self._services = services
        self._capabilities = capabilities
        self._knobs = knobs
        self._module = f"{name[:1].upper()}{name[1:]}Module"
        self._asks: list[tuple[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: dict[str, Any] = {}

    async def start(self) -> None:
        """Build the address space and listen."""
        self._server = server = await new_server(self.url, self.name)
        maker = self._knobs.manufacturer
        await server.set_build_info("", maker, self.name, VERSION, VERSION, ua.DateTime.now())
        self._model = Model(server, f"http://swap.demo.scenario.{self.name.lower()}.fraunhofer.de")
        await self._model.build()
        await self._build_results()
        await server.load_data_type_definitions()
        await self._build_module()
        self._panel = Panel(server, self._knobs)
        await self._panel.build()
        if maker == "open62541":
            await self._model.forget_definitions()
        await server.start()
        if self._knobs.queue_period_s:
            self._spawn(self._work_queue())

    async def join(self, registry: str) -> None:
        """Register all services with a device registry, `host:port`."""
        await self._tell_registry(registry, "1:Add_Agent_Server")
        await self._registered.write_value(True)

    async def leave(self, registry: str) -> None:
        """Take the services out of a device registry again."""
        await self._tell_registry(registry, "1:Remove_Agent_Server")
        await self._registered.write_value(False)

    async def _tell_registry(self, registry: str, method: str) -> None:
        async with patient(f"opc.tcp://{registry}") as client:
            agents = await client.nodes.objects.get_child(["0:AgentList", "0:PFDLServiceAgents"])
            for service in self._services:
                where = ("127.0.0.1", str(self._port))
                added = (service.name, *where, f"{self._module}Type")
                await agents.call_method(method, *(added if "Add" in method else (*where, service.name)))

    async def _queue(self) -> list[Any]:
        value = await self._queue_variable.read_value()
        return value if isinstance(value, list) else []

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the address space ---

    async def _build_results(self) -> None:
        model = self._model
        parent = self._server.get_node(model.types["ServiceExecutionSyncResultDataType"])
        for service in self._services:
            if service.synchronous:
                fields = (*SYNC, *service.outputs)
                await model.struct(model.module_uri, f"{service.name}Result", fields, parent)

    async def _build_module(self) -> None:
        model, types = self._model, self._server.nodes.base_object_type
        module_type = await types.add_object_type(model.id(COMMON, "ModuleType"), model.name(COMMON, "ModuleType"))
        name, uri = f"{self._module}Type", model.module_uri
        own = await module_type.add_object_type(model.id(uri, name), model.name(uri, name))
        module = await self._server.nodes.objects.add_object(
            model.id(uri, self._module), model.name(uri, self._module), own.nodeid, False
        )
        await self._build_properties(await model.object(module, "Properties", "Properties"))
        await self._build_queue(await model.object(module, "Queue", "Queue"))
        subscriptions = await model.object(module, "Registry_Subscriptions", "Registry_Subscriptions")
        await model.object(subscriptions, "Subscription_Objects", "Subscription_Objects")
        state = await model.object(module, "State", "State")
        asset_state = await model.variable(state, "AssetState", "AssetState", IDLE, "AssetStateType")
        await asset_state.set_writable()
        await model.variable(state, "Location", "Location", "here", "String")
        capabilities = await model.object(module, "Capabilities", "Capabilities")
        for key, (operator, value) in self._capabilities.items():
            kind = {bool: "Boolean", float: "Number", str: "String"}[type(value)]
            struct = getattr(ua, f"Capability_Struct_{kind}")(getattr(ua.Operator_Type, operator), value)
            path = f"Capabilities/{key}"
            await model.variable(capabilities, key, path, struct, f"Capability_Struct_{kind}")
        await self._build_services(await model.object(module, "Services", "Services"))

    async def _build_properties(self, parent: Node) -> None:
        model = self._model
        texts = {
            "Asset": {"SerialNumber": str(self._port), "Vendor": self._knobs.manufacturer},
            "AssetClass": {"CommonModelVersion": VERSION, "ModuleProfileName": self._module},
        }
        for group, values in texts.items():
            node = await model.object(parent, group, f"Properties/{group}")
            for name, text in values.items():
                await model.variable(node, name, f"Properties/{name}", text, "String")
        await model.variable(parent, "Stationary", "Properties/Stationary", True, "Boolean")

    async def _build_queue(self, parent: Node) -> None:
        model = self._model
        queue = await model.object(parent, "ServiceQueue", "ServiceQueue")
        empty = ua.Queue_Data_Type()
        self._queue_variable = await model.variable(queue, "queue_variable", "queue_variable", empty, "Queue_Data_Type")
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
        await model.method(parent, "unregister", "unregister", self._unregister, urls)
        for service in self._services:
            result = f"{service.name}Result" if service.synchronous else ASYNC_RESULT
            if not service.synchronous:
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

    async def _unregister(self, _parent: ua.NodeId, registry: ua.Variant, _resource: ua.Variant) -> list[ua.Variant]:
        self._spawn(self.leave(registry.Value))
        return []

    async def _add(self, _parent: ua.NodeId, element: ua.Variant) -> list[ua.Variant]:
        await self._ask("add", element.Value)
        return []

    async def _remove(self, _parent: ua.NodeId, element: ua.Variant) -> list[ua.Variant]:
        await self._ask("remove", element.Value)
        return []

    async def _ask(self, what: str, element: Any) -> None:
        self._asks.append((what, element))
        if not self._knobs.queue_period_s:
            await self._work()

    async def _work_queue(self) -> None:
        while True:
            await asyncio.sleep(self._knobs.queue_period_s)
            await self._work()

    async def _work(self) -> None:
        """Apply what was asked for: adds first, then removals; number them anew; the first one is ready."""
        asks, self._asks = self._asks, []
        if not asks:
            return
        queue = [*await self._queue(), *(element for what, element in asks if what == "add")]
        gone = {(one.Service_UUID, one.Client_Identifier) for what, one in asks if what == "remove"}
        queue = [one for one in queue if (one.Service_UUID, one.Client_Identifier) not in gone]
        states = ua.Queue_State_Variable_Type
        for place, one in enumerate(queue, 1):
            one.Entry_Number = ua.Int16(place)
            one.Queue_Element_State = states.Ready_For_Execution if place == 1 else states.Waiting_For_Execution
        value: Any = list(queue) or ua.Queue_Data_Type()  # an empty queue is one default element, not an empty array
        await self._queue_variable.write_value(ua.Variant(value, ua.VariantType.ExtensionObject))

    # --- the services ---

    def _method_of(self, service: Service) -> Callable[..., Awaitable[Any]]:
        async def run(_parent: ua.NodeId, *arguments: ua.Variant) -> Any:
            inputs = {name: one.Value for (name, _), one in zip(service.inputs, arguments, strict=True)}
            line = json.dumps({"call": service.name, "at": self.name, "inputs": plain(inputs)})
            print(f"{line}\n", end="", flush=True)  # in one piece: others write there, too
            fault = await self._panel.fault()
            if fault == "bad":
                return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInvalidState))
            outputs = service.work(inputs)
            if service.synchronous:
                return [await self._result(service, outputs, fault)]
            if fault not in ("invalid", "silent"):
                self._spawn(self._finish(service, outputs, fault))
            return [await self._accepted(fault != "invalid")]

        return run

    async def _accepted(self, accepted: bool) -> ua.Variant:
        expected = ua.Double(1000 * await self._panel.number("Delay"))
        trigger = ua.ServiceTriggerResult(int(accepted))
        words = "accepted" if accepted else "refused"
        struct = ua.ServiceExecutionAsyncResultDataType(words, ua.Int32(0), expected, trigger)
        return ua.Variant(struct, ua.VariantType.ExtensionObject)

    async def _result(self, service: Service, made: Mapping[str, Any], fault: str) -> ua.Variant:
        """Give the result of a synchronous service, when it is done."""
        status, outputs = await self._over(service, made, fault)
        if fault == "wrong":
            return await self._accepted(True)
        struct = getattr(ua, f"{service.name}Result")("done", ua.Int32(0), status, **outputs)
        return ua.Variant(struct, ua.VariantType.ExtensionObject)

    async def _finish(self, service: Service, made: Mapping[str, Any], fault: str) -> None:
        """Tell the end of an asynchronous service, when it has come."""
        first = next(iter(await self._queue()), None)
        status, outputs = await self._over(service, made, fault)
        generator = self._events[service.name]
        event = generator.event
        event.ServiceExecutionResult = int(status)
        event.service_uuid = first.Service_UUID if service.tells_uuid and first is not None else ""
        for name, type_ in service.outputs:
            kind = ua.VariantType.ExtensionObject if type_ in self._model.fields else ua.VariantType[type_]
            kind = kind if name in outputs else ua.VariantType.Null
            event.data_types[name] = ua.VariantType.String if fault == "wrong" else kind
            setattr(event, name, "wrong" if fault == "wrong" else outputs.get(name))
        await generator.trigger(message=f"{service.name} finished")

    async def _over(self, service: Service, made: Mapping[str, Any], fault: str) -> tuple[Any, Mapping[str, Any]]:
        """Wait until a service is done; give its status and its outputs, none if it failed of itself."""
        await self._panel.over()
        if fault == "crash":
            os._exit(CRASHED)
        given = await service.over(made)
        status = ua.ServiceExecutionStatus(1 if given is None or fault == "fail" else 0)
        return status, {} if given is None or fault in ("missing", "wrong") else given


def machine_of(kind: str, port: int, knobs: Knobs) -> Machine:
    """Make a machine of one of the known kinds."""
    return Machine(kind, port, KINDS[kind].services, KINDS[kind].capabilities, knobs)


async def serve(machine: Machine, registry: str) -> None:
    """Run a machine until it is ended; registered, if a registry is named."""
    quiet()
    await machine.start()
    if registry:
        await machine.join(registry)
    print(f"{machine.name} {machine.url}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, parents=[options()])
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("port", type=int)
    parser.add_argument("--registry", default="", metavar="HOST:PORT", help="registers there")
    given = parser.parse_args()
    asyncio.run(serve(machine_of(given.kind, given.port, given_in(given)), given.registry))
