"""Looking at a server without a running plant: what it offers, what it holds, one value, one write.

Every function opens its own session and closes it. All raise `DeviceGone` if the server does not answer.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from tagwerk.actors.opcua import asyncua_mends as mends
from tagwerk.actors.opcua.client import CONNECT_LIMIT_S, UaDevice
from tagwerk.actors.opcua.device import Reading
from tagwerk.actors.opcua.logic.columns import Run
from tagwerk.actors.opcua.logic.writes import INT_RANGES, as_node_type, check_answer
from tagwerk.actors.opcua.nodeids import Namespaces
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import ConfigError, DeviceGone, Refused, RefusedCode
from tagwerk.runtime.plantfile_models import OpcuaConfig
from tagwerk.runtime.plantfile_syntax import URL_FORM, url_problem
from tagwerk.runtime.ua_security import Security

DEPTH_LIMIT: Final = 20
NODES_LIMIT: Final = 50_000
OBJECTS: Final = "i=85"
TIMEOUT_S: Final = 5.0
"""How long a connection may take; each request has a limit of its own."""
_CHUNK: Final = 100  # nodes a Browse call
_REFERENCES_LIMIT: Final = 1_000  # references a node in one answer; the rest comes by BrowseNext
_STRANGE: Final = re.compile(r"[^A-Za-z0-9_]+")
_NO_SUCH: Final = MappingProxyType(
    {q.BAD_NODE_ID_UNKNOWN: "node", 0x8033_0000: "node", 0x8035_0000: "value to read in"}
)
"""BadNodeIdUnknown, BadNodeIdInvalid, BadAttributeIdInvalid: what the server has not."""
_PROPERTY, _SERVER = ObjectIds.HasProperty, ObjectIds.Server

TAG_TYPES: Final = MappingProxyType(
    {"Boolean": "bool", "String": "str", "Float": "float", "Double": "float", **dict.fromkeys(INT_RANGES, "int")}
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way into a server."""

    url: str
    security_mode: str
    security_policy: str
    users: tuple[str, ...]
    server: str


@dataclass(frozen=True, slots=True)
class BrowseRow:
    """One node.

    Args:
        depth: Steps from where the browse began.
        path: Names from there, joined by dots.
        node: Its NodeId with the URI of its namespace.
        node_class: `Object`, `Variable` or `Method`.
        type_name: Built-in type of a variable's value; "" if it is none, or an array.
        writable: This session may write it.
        description: As the server says.
        tag_name: The path as a tag name; unique among the rows of one browse.
    """

    depth: int
    path: str
    node: str
    node_class: str
    type_name: str = ""
    writable: bool = False
    description: str = ""
    tag_name: str = ""

    @property
    def tag_type(self) -> str:
        """`float`, `int`, `bool` or `str`; "" if the node cannot be a tag."""
        return TAG_TYPES.get(self.type_name, "")

    def csv_row(self, source: str) -> dict[str, str]:
        """The columns of `tag_files` that are known; `source` is the link, `opcua/plc`."""
        return {
            "name": self.tag_name,
            "type": self.tag_type,
            "description": self.description,
            "source": source,
            "node": self.node,
            "writable": "true" if self.writable else "false",
        }


@dataclass(frozen=True, slots=True)
class NodeValue:
    """A value as the server gives it."""

    node: str
    type_name: str
    reading: Reading


async def discover(url: str, timeout_s: float = TIMEOUT_S) -> list[Endpoint]:
    """What the server offers, without a session."""
    _check_url(url)
    client = Client(mends.tcp_url(url), timeout=CONNECT_LIMIT_S)
    mends.quiet_asyncua()
    try:
        async with asyncio.timeout(timeout_s):
            with mends.plain_cancellation():
                found = await client.connect_and_get_server_endpoints()
    except mends.NONSENSE as error:
        raise DeviceGone(f"{url}: {mends.reason(error)}") from error
    finally:
        mends.abort(client)
    return [
        Endpoint(
            str(one.EndpointUrl),
            one.SecurityMode.name.rstrip("_"),
            str(one.SecurityPolicyUri).rpartition("#")[2],
            tuple(token.TokenType.name for token in one.UserIdentityTokens or []),
            str(one.Server.ApplicationName.Text or one.Server.ApplicationUri),
        )
        for one in found
    ]


async def read(url: str, node: str, security: Security | None = None, timeout_s: float = TIMEOUT_S) -> NodeValue:
    """One value.

    Raises:
        Refused: The server has no such node, or the node has no value.
    """
    async with _device(url, security, timeout_s) as device:
        _resolved(device, node)
        type_name = await device.node_type(node)
        return NodeValue(node, type_name, await _existing(device, node))


async def write(
    url: str, node: str, value: str | float | bool, security: Security | None = None, timeout_s: float = TIMEOUT_S
) -> NodeValue:
    """Write one value, once; text is read as the node's type. Returns what was read back.

    Raises:
        Refused, NotSent, Unknown: It was not done; nobody knows.
    """
    async with _device(url, security, timeout_s) as device:
        _resolved(device, node)
        type_name = await device.node_type(node)
        if not type_name:
            await _existing(device, node)
        fitting = as_node_type(_from_text(value, type_name), type_name)
        check_answer(await device.write(node, fitting, type_name, lambda: None))
        (reading,) = await device.read([node])
        return NodeValue(node, type_name, reading)


async def browse(
    url: str,
    start: str = OBJECTS,
    max_depth: int = DEPTH_LIMIT,
    max_nodes: int = NODES_LIMIT,
    security: Security | None = None,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[BrowseRow]:
    """The nodes below `start`, breadth first, each once. Ends at `max_depth` steps or `max_nodes` rows.

    The server's own diagnostics (`Server`) and properties are left out, unless one starts there.

    Raises:
        Refused: `BadValue` if `start` is no node of the server.
    """
    most = min(max_nodes, NODES_LIMIT)
    async with _device(url, security, timeout_s) as device:
        namespaces = device.namespaces
        root = _resolved(device, start)
        seen = {root}
        names: set[str] = set()
        level: list[tuple[ua.NodeId, str]] = [(root, "")]
        rows = 0
        for depth in range(1, min(max_depth, DEPTH_LIMIT) + 1):
            below: list[tuple[ua.NodeId, str]] = []
            for place in range(0, len(level), _CHUNK):
                part = level[place : place + _CHUNK]
                async with _answering(url):
                    found = await _children(device.client, part, seen)
                    plain = found[: most - rows]
                    part_rows = await _rows(device.client, namespaces, plain, depth, names)
                for row in part_rows:
                    yield row
                rows += len(plain)
                if rows >= most:
                    return
                below += [(node, path) for node, path, kind in plain if kind != ua.NodeClass.Method]
            level = below


async def _children(
    client: Client, parents: Sequence[tuple[ua.NodeId, str]], seen: set[ua.NodeId]
) -> list[tuple[ua.NodeId, str, ua.NodeClass]]:
    """What is below these nodes and was not seen before; a cycle ends here."""
    message = ua.BrowseRequest()
    message.Parameters.RequestedMaxReferencesPerNode = ua.Counter(_REFERENCES_LIMIT)
    for parent, _ in parents:
        wanted = ua.BrowseDescription()
        wanted.NodeId = parent
        wanted.BrowseDirection = ua.BrowseDirection.Forward
        wanted.ReferenceTypeId = ua.NodeId(ua.Int32(ObjectIds.HierarchicalReferences))
        wanted.IncludeSubtypes = True
        wanted.NodeClassMask = ua.UInt32(ua.NodeClass.Object | ua.NodeClass.Variable | ua.NodeClass.Method)
        wanted.ResultMask = ua.UInt32(ua.BrowseResultMask.All)
        message.Parameters.NodesToBrowse.append(wanted)
    results = await client.uaclient.session.browse(message.Parameters)
    found: list[tuple[ua.NodeId, str, ua.NodeClass]] = []
    for (parent, path), result in zip(parents, results, strict=True):
        if not path and q.is_bad(int(result.StatusCode.value)):
            raise Refused(RefusedCode.UNKNOWN_TAG, f"the server has no node {parent.to_string()!r}")
        references = list(result.References or [])
        point = result.ContinuationPoint
        while point and len(references) < NODES_LIMIT:
            more = ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=[point])
            (answer,) = await client.uaclient.session.browse_next(more)
            references += answer.References or []
            point = answer.ContinuationPoint
        for reference in references:
            node = ua.NodeId(reference.NodeId.Identifier, reference.NodeId.NamespaceIndex, reference.NodeId.NodeIdType)
            plain = node.NamespaceIndex == 0 and node.Identifier == _SERVER
            if node in seen or plain or reference.ReferenceTypeId.Identifier == _PROPERTY:
                continue
            seen.add(node)
            name = str(reference.BrowseName.Name)
            found.append((node, f"{path}.{name}" if path else name, reference.NodeClass))
    return found


async def _rows(
    client: Client,
    namespaces: Namespaces,
    found: Sequence[tuple[ua.NodeId, str, ua.NodeClass]],
    depth: int,
    names: set[str],
) -> list[BrowseRow]:
    variables = [node for node, _, kind in found if kind == ua.NodeClass.Variable]
    facts = await _facts(client, variables)
    rows: list[BrowseRow] = []
    for node, path, kind in found:
        type_name, writable, description = facts.get(node, ("", False, ""))
        portable = namespaces.portable(node)
        tag_name = _unique(_tag_name(path), names)
        rows.append(BrowseRow(depth, path, portable, kind.name, type_name, writable, description, tag_name))
    return rows


async def _facts(client: Client, nodes: Sequence[ua.NodeId]) -> dict[ua.NodeId, tuple[str, bool, str]]:
    """Type, writability and description of variables."""
    facts: dict[ua.NodeId, tuple[str, bool, str]] = {}
    for place in range(0, len(nodes), _CHUNK):
        part = list(nodes[place : place + _CHUNK])
        message = ua.ReadRequest()
        for node in part:
            for attribute in (AttributeIds.Value, AttributeIds.UserAccessLevel, AttributeIds.Description):
                wanted = ua.ReadValueId()
                wanted.NodeId = node
                wanted.AttributeId = attribute
                message.Parameters.NodesToRead.append(wanted)
        answers = await client.uaclient.session.read(message.Parameters)
        for number, node in enumerate(part):
            value, access, text = answers[3 * number : 3 * number + 3]
            variant = value.Value
            level = access.Value.Value if access.Value is not None else 0
            described = mends.scalar(text.Value, foreign="")
            writable = isinstance(level, int) and bool(level & 2)
            known = variant is not None and not variant.is_array and variant.Value is not None
            type_name = variant.VariantType.name if variant is not None and known else ""
            facts[node] = (type_name, writable, str(described or ""))
    return facts


def _tag_name(path: str) -> str:
    segments = [_STRANGE.sub("_", segment).strip("_") for segment in path.split(".")]
    return ".".join(segment for segment in segments if segment)[:190] or "node"


def _unique(name: str, names: set[str]) -> str:
    number, candidate = 2, name
    while candidate in names:
        candidate = f"{name}_{number}"
        number += 1
    names.add(candidate)
    return candidate


def _from_text(value: str | float | bool, type_name: str) -> str | float | bool:
    """What a person typed, as the node's type."""
    if not isinstance(value, str) or type_name == "String":
        return value
    lowered = value.strip().lower()
    if type_name == "Boolean":
        if lowered in ("true", "1", "on"):
            return True
        if lowered in ("false", "0", "off"):
            return False
        raise Refused(RefusedCode.WRONG_TYPE, f"{value!r} is no Boolean: true or false")
    try:
        number = int(lowered) if type_name in INT_RANGES else float(lowered)
    except ValueError as error:
        raise Refused(RefusedCode.WRONG_TYPE, f"{value!r} is no {type_name or 'scalar'}") from error
    if not math.isfinite(number):
        raise Refused(RefusedCode.BAD_VALUE, f"{value!r} cannot be written: it is not finite")
    return number


def _check_url(url: str) -> None:
    if problem := url_problem(mends.tcp_url(url)):
        raise ConfigError(problem, key="URL", value=url, expected=URL_FORM)


def _resolved(device: UaDevice, node: str) -> ua.NodeId:
    nodeid = device.namespaces.resolve(node)
    if nodeid is None:
        raise Refused(RefusedCode.BAD_VALUE, f"{node!r} is no node of this server")
    return nodeid


async def _existing(device: UaDevice, node: str) -> Reading:
    (reading,) = await device.read([node])
    if what := _NO_SUCH.get(reading.status & q.CODE_MASK):
        raise Refused(RefusedCode.UNKNOWN_TAG, f"the server has no {what} {node!r}")
    return reading


@final
class _Silent:
    """Nobody listens: a tool asks, and the answers are what it wants."""

    def on_data(self, runs: Sequence[Run], received_ns: int) -> None:
        """Nothing is subscribed."""

    def on_gap(self, reason: str) -> None:
        """Nothing is subscribed."""

    def on_lost(self, reason: str) -> None:
        """The call under way says so itself."""

    def on_failed(self, error: BaseException) -> None:
        """The only task is the renewal of the channel, long after a tool has ended."""


@asynccontextmanager
async def _device(url: str, security: Security | None, timeout_s: float) -> AsyncGenerator[UaDevice, None]:
    _check_url(url)
    mends.quiet_asyncua()
    device = UaDevice(OpcuaConfig(url=url), security or Security(), _Silent())
    try:
        async with _answering(url), asyncio.timeout(timeout_s):
            await device.connect()
        yield device
    finally:
        await device.close()


@asynccontextmanager
async def _answering(url: str) -> AsyncGenerator[None, None]:
    try:
        yield
    except DeviceGone as error:
        raise DeviceGone(f"{url}: {error}") from error
    except mends.NONSENSE as error:
        raise DeviceGone(f"{url}: {mends.reason(error)}") from error
