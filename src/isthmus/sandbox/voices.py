"""Who counts as a participant: parties whose keys an agreement pins, and parties that an issuer it names vouches for.

A voice is whoever decides for a member of a roster: its own key, or the issuer's that vouched for it. An issuer could vouch for as many
puppets as it likes, so all of them are one voice; an issuer whose key is itself pinned is the same voice as that participant.
"""

from __future__ import annotations

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import IsthmusError, RefusedError
from isthmus.contracts.job import Job, RosterMember
from isthmus.contracts.party import CREDENTIAL_TYPE, Credential
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import Envelope, SigningKey, key_id, payload_of, seal, unseal
from isthmus.sandbox.refusal import refuse_if

CLAUSE = "participants"
CREDENTIAL_S_MAX = 400 * 24 * 3600


def credential(key: SigningKey, issuer: str, party: str, public_key: str, issued_at_s: int, expires_at_s: int) -> Envelope:
    """An issuer's word for a party's key. key: the issuer's own."""
    word = Credential(issuer=issuer, party=party, public_key=public_key, issued_at_s=issued_at_s, expires_at_s=expires_at_s)
    return seal(key, CREDENTIAL_TYPE, word)


def voice_of(agreement: Agreement, member: RosterMember, now_s: float) -> str:
    """The key that decides for this member: its own where the agreement pins it, else its issuer's. Raises RefusedError."""
    pinned = agreement.participants.get(member.party)
    if pinned is None:
        return _issuer(agreement, member, now_s)
    what = f"the key given for {member.party} is not the one the agreement pins"
    refuse_if(pinned != member.public_key, CLAUSE, what, "use the pinned key")
    return pinned


def _issuer(agreement: Agreement, member: RosterMember, now_s: float) -> str:
    unnamed = member.credential is None or not agreement.issuers
    refuse_if(unnamed, CLAUSE, f"the agreement does not name {member.party} as a participant", "ask the owner to add it")
    try:
        envelope = msgspec.convert(member.credential, Envelope)
        claimed = msgspec.convert(parse_canonical(payload_of(envelope)), Credential)
        issuer = agreement.issuers.get(claimed.issuer, "")
        word = msgspec.convert(unseal(envelope, CREDENTIAL_TYPE, {key_id(issuer): issuer} if issuer else {}), Credential)
    except (msgspec.ValidationError, IsthmusError) as error:
        next_step = "ask the owner which issuers it trusts"
        raise RefusedError(CLAUSE, f"no issuer that the agreement names vouches for {member.party}", next_step) from error
    other = (word.party, word.public_key) != (member.party, member.public_key)
    refuse_if(other, CLAUSE, f"the word for {member.party} is about another party or key", "ask the issuer for one about this key")
    late = not word.issued_at_s <= now_s < word.expires_at_s or word.expires_at_s - word.issued_at_s > CREDENTIAL_S_MAX
    refuse_if(late, CLAUSE, f"the word for {member.party} does not hold now", "ask the issuer for a new one")
    return issuer


def voices(agreement: Agreement, job: Job, now_s: float) -> dict[str, str]:
    """party -> voice of everybody in the roster. Raises RefusedError, clause `participants`."""
    return {member.party: voice_of(agreement, member, now_s) for member in job.roster}
