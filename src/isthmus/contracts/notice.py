"""A notice: what the exchange tells one owner about that owner's own sums."""

from __future__ import annotations

import msgspec

NOTICE_TYPE = "application/vnd.isthmus.notice+json"
NOTICES_KEPT_MAX = 200


class Notice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kind: what was found (foundry.suspects). says: a sentence. left_out: whether the run went on without this owner. next: what the owner
    may do. chance: of saying so to an honest owner, in parts per million; 0 where it is arithmetic. Nothing in it is about anybody else's
    records; who holds the same records is named."""

    party: str
    run: str
    scenario: str
    purpose: str
    kind: str
    says: str
    left_out: bool
    chance_ppm: int
    at_s: int
    next: str
