"""Pairwise masks that cancel in the roster's sum (Bonawitz et al., CCS 2017, section 4, without dropout recovery).

Each pair of owners agrees on a secret (X25519 between one-round keys that each owner's Ed25519 key has signed), expands it
(HKDF-SHA256, then the ChaCha20 keystream read as little-endian uint64) and the lower id adds what the higher id subtracts,
modulo 2^64. The key's info binds job, round, roster, statistic, offset, the ordered pair and both one-round keys, so that no mask
is ever used twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.kit.canonical import canonical_bytes

Words = NDArray[np.uint64]
SUM_LIMIT = 1 << 62


def new_mask_key() -> bytes:
    """A fresh X25519 private key, 32 bytes, from the system's generator."""
    return X25519PrivateKey.generate().private_bytes_raw()


def mask_public_hex(private: bytes) -> str:
    """Its public key, 64 hex digits."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw().hex()


def check_range(vector: NDArray[np.int64], owners: int) -> None:
    """Refuses a vector whose sum over `owners` such vectors could pass +-2^62. Raises RefusedError."""
    limit = SUM_LIMIT // owners
    if vector.size and (int(vector.max()) > limit or int(vector.min()) < -limit):
        raise RefusedError(
            "overflow", f"an entry could pass 2^62 in a sum of {owners} owners", "use smaller weights, fewer views or fewer records"
        )


def _keystream(own: X25519PrivateKey, peer_hex: str, info: bytes, words: int) -> Words:
    try:
        secret = own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(peer_hex)))
    except ValueError as error:
        raise RefusedError("countersignature", "an owner's one-round key is not an X25519 key", "ask for the job anew") from error
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * words))
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64)


def masked(
    vector: NDArray[np.int64], party: str, private: bytes, peers: Mapping[str, str], binding: Mapping[str, str], offset: int = 0
) -> Words:
    """The vector modulo 2^64 plus this owner's masks.

    peers: every other party of the roster -> its one-round X25519 public key (hex). binding: what the masks are bound to
    (job, round, roster, statistic). offset: place of the vector's first entry in the whole, where it is a part of one; each part has masks
    of its own, so that parts put together otherwise give no sum. With no peers the vector itself is returned.
    """
    own = X25519PrivateKey.from_private_bytes(private)
    own_hex = mask_public_hex(private)
    total: Words = vector.astype(np.int64).view(np.uint64).copy()
    for peer, peer_hex in sorted(peers.items()):
        if peer == party:
            raise ValueError("an owner is not its own peer")
        pair = sorted([(party, own_hex), (peer, peer_hex)])
        info = canonical_bytes({"protocol": "isthmus-mask/2", "pair": [list(p) for p in pair], "offset": offset, **binding})
        stream = _keystream(own, peer_hex, info, vector.size)
        total = total + stream if party < peer else total - stream
    return total


def unmasked_sum(vectors: list[Words]) -> NDArray[np.int64]:
    """Sum modulo 2^64 of all owners' masked vectors, as int64: the masks cancel."""
    total = vectors[0].copy()
    for vector in vectors[1:]:
        total = total + vector
    return total.view(np.int64).copy()
