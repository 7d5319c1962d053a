"""The decoder of records: JSON in, float32 out, or a sentence."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.kit.records import RECORD_BYTES_MAX, decode_record, record_bytes

COLUMNS = (Column(name="a", low=0, high=1), Column(name="b", low=0, high=1, missing=True))
ROW, WINDOW = Schema(columns=COLUMNS), Schema(columns=COLUMNS, steps=3)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3))
def test_rows_of_a_table_come_back_as_numbers(values: list[float]) -> None:
    rows = [{"a": repr(value), "b": "", "label": "good"} for value in values]
    window = decode_record(record_bytes(rows), "it", WINDOW)
    assert window.shape == (3, 2) and window[:, 0].tolist() == values and np.isnan(window[:, 1]).all()
    assert decode_record(record_bytes(rows[:1]), "it", ROW).shape == (2,)


def test_numbers_text_and_null_are_taken() -> None:
    assert decode_record(b'{"a": 0.5, "b": "1"}', "it", ROW).tolist() == [0.5, 1.0]
    assert np.isnan(decode_record(b'{"a": 1, "b": null}', "it", ROW)[1])


@pytest.mark.parametrize(
    ("raw", "schema", "said"),
    [
        (b"", ROW, "no JSON object"),
        (b"\xff", ROW, "no JSON object"),
        (b"[1]", ROW, "no JSON object"),
        (b"{}", ROW, "no column a"),
        (b'{"a": true}', ROW, "bool"),
        (b'{"a": [1]}', ROW, "list"),
        (b'[{"a": 1}]', WINDOW, "1 steps"),
        (b'[{"a": 1}, {"a": 1}, {"a": "x"}]', WINDOW, "step 3: column a"),
        (b" " * (RECORD_BYTES_MAX + 1), ROW, "more than"),
        (b"[" * 100_000, ROW, "no JSON object"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(raw: bytes, schema: Schema, said: str) -> None:
    with pytest.raises(InputError, match=said):
        decode_record(raw, "record 7", schema)


@given(st.binary(max_size=60) | st.recursive(st.none() | st.floats() | st.text(max_size=3), st.lists).map(lambda v: json.dumps(v).encode()))
def test_no_bytes_are_anything_but_a_record_or_a_refusal(raw: bytes) -> None:
    with contextlib.suppress(InputError):
        assert decode_record(raw, "it", ROW).dtype == np.float32
