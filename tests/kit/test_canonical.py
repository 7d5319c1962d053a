"""One document has one byte string and one digest."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import DocumentError
from isthmus.kit.canonical import canonical_bytes, digest_of, parse_canonical

INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAVES = st.none() | st.booleans() | INTEGERS | st.floats(-9e15, 9e15) | WORDS
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12)


@given(DOCUMENTS)
def test_round_trip(document: Any) -> None:
    raw = canonical_bytes(document)
    again = parse_canonical(raw)
    assert again == document
    assert canonical_bytes(again) == raw


@given(st.dictionaries(WORDS, INTEGERS, min_size=2, max_size=6), st.randoms())
def test_order_of_keys_does_not_matter(document: dict[str, int], random: Any) -> None:
    keys = list(document)
    random.shuffle(keys)
    assert digest_of({key: document[key] for key in keys}) == digest_of(document)


@given(DOCUMENTS, DOCUMENTS)
def test_digest_tells_documents_apart(one: Any, other: Any) -> None:
    same = canonical_bytes(one) == canonical_bytes(other)
    assert (digest_of(one) == digest_of(other)) == same


@given(st.dictionaries(WORDS, INTEGERS, min_size=1, max_size=4))
def test_other_spellings_of_the_same_document_are_refused(document: dict[str, int]) -> None:
    for raw in (json.dumps(document, indent=1).encode(), b" " + canonical_bytes(document), canonical_bytes(document) + b"\n"):
        with pytest.raises(DocumentError, match="not canonical"):
            parse_canonical(raw)


@pytest.mark.parametrize("document", [math.nan, math.inf, 2**53, -(2**60), {"a": [2**64]}])
def test_numbers_without_canonical_form_are_refused(document: Any) -> None:
    with pytest.raises(DocumentError, match="no canonical JSON form"):
        canonical_bytes(document)


def test_a_large_whole_float_fails_closed() -> None:
    """JSON does not tell 1e16 from an integer beyond 2^53, so no document may hold it."""
    with pytest.raises(DocumentError):
        parse_canonical(canonical_bytes({"a": 1e16}))


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":1,"a":2}', b"NaN", b"1e400"])
def test_what_is_not_a_document_is_refused(raw: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_canonical(raw)


def test_known_vector() -> None:
    """The example of RFC 8785, section 3.2.2, in short."""
    assert canonical_bytes({"b": [1e-30, 4.50, 2e-3], "a": "\u20ac\n"}) == '{"a":"€\\n","b":[1e-30,4.5,0.002]}'.encode()
    assert digest_of({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
