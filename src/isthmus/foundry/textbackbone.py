"""multilingual-e5-small as an ONNX graph, from its published weights in 4 bits (foundry.textfile).

Architecture: BERT (Devlin et al., NAACL 2019), layer normalisation behind each half of a layer, exact GELU; the mean over all tokens of a
text, then length 1. The graph takes the tokeniser's ids, INT64 (texts, windows, tokens), padded; matrices stand in it as in the file and
are unpacked when it is loaded.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.textfile import Packed, TextFile

MASKED = -1e9
NORM_SQUARED_MIN = 1e-12


def _add_unpacked(graph: GraphWriter, scales: str, halves: str, tag: str, columns: str) -> str:
    """(..., blocks) float16 and (..., blocks, 16) uint8 -> weights of the shape in `columns`."""
    graph.constant("half_mask", np.array(15, np.uint8))
    graph.constant("half_shift", np.array(4, np.uint8))
    graph.constant("half_centre", np.array(8, np.float32))
    graph.constant("last_axis", np.array([-1], np.int64))
    low = graph.node("BitwiseAnd", [halves, "half_mask"], f"{tag}_low")
    high = graph.node("BitShift", [halves, "half_shift"], f"{tag}_high", direction="RIGHT")
    both = graph.node("Concat", [low, high], f"{tag}_both", axis=-1)
    centred = graph.node("Sub", [graph.node("Cast", [both], f"{tag}_real", to=TensorProto.FLOAT), "half_centre"], f"{tag}_centred")
    scale = graph.node("Cast", [scales], f"{tag}_scale_real", to=TensorProto.FLOAT)
    scaled = graph.node("Mul", [centred, graph.node("Unsqueeze", [scale, "last_axis"], f"{tag}_scale")], f"{tag}_scaled")
    return graph.node("Reshape", [scaled, columns], f"{tag}_flat")


def _constants(graph: GraphWriter, packed: Packed, tag: str) -> tuple[str, str]:
    return graph.constant(f"{tag}_scales", packed.scales), graph.constant(f"{tag}_halves", packed.halves)


class _Encoder:
    """Writes layers; x is (windows, tokens, width)."""

    def __init__(self, graph: GraphWriter, file: TextFile) -> None:
        self._graph, self._file, self._sizes = graph, file, file.sizes

    def dense(self, x: str, layer: str, name: str) -> str:
        graph, tag = self._graph, f"{layer}_{name}"
        packed = self._file.packed(f"{layer}.{name}.w")
        shape = graph.constant(f"{tag}_shape", np.array([packed.scales.shape[0], packed.scales.shape[1] * 32], np.int64))
        weight = _add_unpacked(graph, *_constants(graph, packed, tag), tag, shape)
        turned = graph.node("Transpose", [weight], f"{tag}_turned", perm=[1, 0])
        bias = graph.constant(f"{tag}_bias", self._file.vector(f"{layer}.{name}.b"))
        return graph.node("Add", [graph.node("MatMul", [x, turned], f"{tag}_product"), bias], tag)

    def normal(self, x: str, name: str) -> str:
        graph, tag = self._graph, name.replace(".", "_")
        weight = graph.constant(f"{tag}_weight", self._file.vector(f"{name}.w"))
        bias = graph.constant(f"{tag}_bias", self._file.vector(f"{name}.b"))
        return graph.node("LayerNormalization", [x, weight, bias], f"{tag}_out", axis=-1, epsilon=self._file.epsilon)

    def heads(self, x: str, perm: list[int]) -> str:
        graph = self._graph
        graph.constant("heads_shape", np.array([0, 0, self._sizes["heads"], -1], np.int64))
        return graph.node("Transpose", [graph.node("Reshape", [x, "heads_shape"], f"{x}_split")], f"{x}_heads", perm=perm)

    def attention(self, x: str, layer: str, masked: str) -> str:
        graph = self._graph
        query = self.heads(self.dense(x, layer, "q"), [0, 2, 1, 3])
        key = self.heads(self.dense(x, layer, "k"), [0, 2, 3, 1])
        value = self.heads(self.dense(x, layer, "v"), [0, 2, 1, 3])
        graph.constant("head_scale", np.array(1 / math.sqrt(self._sizes["width"] // self._sizes["heads"]), np.float32))
        near = graph.node("Mul", [graph.node("MatMul", [query, key], f"{layer}_near"), "head_scale"], f"{layer}_nearness")
        weight = graph.node("Softmax", [graph.node("Add", [near, masked], f"{layer}_masked")], f"{layer}_weight", axis=-1)
        seen = graph.node("Transpose", [graph.node("MatMul", [weight, value], f"{layer}_seen")], f"{layer}_turned", perm=[0, 2, 1, 3])
        graph.constant("joined_shape", np.array([0, 0, self._sizes["width"]], np.int64))
        return self.dense(graph.node("Reshape", [seen, "joined_shape"], f"{layer}_joined"), layer, "ao")

    def layer(self, x: str, number: int, masked: str) -> str:
        graph, layer = self._graph, f"l{number}"
        x = self.normal(graph.node("Add", [x, self.attention(x, layer, masked)], f"{layer}_attended"), f"{layer}.aln")
        inner = self.dense(x, layer, "fi")
        for name, number_ in (("half", 0.5), ("one", 1.0), ("root_two", math.sqrt(2.0))):
            graph.constant(name, np.array(number_, np.float32))
        error = graph.node("Erf", [graph.node("Div", [inner, "root_two"], f"{layer}_rooted")], f"{layer}_erf")
        share = graph.node("Mul", [graph.node("Add", [error, "one"], f"{layer}_above"), "half"], f"{layer}_share")
        outer = self.dense(graph.node("Mul", [inner, share], f"{layer}_gelu"), layer, "fo")
        return self.normal(graph.node("Add", [x, outer], f"{layer}_added"), f"{layer}.oln")


def _add_embedded(graph: GraphWriter, file: TextFile, flat: str) -> str:
    """Sum of each token's row, its place's and its type's: (windows, tokens, width)."""
    scales, halves = _constants(graph, file.packed("emb.word"), "word")
    graph.constant("embedded_shape", np.array([0, 0, file.sizes["width"]], np.int64))
    row_scales, row_halves = (graph.node("Gather", [table, flat], f"{table}_found", axis=0) for table in (scales, halves))
    rows = _add_unpacked(graph, row_scales, row_halves, "word_rows", "embedded_shape")
    places = file.vector("emb.pos").reshape(-1, file.sizes["width"]) + file.vector("emb.type")[: file.sizes["width"]]
    graph.constant("places", places[: file.sizes["window"]].astype(np.float32))
    for name, value in (("from_begin", 0), ("token_axis", 1), ("token_end", 2), ("place_axis", 0)):
        graph.constant(name, np.array([value], np.int64))
    length = graph.node("Slice", [graph.node("Shape", [flat], "flat_shape"), "token_axis", "token_end"], "flat_tokens")
    placed = graph.node("Slice", ["places", "from_begin", length, "place_axis"], "placed")
    return graph.node("Add", [rows, placed], "embedded")


def add_embedding(graph: GraphWriter, file: TextFile, tokens: str) -> str:
    """Adds the whole encoder; returns the name of the (texts, width) float32 output, each row of length 1."""
    shape = graph.node("Shape", [tokens], "tokens_shape")
    for name, value in (("flat_form", [-1]), ("axis_one", [1]), ("axis_two", [2]), ("axis_three", [3]), ("axes_words", [1, 2])):
        graph.constant(name, np.array(value, np.int64))
    last = graph.node("Slice", [shape, "axis_two", "axis_three"], "tokens_last")
    flat = graph.node("Reshape", [tokens, graph.node("Concat", ["flat_form", last], "flat_wanted", axis=0)], "flat")
    graph.constant("padding", np.array(file.marks[2], np.int64))
    graph.constant("masked_value", np.array(MASKED, np.float32))
    blank = graph.node("Cast", [graph.node("Equal", [flat, "padding"], "is_padding")], "blank", to=TensorProto.FLOAT)
    masked = graph.node("Unsqueeze", [graph.node("Mul", [blank, "masked_value"], "masked_flat"), "axes_words"], "masked")
    encoder = _Encoder(graph, file)
    x = encoder.normal(_add_embedded(graph, file, flat), "emb.ln")
    for number in range(file.sizes["layers"]):
        x = encoder.layer(x, number, masked)
    graph.constant("one", np.array(1.0, np.float32))
    kept = graph.node("Unsqueeze", [graph.node("Sub", ["one", blank], "kept_flat"), "axis_two"], "kept")
    graph.constant("width_form", np.array([file.sizes["width"]], np.int64))
    wanted = graph.node("Concat", [shape, "width_form"], "hidden_wanted", axis=0)
    hidden = graph.node("Reshape", [graph.node("Mul", [x, kept], "hidden_kept"), wanted], "hidden")
    summed = graph.node("ReduceSum", [hidden, "axes_words"], "hidden_sum", keepdims=0)
    graph.constant("norm_least", np.array(NORM_SQUARED_MIN, np.float32))
    squared = graph.node("ReduceSum", [graph.node("Mul", [summed, summed], "hidden_squares"), "axis_one"], "hidden_squared", keepdims=1)
    return graph.node(
        "Div", [summed, graph.node("Sqrt", [graph.node("Max", [squared, "norm_least"], "norm_squared")], "norm")], "embedding"
    )
