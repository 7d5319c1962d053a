"""The artefact: deterministic bytes, scores of the head, verdicts of the thresholds."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import DocumentError, ModelFileError
from isthmus.contracts.head import Array, Head
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import _add_head, artefact_digest, artefact_metadata, build_artefact, head_digest, parsed
from isthmus.foundry.features import StageExtractor
from isthmus.foundry.runtime import session

Tensors = dict[str, NDArray[Any]]
Pictures = list[NDArray[np.uint8]]


def test_the_same_head_gives_the_same_bytes(head: Head, artefact: bytes, tensors: Tensors) -> None:
    assert build_artefact(head, tensors) == artefact
    assert build_artefact(msgspec.json.decode(msgspec.json.encode(head), type=Head)) == artefact


def test_another_process_writes_the_same_bytes(head: Head, artefact: bytes) -> None:
    code = (
        "import sys, msgspec; from isthmus.contracts.head import Head; from isthmus.foundry.export import build_artefact, artefact_digest;"
        "print(artefact_digest(build_artefact(msgspec.json.decode(sys.stdin.buffer.read(), type=Head))))"
    )
    ran = subprocess.run([sys.executable, "-c", code], input=msgspec.json.encode(head), capture_output=True, check=True, timeout=60)
    assert ran.stdout.decode().strip() == artefact_digest(artefact)


def test_any_change_of_the_head_changes_the_digest(head: Head, artefact: bytes, tensors: Tensors) -> None:
    for change in ({"bias": 0.25}, {"lo": -0.11}, {"hi": 0.11}, {"decoder": "other/1"}):
        assert artefact_digest(build_artefact(msgspec.structs.replace(head, **change), tensors)) != artefact_digest(artefact)


def test_it_carries_its_own_papers(head: Head, artefact: bytes) -> None:
    wanted = {"decoder": head.decoder, "head_digest": head_digest(head), "stage_digest": head.stage.digest}
    assert artefact_metadata(artefact) == wanted


def test_scores_and_verdicts_are_those_of_the_head(head: Head, artefact: bytes, small: StageExtractor, pictures: Pictures) -> None:
    scores, verdicts = Scorer(artefact).judged(pictures)
    exact = head.bias + small.quantised(pictures).astype(float) @ head.coefficients.array()
    assert (scores == exact.astype(np.float32)).all()
    assert verdicts.tolist() == [0 if s <= head.lo else 1 if s >= head.hi else 2 for s in scores]
    alone = [Scorer(artefact, threads=2).scores([p])[0] for p in pictures]
    assert scores.tolist() == alone


def _head_only(bias: float, lo: float, hi: float, q: float) -> tuple[float, int]:
    """Score and verdict of one feature with coefficient 1."""
    from isthmus.contracts.head import Stage

    head = Head(
        stage=Stage(backbone="b", parts=("block/0",), dimension=1, digest="d"),
        coefficients=Array.of(np.ones(1)),
        bias=bias,
        lo=lo,
        hi=hi,
        decoder="d",
    )
    graph = GraphWriter()
    _add_head(graph, "q", head)
    outputs = [
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("verdict", TensorProto.INT64, ["n"]),
    ]
    model = graph.model("t", [helper.make_tensor_value_info("q", TensorProto.FLOAT, ["n", 1])], outputs)
    score, verdict = session(model.SerializeToString(), 1).run(["score", "verdict"], {"q": np.array([[q]], np.float32)})
    return float(score[0]), int(verdict[0])


@pytest.mark.parametrize(
    ("q", "lo", "hi", "verdict"),
    [
        (0, 0, 1, 0),
        (1, 0, 1, 1),
        (0.5, 0, 1, 2),
        (0, 0, 0, 1),
        (-1, 0, 0, 0),
        (5, -1e6, 1e6, 2),
        (float("nan"), 0, 1, 2),
        (float("inf"), 0, 1, 1),
    ],
)
def test_thresholds_at_and_beyond_their_edges(q: float, lo: float, hi: float, verdict: int) -> None:
    assert _head_only(0.0, lo, hi, q)[1] == verdict


@settings(max_examples=25, deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2))
def test_whoever_holds_the_score_can_check_the_verdict(bias: float, a: float, b: float) -> None:
    lo, hi = min(a, b), max(a, b)
    score, verdict = _head_only(bias, lo, hi, 0.0)
    assert verdict == (1 if score >= hi else 0 if score <= lo else 2)


def test_heads_that_do_not_fit_are_refused(head: Head, tensors: Tensors) -> None:
    stage = head.stage
    wrong = [
        msgspec.structs.replace(head, stage=msgspec.structs.replace(stage, digest="sha256:" + "0" * 64)),
        msgspec.structs.replace(head, stage=msgspec.structs.replace(stage, backbone="resnet")),
        msgspec.structs.replace(head, coefficients=Array.of(np.zeros(3))),
        msgspec.structs.replace(head, lo=0.5, hi=0.1),
        msgspec.structs.replace(head, bias=float("nan")),
    ]
    for bad in wrong:
        with pytest.raises(DocumentError):
            build_artefact(bad, tensors)


def test_bytes_that_are_no_artefact_are_refused(artefact: bytes, small: StageExtractor) -> None:
    for raw in (b"", b"junk", artefact[:1000], artefact[:-1], small._model):
        with pytest.raises(ModelFileError):
            Scorer(raw)


def test_a_graph_that_points_to_other_files_is_refused(artefact: bytes) -> None:
    model = onnx.load_model_from_string(artefact)
    constant = model.graph.initializer[0]
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ModelFileError, match="other files"):
        parsed(model.SerializeToString())
