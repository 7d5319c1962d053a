"""Ed25519 keys and DSSE envelopes (github.com/secure-systems-lab/dsse): how a party signs what it says."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from isthmus.contracts.errors import DocumentError, SignatureError, StorageError
from isthmus.kit.canonical import canonical_bytes, parse_canonical, sha256_hex


def key_id(public_hex: str) -> str:
    """Short stable name of a public key: the first 32 hex digits of its sha256."""
    return sha256_hex(bytes.fromhex(public_hex))[:32]


@dataclass(frozen=True)
class SigningKey:
    """One party's Ed25519 key pair."""

    private: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """A key from 32 bytes; for tests that must replay."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """Reads the raw 32-byte key at path, or makes one there (mode 600). Raises StorageError."""
        try:
            if path.exists():
                return cls.from_seed(path.read_bytes())
            path.parent.mkdir(parents=True, exist_ok=True)
            key = cls.generate()
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(key.private.private_bytes_raw())
                file.flush()
                os.fsync(file.fileno())
            return key
        except FileExistsError:
            return cls.load_or_create(path)
        except (OSError, ValueError) as error:
            raise StorageError(f"the key file {path} cannot be read or made: {error}", "check the folder and its permissions") from error

    @property
    def public_hex(self) -> str:
        return self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()

    @property
    def key_id(self) -> str:
        return key_id(self.public_hex)

    def sign(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature."""
        return self.private.sign(message)


def verify(public_hex: str, message: bytes, signature: bytes) -> bool:
    """Whether the signature is this key's over this message."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class EnvelopeSignature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    """A DSSE envelope: base64 payload, its type, and signatures over both."""

    payload_type: str
    payload: str
    signatures: tuple[EnvelopeSignature, ...]


def _pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(key: SigningKey, payload_type: str, document: Any) -> Envelope:
    """Signs a document's canonical JSON."""
    payload = canonical_bytes(document)
    signature = base64.b64encode(key.sign(_pae(payload_type, payload))).decode()
    return Envelope(payload_type, base64.b64encode(payload).decode(), (EnvelopeSignature(key.key_id, signature),))


def payload_of(envelope: Envelope) -> bytes:
    """The payload's bytes, unverified."""
    try:
        return base64.b64decode(envelope.payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DocumentError("the envelope's payload is not base64", "send the envelope as it was signed") from error


def unseal(envelope: Envelope, payload_type: str, trusted: Mapping[str, str]) -> Any:
    """Returns the payload (parsed canonical JSON) if a trusted key signed it.

    trusted: key id -> public key (hex). Raises SignatureError when no trusted signature is valid or the type differs,
    DocumentError when the payload is malformed.
    """
    if envelope.payload_type != payload_type:
        raise SignatureError(f"the envelope holds {envelope.payload_type!r} where {payload_type!r} was expected", "send the right document")
    payload = payload_of(envelope)
    message = _pae(payload_type, payload)
    for signature in envelope.signatures:
        public = trusted.get(signature.keyid)
        if public is None or key_id(public) != signature.keyid:
            continue
        try:
            raw = base64.b64decode(signature.sig, validate=True)
        except (binascii.Error, ValueError):
            continue
        if verify(public, message, raw):
            return parse_canonical(payload)
    raise SignatureError(f"no trusted key signed this {payload_type}", "check whose key is pinned, and that nothing was edited")
