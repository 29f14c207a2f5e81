"""The engine's own OPC UA server: its tasks and their variables, to be looked at.

A view of the run and never its source: nobody reads it back, and it may lag. Names are the original's, slips of the
pen included, because observers look for them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final, final

from asyncua import ua
from asyncua.common.manage_nodes import create_data_type, create_encoding, delete_nodes
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from tagwerk.actors.orders.logic.pfdl import Program
from tagwerk.actors.orders.logic.pfdl.model import Type
from tagwerk.actors.orders.logic.pfdl.talk import (
    Command,
    Parameter,
    ServiceFinished,
    ServiceStarted,
    TaskFailed,
    TaskFinished,
    TaskStarted,
)
from tagwerk.actors.orders.logic.pfdl.values import type_of
from tagwerk.actors.orders.structures import Field, Structure, Types

SERVER_NAME: Final = "Execution Engine"
NAMESPACE: Final = "http://exection_engine.fraunhofer.iosb.de"
INITIAL: Final = "Initial"
IN_PROGRESS: Final = "ExecutionInProgess"
COMPLETED: Final = "ExecutionCompleted"
READY: Final = "ReadyForExecution"
BUILTIN: Final[Mapping[str, str]] = {"number": "Double", "string": "String", "boolean": "Boolean"}
FIRST_TYPE: Final = 1000


@final
class View:
    """The server of one engine.

    Args:
        url: Where it listens.
        program: The order's: its structs become types.
    """

    def __init__(self, url: str, program: Program) -> None:
        self._url = url
        self._program = program
        self._server = Server()
        self._index = 0
        self._types = Types()
        self._data_types: dict[str, ua.NodeId] = {}
        self._root: Node | None = None
        self._task_type = ua.NodeId()
        self._tasks: dict[str, Node] = {}
        self._variables: dict[tuple[str, str], Node] = {}

    async def start(self) -> None:
        """Build it and listen.

        Raises:
            OSError: It cannot listen there.
        """
        server = self._server
        await server.init()
        server.set_endpoint(self._url)
        server.set_server_name(SERVER_NAME)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self._index = await server.register_namespace(NAMESPACE)
        await self._build_types()
        base = server.nodes.base_object_type
        data_object = await base.add_object_type(self._index, "DataObject")
        self._task_type = (await base.add_object_type(self._index, "TaskObjectType")).nodeid
        root = ua.NodeId(ua.Int32(0), ua.Int16(self._index))  # the server gives the number
        objects = server.nodes.objects
        self._root = await self._object(objects, root, "LifeCycleObject", data_object.nodeid, ObjectIds.Organizes)
        await server.start()

    async def stop(self) -> None:
        """Listen no more."""
        await self._server.stop()

    async def take(self, command: Command) -> None:
        """Show what happened."""
        if isinstance(command, TaskStarted):
            await self._begin(command)
        elif isinstance(command, ServiceStarted):
            await self.state(command.context_uuid, IN_PROGRESS)
        elif isinstance(command, ServiceFinished):
            await self._show(command.context_uuid, command.outputs)
        elif isinstance(command, TaskFinished):
            if command.task_uuid != command.context_uuid:
                await self._show(command.context_uuid, command.outputs)
            await self._end(command.task_uuid, command.context_uuid)
        elif isinstance(command, TaskFailed):
            await self._end(command.task_uuid, command.context_uuid)

    async def state(self, task_uuid: str, state: str) -> None:
        """Show a task's state; one that is gone has none."""
        node = self._variables.get((task_uuid, "StateVariable"))
        if node is not None:
            await node.write_value(state, ua.VariantType.String)

    async def _build_types(self) -> None:
        structs = self._program.structs
        for number, name in enumerate(structs):
            self._data_types[name] = ua.NodeId(ua.Int32(FIRST_TYPE + 2 * number), ua.Int16(self._index))
        for number, (name, of) in enumerate(self._program.fields.items()):
            encoding = ua.NodeId(ua.Int32(FIRST_TYPE + 2 * number + 1), ua.Int16(self._index))
            fields = tuple(Field(field, self._key(type_), type_.array) for field, type_ in of.items())
            self._types.add(name, Structure(name, encoding, fields))
            node = await create_data_type(
                self._server.nodes.base_structure_type, self._data_types[name], self._name(name)
            )
            await create_encoding(node, encoding, ua.QualifiedName("Default Binary"))
            definition = ua.StructureDefinition(
                encoding, self._server.nodes.base_structure_type.nodeid, ua.StructureType.Structure
            )
            definition.Fields = [
                ua.StructureField(Name=field, DataType=self._data_type(type_), ValueRank=_rank(type_), IsOptional=False)
                for field, type_ in of.items()
            ]
            await node.write_data_type_definition(definition)

    def _name(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, ua.UInt16(self._index))

    def _key(self, type_: Type) -> str:
        return BUILTIN.get(type_.name, type_.name)

    def _data_type(self, type_: Type) -> ua.NodeId:
        if type_.name in BUILTIN:
            return ua.NodeId(ua.Int32(ua.VariantType[BUILTIN[type_.name]].value))
        return self._data_types[type_.name]

    async def _object(self, parent: Node, nodeid: ua.NodeId, name: str, type_: ua.NodeId, reference: int) -> Node:
        item = ua.AddNodesItem()
        item.RequestedNewNodeId = nodeid
        item.BrowseName = self._name(name)
        item.NodeClass = ua.NodeClass.Object
        item.ParentNodeId = parent.nodeid
        item.ReferenceTypeId = ua.NodeId(ua.Int32(reference))
        item.TypeDefinition = type_
        item.NodeAttributes = ua.ObjectAttributes(DisplayName=ua.LocalizedText(name))
        (result,) = await parent.session.add_nodes([item])
        result.StatusCode.check()
        return self._server.get_node(result.AddedNodeId)

    async def _begin(self, command: TaskStarted) -> None:
        parent = self._tasks.get(command.context_uuid, self._root)
        if parent is None:
            return
        nodeid = ua.NodeId(uuid.UUID(command.task_uuid), ua.Int16(self._index))  # type: ignore[arg-type]  # as asyncua reads them
        node = await self._object(parent, nodeid, command.task_uuid, self._task_type, ObjectIds.HasComponent)
        self._tasks[command.task_uuid] = node
        await node.add_property(self._index, "TaskName", command.name)
        for name, value in (("StateVariable", INITIAL), ("CurrentExecution", "None")):
            variable = await node.add_property(self._index, name, value)
            await variable.set_writable()
            self._variables[command.task_uuid, name] = variable
        await self._show(command.task_uuid, command.inputs)

    async def _show(self, task_uuid: str, values: tuple[Parameter, ...]) -> None:
        """Show variables of a task; one that is there already is written, so that its subscribers see it change."""
        task = self._tasks.get(task_uuid)
        if task is None:
            return
        for one in values:
            type_ = type_of(one.type)
            variant = self._types.variant(self._key(type_), type_.array, one.value)
            known = self._variables.get((task_uuid, one.name))
            if known is not None:
                await known.write_value(variant)
                continue
            node = await task.add_variable(
                self._index, one.name, variant.Value, variant.VariantType, self._data_type(type_)
            )
            self._variables[task_uuid, one.name] = node

    async def _end(self, task_uuid: str, context_uuid: str) -> None:
        """Take a task away, with all below it. The first one stays, so that its outcome can be read."""
        node = self._tasks.get(task_uuid)
        if node is None or task_uuid == context_uuid:
            return
        parent = self._tasks.get(context_uuid, self._root)
        if parent is not None:
            await parent.delete_reference(node, ObjectIds.HasComponent, bidirectional=False)
        await self._remove(node)
        del self._tasks[task_uuid]
        for key in [key for key in self._variables if key[0] == task_uuid]:
            del self._variables[key]

    async def _remove(self, node: Node) -> None:
        """Take a node away, with all below it.

        Not by asyncua's `delete_nodes` alone: for each node that one looks through all references of the server, 20 ms,
        and its message to those who watch a variable is never sent.
        """
        for one in await node.get_children():
            await self._remove(one)
        space = self._server.iserver.aspace
        value = space[node.nodeid].attributes.get(AttributeIds.Value)
        if value is not None and value.datachange_callbacks:
            gone = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadNodeIdUnknown)))
            await node.write_attribute(AttributeIds.Value, gone)
            for handle in list(value.datachange_callbacks):
                space.delete_datachange_callback(handle)
        await delete_nodes(node.session, [node], delete_target_references=False)


def _rank(type_: Type) -> Any:
    return ua.ValueRank.OneDimension if type_.array else ua.ValueRank.Scalar
