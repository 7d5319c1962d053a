"""Who may join: invitations that are good once, until they expire or are revoked.

The token goes to the guest and is not kept; the list has its digest. Taking it is one transaction. The same party with the same key may
show it again, so that an answer that was lost on the way costs nothing.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable
from typing import Any

from isthmus.contracts.errors import ForbiddenError, InputError, IsthmusError, NotFoundError
from isthmus.contracts.party import Guest, InviteRequest, Issued, Party
from isthmus.contracts.ports import Clock
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.ids import slug
from isthmus.sandbox.jobstore import GuestRows

TOKEN_BYTES = 32
TTL_S_MAX = 90 * 24 * 3600
PURPOSES_MAX = 20


class GuestList:
    """The invitations of one exchange."""

    def __init__(self, rows: GuestRows, clock: Clock) -> None:
        self._rows, self._clock = rows, clock
        self._lock = threading.Lock()

    def invite(self, wanted: InviteRequest) -> Issued:
        """A new invitation. Raises InputError."""
        if not 1 <= len(wanted.purposes) <= PURPOSES_MAX or not all(wanted.purposes):
            raise InputError("an invitation names no purpose, or too many", f"name 1 to {PURPOSES_MAX}")
        if not 1 <= wanted.ttl_s <= TTL_S_MAX:
            raise InputError(f"an invitation cannot last {wanted.ttl_s} s", f"use 1 to {TTL_S_MAX}")
        if wanted.party:
            slug(wanted.party, "party id")
        token, now_s = secrets.token_urlsafe(TOKEN_BYTES), int(self._clock.now_s())
        row = {
            "id": "inv_" + secrets.token_hex(8),
            "token_sha256": sha256_hex(token.encode()),
            "purposes": json.dumps(wanted.purposes),
            "party": wanted.party,
            "created_at_s": now_s,
            "expires_at_s": now_s + wanted.ttl_s,
        }
        self._rows.put(row)
        return Issued(id=str(row["id"]), token=token, expires_at_s=now_s + wanted.ttl_s)

    def guests(self) -> list[Guest]:
        """All invitations, the newest first."""
        return [self._guest(row) for row in self._rows.all()]

    def _guest(self, row: Any) -> Guest:
        state = "open"
        if row["used_by"] is not None:
            state = "used"
        elif row["revoked_at_s"] is not None:
            state = "revoked"
        elif row["expires_at_s"] <= self._clock.now_s():
            state = "expired"
        names = ("id", "party", "created_at_s", "expires_at_s")
        fields = {name: row[name] for name in names}
        return Guest(**fields, purposes=tuple(json.loads(row["purposes"])), state=state, used_by=row["used_by"] or "")  # type: ignore[arg-type]

    def revoke(self, invitation: str) -> None:
        """Raises NotFoundError when there is none, or it was revoked before. One that was used stays used: its party is a party."""
        if not self._rows.revoke(invitation, int(self._clock.now_s())):
            raise NotFoundError(f"there is no invitation {invitation!r} that could be revoked", "list them with isthmus party invitations")

    def take(self, token: str, party: Party, admit: Callable[[], object]) -> tuple[str, ...]:
        """Lets a party in by a token; returns the purposes. admit: registers the party; when it raises, the invitation is open
        again. Raises ForbiddenError."""
        digest = sha256_hex(token.encode())
        with self._lock:
            row = self._rows.of_token(digest)
            if row is None:
                raise ForbiddenError("this is no invitation of this exchange", "ask its operator for one")
            again = row["used_by"] == party.id and hmac.compare_digest(row["used_key"] or "", party.public_key)
            state = self._guest(row).state
            if state != "open" and not again:
                raise ForbiddenError(f"the invitation is {state}", "ask the exchange's operator for a new one")
            if row["party"] not in ("", party.id):
                raise ForbiddenError(f"the invitation is for {row['party']}, not for {party.id}", "join under that id, or ask for another")
            if not again and not self._rows.use(digest, party.id, party.public_key, int(self._clock.now_s())):
                raise ForbiddenError("the invitation has expired", "ask the exchange's operator for a new one")
            try:
                admit()
            except IsthmusError:
                if not again:
                    self._rows.give_back(digest)
                raise
            return tuple(json.loads(row["purposes"]))
