"""Owners whose sums may be seen singly, by their own signed agreements: nothing that a difference would tell of them is secret.

When an owner leaves, the others' sums without it, taken from those with it, are its own share. Its node is gone and cannot refuse; the
others' nodes keep its terms for it. What they need for that is the leaver's own word: its agreement, signed by the key that they pin,
with individual visibility for this purpose.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from isthmus.contracts.agreement import AGREEMENT_TYPE, Agreement
from isthmus.contracts.errors import IsthmusError, RefusedError
from isthmus.contracts.job import Job
from isthmus.kit.signing import Envelope, key_id, unseal
from isthmus.sandbox.overlap import Member, Roster


def seen_singly(agreement: Agreement, job: Job) -> frozenset[Member]:
    """(party, asset digest) of each owner whose signed agreement the job shows and that lets its sums be seen singly for this purpose by
    this exchange. Raises RefusedError for a document that the owner did not sign, so that none is passed over in silence."""
    found = set()
    for raw in job.seen_singly:
        try:
            envelope = msgspec.convert(raw, Envelope)
            keys = {key_id(public): public for public in agreement.participants.values()}
            shown = msgspec.convert(unseal(envelope, AGREEMENT_TYPE, keys), Agreement)
            pinned = agreement.participants.get(shown.owner)
            if pinned is None:
                continue
            unseal(envelope, AGREEMENT_TYPE, {key_id(pinned): pinned})
        except (msgspec.ValidationError, IsthmusError) as error:
            what = "an agreement that the job shows is not signed by a participant's pinned key"
            raise RefusedError("agreement-signature", what, "show agreements as they were signed") from error
        if shown.visibility == "individual" and job.purpose in shown.purposes and shown.exchange == agreement.exchange:
            found.add((shown.owner, shown.asset))
    return frozenset(found)


def hidden(rosters: Sequence[Roster], known: Collection[Member]) -> list[Roster]:
    """The rosters without those whose sums anybody may know: what must not be told is about the others."""
    return list(dict.fromkeys(roster - frozenset(known) for roster in rosters))
