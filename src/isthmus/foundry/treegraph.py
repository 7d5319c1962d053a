"""Boosted trees in an ONNX graph, behind a stage's quantised features, and read back from it.

The trees are a TreeEnsembleRegressor of ai.onnx.ml 3 over doubles. Leaves are multiples of a power of two and their sums stay small
(contracts.treesums), so every sum is exact: order, batch and threads change no digit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from isthmus.contracts.errors import ModelFileError
from isthmus.contracts.head import SCORE_SHARE, Forest
from isthmus.foundry.backbone import ML_DOMAIN, GraphWriter
from isthmus.kit.treewalk import Nodes, checked_forest, forest_doc, share_of

OPERATOR = "TreeEnsembleRegressor"
NAME = "trees_"
"""The operator's output, with the loss after it."""


def _node_lists(trees: list[Nodes]) -> dict[str, list[int] | list[str]]:
    feature = np.concatenate([nodes.feature for nodes in trees])
    left = np.concatenate([nodes.left for nodes in trees])
    tree = np.repeat(np.arange(len(trees)), [nodes.size for nodes in trees])
    number = np.concatenate([np.arange(nodes.size) for nodes in trees])
    inner = feature >= 0
    return {
        "nodes_treeids": tree.tolist(),
        "nodes_nodeids": number.tolist(),
        "nodes_featureids": np.maximum(feature, 0).tolist(),
        "nodes_modes": np.where(inner, "BRANCH_LT", "LEAF").tolist(),
        "nodes_truenodeids": np.where(inner, left, 0).tolist(),
        "nodes_falsenodeids": np.where(inner, left + 1, 0).tolist(),
        "nodes_missing_value_tracks_true": [0] * len(feature),
        "target_treeids": tree[~inner].tolist(),
        "target_nodeids": number[~inner].tolist(),
        "target_ids": [0] * int((~inner).sum()),
    }


def add_forest(graph: GraphWriter, quantised: str, forest: Forest, features: int) -> str:
    """Adds the trees behind (n, features) doubles; returns the name of the (n,) float32 that they add to a score. Raises DocumentError."""
    trees, share = checked_forest(forest, features), share_of(forest)
    inner = np.concatenate([nodes.feature >= 0 for nodes in trees])
    edges = np.where(inner, np.concatenate([nodes.edge for nodes in trees]), 0).astype(np.float64)
    values = np.concatenate([nodes.value for nodes in trees])[~inner] * share
    name = graph.node(
        OPERATOR,
        [quantised],
        NAME + forest.loss,
        domain=ML_DOMAIN,
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_values_as_tensor=numpy_helper.from_array(edges, "edges"),
        target_weights_as_tensor=numpy_helper.from_array(values, "leaves"),
        base_values_as_tensor=numpy_helper.from_array(np.array([forest.base * share]), "base"),
        **_node_lists(trees),
    )
    graph.constant("one_score", np.array([-1], np.int64))
    return graph.node("Reshape", [name, "one_score"], "tree_sum")


def forest_in(model: onnx.ModelProto) -> Forest | None:
    """The trees of a graph that `add_forest` made, or None. Raises ModelFileError when they cannot be read."""
    nodes = [node for node in model.graph.node if node.op_type == OPERATOR and node.domain == ML_DOMAIN]
    if not nodes:
        return None
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in nodes[0].attribute}
    loss: Literal["logistic", "squared"] = "logistic" if nodes[0].output[0] == NAME + "logistic" else "squared"
    try:
        tree = np.array(found["nodes_treeids"], dtype=np.int64)
        inner = np.array([mode == b"BRANCH_LT" for mode in found["nodes_modes"]])
        value = np.zeros(len(tree))
        value[~inner] = numpy_helper.to_array(found["target_weights_as_tensor"])
        (base,) = numpy_helper.to_array(found["base_values_as_tensor"])
        edge = np.where(inner, numpy_helper.to_array(found["nodes_values_as_tensor"]).astype(np.int64), -1)
        parts = [tree == number for number in range(int(tree.max()) + 1)]
        feature, left = (np.where(inner, np.array(found[name]), -1) for name in ("nodes_featureids", "nodes_truenodeids"))
    except (KeyError, IndexError, ValueError) as error:
        raise ModelFileError("the model's trees are not those of this release", "export it again") from error
    share = SCORE_SHARE if loss == "logistic" else 1.0
    return forest_doc(loss, float(base) / share, [Nodes(feature[p], edge[p], left[p], value[p] / share) for p in parts])
