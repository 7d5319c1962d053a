"""A party's change of keys: a word signed by both keys, and the chain of such words from the key that an agreement pins.

Agreements pin keys and are not signed anew when another owner changes its own: whoever holds them follows the chain. A link counts
only when the key before it signed it, so that a new key alone, however it was come by, is nobody's; and once a link is known, the key
before it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from isthmus.contracts.errors import DocumentError, IsthmusError, SignatureError
from isthmus.contracts.party import ROTATION_TYPE, Rotation
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal

ROTATIONS_MAX = 100
"""Changes of keys of one party."""


def sealed_rotation(old: SigningKey, new: SigningKey, party: str, sequence: int, now_s: float) -> Envelope:
    """The word of `old` that `new` takes its place, signed by both."""
    word = Rotation(party=party, sequence=sequence, old_key=old.public_hex, new_key=new.public_hex, at_s=int(now_s))
    first, second = seal(old, ROTATION_TYPE, word), seal(new, ROTATION_TYPE, word)
    return Envelope(first.payload_type, first.payload, (*first.signatures, *second.signatures))


def checked_rotation(envelope: Envelope) -> Rotation:
    """The word, if both keys signed it. Raises SignatureError, DocumentError."""
    try:
        word = msgspec.convert(parse_canonical(payload_of(envelope)), Rotation)
        ids = {key_id(key): key for key in (word.old_key, word.new_key)}
    except (msgspec.ValidationError, ValueError) as error:
        raise DocumentError(f"the rotation is malformed: {error}", "make it with isthmus party rotate-key") from error
    if len(ids) < 2 or not 1 <= word.sequence <= ROTATIONS_MAX:
        raise DocumentError(f"the rotation of {word.party} changes nothing, or is one of too many", "make it with isthmus party rotate-key")
    for name, key in ids.items():
        try:
            unseal(envelope, ROTATION_TYPE, {name: key})
        except SignatureError as error:
            which = "old" if key == word.old_key else "new"
            raise SignatureError(f"the {which} key of {word.party} did not sign the rotation", "both keys must sign it") from error
    return word


def chain(party: str, pinned: str, words: Iterable[Rotation]) -> list[str]:
    """The keys that have spoken for a party, from the pinned one to the one that does now. words: checked ones; others' are passed over."""
    keys = [pinned]
    for word in sorted((word for word in words if word.party == party), key=lambda word: word.sequence):
        if word.old_key == keys[-1]:
            keys.append(word.new_key)
    return keys


def extended(known: tuple[Envelope, ...], given: Iterable[object]) -> tuple[Envelope, ...]:
    """The known links and those of the given that hold and neither repeat nor contradict them: the first word of a key is its last."""
    found = list(known)
    spent = {checked_rotation(envelope).old_key for envelope in known}
    for one in given:
        try:
            envelope = msgspec.convert(one, Envelope)
            word = checked_rotation(envelope)
        except (msgspec.ValidationError, IsthmusError):
            continue
        if word.old_key not in spent:
            spent.add(word.old_key)
            found.append(envelope)
    return tuple(found)
