"""A small OPC UA server for the tests of the link: `opcua_server.py PORT LATE_S SECURE_DIR [busy]`."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC
from pathlib import Path

from asyncua import ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.object_ids import ObjectIds
from cryptography.x509.oid import ExtendedKeyUsageOID

URI = "urn:tagwerk:test"


class OneUser(UserManager):
    """Knows `anna`, and lets everybody else in who gives no name."""

    def get_user(
        self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        if username is None or (username, password) == ("anna", "geheim"):
            return User(UserRole.User)
        return None


async def secure(server: Server, directory: Path) -> None:
    key, certificate = directory / "server.pem", directory / "server.der"
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    uri = "urn:tagwerk:test:server"
    await server.set_application_uri(uri)
    await setup_self_signed_certificate(key, certificate, uri, "localhost", usage, {})
    await server.load_certificate(str(certificate))
    await server.load_private_key(str(key))
    server.set_security_policy(
        [
            ua.SecurityPolicyType.NoSecurity,
            ua.SecurityPolicyType.Basic256Sha256_Sign,
            ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
        ]
    )


async def main(port: int, late_s: float, directory: str) -> None:
    server = Server(user_manager=OneUser())
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    if directory:
        await secure(server, Path(directory))
    index = await server.register_namespace(URI)

    def nodeid(name: str) -> ua.NodeId:
        return ua.NodeId(ua.String(name), ua.Int16(index))

    folder = await server.nodes.objects.add_folder(nodeid("plant"), f"{index}:plant")
    writable = [
        await folder.add_variable(nodeid("double"), f"{index}:double", 1.5),
        await folder.add_variable(nodeid("int"), f"{index}:int", 7, ua.VariantType.Int16),
        await folder.add_variable(nodeid("bool"), f"{index}:bool", True),
        await folder.add_variable(nodeid("text"), f"{index}:text", "hello"),
        await folder.add_variable(nodeid("watchdog"), f"{index}:watchdog", False),
    ]
    for node in writable:
        await node.set_writable()
    await folder.add_variable(nodeid("readonly"), f"{index}:readonly", 2.5)
    await folder.add_variable(nodeid("array"), f"{index}:array", [1.0, 2.0])
    counter = await folder.add_variable(nodeid("counter"), f"{index}:counter", 0, ua.VariantType.Int64)
    inner = await folder.add_folder(nodeid("inner"), f"{index}:inner")
    await inner.add_reference(folder, ObjectIds.HasComponent)  # a cycle
    many = [await folder.add_variable(nodeid(f"many{n}"), f"{index}:many{n}", 0.0) for n in range(1200)]
    async with server:
        sys.stdout.write("up\n")
        sys.stdout.flush()
        number = 0
        while True:
            number += 1
            await counter.write_value(
                ua.DataValue(ua.Variant(number, ua.VariantType.Int64), SourceTimestamp=ua.DateTime.now(UTC))
            )
            if late_s >= 0 and number == round(late_s * 20):
                await folder.add_variable(nodeid("late"), f"{index}:late", 42.0)
            if number % 2 == 0 and len(sys.argv) > 4:
                stamp = ua.DateTime.now(UTC)
                for node in many:
                    value = ua.DataValue(ua.Variant(float(number), ua.VariantType.Double), SourceTimestamp=stamp)
                    await server.write_attribute_value(node.nodeid, value)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
