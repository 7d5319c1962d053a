"""The exchange's side of negotiations: asks owners for terms, verifies what they sign, and keeps where each agreement stands."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import ASSET_TYPE, Asset
from isthmus.contracts.errors import AgreementError, ConflictError, DocumentError, NotFoundError, SignatureError
from isthmus.contracts.negotiation import (
    TERMS_EVENT_TYPE,
    VERIFICATION_TYPE,
    Negotiation,
    OfferOfTerms,
    State,
    TermsEvent,
    TermsRequest,
)
from isthmus.contracts.ports import Clock
from isthmus.kit.canonical import digest_of, parse_canonical
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal
from isthmus.sandbox.agreements import agreement_digest, sealed_terms
from isthmus.sandbox.jobstore import JobStore
from isthmus.sandbox.negotiation import after, begun, taken
from isthmus.sandbox.negotiationstore import Kept, NegotiationStore
from isthmus.sandbox.terms import check_agreement

DAY_S = 24 * 3600
EXPIRED = "the terms have expired"
LEFT = "its owner has left"
"""Reason of an end by withdrawal, where the owner gave none."""


def termination(key: SigningKey, kept: Negotiation, at_s: int, reason: str) -> Envelope:
    """A signed word that ends a negotiation."""
    word = TermsEvent(id=kept.id, agreement=kept.agreement or "", message="termination", at_s=at_s, reason=reason)
    return seal(key, TERMS_EVENT_TYPE, word)


def event_of(envelope: Envelope, payload_type: str, public_key: str) -> TermsEvent:
    """The event that this key signed. Raises SignatureError, DocumentError."""
    try:
        return msgspec.convert(unseal(envelope, payload_type, {key_id(public_key): public_key}), TermsEvent)
    except msgspec.ValidationError as error:
        raise DocumentError(f"the event is malformed: {error}", "send what its schema says") from error


class TermsDesk:
    """Thread-safe. key: the exchange's own."""

    def __init__(self, store: JobStore, key: SigningKey, clock: Clock) -> None:
        self._store, self._key, self._clock = store, key, clock
        self._kept: NegotiationStore = store.negotiations
        self._lock = threading.RLock()

    def _now_s(self) -> int:
        return int(self._clock.now_s())

    # What the operator asks.

    def request(self, wanted: TermsRequest) -> list[Negotiation]:
        """An offer of the same terms to each owner, signed by the exchange. Raises NotFoundError; AgreementError (they cannot be kept)."""
        owners = sorted(set(wanted.owners))
        keys = self._keys(owners)
        drafts = [self._draft(wanted, owner, keys) for owner in owners]
        with self._lock:
            found = []
            for draft in drafts:
                check_agreement(draft)
                offer = sealed_terms(self._key, draft, "Offer")
                begin = begun(draft, "request", self._now_s(), digest_of(parse_canonical(payload_of(offer))))
                known = self._kept.get(begin.id)
                if known is None:
                    self._kept.put(begin, offer=offer)
                found.append(begin if known is None else known.negotiation)
            return found

    def _keys(self, owners: list[str]) -> dict[str, str]:
        keys = {owner: self._store.party_key(owner) for owner in owners}
        unknown = [owner for owner, key in keys.items() if key is None]
        if unknown or not owners:
            raise NotFoundError(f"no party {', '.join(unknown) or 'at all'} is registered here", "start that owner's node first")
        return {owner: key for owner, key in keys.items() if key is not None}

    def _draft(self, wanted: TermsRequest, owner: str, keys: dict[str, str]) -> Agreement:
        digest, asset = self._newest_asset(owner)
        now_s = self._now_s()
        same = ("operations", "runs_max", "least_group_size", "least_participants", "visibility", "stages", "allow_own_head")
        results = ("sums_to", "models_to", "outputs", "owners_share_ppm_min", "deletion_days")
        return Agreement(
            owner=owner,
            asset=digest,
            exchange=self._key.public_hex,
            purposes=(wanted.purpose,),
            participants=keys,
            issued_at_s=now_s,
            expires_at_s=now_s + wanted.days * DAY_S,
            dimension_records_min_ratio=wanted.records_per_feature,
            sample=asset.sample,
            **{name: getattr(wanted, name) for name in (*same, *results)},
        )

    def _newest_asset(self, owner: str) -> tuple[str, Asset]:
        for digest, envelope in reversed(list(self._store.assets().items())):
            if envelope.payload_type == ASSET_TYPE:
                asset = msgspec.convert(parse_canonical(payload_of(envelope)), Asset)
                if asset.owner == owner:
                    return digest, asset
        raise AgreementError(f"{owner} has registered no asset", "start that owner's node first")

    def terminate(self, id: str, reason: str) -> Negotiation:
        """The exchange ends it. Raises NotFoundError, ConflictError when it has ended."""
        with self._lock:
            kept = self._existing(id)
            ended = after(kept.negotiation, "termination", "consumer", self._now_s(), reason=reason)
            self._kept.put(ended, termination=termination(self._key, kept.negotiation, self._now_s(), reason))
            return ended

    def end(self, agreement: str, reason: str) -> None:
        """Ends the negotiation of an agreement, by its digest, unless there is none or it has ended."""
        with self._lock:
            kept = self._kept.of_agreement(agreement)
            if kept is not None and kept.negotiation.state != "TERMINATED":
                self.terminate(kept.negotiation.id, reason)

    def all(self) -> list[Negotiation]:
        return [kept.negotiation for kept in self._kept.all()]

    # What owners say.

    def take_agreement(self, agreement: Agreement) -> State:
        """Where a signed agreement stands once it is taken in: verified, if it names this exchange. The same again changes nothing."""
        digest = agreement_digest(agreement)
        with self._lock:
            now_s = self._now_s()
            begin = begun(agreement, "offer", now_s, digest)
            known = self._kept.get(begin.id)
            if known is not None and known.negotiation.state != "REQUESTED":
                return known.negotiation.state
            found = taken(begin if known is None else known.negotiation, now_s, digest)
            if agreement.exchange != self._key.public_hex:
                self._kept.put(found)
                return found.state
            word = TermsEvent(id=found.id, agreement=digest, message="verification", at_s=now_s)
            verified = after(found, "verification", "consumer", now_s, digest)
            self._kept.put(verified, verification=seal(self._key, VERIFICATION_TYPE, word))
            return verified.state

    def take_event(self, party: str, envelope: Envelope) -> State:
        """An owner's finalization or termination. Raises SignatureError, NotFoundError, ConflictError."""
        public_key = self._store.party_key(party)
        if public_key is None:
            raise SignatureError(f"no party {party!r} is registered here", "register the party first")
        word = event_of(envelope, TERMS_EVENT_TYPE, public_key)
        with self._lock:
            kept = self._existing(word.id)
            if kept.negotiation.owner != party or word.agreement != (kept.negotiation.agreement or ""):
                raise SignatureError(f"{party} cannot speak for {word.id}", "speak of your own agreements")
            if word.message == "verification":
                raise ConflictError("a verification is the exchange's to give", "send a finalization or a termination")
            wanted: State = "FINALIZED" if word.message == "finalization" else "TERMINATED"
            if kept.negotiation.state == wanted:
                return wanted
            found = after(kept.negotiation, word.message, "provider", self._now_s(), reason=word.reason)
            self._kept.put(found, termination=envelope if word.message == "termination" else None)
            return found.state

    def _existing(self, id: str) -> Kept:
        kept = self._kept.get(id)
        if kept is None:
            raise NotFoundError(f"there is no negotiation {id}", "list them first")
        return kept

    def of_party(self, party: str) -> list[OfferOfTerms]:
        """All negotiations of an owner, with what it needs to go on."""
        found = []
        for kept in self._kept.of_owner(party):
            state = kept.negotiation.state
            found.append(
                OfferOfTerms(
                    id=kept.negotiation.id,
                    state=state,
                    offer=_plain(kept.offer) if state == "REQUESTED" else None,
                    agreement=kept.negotiation.agreement,
                    verification=_plain(kept.verification) if state == "VERIFIED" else None,
                    termination=_plain(kept.termination) if state == "TERMINATED" else None,
                    deletion=_plain(kept.deletion),
                )
            )
        return found

    # Time.

    def expire(self) -> list[Negotiation]:
        """Ends what is over; returns it."""
        with self._lock:
            ended = []
            for kept in self._kept.over(self._clock.now_s()):
                found = after(kept.negotiation, "termination", "consumer", self._now_s(), reason=EXPIRED)
                self._kept.put(found, termination=termination(self._key, kept.negotiation, self._now_s(), EXPIRED))
                ended.append(found)
            return ended

    def standing(self, digest: str) -> tuple[State | None, str]:
        """Where an agreement stands, by its digest, and what was given as reason for that, if anything."""
        kept = self._kept.of_agreement(digest)
        return (None, "") if kept is None else (kept.negotiation.state, kept.negotiation.messages[-1].reason)


def _plain(envelope: Envelope | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None if envelope is None else msgspec.to_builtins(envelope)
    return found
