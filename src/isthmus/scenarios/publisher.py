"""Who made a package: a publisher's signature over its digest, in a file of its own beside the archive.

The archive stays as it is, byte for byte, signed or not. A signature says that the holder of a key vouches for just this content; that the
key is the publisher's is for who installs to know, from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus.contracts.errors import DocumentError, InputError, SignatureError, StorageError
from isthmus.contracts.package import SIGNATURE_FORMAT, SIGNATURE_TYPE, PackageLock, PackageSignature
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal

SUFFIX = ".sig.json"
FILE_BYTES_MAX = 64 * 1024
NAME_CHARS_MAX = 120


def publisher_key(path: Path) -> SigningKey:
    """The key in a file that is there: a mistyped name must not make another publisher. Raises InputError, StorageError."""
    if not path.is_file():
        raise InputError(f"there is no key file {path}", "make one: isthmus scenario key FILE")
    return SigningKey.load_or_create(path)


def signature_file(archive: Path) -> Path:
    """Where the signature of an archive stands."""
    return archive.with_name(archive.name + SUFFIX)


def signed(lock: PackageLock, key: SigningKey, publisher: str, now_s: float) -> Envelope:
    """The publisher's word for a package. Raises InputError for a name that is none."""
    if not publisher.isprintable() or len(publisher) > NAME_CHARS_MAX:
        raise InputError("the publisher's name cannot be used", f"give up to {NAME_CHARS_MAX} printable characters")
    said = PackageSignature(
        format=SIGNATURE_FORMAT, id=lock.id, version=lock.version, digest=lock.digest, publisher=publisher, signed_at_s=int(now_s)
    )
    return seal(key, SIGNATURE_TYPE, said)


def read_signature(path: Path) -> Envelope:
    """Raises InputError, DocumentError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{path} has more than {FILE_BYTES_MAX} bytes", "give a package's signature")
        return msgspec.json.decode(path.read_bytes(), type=Envelope)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
    except msgspec.MsgspecError as error:
        raise DocumentError(f"{path} is no signature: {error}", "give the file that isthmus scenario package --sign wrote") from error


def vouched(envelope: Envelope, lock: PackageLock, trusted: str | None) -> tuple[PackageSignature, str]:
    """(what is signed, the key's id), if it is of this package. trusted: the publisher's public key in hex; with none the signature is
    read and not checked. Raises SignatureError, DocumentError."""
    try:
        if trusted is None:
            document, signer = parse_canonical(payload_of(envelope)), envelope.signatures[0].keyid if envelope.signatures else "none"
        else:
            document, signer = unseal(envelope, SIGNATURE_TYPE, {key_id(trusted): trusted}), key_id(trusted)
        said = msgspec.convert(document, PackageSignature)
    except msgspec.ValidationError as error:
        raise DocumentError(f"what was signed is no package: {error}", "ask the publisher for the signature again") from error
    if (said.id, said.version, said.digest) != (lock.id, lock.version, lock.digest):
        raise SignatureError(
            f"the signature is of {said.id} {said.version} {said.digest[:19]}, the package is {lock.id} {lock.version} {lock.digest[:19]}",
            "the package was changed after it was signed, or the files do not belong together",
        )
    return said, signer


def write_signature(path: Path, envelope: Envelope) -> None:
    """Raises StorageError."""
    try:
        path.write_bytes(msgspec.json.encode(envelope) + b"\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", "check the folder and the disk") from error


def checked_publisher(given: Path, lock: PackageLock, signature: Path | None, trusted: str | None) -> tuple[PackageSignature | None, str]:
    """(what the publisher signed of a package or None, one sentence about it). given: the archive, beside which a signature may stand.
    trusted: public key; then an unsigned package is refused. Raises SignatureError, DocumentError, InputError."""
    path = signature if signature is not None else signature_file(given)
    if signature is None and not path.is_file():
        if trusted is not None:
            raise SignatureError(f"{given} has no signature beside it", f"put {path.name} there, or name it with --signature")
        return None, "unsigned: nothing says who made it; compare the digest with the one that its maker names"
    said, signer = vouched(read_signature(path), lock, trusted)
    name = f" as {said.publisher!r}" if said.publisher else ""
    if trusted is None:
        return said, f"signed by key {signer}{name}, which was not checked: give the publisher's public key with --publisher"
    return said, f"signed by key {signer}{name}, the publisher that you named"
