"""Type dictionaries of OPC Binary (Part 5, annex C; deprecated): how servers on open62541 describe their types."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from typing import Final, NamedTuple

from tagwerk.protocols.errors import RemoteProtocolError

_SCHEMA: Final = "{http://opcfoundation.org/BinarySchema/}"
MOST_BYTES: Final = 4 << 20
NAMES: Final = {"CharArray": "String", "Char": "Byte"}
"""Type of the dictionary -> built-in type, where the name differs."""


class BsdField(NamedTuple):
    """A field: its name, its type's name without a prefix, and whether it is an array."""

    name: str
    type: str
    array: bool


class Dictionary(NamedTuple):
    """What a dictionary tells.

    Args:
        structures: Name -> fields.
        enumerations: Their names.
    """

    structures: dict[str, tuple[BsdField, ...]]
    enumerations: frozenset[str]


def read_dictionary(text: bytes) -> Dictionary:
    """Read a dictionary.

    Raises:
        RemoteProtocolError: It is none, or it is too big.
    """
    if len(text) > MOST_BYTES or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise RemoteProtocolError("a type dictionary is too big, or defines entities")
    try:
        root = Xml.fromstring(text.rstrip(b"\0"))
    except (Xml.ParseError, ValueError) as error:
        raise RemoteProtocolError(f"a type dictionary cannot be read: {error}") from error
    structures = {one.get("Name", ""): tuple(_fields(one)) for one in root.iter(f"{_SCHEMA}StructuredType")}
    return Dictionary(structures, frozenset(one.get("Name", "") for one in root.iter(f"{_SCHEMA}EnumeratedType")))


def _fields(structure: Xml.Element) -> list[BsdField]:
    fields = structure.findall(f"{_SCHEMA}Field")
    lengths = {one.get("LengthField") for one in fields}
    found: list[BsdField] = []
    for one in fields:
        name, type_ = one.get("Name", ""), one.get("TypeName", "").rpartition(":")[2]
        if one.get("SwitchField") or type_ == "Bit":
            raise RemoteProtocolError(f"the dictionary's type {structure.get('Name')} has optional fields")
        if name not in lengths:
            found.append(BsdField(name, NAMES.get(type_, type_), one.get("LengthField") is not None))
    return found
