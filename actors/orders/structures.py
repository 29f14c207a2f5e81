"""The types of one OPC UA endpoint, and their binary form (Part 6, 5.2).

A registry for each endpoint: asyncua has one for the whole process, by name, so that two servers with a type of the
same name would read each other's values. Without one there a structure arrives as its bytes, and is read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.common.utils import Buffer, NotEnoughData
from asyncua.ua.ua_binary import pack_uatype, unpack_uatype
from asyncua.ua.uaerrors import UaError

from tagwerk.actors.orders.logic.services import NUMBERS, Argument, Failure, ServiceFault, pfdl_type
from tagwerk.protocols.errors import RemoteProtocolError

MOST_ELEMENTS: Final = 1_000_000
DEEPEST: Final = 100
_WHOLE: Final = NUMBERS - {"Float", "Double"}


class Field(NamedTuple):
    """A field of a structure; `key` names its type."""

    name: str
    key: str
    array: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure: its name, the id of its binary encoding, its fields in the order of the wire."""

    name: str
    encoding: ua.NodeId
    fields: tuple[Field, ...]


class Types:
    """What one endpoint says of its types. A built-in type's key is its name, `Double`."""

    def __init__(self) -> None:
        self._structures: dict[str, Structure] = {}
        self._builtin: dict[str, ua.VariantType] = {kind.name: kind for kind in ua.VariantType}
        self._by_encoding: dict[ua.NodeId, str] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._structures or key in self._builtin

    def add(self, key: str, structure: Structure) -> None:
        """Add a structure."""
        self._structures[key] = structure
        self._by_encoding[structure.encoding] = key

    def alias(self, key: str, builtin: str) -> None:
        """Say that a type has the form of a built-in one: an enumeration that of an Int32."""
        self._builtin[key] = ua.VariantType[builtin]

    def forget(self, key: str) -> None:
        """Know nothing more of a type."""
        self._structures.pop(key, None)
        self._builtin.pop(key, None)

    def base_of(self, key: str) -> str:
        """Give the built-in type whose form a type has."""
        return self._builtin[key].name

    def argument(self, name: str, key: str, array: bool) -> Argument:
        """Describe something of a type."""
        known = self._structures.get(key)
        return Argument(name, known.name if known else pfdl_type(self._builtin[key].name), array, key)

    def fields_of(self, key: str) -> tuple[Field, ...]:
        """Give a structure's fields; none of a type that is no structure."""
        known = self._structures.get(key)
        return known.fields if known else ()

    # --- out ---

    def variant(self, key: str, array: bool, value: Any) -> ua.Variant:
        """Give a value as it is sent.

        Raises:
            ServiceFault: It does not fit the type.
        """
        kind = self._builtin.get(key, ua.VariantType.ExtensionObject)
        if array:
            if not isinstance(value, list):
                raise _unfit(key, "", value)
            return ua.Variant([self._sent(key, one, "") for one in value], kind, is_array=True)
        return ua.Variant(self._sent(key, value, ""), kind)

    def _sent(self, key: str, value: Any, path: str) -> Any:
        if key in self._builtin:
            return _builtin_value(self._builtin[key], value, path)
        return ua.ExtensionObject(self._structures[key].encoding, ua.ByteString(self._packed(key, value, path)))

    def _packed(self, key: str, value: Any, path: str) -> bytes:
        known = self._structures.get(key)
        if known is None:
            kind = self._builtin[key]
            try:
                return pack_uatype(kind, _builtin_value(kind, value, path))
            except (struct.error, OverflowError) as error:
                raise _unfit(kind.name, path, value) from error
        if not isinstance(value, dict):
            raise _unfit(known.name, path, value)
        strange = sorted(set(value) - {field.name for field in known.fields})
        missing = [one.name for one in known.fields if one.name not in value and not one.optional]
        if strange or missing:
            what = f"has no field `{strange[0]}`" if strange else f"also needs the field `{missing[0]}`"
            raise ServiceFault(Failure.REJECTED, f"{path or 'the value'}: the resource's {known.name} {what}")
        parts: list[bytes] = []
        if any(one.optional for one in known.fields):
            optional = [one.name for one in known.fields if one.optional]
            mask = sum(1 << place for place, name in enumerate(optional) if value.get(name) is not None)
            parts.append(struct.pack("<I", mask))
        for one in known.fields:
            if one.optional and value.get(one.name) is None:
                continue
            parts += self._field(one, value[one.name], f"{path}.{one.name}".removeprefix("."))
        return b"".join(parts)

    def _field(self, field: Field, value: Any, path: str) -> Iterable[bytes]:
        if not field.array:
            return [self._packed(field.key, value, path)]
        if not isinstance(value, list):
            raise _unfit(f"{field.key}[]", path, value)
        elements = [self._packed(field.key, one, f"{path}[{place}]") for place, one in enumerate(value)]
        return [struct.pack("<i", len(elements)), *elements]

    # --- in ---

    def plain(self, value: Any, key: str = "") -> Any:
        """Give what came as numbers, texts, truth values, lists and dicts.

        Args:
            value: As asyncua gives it.
            key: The type that it is declared with, for a structure whose encoding is not known.

        Raises:
            RemoteProtocolError: It cannot be read.
        """
        if isinstance(value, (ua.Variant, ua.DataValue)):
            return self.plain(value.Value, key)
        if isinstance(value, list):
            return [self.plain(one, key) for one in value]
        if not isinstance(value, ua.ExtensionObject):
            return _plain_builtin(value)
        if value.Body is None:
            return None
        known = self._by_encoding.get(value.TypeId, key)
        if known not in self._structures:
            raise RemoteProtocolError(f"a structure of the unknown type {value.TypeId.to_string()}")
        try:
            return self._unpacked(known, Buffer(value.Body), 0)
        except (NotEnoughData, UaError, struct.error, ValueError, TypeError, OverflowError) as error:
            raise RemoteProtocolError(f"a {self._structures[known].name} cannot be read: {error}") from error

    def _unpacked(self, key: str, data: Buffer, depth: int) -> Any:
        known = self._structures.get(key)
        if known is None:
            return self.plain(unpack_uatype(self._builtin[key], data))
        if depth > DEEPEST:
            raise ValueError("it is too deep")
        mask = struct.unpack("<I", data.read(4))[0] if any(one.optional for one in known.fields) else 0
        found: dict[str, Any] = {}
        bit = 0
        for one in known.fields:
            if one.optional:
                bit += 1
                if not mask >> (bit - 1) & 1:
                    found[one.name] = None
                    continue
            if not one.array:
                found[one.name] = self._unpacked(one.key, data, depth + 1)
                continue
            length = struct.unpack("<i", data.read(4))[0]
            if length > MOST_ELEMENTS:
                raise ValueError(f"an array of {length} elements")
            found[one.name] = [self._unpacked(one.key, data, depth + 1) for _ in range(max(0, length))]
        return found


def _unfit(type_: str, path: str, value: Any) -> ServiceFault:
    return ServiceFault(Failure.REJECTED, f"{path or 'the value'}: {value!r:.60} is no {type_} as the resource has it")


def _builtin_value(kind: ua.VariantType, value: Any, path: str) -> Any:
    name = kind.name
    if name == "Boolean" and isinstance(value, bool):
        return value
    if name in NUMBERS and isinstance(value, (int, float)) and not isinstance(value, bool):
        if name not in _WHOLE:
            return float(value)
        if value == value // 1 and abs(value) < 2**64:
            try:
                pack_uatype(kind, int(value))
            except struct.error as error:
                raise _unfit(name, path, value) from error
            return int(value)
    if isinstance(value, str) and name in ("String", "LocalizedText"):
        return value if name == "String" else ua.LocalizedText(value)
    raise _unfit(name, path, value)


def _plain_builtin(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):  # an enumeration of asyncua is an int, too
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, ua.LocalizedText):
        return _plain_builtin(value.Text)
    if isinstance(value, str):  # asyncua keeps bytes that are no UTF-8 as surrogates, which no wire takes
        return str.__str__(value).encode(errors="replace").decode()
    if isinstance(value, (ua.NodeId, ua.ExpandedNodeId)):
        return value.to_string()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
