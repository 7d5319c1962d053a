"""`scenario.lock`: what a package consists of, as canonical JSON, so that one content has one lock and one digest. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isthmus.contracts.errors import DocumentError
from isthmus.contracts.package import LOCK_FORMAT, Finding, PackageFile, PackageLock
from isthmus.kit.canonical import canonical_bytes, digest_of, parse_canonical, sha256_hex
from isthmus.scenarios.contents import LOCK, Contents, fault, warning

RENEW = "isthmus scenario lock FOLDER"
LOCK_CODES = frozenset({"lock-stale", "bad-lock", "no-lock"})
"""Codes of what is mended by locking anew."""


def lock_of(contents: Contents, name: str, version: str) -> PackageLock:
    """The lock that these files should have. name, version: the manifest's own."""
    files = tuple(PackageFile(path=path, sha256=sha256_hex(raw), bytes=len(raw)) for path, raw in sorted(contents.items()) if path != LOCK)
    return PackageLock(format=LOCK_FORMAT, id=name, version=version, files=files, digest=digest_of(files))


def lock_bytes(lock: PackageLock) -> bytes:
    """The file's bytes."""
    return canonical_bytes(lock)


def read_lock(raw: bytes) -> PackageLock:
    """Raises DocumentError: not canonical JSON, not a lock, files out of order, or a digest that is not theirs."""
    try:
        lock = msgspec.convert(parse_canonical(raw), PackageLock)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{LOCK} is no lock: {error}", f"write it anew: {RENEW}") from error
    paths = [file.path for file in lock.files]
    if paths != sorted(set(paths)) or lock.digest != digest_of(lock.files):
        raise DocumentError(f"{LOCK} contradicts itself: its digest is not that of its files", f"write it anew: {RENEW}")
    return lock


def lock_findings(contents: Contents, name: str, version: str) -> list[Finding]:
    """Where the files are not those of their lock. Without a lock there is one warning. name, version: the manifest's, when it has them."""
    if LOCK not in contents:
        return [warning("no-lock", LOCK, f"there is no {LOCK}, so nothing says whether a file was changed", RENEW)]
    try:
        lock = read_lock(contents[LOCK])
    except DocumentError as error:
        return [fault("bad-lock", LOCK, error.message, f"write it anew: {RENEW}")]
    found = [
        fault("lock-stale", LOCK, f"{LOCK} is of {lock.id} {lock.version}, the manifest is of {name} {version}", RENEW)
        for _ in range(bool(name and version) and (lock.id, lock.version) != (name, version))
    ]
    return found + [fault("lock-stale", path, what, RENEW) for path, what in differences(contents, lock).items()]


def differences(contents: Contents, lock: PackageLock) -> Mapping[str, str]:
    """path -> how the file differs from its lock; empty when the package is what its lock says."""
    locked = {file.path: file for file in lock.files}
    found = {path: f"{path} is in the lock and not in the folder" for path in locked if path not in contents}
    for path, raw in contents.items():
        if path == LOCK:
            continue
        if path not in locked:
            found[path] = f"{path} is not in the lock"
        elif sha256_hex(raw) != locked[path].sha256:
            unix = sha256_hex(raw.replace(b"\r\n", b"\n")) == locked[path].sha256
            found[path] = f"{path} was changed since it was locked" + (": its line ends became CRLF" if unix else "")
    return dict(sorted(found.items()))
