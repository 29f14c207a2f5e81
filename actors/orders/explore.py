"""What a server says of its types: a DataTypeDefinition (1.04), or the dictionaries that came before."""

from __future__ import annotations

from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from tagwerk.actors.orders.logic.bsd import BsdField, Dictionary, read_dictionary
from tagwerk.actors.orders.logic.services import Argument
from tagwerk.actors.orders.session import Session, nodeid, value_of
from tagwerk.actors.orders.structures import Field, Structure, Types
from tagwerk.protocols.errors import RemoteProtocolError

MOST_SUPERTYPES: Final = 20
_VARIANT: Final = (ObjectIds.BaseDataType, ObjectIds.Number, ObjectIds.Integer, ObjectIds.UInteger)


class Explorer:
    """Learns the types of one server, each once.

    Args:
        session: With it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._dictionaries: Dictionary | None = None
        self.types = Types()

    async def key_of(self, data_type: ua.NodeId) -> str:
        """Learn a data type and give its key.

        Raises:
            RemoteProtocolError: The server does not say what the type is.
            DeviceGone: The connection broke.
        """
        if data_type.NamespaceIndex == 0 and isinstance(data_type.Identifier, int):
            if 1 <= data_type.Identifier <= ua.VariantType.DiagnosticInfo.value:
                return ua.VariantType(data_type.Identifier).name
            if data_type.Identifier in _VARIANT:
                return ua.VariantType.Variant.name
        key = data_type.to_string()
        if key not in self.types:
            await self._learn(key, data_type)
        return key

    async def argument(self, name: str, data_type: ua.NodeId, rank: int) -> Argument:
        """Learn the type of an argument, a field or a property."""
        return self.types.argument(name, await self.key_of(data_type), rank >= 0)

    async def learn_subtypes(self, data_type: ua.NodeId) -> None:
        """Learn all that may stand where this type is declared."""
        for one in await self._session.related(data_type, ObjectIds.HasSubtype):
            await self.key_of(one.NodeId)

    async def _learn(self, key: str, data_type: ua.NodeId) -> None:
        try:
            await self._learn_whole(key, data_type)
        except BaseException:
            self.types.forget(key)  # half of a type is worse than none
            raise

    async def _learn_whole(self, key: str, data_type: ua.NodeId) -> None:
        (value,) = await self._session.read([data_type], AttributeIds.DataTypeDefinition)
        definition = value_of(value)
        if isinstance(definition, ua.EnumDefinition):
            self.types.alias(key, "Int32")
        elif isinstance(definition, ua.StructureDefinition):
            await self._from_definition(key, data_type, definition)
        else:
            await self._from_dictionary(key, data_type)

    async def _from_definition(self, key: str, data_type: ua.NodeId, definition: ua.StructureDefinition) -> None:
        name = await self._name(data_type)
        kinds = ua.StructureType
        if definition.StructureType not in (kinds.Structure, kinds.StructureWithOptionalFields):
            raise RemoteProtocolError(f"the type {name} is a {kinds(definition.StructureType).name}")
        self.types.add(key, Structure(name, await self._encoding(data_type, definition.DefaultEncodingId), ()))
        may_lack = (
            definition.StructureType == kinds.StructureWithOptionalFields
        )  # else some servers set IsOptional, too
        fields: list[Field] = []
        for one in definition.Fields or []:
            of = await self.key_of(one.DataType)
            fields.append(Field(one.Name, of, one.ValueRank >= 0, may_lack and bool(one.IsOptional)))
        self.types.add(
            key, Structure(name, await self._encoding(data_type, definition.DefaultEncodingId), tuple(fields))
        )

    async def _encoding(self, data_type: ua.NodeId, told: ua.NodeId | None = None) -> ua.NodeId:
        if told is not None and not told.is_null():
            return told
        for one in await self._session.related(data_type, ObjectIds.HasEncoding):
            if one.BrowseName.Name == "Default Binary":
                found: ua.NodeId = one.NodeId
                return found
        return ua.NodeId()

    async def _name(self, node: ua.NodeId) -> str:
        (value,) = await self._session.read([node], AttributeIds.BrowseName)
        name = value_of(value)
        return str(name.Name) if name is not None else ""

    async def _from_dictionary(self, key: str, data_type: ua.NodeId) -> None:
        """Neither definition nor structure: its supertype tells; else the dictionaries do."""
        node = data_type
        for _ in range(MOST_SUPERTYPES):
            parents = await self._session.related(node, ObjectIds.HasSubtype, inverse=True)
            if not parents:
                break
            node = parents[0].NodeId
            if node == nodeid(ObjectIds.Enumeration):
                return self.types.alias(key, "Int32")
            if node == nodeid(ObjectIds.Structure):
                return await self._structure_from_dictionary(key, data_type)
            if node.NamespaceIndex == 0:
                return self.types.alias(key, await self._builtin(node))
        raise RemoteProtocolError(f"the server does not say what the type {data_type.to_string()} is")

    async def _builtin(self, node: ua.NodeId) -> str:
        key = await self.key_of(node)
        return key if key in ua.VariantType.__members__ else self.types.base_of(key)

    async def _structure_from_dictionary(self, key: str, data_type: ua.NodeId) -> None:
        if self._dictionaries is None:
            self._dictionaries = await self._read_dictionaries()
        name = await self._name(data_type)
        fields = self._dictionaries.structures.get(name)
        if fields is None:
            raise RemoteProtocolError(f"neither a definition nor a dictionary says what {name} is")
        self.types.add(key, Structure(name, await self._encoding(data_type), ()))
        siblings = {} if all(one.type in self.types for one in fields) else await self._all_structures()
        found: list[Field] = []
        for one in fields:
            if one.type in self._dictionaries.enumerations:
                of = "Int32"
            elif one.type in self.types:
                of = one.type
            elif one.type in siblings:
                of = await self.key_of(siblings[one.type])
            else:
                raise RemoteProtocolError(f"{name}.{one.name} has the type {one.type}, which is not described")
            found.append(Field(one.name, of, one.array))
        self.types.add(key, Structure(name, await self._encoding(data_type), tuple(found)))

    async def _all_structures(self) -> dict[str, ua.NodeId]:
        found: dict[str, ua.NodeId] = {}
        left = [nodeid(ObjectIds.Structure)]
        while left:
            for one in await self._session.related(left.pop(), ObjectIds.HasSubtype):
                if one.NodeId.NamespaceIndex > 0:
                    found[one.BrowseName.Name] = one.NodeId
                    left.append(one.NodeId)
        return found

    async def _read_dictionaries(self) -> Dictionary:
        structures: dict[str, tuple[BsdField, ...]] = {}
        enumerations: frozenset[str] = frozenset()
        system = nodeid(ObjectIds.OPCBinarySchema_TypeSystem)
        nodes = [one.NodeId for one in (await self._session.children(system)).values()]
        for value in await self._session.read([one for one in nodes if one.NamespaceIndex > 0]):
            text = value_of(value)
            if isinstance(text, bytes) and text:
                read = read_dictionary(text)
                structures.update(read.structures)
                enumerations |= read.enumerations
        return Dictionary(structures, enumerations)
