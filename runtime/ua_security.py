"""Who we are to a server, and which server we believe: certificate, pin, password."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tagwerk.protocols.errors import ConfigError

PASSWORD_LIMIT_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Security:
    """How a link opens its channel.

    Args:
        mode: `none`, `sign` or `sign_and_encrypt` (Basic256Sha256).
        directory: Where certificate, key and the server's pin are kept; None only with mode `none`.
        user: "" is anonymous.
        password: Of this user.
    """

    mode: Literal["none", "sign", "sign_and_encrypt"] = "none"
    directory: Path | None = None
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Security({self.mode}, user={self.user!r})"


def read_password(path: Path, key: str) -> str:
    """The password in a file that only its owner can read.

    Raises:
        ConfigError: The file is not there, is open to others, or holds no password.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > PASSWORD_LIMIT_BYTES:
            raise ConfigError("is no password file", file=str(path), key=key, expected="a small text file")
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            mode = f"mode {stat.S_IMODE(status.st_mode):o}, uid {status.st_uid}"
            raise ConfigError(
                "the password file is open to others", file=str(path), key=key, value=mode,
                expected=f"mode 600, uid {os.getuid()}",
            )  # fmt: skip
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the password file cannot be read: {error}", file=str(path), key=key, expected="a text file"
        ) from error
    if not password:
        raise ConfigError("the password file is empty", file=str(path), key=key, expected="the password")
    return password
