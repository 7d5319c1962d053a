"""A box: a small machine that judges pictures offline with a certified model, and tells the exchange later what it judged.

The box keeps a journal. Each record holds the digest of the record before it; the first holds that of the box's own name. So what was
sent once can be sent again and is counted once, and a box that was copied or whose journal was edited is noticed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from isthmus.contracts.inference import Verdict

ALLOWANCE_MAX = 1_000_000
"""Pictures that one box may judge before it is exported again: its whole journal is kept and read at each start."""
BATCH_MAX = 1_000
"""Records that one request carries."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
BoxState = Literal["open", "retired"]


class EdgeOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for a box. deployment: a name that is served here; version: of it, by default the latest. party: who pays, for allowance
    pictures at once, and is given back what was not used when the box is retired. credit: the operator credits it with that first."""

    deployment: str
    party: str
    allowance: Annotated[int, msgspec.Meta(ge=1, le=ALLOWANCE_MAX)]
    credit: bool = False
    version: str | None = None


class EdgeBox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A box as it was exported. key: its bearer token, shown this once. certificate: DSSE envelope. public_key: the issuer's, hex."""

    box: str
    party: str
    deployment: str
    version: str
    site: str
    tier: str
    decoder: str
    artefact_digest: str
    certificate_digest: str
    certificate: dict[str, Any]
    public_key: str
    allowance: int
    prepaid_micros: int
    currency: str
    key: str


class EdgeRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One picture that a box judged. image: digest of its file, which stays where it is. score: a decimal number as text. at_s: the box's
    own clock, seconds since the Unix epoch. A verdict of `person` is a review ticket."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=ALLOWANCE_MAX)]
    prev: Sha256
    at_s: Count
    image: Sha256
    score: Annotated[str, msgspec.Meta(pattern=r"^-?[0-9.]+(e[-+]?[0-9]+)?$", max_length=40)]
    verdict: Verdict


class EdgeBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records in the order of the journal; none only asks how far it was taken."""

    records: Annotated[tuple[EdgeRecord, ...], msgspec.Meta(max_length=BATCH_MAX)]


class EdgeTaken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """taken: the last record that is kept here. owed: pictures that the allowance did not pay for. receipts: those of this request.
    withdrawn: the certificate was revoked; the box has to stop."""

    taken: int
    owed: int
    receipts: tuple[str, ...]
    withdrawn: bool


class EdgeStanding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exchange knows of a box. waiting: its tickets that nobody has decided."""

    box: str
    party: str
    deployment: str
    allowance: int
    taken: int
    owed: int
    waiting: int
    returned_micros: int
    state: BoxState


class EdgeTicket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A doubtful picture for a person to decide. The picture is at the box, under the digest `image`."""

    box: str
    seq: int
    at_s: int
    image: str
    score: str
    decided: Verdict | None = None


class EdgeDecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person decided about a ticket."""

    verdict: Literal["good", "defect"]
