"""An owner's change of its own key, on its own machine: nothing is sent here, the node tells the exchange when it next starts.

The order makes it safe to be killed at any point and finished by asking again: make the next key, write the word that both keys
signed, put the word's digest into the log under the old key, sign the agreements anew (their terms stay), and last put the new key in
the place of the old.
"""

from __future__ import annotations

from pathlib import Path

from isthmus.contracts.agreement import AGREEMENT_TYPE
from isthmus.contracts.errors import InputError, StorageError
from isthmus.contracts.party import Rotation
from isthmus.contracts.ports import Clock
from isthmus.kit.canonical import canonical_bytes, parse_canonical
from isthmus.kit.signing import SigningKey, payload_of, seal
from isthmus.sandbox.nodehome import KEY_NAME, NEXT_KEY_NAME, STORE_NAME, settings_of
from isthmus.sandbox.nodestore import NodeStore
from isthmus.sandbox.outlog import LOG_NAME, ROTATION, Leaving, OutLog, keep_rotations, kept_rotations, verified
from isthmus.sandbox.rotation import checked_rotation, sealed_rotation

NOT_YET = "the exchange, at the next start"


def rotate_key(root: Path, clock: Clock) -> Rotation:
    """Gives the party of a node's state folder a new key; finishes a change that was cut off. The caller holds the folder.

    Raises InputError when it is no state folder, StorageError, LogTamperedError.
    """
    party = settings_of(root).id
    key_path, next_path, log_path = root / KEY_NAME, root / NEXT_KEY_NAME, root / LOG_NAME
    if not key_path.is_file():
        raise InputError(f"{root} is no node's state folder", "run: isthmus node init")
    old, words = SigningKey.load_or_create(key_path), kept_rotations(log_path)
    new = SigningKey.load_or_create(next_path)
    if not words or checked_rotation(words[-1]).new_key != new.public_hex:
        words = (*words, sealed_rotation(old, new, party, len(words) + 1, clock.now_s()))
        keep_rotations(log_path, words)
    if verified(log_path, old.public_hex)[1] != new.public_hex:
        OutLog(log_path, old, clock).append(Leaving(ROTATION, canonical_bytes(words[-1]), NOT_YET))
    store = NodeStore(root / STORE_NAME)
    try:
        store.reseal({digest: seal(new, AGREEMENT_TYPE, parse_canonical(payload_of(envelope))) for digest, envelope in store.agreements()})
    finally:
        store.close()
    try:
        next_path.replace(key_path)
    except OSError as error:
        raise StorageError(f"the key in {root} cannot be replaced: {error.strerror}", "check the folder, then ask again") from error
    return checked_rotation(words[-1])
