"""A party's first contact with an exchange: it reads an invitation, and registers with the token in it.

What leaves, the signed statement of who the party is, stands in the owner's log first, as everything that leaves.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import httpx
import msgspec

from isthmus.contracts.errors import InputError, RemoteError, UnreachableError
from isthmus.contracts.party import INVITATION_PREFIX, Invitation, Joined, Joining
from isthmus.contracts.ports import Clock
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.pinning import address_of, verification
from isthmus.sandbox.nodehome import NodeHome
from isthmus.sandbox.nodestate import JoinedExchange, remember_exchange
from isthmus.sandbox.outlog import Leaving, OutLog

TIMEOUT_S = 30.0
INVITATION_CHARS_MAX = 8192


def text_of(invitation: Invitation) -> str:
    """One line that can be mailed, read back by `invitation_of`."""
    return INVITATION_PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(invitation)).decode().rstrip("=")


def invitation_of(given: str) -> Invitation:
    """Reads an invitation: its text, or the path of a file that holds it. Raises InputError."""
    text = given.strip()
    if not text.startswith(INVITATION_PREFIX):
        try:
            with Path(given).open(encoding="utf-8") as file:
                text = file.read(INVITATION_CHARS_MAX + 1).strip()
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise InputError(f"{given[:60]!r} is no invitation and no file with one", "give the line that the operator sent") from error
    body = text.removeprefix(INVITATION_PREFIX)
    try:
        if body == text or len(text) > INVITATION_CHARS_MAX:
            raise ValueError
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        found = msgspec.json.decode(raw, type=Invitation)
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise InputError("the invitation cannot be read", "copy the whole line that the operator sent") from error
    address_of(found.exchange)
    return found


def join(home: NodeHome, invitation: Invitation, clock: Clock, transport: httpx.BaseTransport | None = None) -> Joined:
    """Registers the node's party at the exchange, over a connection to the pinned key if there is one, and remembers the exchange.

    The same again is answered the same. Raises InputError (expired, or for another id), UnreachableError, RemoteError (refused).
    """
    if clock.now_s() >= invitation.expires_at_s:
        raise InputError("the invitation has expired", "ask the exchange's operator for a new one")
    if invitation.party not in ("", home.settings.id):
        raise InputError(f"the invitation is for {invitation.party}, not for {home.settings.id}", f"give --id {invitation.party}")
    address = address_of(invitation.exchange)
    body = canonical_bytes(Joining(token=invitation.token, party=msgspec.to_builtins(home.party_envelope)))
    OutLog(home.log_path, home.key, clock).append(Leaving("party", body, address.base_url))
    try:
        with httpx.Client(timeout=TIMEOUT_S, transport=transport, trust_env=False, verify=verification(address)) as client:
            answer = client.post(f"{address.base_url}/v1/joinings", content=body, headers={"content-type": "application/json"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(
            f"the exchange at {address.base_url} did not answer: {error}", "ask its operator, then join again"
        ) from error
    try:
        if answer.status_code >= 400:
            told = msgspec.json.decode(answer.content, type=dict[str, str])
            raise RemoteError(answer.status_code, told["code"], told["message"], told.get("next", ""))
        joined = msgspec.json.decode(answer.content, type=Joined)
    except (msgspec.DecodeError, KeyError) as error:
        raise UnreachableError(f"{address.base_url} did not answer as an exchange does", "check the invitation's address") from error
    if joined.public_key != invitation.public_key:
        raise InputError("the exchange told another key than the invitation has", "ask its operator which one is right; do not agree yet")
    remember_exchange(home.root, JoinedExchange(address=str(address), public_key=joined.public_key, purposes=joined.purposes))
    return joined
