"""API keys: who calls. The secret is shown once, when the key is made; afterwards only its salted hash exists."""

from __future__ import annotations

import msgspec


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key as it is listed: everything but the secret. operator: may credit, price and check; acts for every party."""

    id: str
    party: str
    operator: bool
    label: str
    created_at_s: int
    expires_at_s: int | None
    revoked_at_s: int | None


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that was just made, with the bearer token; it is not shown again."""

    key: Key
    bearer: str


class KeyOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for a key of a party. expires_in_s: seconds it lives; none means until it is revoked."""

    party: str
    label: str = ""
    operator: bool = False
    expires_in_s: int | None = None
