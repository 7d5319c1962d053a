"""How an agreement comes about and ends: the states of the Dataspace Protocol's contract negotiation, and its messages.

The owner is the provider, the exchange the consumer. Either begins: the exchange with a request for terms, the owner with terms that it
signed. Only a FINALIZED agreement answers jobs.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.ports import Json

VERIFICATION_TYPE = "application/vnd.isthmus.agreement-verification+json"
DELETION_TYPE = "application/vnd.isthmus.deletion+json"
TERMS_EVENT_TYPE = "application/vnd.isthmus.terms-event+json"

State = Literal["REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED", "FINALIZED", "TERMINATED"]
Message = Literal["request", "offer", "accept", "agreement", "verification", "finalization", "termination"]
Side = Literal["provider", "consumer"]


class TermsMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message of a negotiation as either side keeps it. digest: of what was sent, where it is a document. Times in whole seconds."""

    at_s: int
    sender: Side
    message: Message
    state: State
    digest: str = ""
    reason: str = ""


class Negotiation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one agreement stands. id: uid of the ODRL Offer of its terms, which either side finds by itself. owner: party id. agreement:
    its digest, once it is signed. expires_at_s: when the terms end. messages: all so far, in order."""

    id: str
    owner: str
    purposes: tuple[str, ...]
    state: State
    expires_at_s: int
    agreement: str | None = None
    messages: tuple[TermsMessage, ...] = ()


class TermsEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signed word on a negotiation: the exchange's verification of an agreement, the owner's finalization, or either's termination.

    agreement: the digest that it is about; empty for an offer that nobody signed.
    """

    id: str
    agreement: str
    message: Literal["verification", "finalization", "termination"]
    at_s: int
    reason: str = ""


class TermsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator asks owners to agree to: the same terms for each, with its own asset. owners: party ids, who all may stand in a
    roster together. The rest as in Agreement; days: how long it lasts."""

    owners: tuple[str, ...]
    purpose: str
    operations: tuple[str, ...]
    days: int
    runs_max: int
    least_group_size: int
    least_participants: int
    visibility: Literal["aggregate", "individual"] = "aggregate"
    stages: tuple[str, ...] = ("*",)
    records_per_feature: int = 4
    allow_own_head: bool = False
    sums_to: tuple[str, ...] = ("*",)
    models_to: tuple[str, ...] = ("*",)
    outputs: tuple[Literal["model", "evaluation", "statistics"], ...] = ("model", "evaluation", "statistics")
    owners_share_ppm_min: int = 0
    deletion_days: int | None = None


class DeletionRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an exchange signs that it deleted after an agreement had ended. It is a word that can be held against it, not a proof.

    due_at_s: the last moment that the agreement leaves. jobs: ids of jobs whose sums, heads and documents were deleted; totals: the digests
    of those sums. artefacts, certificates: of models that rested on them, deleted and revoked. runs: whose results were deleted.
    """

    agreement: str
    owner: str
    ended_at_s: int
    due_at_s: int
    deleted_at_s: int
    jobs: tuple[str, ...] = ()
    totals: tuple[str, ...] = ()
    artefacts: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


class OfferOfTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A negotiation as an owner's node fetches it. offer: the signed ODRL Offer, where the exchange asked. verification: its signed
    TermsEvent, once it has verified the agreement. termination: the signed word that ended it. deletion: its signed DeletionRecord."""

    id: str
    state: State
    offer: Json | None = None
    agreement: str | None = None
    verification: Json | None = None
    termination: Json | None = None
    deletion: Json | None = None
