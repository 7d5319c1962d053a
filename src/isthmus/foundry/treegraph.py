"""Boosted trees as one ONNX graph, behind a stage's quantised features, from records to score and verdict.

The trees are a TreeEnsembleRegressor of ai.onnx.ml 3 over doubles. Leaves are multiples of 2^-VALUE_BITS and their sums stay below
2^MARGIN_BITS, so every sum is exact: order, batch and threads change no digit. Outputs and the rule of the verdict are those of `export`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from isthmus.contracts.errors import DocumentError, InputError
from isthmus.contracts.forest import Forest, ForestHead
from isthmus.foundry.backbone import OPSET, GraphWriter
from isthmus.foundry.export import DEFECT, GOOD, PERSON
from isthmus.foundry.features import Tensors
from isthmus.foundry.stages import add_stage, stage_of
from isthmus.kit.canonical import digest_of

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3


def checked_forest(forest: Forest, features: int) -> Forest:
    """The forest if its tables belong together and every path ends in a leaf; raises DocumentError."""
    feature, edge, left, right = (part.array() for part in (forest.feature, forest.edge, forest.left, forest.right))
    value, roots, size = forest.value.array(), forest.roots.array(), forest.feature.array().shape[0]
    same = all(part.shape == (size,) for part in (feature, edge, left, right, value)) and roots.ndim == 1
    if not same or not len(roots) or not np.isfinite(forest.base) or forest.loss not in ("logistic", "squared"):
        raise DocumentError("the trees' tables do not belong together", "grow them again")
    inner, own = feature >= 0, np.arange(size)
    ends = np.append(roots[1:], size)
    ascending = int(roots[0]) == 0 and bool((ends > roots).all())
    last = ends[np.searchsorted(roots, own, side="right") - 1] if ascending else own
    children = np.concatenate([left[inner], right[inner]])
    fits = ascending and bool((children > np.tile(own[inner], 2)).all() and (children < np.tile(last[inner], 2)).all())
    if not fits or len(np.unique(children)) + len(roots) != size or bool((feature >= features).any()):
        raise DocumentError("the trees' nodes lead nowhere, or ask about features that are not there", "grow them again")
    return forest


def _node_lists(forest: Forest) -> dict[str, list[int] | list[str]]:
    feature, left, right = forest.feature.array(), forest.left.array(), forest.right.array()
    roots = forest.roots.array()
    tree = np.searchsorted(roots, np.arange(len(feature)), side="right") - 1
    first, inner = roots[tree], feature >= 0
    return {
        "nodes_treeids": tree.tolist(),
        "nodes_nodeids": (np.arange(len(feature)) - first).tolist(),
        "nodes_featureids": np.maximum(feature, 0).tolist(),
        "nodes_modes": np.where(inner, "BRANCH_LT", "LEAF").tolist(),
        "nodes_truenodeids": np.where(inner, left - first, 0).tolist(),
        "nodes_falsenodeids": np.where(inner, right - first, 0).tolist(),
        "nodes_missing_value_tracks_true": [0] * len(feature),
        "target_treeids": tree[~inner].tolist(),
        "target_nodeids": (np.arange(len(feature)) - first)[~inner].tolist(),
        "target_ids": [0] * int((~inner).sum()),
    }


def add_forest(graph: GraphWriter, quantised: str, forest: Forest) -> str:
    """Adds the trees behind (n, features) integers; returns the name of the (n,) float32 score."""
    inner = forest.feature.array() >= 0
    edges, values = np.where(inner, forest.edge.array(), 0).astype(np.float64), forest.value.array()[~inner]
    exact = graph.node("Cast", [quantised], "quantised_exact", to=TensorProto.DOUBLE)
    graph.node(
        "TreeEnsembleRegressor",
        [exact],
        "trees",
        domain=ML_DOMAIN,
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_values_as_tensor=numpy_helper.from_array(edges, "edges"),
        target_weights_as_tensor=numpy_helper.from_array(values, "leaves"),
        base_values_as_tensor=numpy_helper.from_array(np.array([forest.base]), "base"),
        **_node_lists(forest),
    )
    graph.constant("one_score", np.array([-1], np.int64))
    return graph.node("Reshape", ["trees", "one_score"], "score")


def add_verdict(graph: GraphWriter, score: str, lo: float, hi: float) -> str:
    """Adds the rule of `export`: defect from hi, good up to lo, else a person; returns the name of the (n,) int64 verdict."""
    for name, value in (("lo", lo), ("hi", hi)):
        graph.constant(f"head_{name}", np.array(value, np.float64))
    for name, code in (("good", GOOD), ("defect", DEFECT), ("person", PERSON)):
        graph.constant(f"verdict_{name}", np.array(code, np.int64))
    published = graph.node("Cast", [score], "score_published", to=TensorProto.DOUBLE)
    is_good = graph.node("LessOrEqual", [published, "head_lo"], "is_good")
    is_defect = graph.node("GreaterOrEqual", [published, "head_hi"], "is_defect")
    sure = graph.node("Where", [is_good, "verdict_good", "verdict_person"], "good_or_person")
    return graph.node("Where", [is_defect, "verdict_defect", sure], "verdict")


def build_forest_artefact(head: ForestHead, tensors: Tensors | None = None) -> bytes:
    """ONNX bytes of the trees with their stage: the same head gives the same bytes on one release of onnx. tensors: of an image stage.

    Raises DocumentError when the head cannot be used or does not fit this build's extractor.
    """
    checked_forest(head.forest, head.stage.dimension)
    if not (np.isfinite([head.lo, head.hi]).all() and head.lo <= head.hi):
        raise DocumentError("the head's thresholds cannot be used", "fit it again")
    wanted = head.stage
    try:
        here = stage_of(wanted.backbone, wanted.parts, wanted.schema, tensors)
    except InputError as error:
        raise DocumentError(error.message, error.next_step) from error
    if here != wanted:
        raise DocumentError(
            f"the trees were grown on features {wanted.digest[:19]}, this build makes {here.digest[:19]}",
            "use the same release and weights",
        )
    graph = GraphWriter()
    quantised, given = add_stage(graph, wanted, tensors)
    add_verdict(graph, add_forest(graph, quantised, head.forest), head.lo, head.hi)
    outputs = [
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("verdict", TensorProto.INT64, ["n"]),
    ]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    whole = helper.make_graph(graph.nodes, "isthmus_trees", [given], outputs, graph.constants)
    model = helper.make_model(whole, opset_imports=opsets, producer_name="isthmus", ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    helper.set_model_props(model, {"decoder": head.decoder, "head_digest": digest_of(head), "stage_digest": head.stage.digest})
    return bytes(model.SerializeToString(deterministic=True))
