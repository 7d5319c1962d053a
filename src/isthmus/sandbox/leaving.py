"""An owner leaves: signed withdrawals in its own state folder, kept before anything is sent, and found by the node at its next step.

Works beside a running node, and where the data is gone: it needs the owner's key and memory only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import AgreementError, InputError
from isthmus.contracts.withdrawal import WHY_CHARS_MAX, WITHDRAWAL_TYPE, Withdrawal
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal
from isthmus.sandbox.agreements import unsealed_terms
from isthmus.sandbox.nodehome import KEY_NAME, STORE_NAME, settings_of
from isthmus.sandbox.nodestore import NodeStore
from isthmus.sandbox.nodeterms import NodeTerms
from isthmus.sandbox.termsdesk import LEFT

BELOW = "/"
"""`P/after-leaving` and `P/site` are below the purpose `P`: who leaves P leaves those too."""


def withdrawn(store: NodeStore) -> dict[str, frozenset[str]]:
    """agreement digest -> its purposes that were taken back."""
    found: dict[str, frozenset[str]] = {}
    for envelope in store.withdrawals():
        word = msgspec.convert(parse_canonical(payload_of(envelope)), Withdrawal)
        found[word.agreement] = found.get(word.agreement, frozenset()) | set(word.purposes)
    return found


def covered(purpose: str, left: str | None) -> bool:
    """Whether leaving `left` (None: everything) takes back an agreement's purpose."""
    return left is None or purpose == left or purpose.startswith(left + BELOW)


def leave(root: Path, purpose: str | None, why: str, now_s: int) -> list[Withdrawal]:
    """Signs and keeps a withdrawal of every agreement for the purpose (None: of all) that still stands; durable when it returns. An
    agreement of which no purpose is left ends, and the node tells the exchange so, should the exchange not have ended it by itself.

    Again is no error: then nothing new is signed, and what stands is returned. Raises InputError when the folder is no node's, or no
    agreement names the purpose.
    """
    if len(why) > WHY_CHARS_MAX or not (why.isprintable() or not why):
        raise InputError("the reason cannot be used", f"give one line of up to {WHY_CHARS_MAX} characters")
    settings = settings_of(root)
    key, store = SigningKey.load_or_create(root / KEY_NAME), NodeStore(root / STORE_NAME)
    terms = NodeTerms(settings.id, key, store)
    try:
        taken_back = withdrawn(store)
        named = []
        for digest, envelope in store.agreements():
            agreement = unsealed_terms(envelope, {key.key_id: key.public_hex})
            purposes = frozenset(p for p in agreement.purposes if covered(p, purpose))
            if not purposes:
                continue
            named.append(digest)
            new = purposes - taken_back.get(digest, frozenset())
            if new:
                word = Withdrawal(owner=settings.id, agreement=digest, purposes=tuple(sorted(new)), at_s=now_s, why=why)
                store.put_withdrawal(digest, seal(key, WITHDRAWAL_TYPE, word))
            if purposes | taken_back.get(digest, frozenset()) >= frozenset(agreement.purposes):
                terms.end(digest, why or LEFT, now_s)
        if not named:
            raise InputError(
                f"{settings.id} has no agreement for the purpose {purpose!r}" if purpose else f"{settings.id} has no agreement",
                "see what was agreed: isthmus node agree --help, or give no --purpose to leave everything",
            )
        return [word for word in words(store) if word.agreement in named]
    finally:
        store.close()


def words(store: NodeStore) -> list[Withdrawal]:
    """All withdrawals, in the order of their agreements' digests."""
    return [msgspec.convert(parse_canonical(payload_of(envelope)), Withdrawal) for envelope in store.withdrawals()]


def checked_withdrawal(envelope: Envelope, public_key: str) -> Withdrawal:
    """The withdrawal, if the owner's key (hex) signed it and it says something. Raises SignatureError, DocumentError, AgreementError."""
    word = msgspec.convert(unseal(envelope, WITHDRAWAL_TYPE, {key_id(public_key): public_key}), Withdrawal)
    if not word.purposes or list(word.purposes) != sorted(set(word.purposes)):
        raise AgreementError(f"the withdrawal of {word.owner} names no purpose, or one twice", "sign it with isthmus node leave")
    return word


def not_left(agreements: Sequence[tuple[str, Agreement]], store: NodeStore) -> list[tuple[str, Agreement]]:
    """Those (digest, agreement) of which no purpose was taken back."""
    gone = withdrawn(store)
    return [(digest, agreement) for digest, agreement in agreements if not gone.get(digest, frozenset()) & set(agreement.purposes)]
