"""How the plant file lets us into OPC UA servers of orders, and under which name we stand in their queues."""

from __future__ import annotations

import logging
import socket
from hashlib import blake2b
from pathlib import Path

from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.plantfile_models import OrderSection, ResourceConfig
from tagwerk.runtime.ua_security import Security, read_password

_log = logging.getLogger(__name__)


def security_of(context: ActorContext, section: OrderSection | ResourceConfig, key: str, url: str) -> Security:
    """Give how the channel to a server is opened.

    Args:
        context: Of the actor whose session it is.
        section: Of the plant file.
        key: The section's name.
        url: Of the server: each has a pin of its own.

    Raises:
        ConfigError: The password cannot be read.
    """
    password = ""
    if section.password_file:
        password = read_password(Path(context.plant.path).parent / section.password_file, f"{key}.password_file")
    if section.user and section.security != "sign_and_encrypt":
        _log.warning("%s: the password travels readable unless security = 'sign_and_encrypt'", key)
    directory = None
    if section.security != "none":
        directory = context.home.actor_data(context.name) / blake2b(url.encode(), digest_size=8).hexdigest()
        directory.mkdir(mode=0o700, exist_ok=True)
    return Security(section.security, directory, section.user, password)


def queue_name(context: ActorContext) -> str:
    """Give the plant's name in the queues of resources: no other plant, on this host or another, has the same."""
    place = blake2b(f"{socket.gethostname()}:{context.home.root}".encode(), digest_size=4).hexdigest()
    return f"{context.plant.plant.name.replace(':', '_')}-{place}"
