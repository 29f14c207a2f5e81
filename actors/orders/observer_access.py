"""How the plant file lets others look at orders: the door of the server of `observer/0`."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from tagwerk.actors.orders.view_server import Door
from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.context import ActorContext
from tagwerk.runtime.plantfile_models import ObserverSection
from tagwerk.runtime.ua_certificate import own_certificate
from tagwerk.runtime.ua_security import read_password

MODES: Final = ("none", "sign", "sign_and_encrypt")


def door_of(context: ActorContext, section: ObserverSection) -> Door:
    """Give who may look at the plant's own server.

    Raises:
        ConfigError: The password, the certificate or its key cannot be read.
    """
    folder = Path(context.plant.path).parent
    password = ""
    if section.user:
        password = read_password(folder / section.password_file, "order.observer.password_file")
    modes = MODES[MODES.index(section.security) :]
    uri = f"urn:{socket.gethostname()}:tagwerk:observer"
    if section.certificate:
        certificate, uri = _certificate(folder / section.certificate, uri)
        key = _key(folder / section.key)
    else:
        directory = context.home.actor_data(context.name)
        certificate, key = own_certificate(directory, uri, ExtendedKeyUsageOID.SERVER_AUTH)
    return Door(
        modes, certificate, key, uri, section.user, password, section.anonymous, section.clients, writable=False
    )


def _certificate(path: Path, uri: str) -> tuple[bytes, str]:
    """Give a certificate as DER, and who it says that we are."""
    data = _read(path, "certificate")
    try:
        pem = data.startswith(b"-----")
        found = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        expected = "a certificate, PEM or DER, with the URI of the application as an alternative name"
        raise ConfigError(
            f"it cannot be used: {error}", file=str(path), key="order.observer.certificate", expected=expected
        ) from error
    return found.public_bytes(Encoding.DER), uris[0] if uris else uri


def _key(path: Path) -> bytes:
    """Give a private key as PEM."""
    data = _read(path, "key")
    try:
        found = (load_pem_private_key if data.startswith(b"-----") else load_der_private_key)(data, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"it cannot be used: {error}", file=str(path), key="order.observer.key",
            expected="a private key, PEM or DER, without a password",
        ) from error  # fmt: skip
    return found.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error}", file=str(path), key=f"order.observer.{key}") from error
