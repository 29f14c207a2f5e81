"""The OPC UA server in which orders are looked at: its namespace, its types, the object that all tasks are below.

Names are the original's, slips of the pen included, because observers look for them.
"""

from __future__ import annotations

import hmac
import logging
import socket
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, final
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.common.manage_nodes import delete_nodes
from asyncua.common.node import Node
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from tagwerk.actors.orders.view_guard import guarded
from tagwerk.actors.orders.view_types import ViewTypes

SERVER_NAME: Final = "Execution Engine"
NAMESPACE: Final = "http://exection_engine.fraunhofer.iosb.de"
FIRST_NUMBER: Final = 1 << 20
NUMBERS: Final = (1 << 32) - FIRST_NUMBER
TASKS_LIMIT: Final = 2_000
BYTES_LIMIT: Final = 128 << 20
"""Of all values that are shown."""

_POLICIES: Final = {
    "none": ua.SecurityPolicyType.NoSecurity,
    "sign": ua.SecurityPolicyType.Basic256Sha256_Sign,
    "sign_and_encrypt": ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """Who may look.

    Args:
        modes: Of message security: `none`, `sign`, `sign_and_encrypt`.
        certificate: The server's, DER; not needed with `none` alone.
        key: Its key, PEM.
        uri: Who the server says it is; "" is asyncua's own.
        user: "" is nobody by name.
        password: Of this user.
        anonymous: Whether others may, too.
        clients: How many at the same time.
        writable: Whether clients may write states, as at the original's.
    """

    modes: tuple[str, ...] = ("none",)
    certificate: bytes = b""
    key: bytes = b""
    uri: str = ""
    user: str = ""
    password: str = ""
    anonymous: bool = True
    clients: int = 100
    writable: bool = True

    def __repr__(self) -> str:
        return f"Door({self.modes}, user={self.user!r}, anonymous={self.anonymous})"


class _Users(UserManager):
    """Lets in whom the door lets in; nobody may change the address space."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        door = self._door
        known = bool(door.user) and hmac.compare_digest((username or "").encode(), door.user.encode())
        right = hmac.compare_digest((password or "").encode(), door.password.encode())
        if (known and right) or (username is None and door.anonymous):
            return User(role=UserRole.User, name=username)
        _log.warning("refused: user %.100r", username)
        return None


@final
class ViewServer:
    """One server.

    Args:
        url: Where it listens.
        door: Who may look.
    """

    def __init__(self, url: str, door: Door | None = None) -> None:
        self.door: Final = door or Door()
        self.server: Final = Server(user_manager=_Users(self.door))
        self.tasks = 0
        self.bytes = 0
        self._url = url

    async def build(self) -> None:
        """Make what is there before any order is."""
        server, door = self.server, self.door
        server.iserver.max_connections = door.clients
        server.iserver.max_subscriptions = 4 * door.clients
        await server.init()
        server.set_endpoint(self._url)
        server.set_server_name(SERVER_NAME)
        server.allow_remote_admin(False)
        if door.uri:
            await server.set_application_uri(door.uri)
        if door.certificate:
            await server.load_certificate(door.certificate, "der")
            await server.load_private_key(door.key, format="pem")
        server.set_security_policy([_POLICIES[mode] for mode in door.modes])
        tokens: list[type] = [ua.UserNameIdentityToken] if door.user else []
        server.set_identity_tokens([*tokens, ua.AnonymousIdentityToken] if door.anonymous else tokens)
        self.index = await server.register_namespace(NAMESPACE)
        self.types = ViewTypes(server, self.index, self.new_id)
        base = server.nodes.base_object_type
        data_object = await base.add_object_type(self.new_id("DataObject"), self.name("DataObject"))
        self.task_type = (await base.add_object_type(self.new_id("TaskObjectType"), self.name("TaskObjectType"))).nodeid
        root = self.new_id("LifeCycleObject")
        self.root = await self.add_object(
            server.nodes.objects, root, "LifeCycleObject", data_object.nodeid, ObjectIds.Organizes
        )

    def port_problem(self) -> str:
        """Say why nobody can listen there now, "" if one can."""
        url = urlsplit(self._url)
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                url.hostname, url.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            return f"{self._url}: {error}"
        return ""

    async def listen(self) -> None:
        """Let clients come.

        Raises:
            OSError: It cannot listen there.
        """
        with guarded():
            await self.server.start()

    async def stop(self) -> None:
        """Listen no more."""
        await self.server.stop()

    # --- nodes -------------------------------------------------------------------------------------------------------

    def name(self, name: str) -> ua.QualifiedName:
        """Give a browse name of the namespace."""
        return ua.QualifiedName(name, ua.UInt16(self.index))

    def new_id(self, text: str) -> ua.NodeId:
        """Give the id of a new node: a number made of the text that stands for it, the same in each process."""
        number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) % NUMBERS
        space = self.server.iserver.aspace
        while (found := ua.NodeId(ua.Int32(FIRST_NUMBER + number), ua.Int16(self.index))) in space:
            number = (number + 1) % NUMBERS
        return found

    def is_free(self, nodeid: ua.NodeId) -> bool:
        """Tell whether no node has this id."""
        return nodeid not in self.server.iserver.aspace

    async def add_object(self, parent: Node, nodeid: ua.NodeId, name: str, type_: ua.NodeId, reference: int) -> Node:
        """Add an object without the parts that its type has."""
        item = ua.AddNodesItem()
        item.RequestedNewNodeId = nodeid
        item.BrowseName = self.name(name)
        item.NodeClass = ua.NodeClass.Object
        item.ParentNodeId = parent.nodeid
        item.ReferenceTypeId = ua.NodeId(ua.Int32(reference))
        item.TypeDefinition = type_
        item.NodeAttributes = ua.ObjectAttributes(DisplayName=ua.LocalizedText(name))
        (result,) = await parent.session.add_nodes([item])
        result.StatusCode.check()
        return self.server.get_node(result.AddedNodeId)

    async def remove(self, node: Node, parent: Node, reference: int) -> None:
        """Take a node away from its parent, with all below it."""
        await self.unlink(node, parent, reference)
        await self._remove(node)

    async def unlink(self, node: Node, parent: Node, reference: int) -> None:
        """Take the reference of a parent to a node away; asyncua's own way reads all that the parent has."""
        item = ua.DeleteReferencesItem()
        item.SourceNodeId, item.TargetNodeId = parent.nodeid, node.nodeid
        item.ReferenceTypeId = ua.NodeId(ua.Int32(reference))
        item.IsForward, item.DeleteBidirectional = True, False
        for status in await parent.session.delete_references([item]):
            status.check()

    async def _remove(self, node: Node) -> None:
        """Take a node away, with all below it.

        Not by asyncua's `delete_nodes` alone: for each node that one looks through all references of the server, 20 ms,
        and its message to those who watch a variable is never sent.
        """
        for one in await node.get_children():
            await self._remove(one)
        space = self.server.iserver.aspace
        value = space[node.nodeid].attributes.get(AttributeIds.Value)
        if value is not None and value.datachange_callbacks:
            gone = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadNodeIdUnknown)))
            await node.write_attribute(AttributeIds.Value, gone)
            for handle in list(value.datachange_callbacks):
                space.delete_datachange_callback(handle)
        await delete_nodes(node.session, [node], delete_target_references=False)
