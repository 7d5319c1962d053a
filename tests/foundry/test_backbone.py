"""The ONNX backbone against a computation by hand, from the weights as published (batch norm not folded)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from isthmus.contracts.errors import ModelFileError
from isthmus.foundry.backbone import BN_EPSILON, GraphWriter, add_blocks, add_preprocessing, blocks
from isthmus.foundry.runtime import image_input, session
from isthmus.foundry.stageparts import feature_count

Tensors = dict[str, NDArray[Any]]


def _by_hand_conv(x: NDArray[Any], weight: NDArray[Any], stride: int, depthwise: bool = False) -> NDArray[Any]:
    """x: (c, h, w). TensorFlow's SAME padding: the larger half after."""
    side = weight.shape[2]
    height, width = (-(-n // stride) for n in x.shape[1:])
    pads = [(max((m - 1) * stride + side - n, 0)) for m, n in zip((height, width), x.shape[1:], strict=True)]
    x = np.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads)))
    out = np.zeros((weight.shape[0], height, width))
    for i in range(side):
        for j in range(side):
            part = x[:, i : i + stride * height : stride, j : j + stride * width : stride]
            out += weight[:, 0, i, j][:, None, None] * part if depthwise else np.tensordot(weight[:, :, i, j], part, axes=1)
    return out


def _by_hand_norm(x: NDArray[Any], tensors: Tensors, name: str) -> NDArray[Any]:
    gamma, beta, mean, var = (
        tensors[f"{name}.{p}"].astype(np.float64)[:, None, None] for p in ("weight", "bias", "running_mean", "running_var")
    )
    return gamma * (x - mean) / np.sqrt(var + BN_EPSILON) + beta


def _by_hand(image: NDArray[np.uint8], tensors: Tensors) -> NDArray[Any]:
    """Stem and the first three blocks (plain, expanding with stride, residual): the three blocks' spatial means."""
    t = {k: v.astype(np.float64) for k, v in tensors.items() if v.dtype == np.float32}
    x = (image.astype(np.float64).transpose(2, 0, 1) - 127) / 128
    x = np.clip(_by_hand_norm(_by_hand_conv(x, t["_conv_stem.weight"], 2), t, "_bn0"), 0, 6)
    means = []
    for index, stride in ((0, 1), (1, 2), (2, 1)):
        base, before = f"_blocks.{index}", x
        if index:
            x = np.clip(_by_hand_norm(_by_hand_conv(x, t[f"{base}._expand_conv.weight"], 1), t, f"{base}._bn0"), 0, 6)
        x = np.clip(_by_hand_norm(_by_hand_conv(x, t[f"{base}._depthwise_conv.weight"], stride, True), t, f"{base}._bn1"), 0, 6)
        x = _by_hand_norm(_by_hand_conv(x, t[f"{base}._project_conv.weight"], 1), t, f"{base}._bn2")
        x = x + before if index == 2 else x
        means.append(x.mean(axis=(1, 2)))
    return np.concatenate(means)


def _run(build: Any, output: str, rank: int, image: NDArray[np.uint8]) -> NDArray[Any]:
    graph = GraphWriter()
    name = build(graph)
    model = graph.model("t", [image_input()], [helper.make_tensor_value_info(name, TensorProto.FLOAT, list("abcd"[:rank]))])
    assert name == output
    return np.asarray(session(model.SerializeToString(), 1).run([name], {"image": image[None]})[0][0])


def _means(graph: GraphWriter, tensors: Tensors) -> str:
    maps = add_blocks(graph, tensors, "image", 2)
    pooled = [graph.node("Flatten", [graph.node("GlobalAveragePool", [name], f"p{n}")], f"f{n}", axis=1) for n, name in maps.items()]
    return graph.node("Concat", pooled, "features", axis=1)


def test_stem_and_three_blocks_equal_a_computation_by_hand(tensors: Tensors) -> None:
    image = np.random.default_rng(5).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    found = _run(lambda g: _means(g, tensors), "features", 2, image)
    wanted = _by_hand(image, tensors)
    assert found.shape == wanted.shape == (64,)
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("side", [100, 224, 300, 448])
def test_resizing_is_that_of_pillow(side: int) -> None:
    image = np.kron(np.random.default_rng(1).integers(0, 256, (10, 10, 3)), np.ones((side // 10 + 1,) * 2 + (1,)))[:side, :side]
    image = image.astype(np.uint8)
    found = _run(lambda g: add_preprocessing(g, "image", 127.0), "pre_scaled", 4, image).transpose(1, 2, 0) * 128 + 127
    wanted = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR), dtype=np.float64)
    assert np.abs(found - wanted).max() <= 1.01  # Pillow rounds to whole levels, once for each axis


def test_a_graph_has_no_constant_that_nothing_uses(artefact: bytes) -> None:
    graph = onnx.load_model_from_string(artefact).graph
    used = {name for node in graph.node for name in node.input}
    assert {c.name for c in graph.initializer} <= used


def test_the_architecture_is_the_published_one(tensors: Tensors) -> None:
    assert len(blocks()) == 16
    assert all(tensors[f"_blocks.{b.index}._project_conv.weight"].shape[0] == b.channels_out for b in blocks())
    assert feature_count(("block/10", "block/13")) == 304


def test_missing_tensors_are_named(tensors: Tensors) -> None:
    fewer = {k: v for k, v in tensors.items() if k != "_blocks.1._bn1.weight"}
    with pytest.raises(ModelFileError, match="not EfficientNet-Lite0"):
        add_blocks(GraphWriter(), fewer, "image", 2)
