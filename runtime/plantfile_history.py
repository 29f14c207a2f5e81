"""Where history is kept, as the plant file says it: what is right in `[history] store`."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Final
from urllib.parse import parse_qsl

from tagwerk.protocols.errors import ConfigError

STORE_FORM: Final = "postgresql://USER@HOST:PORT/DATABASE, without a password; or no such key: files of its own"
SECRET_FORM: Final = "no password here; one in ~/.pgpass, a passfile, a service file or PGPASSWORD"
INSTALL: Final = "pip install 'tagwerk[postgresql]'"

_SCHEMES: Final = ("postgresql", "postgres")
_SECRET: Final = re.compile(r"(password\s*=).*", re.IGNORECASE | re.DOTALL)
_SECRETS: Final = frozenset({"password", "sslpassword"})


def store_problem(store: str) -> tuple[str, str, str] | None:
    """What is wrong with the address of a database: (what, the value as it may be shown, what would be right).

    Hosts, ports and options are libpq's, which says itself what it does not know.
    """
    scheme, separator, rest = store.partition("://")
    user, _, place = rest.rpartition("@")
    # Also where somebody forgot to write %40, %2F or %3F in a password, nothing of it is shown.
    name, question, _ = user.partition(":")[0].partition("?")
    behind = "..." if question else f"{'@' if user else ''}{place.partition('?')[0]}"
    shown = f"{scheme}{separator}{name}{behind}"
    shown = _SECRET.sub(r"\1...", shown)
    if scheme not in _SCHEMES or not separator:
        return "history cannot be kept there", shown, STORE_FORM
    if ":" in user or any(key in _SECRETS for key, _ in parse_qsl(rest.partition("?")[2])):
        return "a password would be read by all who read this file", shown, SECRET_FORM
    return None


def require_psycopg(file: str) -> None:
    """Refuse to go on without the library.

    Raises:
        ConfigError: It is not installed.
    """
    if find_spec("psycopg") is None:
        raise ConfigError("the library psycopg is not installed", file=file, key="history.store", expected=INSTALL)
