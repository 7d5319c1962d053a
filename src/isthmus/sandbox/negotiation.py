"""How an agreement comes about and ends, as a state machine: pure functions from one state to the next, the same on both sides.

States and messages are those of the Dataspace Protocol's contract negotiation; the owner is the provider, the exchange the consumer. One
thing differs: there FINALIZED is the end, here an agreement that is in force can still be terminated, by its expiry or by whoever leaves.
"""

from __future__ import annotations

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import ConflictError
from isthmus.contracts.negotiation import Message, Negotiation, Side, State, TermsMessage
from isthmus.contracts.odrl import document_of

TRANSITIONS: dict[tuple[State | None, Message, Side], State] = {
    (None, "request", "consumer"): "REQUESTED",
    (None, "offer", "provider"): "OFFERED",
    ("REQUESTED", "offer", "provider"): "OFFERED",
    ("OFFERED", "request", "consumer"): "REQUESTED",
    ("OFFERED", "accept", "consumer"): "ACCEPTED",
    ("REQUESTED", "agreement", "provider"): "AGREED",
    ("ACCEPTED", "agreement", "provider"): "AGREED",
    ("AGREED", "verification", "consumer"): "VERIFIED",
    ("VERIFIED", "finalization", "provider"): "FINALIZED",
}
ENDING: tuple[State, ...] = ("REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED", "FINALIZED")
"""States that either side may leave for TERMINATED."""


def next_state(state: State | None, message: Message, sender: Side) -> State:
    """Raises ConflictError where the protocol knows no such step."""
    if message == "termination" and state in ENDING:
        return "TERMINATED"
    found = TRANSITIONS.get((state, message, sender))
    if found is None:
        known = ", ".join(sorted({f"{m} by the {s}" for from_, m, s in TRANSITIONS if from_ == state})) or "nothing more"
        raise ConflictError(f"no {message} by the {sender} can follow {state or 'nothing'}", f"what can follow: {known}, or a termination")
    return found


def after(
    negotiation: Negotiation, message: Message, sender: Side, at_s: int, digest: str = "", reason: str = "", agreement: str | None = None
) -> Negotiation:
    """The negotiation with one more message. agreement: digest of the signed agreement, with the message that brings it."""
    state = next_state(negotiation.state, message, sender)
    said = TermsMessage(at_s=at_s, sender=sender, message=message, state=state, digest=digest, reason=reason)
    bound = negotiation.agreement if agreement is None else agreement
    return msgspec.structs.replace(negotiation, state=state, agreement=bound, messages=(*negotiation.messages, said))


def begun(agreement: Agreement, message: Message, at_s: int, digest: str) -> Negotiation:
    """A new negotiation: by the exchange's request, whose id is its offer's; or by the owner, whose signed agreement is its offer."""
    sender: Side = "consumer" if message == "request" else "provider"
    state = next_state(None, message, sender)
    return Negotiation(
        id=document_of(agreement, "Offer")["uid"],
        owner=agreement.owner,
        purposes=agreement.purposes,
        state=state,
        expires_at_s=agreement.expires_at_s,
        messages=(TermsMessage(at_s=at_s, sender=sender, message=message, state=state, digest=digest),),
    )


def taken(negotiation: Negotiation, at_s: int, digest: str) -> Negotiation:
    """With the owner's signed agreement. Where the owner began, its offer was signed already, so the exchange's yes goes before."""
    if negotiation.state == "OFFERED":
        negotiation = after(negotiation, "accept", "consumer", at_s)
    return after(negotiation, "agreement", "provider", at_s, digest, agreement=digest)
