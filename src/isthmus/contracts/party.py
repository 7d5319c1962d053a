"""A party: an organisation that signs what it says."""

from __future__ import annotations

from typing import Literal

import msgspec

PARTY_TYPE = "application/vnd.isthmus.party+json"

PartyKind = Literal["owner", "site", "compute", "model-vendor", "user", "funder", "exchange"]


class Party(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who somebody is. The envelope is signed by the key that the document itself names.

    id: slug, unique at an exchange and bound to the first key that registers it. public_key: Ed25519, 64 hex digits.
    sample: a made-up party for demonstration.
    """

    id: str
    name: str
    kind: PartyKind
    public_key: str
    sample: bool = False
