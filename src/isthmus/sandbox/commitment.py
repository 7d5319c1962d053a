"""A salted Merkle commitment to an owner's files and labels: binding, and silent about what it binds.

Leaves are sha256(0x00 | salt | canonical entry), with a salt of its own for each entry, so that nobody can test a guess of
a file or label; inner nodes are sha256(0x01 | left | right), the tree is that of RFC 9162, section 2.1.1.
"""

from __future__ import annotations

import hashlib
import hmac

from isthmus.kit.canonical import canonical_bytes
from isthmus.sandbox.folder import DataFolder


def merkle_root(leaves: list[bytes]) -> bytes:
    """Root (32 bytes) over leaf hashes; sha256 of nothing for no leaves."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = list(leaves)
    while len(level) > 1:
        paired = [hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def commitment(folder: DataFolder, file_digests: dict[str, str], salt: bytes) -> str:
    """`sha256:<root>`. file_digests: relative path -> sha256 hex of the file. salt: 32 secret bytes of the node."""
    leaves = []
    for file in folder.files:
        said = [file.path, file_digests[file.path], file.label, file.sure, file.group, file.kind, file.split]
        entry = canonical_bytes([*said, *([[repr(value) for value in file.values]] if file.values else [])])
        own_salt = hmac.new(salt, entry, hashlib.sha256).digest()
        leaves.append(hashlib.sha256(b"\x00" + own_salt + entry).digest())
    return "sha256:" + merkle_root(leaves).hex()
