"""The fast way to canonical JSON writes the very bytes of the general way."""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import DocumentError
from isthmus.kit.canonical import canonical_bytes, parse_canonical

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(codec="utf-8"))
    | st.text(st.characters(codec="ascii"))
)
DOCUMENTS = st.recursive(
    SCALARS | st.floats(-1e15, 1e15),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(DOCUMENTS)
def test_the_bytes_are_those_of_rfc_8785(document: Any) -> None:
    raw = canonical_bytes(document)
    assert raw == rfc8785.dumps(document)
    assert parse_canonical(raw) == document


def test_every_ascii_character_and_key_order() -> None:
    document = {chr(code): chr(code) * 2 for code in range(128)} | {"aa": 1, "a": [True, None, -1], "A\U00010000": 0}
    assert canonical_bytes(document) == rfc8785.dumps(document)
    del document["A\U00010000"]
    assert canonical_bytes(document) == rfc8785.dumps(document)


@pytest.mark.parametrize("document", [2**53, -(2**53), {"a": [2**60]}, float("inf"), float("nan"), [float("nan")]])
def test_what_has_no_canonical_form_is_refused(document: Any) -> None:
    with pytest.raises(DocumentError):
        canonical_bytes(document)
