"""A party: an organisation that signs what it says."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from isthmus.contracts.ports import Json

PARTY_TYPE = "application/vnd.isthmus.party+json"
ROTATION_TYPE = "application/vnd.isthmus.rotation+json"
INVITATION_PREFIX = "isthmus-invitation:"

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


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A party's word that another key speaks for it from now on.

    The envelope is signed by both: the old key, whose word it is, and the new key, which so proves that its holder has it. sequence: 1
    for a party's first rotation. old_key, new_key: Ed25519, 64 hex digits. at_s: whole seconds since the Unix epoch.
    """

    party: str
    sequence: int
    old_key: str
    new_key: str
    at_s: int


class Invitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator hands to a party that shall join, by a way of their own: mail, a memory stick, a telephone.

    exchange: address, with the pin of its key if it has TLS. public_key: the exchange's, for agreements to pin. purposes: what the party
    is asked to agree to. token: good once, until expires_at_s. party: the only id that may be taken with it; empty for any.
    """

    exchange: str
    public_key: str
    purposes: tuple[str, ...]
    token: str
    expires_at_s: int
    party: str = ""


class InviteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator asks for. ttl_s: seconds until the invitation expires."""

    purposes: tuple[str, ...]
    ttl_s: int
    party: str = ""


class Guest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An invitation as the operator sees it afterwards; never its token. used_by: the party that joined with it. state: open, used,
    expired or revoked."""

    id: str
    purposes: tuple[str, ...]
    party: str
    created_at_s: int
    expires_at_s: int
    state: Literal["open", "used", "expired", "revoked"]
    used_by: str = ""


class Issued(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new invitation: its id, by which it can be revoked, and its token, which the exchange does not keep."""

    id: str
    token: str
    expires_at_s: int


class Joining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a party sends to join. party: its signed Party envelope, as JSON."""

    token: str
    party: Any


class Joined(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it is told. participants: party id -> public key of those that agreed to one of the purposes, the newcomer left out. The
    exchange says so: compare the keys with their owners before agreeing."""

    party: str
    public_key: str
    purposes: tuple[str, ...]
    participants: dict[str, str]
