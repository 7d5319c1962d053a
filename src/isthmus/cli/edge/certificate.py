"""Checks a certificate offline, with the standard library alone: signature, form, times, tier, file, decoder.

Ed25519 is verified by Python's integers (RFC 8032, sections 5.1.2 to 5.1.7) in some milliseconds; only public things are verified, so it
need not run in constant time. Stricter than some: a point whose y is not below p, and an s not below the group's order, are refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

TIERS, DECODER, RECORD_DECODER = ("T1", "T2", "T3"), "isthmus-rgb8/1", "isthmus-records/1"
Point = tuple[int, int, int, int]
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
NEUTRAL: Point = (0, 1, 1, 0)


class Refused(Exception):
    """Why nothing runs, in one sentence."""


def sha256(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def certified(folder: Path, target: dict[str, Any], pinned: str, tier: str, now_s: float) -> tuple[bytes, int, dict[str, Any] | None]:
    """(the model's bytes, until when, the columns of its records or None for pictures), if the pinned key (hex) signed that these meet
    their bars, for the tier, now. Raises Refused."""
    envelope, model = json.loads((folder / "certificate.json").read_bytes()), (folder / "model.onnx").read_bytes()
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    key = bytes.fromhex(pinned)
    known = [base64.b64decode(s["sig"]) for s in envelope["signatures"] if s["keyid"] == hashlib.sha256(key).hexdigest()[:32]]
    if not any(verified(key, signed, signature) for signature in known):
        raise Refused("the certificate was edited" if known else "no key that is trusted here signed the certificate")
    said = json.loads(payload)
    found = said["predicate"]
    kinds = (envelope["payloadType"], said["_type"], said["predicateType"])
    if kinds != ("application/vnd.in-toto+json", "https://in-toto.io/Statement/v1", "urn:isthmus:certificate:v1"):
        raise Refused("what was signed is not a certificate")
    if canonical(said) != payload or sha256(payload) != target["certificate_digest"]:
        raise Refused("the certificate is not the one that target.json names")
    if now_s < found["not_before_s"]:
        raise Refused("the certificate is not valid yet, or this machine's clock is behind")
    if now_s >= found["not_after_s"]:
        raise Refused("the certificate's validity is over; certify again and export again")
    if max(TIERS.index(tier), TIERS.index(target["tier"])) > TIERS.index(found["tier"]):
        raise Refused(f"the certificate is for tier {found['tier']} only")
    if not {sha256(model), target["artefact_digest"]} <= {"sha256:" + subject["digest"]["sha256"] for subject in said["subject"]}:
        raise Refused("model.onnx is not the file that was certified")
    if found["decoder"] not in (DECODER, RECORD_DECODER) or found["decoder"] != target["decoder"]:
        raise Refused(f"the certificate is for what is decoded by {found['decoder']}; this runner has {DECODER} and {RECORD_DECODER}")
    until_s = int(found["not_after_s"])
    return model, until_s, schema_of(folder, found["head_digest"]) if found["decoder"] == RECORD_DECODER else None


def schema_of(folder: Path, digest: str) -> dict[str, Any]:
    """The columns that the certified head names, from head.json. Raises Refused when it is another head."""
    raw = (folder / "head.json").read_bytes()
    if sha256(raw) != digest:
        raise Refused("head.json is not the head that was certified")
    found: dict[str, Any] = json.loads(raw)["stage"]["schema"]
    return found


def point_of(raw: bytes) -> Point | None:
    """32 bytes -> a point in extended coordinates (X, Y, Z, T), or None when they stand for none."""
    number = int.from_bytes(raw, "little")
    y, sign = number & (2**255 - 1), number >> 255
    if len(raw) != 32 or y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def added(one: Point, other: Point) -> Point:
    """The sum of two points."""
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % P, (one[1] + one[0]) * (other[1] + other[0]) % P
    c, d = 2 * one[3] * other[3] * D % P, 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, point: Point) -> Point:
    """The point added to itself so many times."""
    result = NEUTRAL
    while number:
        if number & 1:
            result = added(result, point)
        point, number = added(point, point), number >> 1
    return result


def verified(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the 64-byte signature over message is that of the 32-byte public key."""
    key, base = point_of(public), point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    s = int.from_bytes(signature[32:], "little")
    if key is None or base is None or len(signature) != 64 or s >= ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    x, y, z, _ = added(times(s, base), times(challenge, (P - key[0], key[1], 1, P - key[3])))
    inverse = pow(z, -1, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]
