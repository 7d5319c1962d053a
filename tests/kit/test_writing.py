"""The decoder of texts, and which decoder a record gets."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema, checked_schema
from isthmus.kit.decoders import decoded_record, decoder_named, row_text
from isthmus.kit.writing import TEXT_BYTES_MAX, TEXT_DECODER, coded, decode_text, written

TEXTS = Schema(columns=(Column(name="said", kind="text"),))
PLAIN = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(lambda text: text.strip("\ufeff").strip())


@given(PLAIN)
def test_a_text_comes_back_in_normal_form(text: str) -> None:
    found = decode_text(text.encode())
    assert found.dtype == np.uint32 and written(found) == unicodedata.normalize("NFC", text.removeprefix("\ufeff"))
    assert np.array_equal(decode_text(written(found).encode()), found) or text.startswith("\ufeff")


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused_in_words(raw: bytes) -> None:
    try:
        assert written(decode_text(raw)).strip()
    except InputError as error:
        assert error.message.startswith("the text") and error.next_step


def test_what_is_the_same_text_is_the_same_record() -> None:
    same = [b"caf\xc3\xa9\nbon", b"\xef\xbb\xbfcafe\xcc\x81\r\nbon", b"cafe\xcc\x81\rbon"]
    assert len({decode_text(raw).tobytes() for raw in same}) == 1
    for text in ("שלום עולם", "👩‍🔬 works", "不错", "\u202eright to left"):
        assert written(decode_text(text.encode())) == text


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"caf\xe9", "is not UTF-8 text (byte 3)"),
        ("naïve".encode("utf-16"), "is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00", "is not UTF-8 text"),
        (b"MZ\x00\x01", "control character U+0000"),
        (b"\x1b[31mred", "control character U+001B"),
        (b"\xed\xa0\x80", "is not UTF-8 text"),
        (b"x" * 10_000_000, f"more than the {TEXT_BYTES_MAX} allowed"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(raw: bytes, said: str) -> None:
    with pytest.raises(InputError) as refused:
        decode_text(raw, "letters/7.txt")
    assert said in refused.value.message and refused.value.message.startswith("letters/7.txt")


def test_arrays_that_are_no_text_are_refused() -> None:
    for wrong in (np.zeros((2, 2), np.uint32), np.zeros(3, np.float32), np.array([0x110000], np.uint32), np.array([0xD800], np.uint32)):
        with pytest.raises(InputError):
            written(wrong)


def test_the_schema_names_the_decoder_and_the_text_in_a_row() -> None:
    assert decoder_named(TEXTS) == TEXT_DECODER != decoder_named(Schema(columns=(Column(name="x", low=0, high=1),)))
    row = json.dumps({"said": "It works. היטב", "label": "good", "group": "g"}).encode()
    assert written(decoded_record(row_text(row, "r#1", TEXTS), "r#1", TEXTS)) == "It works. היטב"
    for wrong in (b"[]", b"{}", b'{"said": 3}', b"no", b"\xff"):
        with pytest.raises(InputError, match=r"r#1"):
            row_text(wrong, "r#1", TEXTS)
    assert np.array_equal(coded("ab"), [97, 98])


@pytest.mark.parametrize(
    "columns",
    [
        (Column(name="said", kind="text"), Column(name="x", low=0, high=1)),
        (Column(name="said", kind="text", missing=True),),
        (Column(name="said", kind="text", unit="words"),),
        (Column(name="label", kind="text"),),
    ],
)
def test_a_text_stands_alone_in_its_schema(columns: tuple[Column, ...]) -> None:
    with pytest.raises(InputError):
        checked_schema(Schema(columns=columns))
    with pytest.raises(InputError):
        checked_schema(Schema(columns=TEXTS.columns, steps=2))
    assert checked_schema(TEXTS).written
