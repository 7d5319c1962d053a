"""Signed requests: a node proves with every call that it is the party it speaks for.

The header holds party, time and an Ed25519 signature over method, path with query, sha256 of the body, and time. It is
checked against the party's registered key; a request older than REQUEST_AGE_S_MAX is refused. Every call that a node makes is
idempotent, so that one replayed within that time does nothing twice.
"""

from __future__ import annotations

from isthmus.contracts.errors import SignatureError
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.signing import SigningKey, verify

HEADER = "isthmus-signature"
REQUEST_AGE_S_MAX = 300
HEADER_CHARS_MAX = 400


def _message(party: str, method: str, target: str, body: bytes, at_s: int) -> bytes:
    return "\n".join(["isthmus-request/1", party, method.upper(), target, sha256_hex(body), str(at_s)]).encode()


def signature_header(key: SigningKey, party: str, method: str, target: str, body: bytes, now_s: float) -> str:
    """The header's value. target: path with query, as it is sent."""
    at_s = int(now_s)
    return f"{party} {at_s} {key.sign(_message(party, method, target, body, at_s)).hex()}"


def claimed_party(header: str | None) -> str:
    """Whom the request claims to come from. Raises SignatureError when there is no well-formed header."""
    parts = (header or "").split(" ")
    if len(header or "") > HEADER_CHARS_MAX or len(parts) != 3 or not parts[1].isdecimal():
        raise SignatureError(f"the request has no {HEADER} header that can be read", "sign the request with the party's key")
    return parts[0]


def check_request(header: str | None, public_key: str, method: str, target: str, body: bytes, now_s: float) -> None:
    """Raises SignatureError when the claimed party's key did not sign this request just now."""
    party = claimed_party(header)
    _, at_text, signature = (header or "").split(" ")
    if abs(now_s - int(at_text)) > REQUEST_AGE_S_MAX:
        raise SignatureError(f"the request of {party} was signed more than {REQUEST_AGE_S_MAX} s away from now", "set the clock")
    try:
        raw = bytes.fromhex(signature)
    except ValueError as error:
        raise SignatureError("the request's signature is not hexadecimal", "sign the request with the party's key") from error
    if not verify(public_key, _message(party, method, target, body, int(at_text)), raw):
        raise SignatureError(f"the request was not signed by the key that {party} registered", "use the key of that party")
