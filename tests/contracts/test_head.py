"""Arrays in documents: bit for bit, and nothing that is not finite or does not fit."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from isthmus.contracts.errors import DocumentError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.kit.canonical import canonical_bytes, parse_canonical

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(arrays.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=False, allow_infinity=False)) | arrays.arrays(np.int64, SHAPES))
def test_round_trip_through_a_signed_document(value: Any) -> None:
    sent = parse_canonical(canonical_bytes(Array.of(value)))
    again = msgspec.convert(sent, Array).array()
    assert again.dtype == value.dtype and again.shape == value.shape and again.tobytes() == value.tobytes()


def test_smaller_types_are_widened() -> None:
    assert Array.of(np.array([1, 2], np.int16)).array().dtype == np.int64
    assert Array.of(np.array([1.5], np.float32)).array().dtype == np.float64


@pytest.mark.parametrize(
    "array",
    [
        Array(dtype="<f4", shape=(1,), data="AAAAAA=="),
        Array(dtype="O", shape=(1,), data="AAAAAAAAAAA="),
        Array(dtype="<f8", shape=(2,), data="AAAAAAAAAAA="),
        Array(dtype="<f8", shape=(-2,), data="AAAAAAAAAAA="),
        Array(dtype="<f8", shape=(1,), data="AAAA"),
        Array(dtype="<f8", shape=(1,), data="not base64"),
        Array.of(np.array([np.nan])),
        Array.of(np.array([1.0, np.inf])),
    ],
)
def test_what_does_not_fit_is_refused(array: Array) -> None:
    with pytest.raises(DocumentError):
        array.array()


def head() -> Head:
    stage = Stage(backbone="efficientnet-lite0", parts=("block/10", "block/14"), dimension=2, digest="sha256:" + "0" * 64)
    return Head(stage=stage, coefficients=Array.of(np.array([0.1, -0.2])), bias=0.5, lo=-0.4, hi=0.4, decoder="isthmus-rgb8/1")


def test_a_head_comes_back_from_canonical_json() -> None:
    assert msgspec.convert(parse_canonical(canonical_bytes(head())), Head) == head()


def test_unknown_and_missing_fields_are_refused() -> None:
    built = msgspec.to_builtins(head())
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**built, "surprise": 1}, Head)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({key: value for key, value in built.items() if key != "decoder"}, Head)
    with pytest.raises(AttributeError):
        head().bias = 1.0  # type: ignore[misc]
