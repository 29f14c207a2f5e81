"""Our own certificate, made on first use, and the server's, pinned on first use."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import cert_gen, security_policies
from asyncua.crypto.uacrypto import CertProperties
from asyncua.ua.uaerrors import UaError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tagwerk.runtime.ua_security import Security

VALID_DAYS: Final = 7_300
"""20 years: a certificate that ends in the night ends the link."""

_MODES: Final = {
    "sign": ua.MessageSecurityMode.Sign,
    "sign_and_encrypt": ua.MessageSecurityMode.SignAndEncrypt,
}


def application_uri() -> str:
    """Who we say we are; it stands in our certificate too, servers compare."""
    return f"urn:{socket.gethostname()}:tagwerk:opcua"


async def secure(client: Client, security: Security) -> None:
    """Let the client sign (and encrypt) with Basic256Sha256.

    The server that answered first is the one that is believed from then on: its certificate is in `server.der`. Another
    certificate makes the channel fail until somebody removes that file.

    Raises:
        OSError, TimeoutError, ua.UaError: The server offers no such endpoint, or cannot be reached.
    """
    directory = security.directory
    if directory is None:
        raise UaError("no directory for our certificate")
    own, key = own_certificate(directory)
    pin = directory / "server.der"
    trusted = pin.read_bytes() if pin.exists() else None
    client.application_uri = application_uri()
    await client.set_security(
        security_policies.SecurityPolicyBasic256Sha256,
        CertProperties(own, "der"),
        CertProperties(key, "pem"),
        server_certificate=None if trusted is None else CertProperties(trusted, "der"),
        mode=_MODES[security.mode],
    )


def pin_server(client: Client, directory: Path) -> bool:
    """Keep the certificate of the server, which has just proved that it has the key. Returns whether it is new."""
    pin = directory / "server.der"
    certificate = client.security_policy.peer_certificate
    if pin.exists() or certificate is None:
        return False
    _write_private(pin, certificate)
    return True


def pin_hint(directory: Path | None) -> str:
    """What to say when a secured channel cannot be opened: a new certificate looks like a broken connection."""
    pin = None if directory is None else directory / "server.der"
    return f" (if the server has a new certificate, remove {pin})" if pin is not None and pin.exists() else ""


def own_certificate(
    directory: Path, uri: str = "", usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH
) -> tuple[bytes, bytes]:
    """Our certificate (DER) and key (PEM), made if they are not there.

    Args:
        directory: Where they are kept.
        uri: Who it says that we are; "": `application_uri()`.
        usage: What it is for.
    """
    certificate, key = directory / "own.der", directory / "own.pem"
    if not (certificate.exists() and key.exists()):
        private = cert_gen.generate_private_key()
        uri = uri or application_uri()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), x509.DNSName(socket.gethostname())]
        made = cert_gen.generate_self_signed_app_certificate(private, uri, {}, names, [usage], days=VALID_DAYS)
        certificate.unlink(missing_ok=True)
        _write_private(key, cert_gen.dump_private_key_as_pem(private))
        _write_private(certificate, made.public_bytes(Encoding.DER))
    return certificate.read_bytes(), key.read_bytes()


def _write_private(path: Path, content: bytes) -> None:
    """All or nothing, readable by us alone."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
