"""Canonical JSON (RFC 8785) and digests of documents."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import rfc8785

from isthmus.contracts.errors import DocumentError

DOCUMENT_BYTES_MAX = 64 * 1024 * 1024
"""A signed document's canonical JSON."""
INTEGER_MAX = 2**53 - 1
"""The largest integer in a document, by size: the largest that every JSON reader keeps exact."""


def canonical_bytes(document: Any) -> bytes:
    """The one byte string that stands for a JSON document (dicts, lists, strings, numbers, or a msgspec Struct)."""
    plain = msgspec.to_builtins(document)
    if _is_plain(plain):
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if text.isascii():
            return text.encode("ascii")
    try:
        return rfc8785.dumps(plain)
    except rfc8785.CanonicalizationError as error:
        raise DocumentError(f"the document has no canonical JSON form: {error}", "use integers below 2^53 and finite numbers") from error


def _is_plain(value: Any) -> bool:
    """Whether a value holds only text keys, text, exact integers, true, false and null. If it is ASCII too, the standard library's
    compiled encoder with sorted keys writes its canonical form, about ten times as fast as the general way."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str and _is_plain(inner) for key, inner in value.items())
    if kind is list or kind is tuple:
        return all(_is_plain(inner) for inner in value)
    return kind is str or (kind is int and -INTEGER_MAX <= value <= INTEGER_MAX) or kind is bool or value is None


def parse_canonical(raw: bytes) -> Any:
    """Parses JSON and refuses bytes that are not canonical, so that one document has one digest."""
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise DocumentError(f"the document has {len(raw)} bytes, more than the {DOCUMENT_BYTES_MAX} allowed", "split it")
    try:
        value = json.loads(raw)
        again = canonical_bytes(value)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"the document is not JSON: {error}", "send the bytes as they were signed") from error
    if again != raw:
        raise DocumentError("the document's bytes are not canonical JSON (RFC 8785)", "send the bytes as they were signed")
    return value


def sha256_hex(raw: bytes) -> str:
    """sha256 as 64 hex digits."""
    return hashlib.sha256(raw).hexdigest()


def digest_of(document: Any) -> str:
    """sha256 of the canonical JSON of a document, as `sha256:<64 hex digits>`."""
    return "sha256:" + sha256_hex(canonical_bytes(document))
