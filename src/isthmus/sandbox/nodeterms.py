"""The owner's side of negotiations: what was asked of it, what it signed, and whether an agreement is in force."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import InputError, IsthmusError, NotFoundError, RefusedError
from isthmus.contracts.negotiation import (
    DELETION_TYPE,
    TERMS_EVENT_TYPE,
    VERIFICATION_TYPE,
    DeletionRecord,
    Negotiation,
    OfferOfTerms,
    TermsEvent,
)
from isthmus.kit.canonical import digest_of, parse_canonical
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal
from isthmus.sandbox.agreements import agreement_digest, read_terms, unsealed_terms
from isthmus.sandbox.negotiation import after, begun, taken
from isthmus.sandbox.negotiationstore import Kept
from isthmus.sandbox.nodestore import NodeStore
from isthmus.sandbox.termsdesk import EXPIRED, event_of, termination

CLAUSE = "agreement-state"
OFFERS_MAX = 100
"""Offers of terms that a node keeps while its owner has not answered."""


def keep_signed(store: NodeStore, agreement: Agreement, digest: str, envelope: Envelope, at_s: int) -> None:
    """Keeps what the owner signed: as its answer to the exchange's offer of exactly these terms, or as an offer of its own."""
    begin = begun(agreement, "offer", at_s, digest)
    known = store.negotiations.get(begin.id)
    if known is not None and known.negotiation.state == "TERMINATED":
        raise InputError("exactly these terms were ended before", "sign others; a later day is enough")
    if known is None:
        found = msgspec.structs.replace(begin, agreement=digest)
    elif known.negotiation.state == "REQUESTED":
        found = taken(known.negotiation, at_s, digest)
    else:
        return
    store.put_agreement(digest, envelope, agreement.issued_at_s)
    store.negotiations.put(found)


def offered_terms(envelope: Envelope) -> Agreement:
    """The terms that an exchange asks for, which it signed itself. Raises SignatureError, AgreementError."""
    key = read_terms(envelope, "Offer").exchange
    return unsealed_terms(envelope, {key_id(key): key}, "Offer")


class NodeTerms:
    """One owner's agreements, as they stand between it and the exchange. id, key: the owner's."""

    def __init__(self, id: str, key: SigningKey, store: NodeStore) -> None:
        self._id, self._key, self._store, self._kept = id, key, store, store.negotiations

    def check_standing(self, digest: str) -> None:
        """Raises RefusedError unless the agreement is in force."""
        kept = self._kept.of_agreement(digest)
        state = "unknown" if kept is None else kept.negotiation.state
        if state == "FINALIZED":
            return
        reason = "" if kept is None or not kept.negotiation.messages else kept.negotiation.messages[-1].reason
        if reason == EXPIRED:
            raise RefusedError("expiry", "the agreement has expired", "ask the owner for a new one")
        raise RefusedError(CLAUSE, f"the agreement is {state}, so it answers no jobs", "ask the owner for one that is in force")

    def expire(self, now_s: int) -> None:
        """Ends agreements whose time is over."""
        for kept in self._kept.over(now_s):
            self._kept.put(after(kept.negotiation, "termination", "provider", now_s, reason=EXPIRED))

    def terminate(self, id: str, reason: str, now_s: int) -> Negotiation:
        """The owner ends an offer or an agreement, by its id or its digest. Raises NotFoundError, ConflictError when it has ended."""
        kept = self._kept.get(id) or self._kept.of_agreement(id)
        if kept is None:
            raise NotFoundError(f"there is no negotiation {id} here", "see isthmus node agree --show")
        ended = after(kept.negotiation, "termination", "provider", now_s, reason=reason)
        self._kept.put(ended, termination=termination(self._key, kept.negotiation, now_s, reason))
        return ended

    def end(self, agreement: str, reason: str, now_s: int) -> None:
        """Ends the negotiation of an agreement, by its digest, unless there is none or it has ended."""
        kept = self._kept.of_agreement(agreement)
        if kept is not None and kept.negotiation.state != "TERMINATED":
            self.terminate(kept.negotiation.id, reason, now_s)

    def answers(self, listed: list[OfferOfTerms], now_s: int) -> list[Envelope]:
        """Takes in where the exchange sees things, and returns what has to be said to it: finalizations and terminations, signed.

        An exchange cannot bring an agreement into force that the owner did not sign, nor revive one that ended: its word only moves what is
        here along the protocol, and a word that is not signed by the key that the agreement pins is left aside.
        """
        self.expire(now_s)
        found = []
        for one in listed:
            kept = self._kept.get(one.id) or self._new_offer(one, now_s)
            word = None if kept is None else self._answer(one, kept, now_s)
            if word is not None:
                found.append(word)
        return found

    def _new_offer(self, one: OfferOfTerms, now_s: int) -> Kept | None:
        """An offer of terms that this node did not know: kept if it is addressed here and signed by the key that it names."""
        waiting = sum(kept.negotiation.state == "REQUESTED" for kept in self._kept.all())
        if one.offer is None or waiting >= OFFERS_MAX:
            return None
        try:
            envelope = msgspec.convert(one.offer, Envelope)
            terms = offered_terms(envelope)
        except (msgspec.ValidationError, IsthmusError):
            return None
        begin = begun(terms, "request", now_s, digest_of(parse_canonical(payload_of(envelope))))
        if terms.owner != self._id or begin.id != one.id:
            return None
        self._kept.put(begin, offer=envelope)
        return self._kept.get(one.id)

    def _answer(self, one: OfferOfTerms, kept: Kept, now_s: int) -> Envelope | None:
        known = kept.negotiation
        self._keep_deletion(one, kept)
        if known.state == "TERMINATED":
            return None if one.state == "TERMINATED" else kept.termination or termination(self._key, known, now_s, EXPIRED)
        if one.termination is not None and self._signed(one.termination, TERMS_EVENT_TYPE, kept, "termination"):
            self._kept.put(after(known, "termination", "consumer", now_s, reason="ended by the exchange"))
            return None
        if one.verification is None or not self._signed(one.verification, VERIFICATION_TYPE, kept, "verification"):
            return None
        if known.state != "FINALIZED" and known.agreement is not None:
            if known.state == "OFFERED":
                known = taken(known, now_s, known.agreement)
            known = after(known, "verification", "consumer", now_s, known.agreement or "")
            known = after(known, "finalization", "provider", now_s)
            self._kept.put(known, verification=msgspec.convert(one.verification, Envelope))
        word = TermsEvent(id=known.id, agreement=known.agreement or "", message="finalization", at_s=now_s)
        return seal(self._key, TERMS_EVENT_TYPE, word)

    def _keep_deletion(self, one: OfferOfTerms, kept: Kept) -> None:
        """Keeps the exchange's record of what it deleted, so that it can be held against it. One that is not its own is left aside."""
        if one.deletion is None or kept.deletion is not None:
            return
        key = self._exchange_of(kept)
        try:
            envelope = msgspec.convert(one.deletion, Envelope)
            record = msgspec.convert(unseal(envelope, DELETION_TYPE, {key_id(key): key}), DeletionRecord)
        except (msgspec.ValidationError, IsthmusError):
            return
        if record.agreement == kept.negotiation.agreement:
            self._kept.put(kept.negotiation, deletion=envelope)

    def _signed(self, given: dict[str, Any], payload_type: str, kept: Kept, message: str) -> bool:
        """Whether the exchange that the terms name said this about exactly this agreement."""
        try:
            word = event_of(msgspec.convert(given, Envelope), payload_type, self._exchange_of(kept))
        except (msgspec.ValidationError, IsthmusError):
            return False
        return (word.id, word.message, word.agreement) == (kept.negotiation.id, message, kept.negotiation.agreement or "")

    def _exchange_of(self, kept: Kept) -> str:
        for digest, envelope in self._store.agreements():
            if digest == kept.negotiation.agreement:
                return read_terms(envelope).exchange
        return "" if kept.offer is None else read_terms(kept.offer, "Offer").exchange


def agreements_at(store: NodeStore) -> list[tuple[str, Agreement, Negotiation | None]]:
    """(digest, terms, where they stand) of every agreement that a node keeps, the newest first."""
    found = [(agreement_digest(terms), terms) for terms in (read_terms(envelope) for _, envelope in store.agreements())]
    kept = {digest: store.negotiations.of_agreement(digest) for digest, _ in found}
    return [(digest, terms, None if (one := kept[digest]) is None else one.negotiation) for digest, terms in found]
