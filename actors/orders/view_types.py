"""The structs of orders as DataTypes of an OPC UA server: one for each definition, however many orders have it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, final

from asyncua import ua
from asyncua.common.manage_nodes import create_data_type, create_encoding, delete_nodes
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from tagwerk.actors.orders.logic.pfdl.model import PRIMITIVES, Type
from tagwerk.actors.orders.logic.pfdl.values import Fields
from tagwerk.actors.orders.structures import Field, Structure, Types

BUILTIN: Final[Mapping[str, str]] = dict(zip(PRIMITIVES, ("Double", "String", "Boolean"), strict=True))
TYPES_LIMIT: Final = 5_000
"""Definitions that are shown at the same time."""


@dataclass(slots=True)
class _Known:
    """A definition that is shown. `orders`: how many have it."""

    name: str
    data_type: ua.NodeId
    encoding: ua.NodeId
    orders: int = 0


@final
class OrderTypes:
    """The types of one order.

    Args:
        fields: Its structs.
        known: For each of these, what is shown.
    """

    def __init__(self, fields: Fields, known: Mapping[str, _Known]) -> None:
        self._data_types = {name: one.data_type for name, one in known.items()}
        self.known = known
        self._types = Types()
        for name, of in fields.items():
            own = tuple(Field(field, _key(type_), type_.array) for field, type_ in of.items())
            self._types.add(name, Structure(name, known[name].encoding, own))

    def __contains__(self, type_: Type) -> bool:
        return type_.name in BUILTIN or type_.name in self._data_types

    def data_type(self, type_: Type) -> ua.NodeId:
        """Give the DataType of a type, of an array's elements."""
        return _data_type(type_, self._data_types)

    def variant(self, type_: Type, value: Any) -> ua.Variant:
        """Give a value as it is sent.

        Raises:
            ServiceFault: It does not fit.
        """
        return self._types.variant(_key(type_), type_.array, value)


@final
class ViewTypes:
    """The types of a server.

    Args:
        server: Which.
        index: Of the namespace that they are in.
        new_id: Gives the id of a node by a text that stands for it.
    """

    def __init__(self, server: Server, index: int, new_id: Callable[[str], ua.NodeId]) -> None:
        self._server = server
        self._index = index
        self._new_id = new_id
        self._known: dict[str, _Known] = {}

    async def take(self, fields: Fields) -> OrderTypes | None:
        """Show the structs of an order; None if there are too many. They are `release`d once it is shown no more.

        A definition has the same number in each process: a client that keeps what it learned is never misled. A second
        definition of the same name gets another name, as clients know types by names.
        """
        digests = _digests(fields)
        new = [name for name, digest in digests.items() if digest not in self._known]
        if len(self._known) + len(new) > TYPES_LIMIT:
            return None
        taken = {one.name for one in self._known.values()}
        for name in new:
            free = _free(name, taken)
            taken.add(free)
            ids = self._new_id(f"type {digests[name]}"), self._new_id(f"encoding {digests[name]}")
            self._known[digests[name]] = _Known(free, *ids)
        found = {name: self._known[digest] for name, digest in digests.items()}
        for one in found.values():
            one.orders += 1
        types = OrderTypes(fields, found)
        for name in new:
            await self._show(found[name], fields[name], types)
            await asyncio.sleep(0)  # there may be thousands, and clients wait
        return types

    async def release(self, types: OrderTypes) -> None:
        """An order is shown no more: types that no other has go."""
        for one in types.known.values():
            one.orders -= 1
        gone = [digest for digest, one in self._known.items() if not one.orders]
        parent = self._server.nodes.base_structure_type
        for digest in gone:
            one = self._known.pop(digest)
            node, encoding = (self._server.get_node(each) for each in (one.data_type, one.encoding))
            await parent.delete_reference(node, ObjectIds.HasSubtype, bidirectional=False)
            await delete_nodes(node.session, [encoding, node], delete_target_references=False)

    async def _show(self, known: _Known, of: Mapping[str, Type], types: OrderTypes) -> None:
        structure = self._server.nodes.base_structure_type
        name = ua.QualifiedName(known.name, ua.UInt16(self._index))
        node = await create_data_type(structure, known.data_type, name)
        await create_encoding(node, known.encoding, ua.QualifiedName("Default Binary"))
        definition = ua.StructureDefinition(known.encoding, structure.nodeid, ua.StructureType.Structure)
        definition.Fields = [
            ua.StructureField(
                Name=field, DataType=types.data_type(type_), ValueRank=_rank(type_), IsOptional=False
            )
            for field, type_ in of.items()
        ]  # fmt: skip
        await node.write_data_type_definition(definition)


def _digests(fields: Fields) -> dict[str, str]:
    """Give for each struct what tells its definition from others, the structs in it included."""
    found: dict[str, str] = {}

    def of(name: str) -> str:
        if name not in found:
            parts = [name]
            for field, type_ in fields[name].items():
                parts += [field, str(type_), of(type_.name) if type_.name in fields else ""]
            found[name] = blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
        return found[name]

    for name in fields:
        of(name)
    return found


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _key(type_: Type) -> str:
    return BUILTIN.get(type_.name, type_.name)


def _data_type(type_: Type, known: Mapping[str, ua.NodeId]) -> ua.NodeId:
    if type_.name in BUILTIN:
        return ua.NodeId(ua.Int32(ua.VariantType[BUILTIN[type_.name]].value))
    return known[type_.name]


def _rank(type_: Type) -> Any:
    return ua.ValueRank.OneDimension if type_.array else ua.ValueRank.Scalar
