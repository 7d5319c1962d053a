"""The wire: round trips, hand-written bytes of the protocol, and refusals."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isthmus.contracts.errors import BodyTooLargeError, InferenceRequestError, IsthmusError
from isthmus.contracts.inference import VERDICTS
from isthmus.gateway import limits, wire
from isthmus.gateway.tensors import files_from_bytes, files_to_bytes
from isthmus.gateway.wire import (
    Answer,
    OutputChoice,
    RecordRequest,
    format_answer,
    format_request,
    header_length,
    parse_answer,
    parse_request,
)

IDS = st.none() | st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
CHOICES = st.lists(st.tuples(st.sampled_from(["score", "verdict"]), st.booleans()), unique_by=lambda c: c[0], max_size=2)
PIXELS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(8, 12), st.integers(8, 12), st.just(3)))


def parsed(document: Any, binary: bytes | None = None) -> RecordRequest:
    raw = json.dumps(document).encode()
    return parse_request(raw + (binary or b""), None if binary is None else len(raw), "cells", "1")


def image(**changes: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [7] * 192}
    entry.update(changes)
    return {"inputs": [{key: value for key, value in entry.items() if value is not None}]}


@settings(max_examples=40, deadline=None)
@given(PIXELS, IDS, st.booleans(), CHOICES)
def test_pixels_come_back_as_sent(pixels: Any, request_id: str | None, binary: bool, choices: list[tuple[str, bool]]) -> None:
    outputs = [OutputChoice(*choice) for choice in choices]
    body, header = format_request(pixels, request_id, binary, outputs)
    request = parse_request(body, header, "cells", "1")
    assert request.request_id == request_id
    assert request.count == len(pixels)
    assert request.values is not None and np.array_equal(request.values, pixels)
    assert list(request.outputs) == (outputs or [OutputChoice("score", False), OutputChoice("verdict", False)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=400), min_size=1, max_size=4), IDS, st.booleans())
def test_files_come_back_as_sent(files: list[bytes], request_id: str | None, binary: bool) -> None:
    body, header = format_request(files, request_id, binary)
    request = parse_request(body, header, "cells", "1")
    assert request.files == tuple(files)
    assert request.request_id == request_id


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 6), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    st.data(),
    st.booleans(),
    st.booleans(),
)
def test_answers_come_back_as_sent(scores: Any, data: st.DataObject, score_binary: bool, verdict_binary: bool) -> None:
    verdicts = tuple(data.draw(st.sampled_from(VERDICTS)) for _ in scores)
    answer = Answer("cells", "1", "r", {"receipt": "x", "charge_micros": 5}, scores, verdicts)
    body, header = format_answer(answer, [OutputChoice("score", score_binary), OutputChoice("verdict", verdict_binary)])
    back = parse_answer(body, header)
    assert (header is None) == (not score_binary and not verdict_binary)
    assert back.scores.tobytes() == scores.tobytes()
    assert (back.verdicts, back.parameters, back.request_id) == (verdicts, answer.parameters, "r")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.none() | st.integers(0, 300))
def test_any_bytes_give_a_request_or_a_coded_refusal(body: bytes, header: int | None) -> None:
    try:
        parse_request(body, header, "cells", "1")
    except IsthmusError as error:
        assert 400 <= error.http_status < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["image", "UINT8", "BYTES", 1, 8, 3]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "data", "shape", "parameters", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=120, deadline=None)
@given(
    st.fixed_dictionaries(
        {"name": st.just("image") | JSON, "datatype": st.sampled_from(["UINT8", "BYTES"]) | JSON, "shape": st.just([1, 8, 8, 3]) | JSON},
        optional={
            "data": JSON,
            "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "content_type", "x"]), JSON, max_size=2),
        },
    ),
    st.fixed_dictionaries({}, optional={"id": JSON, "outputs": JSON, "parameters": JSON, "model_name": JSON}),
    st.none() | st.binary(max_size=200),
)
def test_near_misses_give_a_coded_refusal(entry: dict[str, Any], rest: dict[str, Any], binary: bytes | None) -> None:
    try:
        request = parsed({"inputs": [entry], **rest}, binary)
        assert 1 <= request.count <= limits.IMAGES_MAX
    except IsthmusError as error:
        assert 400 <= error.http_status < 500


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 5))
def test_bytes_elements_are_read_whole_or_refused(raw: bytes, count: int) -> None:
    with contextlib.suppress(InferenceRequestError):
        assert files_to_bytes(files_from_bytes(raw, count, "it")) == raw


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.none() | st.integers(0, 200))
def test_any_answer_is_read_or_refused(body: bytes, header: int | None) -> None:
    with pytest.raises(InferenceRequestError):
        parse_answer(body, header)


def test_binary_request_written_by_hand_after_the_specification() -> None:
    first, second = b"\x89PNG one", b"two"
    tail = struct.pack("<I", len(first)) + first + struct.pack("<I", len(second)) + second
    head = (
        b'{ "model_name" : "cells", "id" : "42", "inputs" : [ { "name" : "image", "shape" : [ 2 ], "datatype" : "BYTES", '
        b'"parameters" : { "binary_data_size" : ' + str(len(tail)).encode() + b' } } ], "outputs" : [ { "name" : "score", '
        b'"parameters" : { "binary_data" : true } } ] }'
    )
    request = parse_request(head + tail, len(head), "cells", "1")
    assert request.files == (first, second)
    assert request.outputs == (OutputChoice("score", True),)


def test_binary_answer_is_laid_out_as_the_specification_says() -> None:
    answer = Answer("cells", "1", "42", {}, np.array([0.5, -1.0], dtype=np.float32), ("person", "good"))
    body, header = format_answer(answer, [OutputChoice("score", True), OutputChoice("verdict", True)])
    assert header is not None
    document = json.loads(body[:header])
    assert document["outputs"] == [
        {"name": "score", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
        {"name": "verdict", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 18}},
    ]
    assert body[header:] == struct.pack("<ff", 0.5, -1.0) + b"\x06\0\0\0person" + b"\x04\0\0\0good"


def test_binary_data_output_is_the_default_and_binary_data_overrides_it() -> None:
    document = {
        **image(),
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "score"}, {"name": "verdict", "parameters": {"binary_data": False}}],
    }
    assert parsed(document).outputs == (OutputChoice("score", True), OutputChoice("verdict", False))
    assert parsed({**image(), "parameters": {"binary_data_output": True}}).outputs[0].binary


def test_json_tensors_may_be_nested_or_flat() -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    for data in (pixels.tolist(), pixels.reshape(-1).tolist()):
        found = parsed(image(data=data)).values
        assert found is not None and np.array_equal(found, pixels)


def test_a_raw_binary_request_is_one_image_file() -> None:
    request = parse_request(b"file", 0, "cells", "1")
    assert (request.files, request.count, request.request_id) == ((b"file",), 1, None)


NESTED_SHORT = [[[[1, 2, 3]] * 8] * 7]
BAD = {
    "no inputs": {"inputs": []},
    "inputs missing": {},
    "unknown field": {**image(), "extra": 1},
    "other input name": image(name="picture"),
    "input twice": {"inputs": image()["inputs"] * 2},
    "too many inputs": {"inputs": image()["inputs"] * 5},
    "wrong datatype": image(datatype="FP32"),
    "unknown datatype": image(datatype="uint8"),
    "wrong rank": image(shape=[8, 8, 3]),
    "wrong channels": image(shape=[1, 8, 8, 1], data=[7] * 64),
    "negative dimension": image(shape=[-1, 8, 8, 3]),
    "fractional dimension": image(shape=[1.0, 8, 8, 3]),
    "no images": image(shape=[0, 8, 8, 3], data=[]),
    "too many images": image(shape=[limits.IMAGES_MAX + 1], datatype="BYTES", data=["aaaa"] * (limits.IMAGES_MAX + 1)),
    "huge shape": image(shape=[1, 2**62, 2**62, 3]),
    "shape beyond 64 bits": image(shape=[1, 2**70, 8, 3]),
    "tiny images": image(shape=[1, 4, 4, 3], data=[7] * 48),
    "too few elements": image(data=[7] * 191),
    "too many elements": image(data=[7] * 193),
    "nested unlike shape": image(data=NESTED_SHORT),
    "ragged": image(data=[[[[1, 2, 3]] * 8] * 7 + [[[1, 2, 3]] * 7]]),
    "value above 255": image(data=[256] * 192),
    "negative value": image(data=[-1] * 192),
    "fraction": image(data=[0.5] * 192),
    "boolean value": image(data=[True] * 192),
    "text value": image(data=["7"] * 192),
    "data null": {"inputs": [{**image()["inputs"][0], "data": None}]},
    "no data": image(data=None),
    "data and binary": image(parameters={"binary_data_size": 192}),
    "binary without header": image(data=None, parameters={"binary_data_size": 192}),
    "boolean size": image(data=None, parameters={"binary_data_size": True}),
    "unknown parameter": {**image(), "parameters": {"sequence_id": 1}},
    "unknown input parameter": image(parameters={"shared_memory_region": "x"}),
    "classification": {**image(), "outputs": [{"name": "score", "parameters": {"classification": 2}}]},
    "flag not boolean": {**image(), "parameters": {"binary_data_output": 1}},
    "nested parameter": {**image(), "parameters": {"binary_data_output": [True]}},
    "unknown output": {**image(), "outputs": [{"name": "logits"}]},
    "output twice": {**image(), "outputs": [{"name": "score"}, {"name": "score"}]},
    "other model": {**image(), "model_name": "cats"},
    "other version": {**image(), "model_version": "2"},
    "id not text": {**image(), "id": 5},
    "id too long": {**image(), "id": "x" * 129},
    "id with control characters": {**image(), "id": "a\nb"},
    "file not base64": image(datatype="BYTES", shape=[1], data=["\u00e9!"]),
    "files fewer than shape": image(datatype="BYTES", shape=[2], data=["aaaa"]),
    "content type": image(datatype="BYTES", shape=[1], data=["aaaa"], parameters={"content_type": "str"}),
    "content type on pixels": image(parameters={"content_type": "base64"}),
    "header too large": {**image(), "model_name": "x" * 70_000},
    "not an object": [1, 2],
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_requests_are_refused(name: str) -> None:
    with pytest.raises(InferenceRequestError) as refused:
        parsed(BAD[name])
    assert refused.value.message and refused.value.next_step


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"inputs":' + b"[" * 100_000,
        b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,8,8,3],"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"inputs":[],"inputs":[]}',
        b'{"inputs":[{"name":"\xff"}]}',
        b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,8,8,3],"data":[NaN]}]}',
        b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,8,8,3],"data":[1e999]}]}',
        b"null",
    ],
)
def test_bytes_that_are_no_request_are_refused(raw: bytes) -> None:
    with pytest.raises(InferenceRequestError):
        parse_request(raw, None, "cells", "1")


def test_deep_json_is_refused_as_such() -> None:
    deep: Any = 1
    for _ in range(limits.JSON_DEPTH_MAX):
        deep = [deep]
    with pytest.raises(InferenceRequestError, match="nested more than"):
        parsed(image(data=deep))


def test_a_key_given_twice_is_refused() -> None:
    good = json.dumps(image()).encode()
    assert parse_request(good, None, "cells", "1").count == 1
    for twice in (
        good[:-1] + b',"inputs":[]}',
        good.replace(b'"name"', b'"name":"other","name"'),
        good.replace(b'"data"', b'"data":[1],"data"'),
    ):
        with pytest.raises(InferenceRequestError):
            parse_request(twice, None, "cells", "1")


@pytest.mark.parametrize(
    ("shape", "size", "tail"),
    [
        ([1, 8, 8, 3], 192, b"x" * 191),
        ([1, 8, 8, 3], 192, b"x" * 193),
        ([1, 8, 8, 3], 191, b"x" * 191),
        ([1, 8, 8, 3], -1, b""),
        ([1, 8, 8, 3], 0, b""),
        ([1, 8, 8, 3], 2**62, b"x" * 192),
    ],
)
def test_binary_sizes_must_agree(shape: list[int], size: int, tail: bytes) -> None:
    with pytest.raises(InferenceRequestError):
        parsed(image(data=None, shape=shape, parameters={"binary_data_size": size}), tail)


@pytest.mark.parametrize(
    "tail",
    [b"\x01", b"\x05\0\0\0abc", b"\xff\xff\xff\xff", b"\x01\0\0\0a", b"\x01\0\0\0a\x01\0\0\0b\x01\0\0\0c", b"\x01\0\0\0a\x01\0\0\0b\0"],
)
def test_bytes_elements_must_fill_the_data(tail: bytes) -> None:
    document = image(data=None, datatype="BYTES", shape=[2], parameters={"binary_data_size": len(tail)})
    with pytest.raises(InferenceRequestError):
        parsed(document, tail)


def test_data_after_the_json_that_nobody_claims_is_refused() -> None:
    with pytest.raises(InferenceRequestError, match="follow the JSON"):
        parsed(image(), b"x")


@pytest.mark.parametrize("value", ["-1", "1.0", "abc", "", "11", "0x1", "1 1", "9" * 30, "٣"])
def test_header_length_must_be_a_length_within_the_body(value: str) -> None:
    with pytest.raises(InferenceRequestError):
        header_length(value, 10)


def test_header_length_may_be_absent_or_right() -> None:
    assert header_length(None, 10) is None
    assert header_length("10", 10) == 10
    assert header_length("0", 10) == 0


def test_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_BYTES_MAX", 10)
    with pytest.raises(BodyTooLargeError):
        parse_request(b"x" * 11, None, "cells", "1")


def test_json_data_beyond_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.gateway.tensors.JSON_DATA_BYTES_MAX", 100)
    with pytest.raises(InferenceRequestError, match="binary"):
        parsed(image())


def test_files_in_json_are_base64() -> None:
    text = base64.b64encode(b"file").decode()
    document = image(datatype="BYTES", shape=[1], data=[text], parameters={"content_type": "base64"})
    assert parsed(document).files == (b"file",)
