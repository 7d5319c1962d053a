"""Requests whose records are rows or windows: FP32 tensors and JSON, through the service."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isthmus.contracts.deployment import Caller
from isthmus.contracts.errors import InferenceRequestError, InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.gateway.service import decoded
from isthmus.gateway.wire import format_request, parse_answer, parse_request
from isthmus.kit.records import RECORD_DECODER
from tests.gateway.fakes import House

COLUMNS = (Column(name="heat", low=0, high=100), Column(name="flow", low=0, high=1, missing=True))
ROW, WINDOW = Schema(columns=COLUMNS), Schema(columns=COLUMNS, steps=3)
NUMBERS = st.floats(-1e6, 1e6, width=32)


def house(tmp_path: Path, schema: Schema) -> House:
    made = House(tmp_path)
    made.deployment = msgspec.structs.replace(made.deployment, schema=schema, decoder=RECORD_DECODER)
    made.gate.certified = msgspec.structs.replace(made.gate.certified, decoder=RECORD_DECODER)
    return made.loaded()


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(3), st.just(2)), elements=NUMBERS), st.booleans())
def test_values_come_back_as_sent(values: np.ndarray, binary: bool) -> None:
    for schema, sent in ((WINDOW, values), (ROW, values[:, 0])):
        body, header = format_request(sent, None, binary, name="records")
        request = parse_request(body, header, "m", "1", schema)
        assert request.values is not None and request.values.dtype == np.float32 and np.array_equal(request.values, sent)


def test_null_is_missing_and_nested_rows_are_taken() -> None:
    document = {"inputs": [{"name": "records", "datatype": "FP32", "shape": [2, 2], "data": [[1.5, None], [2, 0.5]]}]}
    request = parse_request(json.dumps(document).encode(), None, "m", "1", ROW)
    assert request.values is not None and request.values[1].tolist() == [2.0, 0.5] and np.isnan(request.values[0, 1])


def test_a_record_as_json_is_decoded_with_the_certified_columns(tmp_path: Path) -> None:
    made = house(tmp_path, WINDOW)
    rows = [{"heat": n, "flow": ""} for n in range(3)]
    request = parse_request(json.dumps(rows).encode(), 0, "cells", "1", WINDOW)
    (record,) = decoded(request, made.deployment)
    assert record.shape == (3, 2) and record[:, 0].tolist() == [0, 1, 2]
    assert "heat" in made.service.model("cells", None).properties["columns"]
    assert made.service.model("cells", None).inputs[0].shape == [-1, 3, 2]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [1] * 192}, "takes ['records']"),
        ({"datatype": "FP64", "shape": [1, 2], "data": [1, 2]}, "datatype 'FP64'"),
        ({"datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}, "has shape [1, 3]"),
        ({"datatype": "FP32", "shape": [], "data": []}, "has shape []"),
        ({"datatype": "FP32", "shape": [0, 2], "data": []}, "0 records"),
        ({"datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3]]}, "unequal length"),
        ({"datatype": "FP32", "shape": [1, 2], "data": [1, "x"]}, "no numbers"),
        ({"datatype": "FP32", "shape": [1, 2], "data": [1]}, "1 elements"),
        ({"datatype": "BYTES", "shape": [1, 1], "data": ["e30="]}, "BYTES of shape [n]"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_send(entry: dict[str, object], said: str) -> None:
    body = json.dumps({"inputs": [{"name": "records", **entry}]}).encode()
    with pytest.raises(InferenceRequestError) as caught:
        parse_request(body, None, "m", "1", ROW)
    assert said in str(caught.value)


@pytest.mark.parametrize(("values", "said"), [([np.inf, 0], "infinite"), ([np.nan, 0], "heat is missing")])
def test_values_that_the_columns_forbid_are_refused_before_anything_is_held(tmp_path: Path, values: list[float], said: str) -> None:
    made = house(tmp_path, ROW)
    body, header = format_request(np.array([values], dtype=np.float32), name="records")
    with pytest.raises(InputError, match=said):
        decoded(parse_request(body, header, "cells", "1", ROW), made.deployment)


def test_a_logistic_model_gives_its_probability_and_others_have_none(tmp_path: Path) -> None:
    made = house(tmp_path, ROW)
    linear = {tensor.name for tensor in made.service.model("cells", None).outputs}
    with pytest.raises(InferenceRequestError, match="no output 'probability'"):
        _asked(made, [{"name": "probability"}])
    made.deployment = msgspec.structs.replace(made.deployment, link="logistic", version="2")
    made.loaded()
    made.engines[-1].answer = (np.array([-2.0, 0.5, 2.0]), np.array([0, 2, 1]))
    assert {tensor.name for tensor in made.service.model("cells", None).outputs} == linear | {"probability"}
    told = _asked(made, None)
    assert told["probability"] == [0.0, 0.625, 1.0] and told["score"] == [-2.0, 0.5, 2.0]
    only = _asked(made, [{"name": "probability", "parameters": {"binary_data": True}}])
    assert only["probability"] == np.array([0.0, 0.625, 1.0], dtype="<f4").tobytes()


def _asked(made: House, outputs: list[dict[str, object]] | None) -> dict[str, object]:
    rows = {"name": "records", "datatype": "FP32", "shape": [3, 2], "data": [[1, 0.5], [2, 0.5], [3, 0.5]]}
    document = {"inputs": [rows], **({} if outputs is None else {"outputs": outputs})}
    reply = made.service.infer(Caller("user-1"), "cells", None, json.dumps(document).encode(), None)
    answer = parse_answer(reply.body, reply.header_bytes)
    assert len(answer.verdicts) in (0, 3)
    header = json.loads(reply.body[: reply.header_bytes])
    tail = reply.body[reply.header_bytes or 0 :] if reply.header_bytes else b""
    return {one["name"]: one.get("data", tail) for one in header["outputs"]}
