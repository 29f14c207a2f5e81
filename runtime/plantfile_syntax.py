"""Texts with a syntax of their own in a plant file: NodeIds, server addresses, class paths, sources."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Container
from typing import Final

from tagwerk.protocols.names import actor_name_problem

NODE_ID_FORM: Final = 'nsu=URI;s=NAME, or i=NUMBER, g=GUID, b=BASE64 in place of "s=NAME"'
URL_FORM: Final = "opc.tcp://HOST:PORT/PATH, as in opc.tcp://192.168.0.10:4840/plc"
CLASS_FORM: Final = "module:Class, as in mash:Mash"

# OPC UA Part 6 (1.05), 5.3.1.10: XML encoding of NodeId and ExpandedNodeId.
_NODE_ID: Final = re.compile(r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>\d{1,5});)?(?P<kind>[sigb])=(?P<id>.+)", re.DOTALL)
_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_NODE_ID_LIMIT: Final = 4096  # characters of a string identifier; Part 3 (1.05), 8.2.4
_UINT16_TOP: Final = 0xFFFF
_UINT32_TOP: Final = 0xFFFFFFFF
_URL: Final = re.compile(r"opc\.tcp://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})(?:/[^\s]*)?")
_CLASS: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def node_id_problem(text: str) -> str | None:
    """Say what is wrong with a NodeId, or None if it is sound."""
    match = _NODE_ID.fullmatch(text)
    if match is None or len(text) > _NODE_ID_LIMIT:
        return "it is not a NodeId"
    if match["index"] and int(match["index"]) > _UINT16_TOP:
        return f"a namespace index is at most {_UINT16_TOP}"
    return _identifier_problem(match["kind"], match["id"])


def moves(node_id: str) -> bool:
    """Tell whether a sound NodeId names its namespace by an index, which may change when the server restarts."""
    return node_id.startswith("ns=") and not node_id.startswith("ns=0;")


def url_problem(text: str) -> str | None:
    """Say what is wrong with the address of an OPC UA server, or None if it is sound."""
    match = _URL.fullmatch(text)
    if match is None:
        return "it is not the address of an OPC UA server"
    return port_problem(match["port"])


def port_problem(digits: str) -> str | None:
    """Say what is wrong with the number of a port, or None if it is sound."""
    return None if 0 < int(digits) <= _UINT16_TOP else f"a port is a number from 1 to {_UINT16_TOP}"


def class_problem(text: str) -> str | None:
    """Say what is wrong with the path of a machine's class, or None if it is sound."""
    return None if _CLASS.fullmatch(text) else "it does not name a class"


def normal_source(text: str, links: Container[str], machines: Container[str]) -> str | None:
    """Give the actor or writer that a `source` names (`plc`, `opcua.plc` and `opcua/plc` are `opcua/plc`).

    Args:
        text: The source as written.
        links: Names of the [opcua] sections.
        machines: Names of the [machine] sections.

    Returns:
        `opcua/NAME`, `machine/NAME`, `writer/NAME`, "" for no source, or None if it names nothing, or two things.
    """
    if not text:
        return ""
    kind, _, name = text.replace(".", "/", 1).rpartition("/")
    if kind == "writer":
        return None if actor_name_problem(f"writer/{name}") else f"writer/{name}"
    found = [
        f"{section}/{name}"
        for section, names in (("opcua", links), ("machine", machines))
        if kind in ("", section) and name in names
    ]
    return found[0] if len(found) == 1 else None


def _identifier_problem(kind: str, identifier: str) -> str | None:
    if kind == "i" and not (identifier.isascii() and identifier.isdigit() and int(identifier) <= _UINT32_TOP):
        return f"i= takes a whole number up to {_UINT32_TOP}"
    if kind == "g" and not _GUID.fullmatch(identifier):
        return "g= takes a GUID"
    if kind == "b":
        try:
            base64.b64decode(identifier, validate=True)
        except (binascii.Error, ValueError):
            return "b= takes base64"
    return None
