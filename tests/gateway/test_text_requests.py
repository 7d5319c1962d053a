"""Requests whose records are texts: BYTES, plainly in JSON, in base64, or as binary data."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import InferenceRequestError, InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.gateway.service import decoded
from isthmus.gateway.wire import format_request, input_name, parse_request
from isthmus.kit.writing import TEXT_DECODER, written
from tests.gateway.fakes import House

TEXTS = Schema(columns=(Column(name="text", kind="text"),))
SAID = ["It broke after a week.", "质量很好", "لا يعمل 👍"]


def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    made.deployment = msgspec.structs.replace(made.deployment, schema=TEXTS, decoder=TEXT_DECODER)
    made.gate.certified = msgspec.structs.replace(made.gate.certified, decoder=TEXT_DECODER)
    return made.loaded()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30).filter(lambda t: t.isprintable()), min_size=1, max_size=4), st.booleans())
def test_texts_come_back_as_sent(texts: list[str], binary: bool) -> None:
    raw = [text.encode() for text in texts]
    body, header = format_request(raw, None, binary, name=input_name(TEXTS))
    assert parse_request(body, header, "m", "1", TEXTS).files == tuple(raw)
    plain = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}
    assert parse_request(json.dumps(plain).encode(), None, "m", "1", TEXTS).files == tuple(raw)


def test_texts_are_decoded_with_the_certified_decoder(tmp_path: Path) -> None:
    made = house(tmp_path)
    plain = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": SAID}]}
    request = parse_request(json.dumps(plain).encode(), None, "cells", "1", TEXTS)
    assert [written(record) for record in decoded(request, made.deployment)] == SAID
    shown = made.service.model("cells", None)
    assert (shown.inputs[0].name, shown.inputs[0].datatype, shown.inputs[0].shape) == ("text", "BYTES", [-1])
    assert TEXT_DECODER in shown.properties["text"]
    raw = parse_request(b"one text as the body", 0, "cells", "1", TEXTS)
    assert written(decoded(raw, made.deployment)[0]) == "one text as the body"
    long = parse_request(json.dumps({"inputs": [{**plain["inputs"][0], "data": ["word " * 2000] * 3}]}).encode(), None, "cells", "1", TEXTS)
    with pytest.raises(InferenceRequestError, match="more than 16384 characters"):
        decoded(long, made.deployment)
    empty = parse_request(json.dumps({"inputs": [{**plain["inputs"][0], "data": ["a", " ", "b"]}]}).encode(), None, "cells", "1", TEXTS)
    with pytest.raises(InputError, match="record 1 is empty"):
        decoded(empty, made.deployment)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"datatype": "FP32", "shape": [1], "data": [1.0]}, "send BYTES of shape [n]"),
        ({"datatype": "BYTES", "shape": [1, 1], "data": ["a"]}, "send BYTES of shape [n]"),
        ({"datatype": "BYTES", "shape": [129], "data": ["a"] * 129}, "1 to 128 are taken"),
        ({"datatype": "BYTES", "shape": [2], "data": ["a"]}, "1 elements and its shape says 2"),
        ({"datatype": "BYTES", "shape": [1], "data": [3]}, "does not fit its datatype"),
        ({"datatype": "BYTES", "shape": [1], "data": ["%%"], "parameters": {"content_type": "base64"}}, "not base64"),
        ({"name": "records", "datatype": "BYTES", "shape": [1], "data": ["a"]}, "takes ['text']"),
    ],
)
def test_what_is_no_text_is_refused(entry: dict[str, object], said: str) -> None:
    body = json.dumps({"inputs": [{"name": "text", **entry}]}).encode()
    with pytest.raises(InferenceRequestError) as refused:
        parse_request(body, None, "m", "1", TEXTS)
    assert said in f"{refused.value.message}; {refused.value.next_step}"


def test_half_a_character_pair_is_refused() -> None:
    body = b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["\\ud800"]}]}'
    with pytest.raises(InferenceRequestError):
        parse_request(body, None, "m", "1", TEXTS)
