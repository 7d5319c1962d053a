"""Addresses that carry the pin of a server's key, and connections that are made to that key only.

An address is `https://HOST:PORT#sha256:HEX`: what stands behind the `#` is the SHA-256 of the server's public key (its
SubjectPublicKeyInfo, as in RFC 7469). It takes the place of a certificate authority: the certificate may be self-signed, and its
names and times are not looked at. The check stands between the handshake and the first byte of a request, so that a server with
another key is told nothing.
"""

from __future__ import annotations

import datetime
import hmac
import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isthmus.contracts.errors import InputError, StorageError
from isthmus.kit.canonical import sha256_hex

PIN_PREFIX = "sha256:"
CERTIFICATE_NAME, KEY_NAME = "tls.crt", "tls.key"
VALID_DAYS = 3650
NOT_PINNED = "the server shows another key than the one that its address pins; nothing was sent"


@dataclass(frozen=True)
class Address:
    """base_url: without a trailing slash. pin: `sha256:HEX`, or None."""

    base_url: str
    pin: str | None = None

    def __str__(self) -> str:
        return self.base_url if self.pin is None else f"{self.base_url}#{self.pin}"

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""


def address_of(text: str) -> Address:
    """Reads an address. Raises InputError when it is none, or when a pin is malformed or stands at an address without TLS."""
    base_url, mark, pin = text.partition("#")
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"{text!r} is no address of an exchange", "give it as http://HOST:PORT or https://HOST:PORT#sha256:PIN")
    digits = pin.removeprefix(PIN_PREFIX)
    if mark and (not pin.startswith(PIN_PREFIX) or len(digits) != 64 or not set(digits) <= set("0123456789abcdef")):
        raise InputError(
            f"the pin {pin!r} is not sha256: and 64 lower-case hex digits", "copy the address whole, as the exchange printed it"
        )
    if mark and parts.scheme != "https":
        raise InputError("an address with a pin must begin with https://", "copy the address whole, as the exchange printed it")
    return Address(base_url.rstrip("/"), pin if mark else None)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_private(address: Address, plain_allowed: bool) -> None:
    """Raises InputError for plain HTTP to another machine, unless that is allowed."""
    if address.base_url.startswith("http://") and not is_loopback(address.host) and not plain_allowed:
        raise InputError(
            f"{address.base_url} is plain HTTP to another machine: who takes part, when and under which terms could be read on the way",
            "start the exchange with --tls and give its https:// address, or say --plain-http inside a closed network",
        )


class PinnedContext(ssl.SSLContext):
    """A client's TLS settings that accept one server key and no other. Use `verification`."""

    pin: str

    def wrap_socket(self, sock: Any, *given: Any, **more: Any) -> ssl.SSLSocket:
        """The connection, after its handshake. Raises ssl.SSLError before anything is written when the key is another."""
        found = super().wrap_socket(sock, *given, **more)
        certificate = found.getpeercert(binary_form=True)
        if certificate is None or not hmac.compare_digest(pin_of(certificate), self.pin):
            found.close()
            raise ssl.SSLError(NOT_PINNED)
        return found


def verification(address: Address) -> ssl.SSLContext | bool:
    """What an HTTP client checks servers by: the pin where the address has one, else the certificate authorities that it knows."""
    if address.pin is None:
        return True
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.pin = address.pin
    return context


def pin_of(certificate: bytes) -> str:
    """`sha256:HEX` of the public key of a certificate (DER)."""
    public = x509.load_der_x509_certificate(certificate).public_key()
    return PIN_PREFIX + sha256_hex(public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def pin_of_file(path: Path) -> str:
    """The pin of a certificate file (PEM). Raises InputError."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"the certificate {path} cannot be read: {error}", "give a file with a certificate in PEM") from error
    return pin_of(certificate.public_bytes(serialization.Encoding.DER))


def kept_certificate(folder: Path, host: str, now_s: float) -> tuple[Path, Path]:
    """(certificate, key) files in a folder; made there once, so that the pin stays. Raises StorageError."""
    certificate, key = folder / CERTIFICATE_NAME, folder / KEY_NAME
    if certificate.is_file() and key.is_file():
        return certificate, key
    private = ec.generate_private_key(ec.SECP256R1())
    shape = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key.unlink(missing_ok=True)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private.private_bytes(*shape))
        certificate.write_bytes(_self_signed(private, host, now_s).public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise StorageError(f"{folder} takes no certificate: {error.strerror}", "check the folder and its permissions") from error
    return certificate, key


def _self_signed(private: ec.EllipticCurvePrivateKey, host: str, now_s: float) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "isthmus exchange")])
    begins = datetime.datetime.fromtimestamp(now_s, tz=datetime.UTC) - datetime.timedelta(days=1)
    alternatives: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    try:
        alternatives.append(x509.IPAddress(ipaddress.ip_address(host)))
    except ValueError:
        alternatives.append(x509.DNSName(host))
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    built = built.serial_number(x509.random_serial_number()).not_valid_before(begins)
    built = built.not_valid_after(begins + datetime.timedelta(days=VALID_DAYS))
    built = built.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return built.sign(private, hashes.SHA256())
