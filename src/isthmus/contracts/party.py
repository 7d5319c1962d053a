"""A party: an organisation that signs what it says."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.ports import Json

PARTY_TYPE = "application/vnd.isthmus.party+json"

PartyKind = Literal["owner", "site", "compute", "model-vendor", "user", "funder", "exchange"]


class Party(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who somebody is. The envelope is signed by the key that the document itself names.

    id: slug, unique at an exchange and bound to the first key that registers it. public_key: Ed25519, 64 hex digits.
    sample: a made-up party for demonstration. credentials: signed words of issuers that this key is this party's (Credential).
    """

    id: str
    name: str
    kind: PartyKind
    public_key: str
    sample: bool = False
    credentials: tuple[Json, ...] = ()


CREDENTIAL_TYPE = "application/vnd.isthmus.credential+json"


class Credential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An issuer's signed word that a key is a party's. An agreement that names the issuer lets such a party stand in a roster without
    pinning its key; all whom one issuer vouches for count as one participant. Times are whole seconds since the Unix epoch."""

    issuer: str
    party: str
    public_key: str
    issued_at_s: int
    expires_at_s: int
