"""The address space of a SWAP-IT resource server, on asyncua: the common types, and those of the workshop.

A small model of our own with the browse names of the original, which is what clients look for.
"""

from __future__ import annotations

import functools
import gc
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asyncua import Node, ua
from asyncua.client.client import Client
from asyncua.common.manage_nodes import create_data_type, create_encoding
from asyncua.server.address_space import AddressSpace, NodeManagementService
from asyncua.server.server import Server
from asyncua.server.standard_address_space.standard_address_space import fill_address_space

COMMON = "http://common.swap.fraunhofer.de"
DEMO = "http://swap.demo.scenario.fraunhofer.de"

ENUMS: Mapping[str, Sequence[str]] = {
    "AssetStateType": ("UNKNOWN", "OPERATIONAL", "INITALIZING", "ERROR", "IDLE", "EXECUTING"),
    "Queue_State_Variable_Type": ("Waiting_For_Execution", "Executing", "Execution_Completed", "Ready_For_Execution"),
    "ServiceExecutionStatus": ("SUCCESS", "FAIL"),
    "ServiceTriggerResult": ("INVALID_PARAMETER", "ACCEPTED"),
    "Operator_Type": (
        "Equal", "Greater", "Smaller", "GreaterOrEqual", "SmallerOrEqual", "IsTrue", "IsFalse", "EqualString",
    ),
}  # fmt: skip

Fields = Sequence[tuple[str, str]]
SYNC: Fields = (
    ("ServiceResultMessage", "String"),
    ("ServiceResultCode", "Int32"),
    ("ServiceExecutionStatus", "ServiceExecutionStatus"),
)
STRUCTS: Mapping[str, Fields] = {
    "Queue_Data_Type": (
        ("Client_Identifier", "String"),
        ("Service_UUID", "String"),
        ("Entry_Number", "Int16"),
        ("Queue_Element_State", "Queue_State_Variable_Type"),
        ("ProductId", "String"),
        ("ServiceParameter", "DataValue[]"),
    ),
    "ServiceExecutionAsyncResultDataType": (
        ("ServiceResultMessage", "String"),
        ("ServiceResultCode", "Int32"),
        ("ExpectedServiceExecutionDuration", "Double"),
        ("ServiceTriggerResult", "ServiceTriggerResult"),
    ),
    "ServiceExecutionSyncResultDataType": SYNC,
    "Capability_Struct_Boolean": (("Relational_Operator", "Operator_Type"), ("Value", "Boolean")),
    "Capability_Struct_Number": (("Relational_Operator", "Operator_Type"), ("Value", "Double")),
    "Capability_Struct_String": (("Relational_Operator", "Operator_Type"), ("Value", "String")),
}
DEMO_STRUCTS: Mapping[str, Fields] = {
    "Stand_Segment": (("stand_shape", "String"), ("stand_height", "Double"), ("stand_id", "String")),
    "Light_Segment": (("color", "String"), ("diameter", "Double"), ("segment_id", "String")),
    "SWAP_Order": (
        ("order_id", "Double"),
        ("stand", "Stand_Segment"),
        ("segments", "Light_Segment[]"),
        ("number_light_segments", "Double"),
    ),
    "Colour": (("name", "String"), ("rgb", "Double[]")),
    "Coat": (("wetness", "Double"),),
    "Inspection": (("passed", "Boolean"), ("remarks", "String[]"), ("count", "Double")),
}
ENCODING = 1_000_000
ANSWER_LIMIT_S = 30.0


def number_of(name: str) -> int:
    """Give the number of a node: the same name has the same one in every server."""
    return 1_000 + zlib.crc32(name.encode()) % 900_000


def patient(url: str) -> Client:
    """Make a client that a busy machine does not lose."""
    return Client(url, timeout=ANSWER_LIMIT_S, watchdog_intervall=ANSWER_LIMIT_S)


def quiet() -> None:
    """Let asyncua tell what is wrong, and not that security is switched off, or that a client has gone."""
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    for name in ("asyncua.client", "asyncua.server.server"):  # these raise what they log
        logging.getLogger(name).setLevel(logging.CRITICAL)


@functools.cache
def standard_nodes() -> AddressSpace:
    """Make the 6,000 nodes that every server has. It takes seconds: processes that are forked afterwards have them."""
    space = AddressSpace()
    gc.disable()  # half a million objects and no garbage
    fill_address_space(NodeManagementService(space))
    gc.freeze()
    gc.enable()
    return space


async def new_server(url: str, name: str) -> Server:
    """Make a server that does not listen yet: one a process, as asyncua knows a struct's name once a process."""
    server = Server()
    server.iserver.aspace._nodes = standard_nodes()._nodes  # noqa: SLF001  # no other way takes less than a second

    async def made_already(_shelf: object) -> None:
        return

    server.iserver.load_standard_address_space = made_already
    await server.init()
    server.set_endpoint(f"{url}/")
    server.set_server_name(name)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    return server


class Model:
    """Builds types and nodes in one server.

    Args:
        server: After its `init`.
        module_uri: The namespace of the module.
    """

    def __init__(self, server: Server, module_uri: str) -> None:
        self.server = server
        self.module_uri = module_uri
        self.types: dict[str, ua.NodeId] = {}
        self.fields: dict[str, tuple[str, Fields]] = {}
        self.index: dict[str, int] = {}

    async def build(self) -> None:
        """Make the common types and those of the demo scenario."""
        for uri in (COMMON, DEMO, self.module_uri):
            self.index[uri] = await self.server.register_namespace(uri)
        for name, words in ENUMS.items():
            node = await create_data_type(
                self.server.nodes.enum_data_type, self.id(COMMON, name), self.name(COMMON, name)
            )
            fields = [
                ua.EnumField(Value=value, DisplayName=ua.LocalizedText(word), Name=word)
                for value, word in enumerate(words)
            ]
            await node.write_data_type_definition(ua.EnumDefinition(fields))
            self.types[name] = node.nodeid
        for uri, structs in ((COMMON, STRUCTS), (DEMO, DEMO_STRUCTS)):
            for name, fields in structs.items():
                await self.struct(uri, name, fields)

    def id(self, uri: str, name: str) -> ua.NodeId:
        """Give the id of a node by its full name."""
        return ua.NodeId(ua.Int32(number_of(name)), ua.Int16(self.index[uri]))

    def name(self, uri: str, name: str) -> ua.QualifiedName:
        """Give a browse name."""
        return ua.QualifiedName(name, ua.UInt16(self.index[uri]))

    def type_of(self, name: str) -> ua.NodeId:
        """Give the data type of a field's or argument's type, an array's element."""
        plain = name.removesuffix("[]")
        return self.types.get(plain) or ua.NodeId(ua.Int32(ua.VariantType[plain].value))

    async def struct(self, uri: str, name: str, fields: Fields, parent: Node | None = None) -> None:
        """Make a structure with its definition and its binary encoding."""
        base = parent or self.server.nodes.base_structure_type
        node = await create_data_type(base, self.id(uri, name), self.name(uri, name))
        encoding = ua.NodeId(ua.Int32(number_of(name) + ENCODING), ua.Int16(self.index[uri]))
        await create_encoding(node, encoding, ua.QualifiedName("Default Binary"))
        definition = ua.StructureDefinition(encoding, base.nodeid, ua.StructureType.Structure)
        for field, type_ in fields:
            rank = ua.ValueRank.OneDimension if type_.endswith("[]") else ua.ValueRank.Scalar
            definition.Fields.append(
                ua.StructureField(Name=field, DataType=self.type_of(type_), ValueRank=rank, IsOptional=False)
            )
        await node.write_data_type_definition(definition)
        self.types[name] = node.nodeid
        self.fields[name] = (uri, fields)

    async def forget_definitions(self) -> None:
        """Show the types as servers on open62541 do: in dictionaries of OPC Binary, and in no DataTypeDefinition."""
        dictionaries = self.server.get_node(ua.NodeId(ua.Int32(ua.ObjectIds.OPCBinarySchema_TypeSystem)))
        for uri in self.index:
            names = [name for name, (of, _) in self.fields.items() if of == uri]
            id_ = self.id(uri, f"dictionary of {uri}")
            text = self._dictionary(uri, names)
            await dictionaries.add_variable(id_, self.name(uri, uri), text, ua.VariantType.ByteString)
        for nodeid in self.types.values():
            self.server.iserver.aspace[nodeid].attributes.pop(ua.AttributeIds.DataTypeDefinition)

    def _dictionary(self, uri: str, names: Sequence[str]) -> bytes:
        prefixes = {of: f"n{place}" for place, of in enumerate(self.index)}
        words = "".join(f' xmlns:{prefix}="{of}"' for of, prefix in prefixes.items())
        lines = [
            f'<opc:TypeDictionary xmlns:opc="http://opcfoundation.org/BinarySchema/" '
            f'xmlns:ua="http://opcfoundation.org/UA/"{words} DefaultByteOrder="LittleEndian" TargetNamespace="{uri}">'
        ]
        if uri == COMMON:
            lines += [f'<opc:EnumeratedType Name="{name}" LengthInBits="32"/>' for name in ENUMS]
        for name in names:
            lines.append(f'<opc:StructuredType Name="{name}" BaseType="ua:ExtensionObject">')
            for field, type_ in self.fields[name][1]:
                lines += self._dictionary_field(field, type_, prefixes)
            lines.append("</opc:StructuredType>")
        return "\n".join([*lines, "</opc:TypeDictionary>"]).encode()

    def _dictionary_field(self, field: str, type_: str, prefixes: Mapping[str, str]) -> list[str]:
        plain = type_.removesuffix("[]")
        uri = COMMON if plain in ENUMS else self.fields[plain][0] if plain in self.fields else ""
        prefix = prefixes[uri] if uri else "ua" if plain == "DataValue" else "opc"
        if plain == type_:
            return [f'<opc:Field Name="{field}" TypeName="{prefix}:{plain}"/>']
        return [
            f'<opc:Field Name="NoOf{field}" TypeName="opc:Int32"/>',
            f'<opc:Field Name="{field}" TypeName="{prefix}:{plain}" LengthField="NoOf{field}"/>',
        ]

    def argument(self, name: str, type_: str) -> ua.Argument:
        """Give an argument of a method."""
        rank = ua.ValueRank.OneDimension if type_.endswith("[]") else ua.ValueRank.Scalar
        return ua.Argument(Name=name, DataType=self.type_of(type_), ValueRank=ua.Int32(rank))

    async def object(self, parent: Node, name: str, path: str) -> Node:
        """Make an object of the common namespace below another one."""
        return await parent.add_object(self.id(self.module_uri, path), self.name(COMMON, name))

    async def variable(self, parent: Node, name: str, path: str, value: Any, type_: str) -> Node:
        """Make a variable."""
        plain = type_.removesuffix("[]")
        kind = ua.VariantType.ExtensionObject if plain in self.fields else ua.VariantType.Int32
        if plain not in self.types:
            kind = ua.VariantType[plain]
        return await parent.add_variable(
            self.id(self.module_uri, path), self.name(COMMON, name), value, kind, self.type_of(type_)
        )

    async def method(
        self, parent: Node, name: str, path: str, work: Callable[..., Any], inputs: Fields, outputs: Fields = ()
    ) -> Node:
        """Make a method."""
        return await parent.add_method(
            self.id(self.module_uri, path), self.name(COMMON, name), work,
            [self.argument(*one) for one in inputs], [self.argument(*one) for one in outputs],
        )  # fmt: skip
