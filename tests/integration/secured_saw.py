"""The saw of the workshop behind a lock: `secured_saw.py URL FOLDER`.

It takes encrypted channels only, and only the user `anna`; its certificate is kept in the folder.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager
from opcua_server import secure

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "workshop"))


class Anna(UserManager):
    def get_user(
        self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        return User(UserRole.User) if (username, password) == ("anna", "geheim") else None


async def main(url: str, folder: Path) -> None:
    model = import_module("model")
    model.quiet()
    server = await model.new_server(url, "secured saw")
    server.iserver.user_manager = Anna()
    await secure(server, folder)
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    server.set_identity_tokens([ua.UserNameIdentityToken])
    await import_module("saw").build(server)
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
