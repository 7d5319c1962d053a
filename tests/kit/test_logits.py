"""The score of a logit: the same bits in a graph and here, rising, and a probability."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.linkgraph import add_logistic_score
from isthmus.foundry.runtime import session
from isthmus.kit.logits import LOGIT_MAX, LOGIT_STEP, effective_share, scores_of

Floats = np.ndarray


def graph_scores(logits: Floats, threads: int = 1) -> Floats:
    graph = GraphWriter()
    output = add_logistic_score(graph, "logits")
    given_ = helper.make_tensor_value_info("logits", TensorProto.DOUBLE, ["n"])
    model = graph.model("link", [given_], [helper.make_tensor_value_info(output, TensorProto.DOUBLE, ["n"])])
    (found,) = session(model.SerializeToString(), threads).run([output], {"logits": logits})
    return found


def test_the_graph_gives_the_same_bits_as_the_nodes_arithmetic() -> None:
    rng = np.random.default_rng(1)
    ends = [0.0, -0.0, 1e-9, -1e-9, 31.9999999, 32.0, -32.0, 1e300, -1e300, LOGIT_STEP / 2, 3 * LOGIT_STEP / 2]
    logits = np.concatenate([rng.normal(0, 4, 200_000), rng.normal(0, 1e-5, 10_000), rng.uniform(-40, 40, 50_000), ends])
    wanted = scores_of(logits)
    assert (graph_scores(logits).view(np.int64) == wanted.view(np.int64)).all()
    assert (graph_scores(logits, threads=2) == wanted).all() and (graph_scores(logits[-7:]) == wanted[-7:]).all()
    assert np.abs(wanted - 2 * np.tanh(np.clip(logits, -40, 40) / 2)).max() < 5e-7, "half a step in the logit"


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=60))
def test_it_rises_with_the_logit_is_odd_and_stays_within_its_ends(logits: list[float]) -> None:
    given_ = np.sort(np.array(logits))
    found = scores_of(given_)
    assert (np.diff(found) >= 0).all() and (np.abs(found) <= 2).all()
    assert (scores_of(-given_) == -found).all()
    assert (np.diff(found.astype(np.float32)) >= 0).all()


def test_one_step_of_the_logit_is_one_step_of_the_score_everywhere() -> None:
    for start in (0.0, 0.3, 2.0, 9.0, 20.0, LOGIT_MAX - 1):
        steps = start + np.arange(2000) * LOGIT_STEP
        assert (np.diff(scores_of(steps)) >= 0).all()
        assert start > 17 or (np.diff(scores_of(steps)) > 0).all()


def test_the_effective_share_is_kishs() -> None:
    assert effective_share(np.ones(7)) == 1.0 and effective_share(np.array([1.0, 0, 0, 0])) == 0.25
    assert effective_share(np.zeros(3)) == 0.0
