"""The backbone in 8-bit integers, as a graph that every node writes to the same bytes from the public weights alone.

Static quantisation (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
2018) in ONNX's QDQ form, which the runtime runs on integers: bytes for values, signed bytes a channel for weights. Nobody's pictures
calibrate it, not even drawn ones: the input's scale is that of its pixels, behind a ReLU6 the range is 0 to 6, and of a block's output,
which no ReLU bounds, it is the public range that its batch normalisation tells, OUTPUT_SDS deviations wide. Detectors, pools and head stay
as they are.

Processors without instructions for it (VNNI) add products of bytes two by two in 16 bits, which can saturate. The usual ways out cost
0.02 of AUC on solar cells (weights of 7 bits) or all the time that was won (the runtime's exact kernels). Here each channel's step is just
so large that no two neighbouring weights of one sign can reach 32,767 with any two bytes; what that costs cannot be measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.foundry.backbone import TRAINED_MEAN, Block, GraphWriter, add_preprocessing, blocks, folded

WEIGHT_MAX = 127
PAIR_MAX = 127.0
BYTE_MAX = 255
RELU6_MAX = 6.0
OUTPUT_SDS = 4.0
PIXEL_SCALE = 1 / 128
Tensors = dict[str, NDArray[Any]]


class _Wire:
    """A quantised value: its name in float (after dequantising), its scale."""

    def __init__(self, name: str, scale: float) -> None:
        self.name, self.scale = name, scale


def _quantised(graph: GraphWriter, value: str, tag: str, scale: float, zero: int) -> _Wire:
    """The value through unsigned bytes: rounded to the scale, saturated at both ends."""
    names = [graph.constant(f"{tag}_scale", np.array(scale, np.float32)), graph.constant(f"{tag}_zero", np.array(zero, np.uint8))]
    bytes_name = graph.node("QuantizeLinear", [value, *names], f"{tag}_bytes")
    return _Wire(graph.node("DequantizeLinear", [bytes_name, *names], tag), float(np.float32(scale)))


def _scales(weight: NDArray[np.float64], groups: int) -> NDArray[np.float32]:
    """Each output channel's step: its largest weight is at most WEIGHT_MAX, and where a matrix product sums over input channels no two
    neighbours of one sign exceed PAIR_MAX, whichever way the weights are laid out."""
    step = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-8) / WEIGHT_MAX
    for order in ((0, 1, 2, 3), (0, 2, 3, 1)) if groups == 1 else ():
        flat = weight.transpose(order).reshape(weight.shape[0], -1)
        flat = np.pad(flat, ((0, 0), (0, flat.shape[1] % 2)))
        for signed in (flat, -flat):
            pairs = np.maximum(signed, 0).reshape(weight.shape[0], -1, 2).sum(axis=2).max(axis=1)
            step = np.maximum(step, pairs / PAIR_MAX)
    return np.asarray(step, dtype=np.float32)


def _conv(graph: GraphWriter, tensors: Tensors, x: _Wire, names: tuple[str, str], tag: str, stride: int, groups: int) -> str:
    """A convolution of integers with the batch normalisation folded in; its float output, not yet quantised."""
    weight, bias = folded(tensors, *names)
    scale32 = _scales(weight.astype(np.float64), groups)
    whole = np.clip(np.rint(weight / scale32[:, None, None, None]), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    bias_scale = (scale32 * np.float32(x.scale)).astype(np.float32)
    whole_bias = np.clip(np.rint(bias.astype(np.float64) / bias_scale.astype(np.float64)), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    zeros = graph.constant(f"{tag}_w_zero", np.zeros(scale32.shape, np.int8))
    w = graph.node(
        "DequantizeLinear", [graph.constant(f"{tag}_w", whole), graph.constant(f"{tag}_w_scale", scale32), zeros], f"{tag}_wf", axis=0
    )
    b_inputs = [graph.constant(f"{tag}_b", whole_bias), graph.constant(f"{tag}_b_scale", bias_scale)]
    b = graph.node("DequantizeLinear", b_inputs, f"{tag}_bf", axis=0)
    side = weight.shape[2]
    return graph.node(
        "Conv", [x.name, w, b], f"{tag}_real", kernel_shape=[side, side], strides=[stride, stride], group=groups, auto_pad="SAME_UPPER"
    )


def _relu6(graph: GraphWriter, value: str, tag: str) -> _Wire:
    return _quantised(graph, value, tag, RELU6_MAX / BYTE_MAX, 0)


def _output(graph: GraphWriter, value: str, tag: str, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> _Wire:
    low = min(0.0, float((mean - OUTPUT_SDS * deviation).min()))
    high = max(0.0, float((mean + OUTPUT_SDS * deviation).max()))
    scale = (high - low) / BYTE_MAX
    return _quantised(graph, value, tag, scale, int(np.rint(-low / scale)))


def _block(
    graph: GraphWriter, tensors: Tensors, x: _Wire, block: Block, mean: NDArray[np.float64], variance: NDArray[np.float64]
) -> tuple[_Wire, NDArray[np.float64], NDArray[np.float64]]:
    """(output, its channels' means and variances). mean, variance: of the block's input."""
    base, tag, y = f"_blocks.{block.index}", f"block{block.index}", x
    if block.expand:
        y = _relu6(graph, _conv(graph, tensors, y, (f"{base}._expand_conv", f"{base}._bn0"), f"{tag}_expand", 1, 1), f"{tag}_expand")
    wide = int(tensors[f"{base}._depthwise_conv.weight"].shape[0])
    y = _relu6(
        graph, _conv(graph, tensors, y, (f"{base}._depthwise_conv", f"{base}._bn1"), f"{tag}_depth", block.stride, wide), f"{tag}_depth"
    )
    real = _conv(graph, tensors, y, (f"{base}._project_conv", f"{base}._bn2"), f"{tag}_project", 1, 1)
    beta = tensors[f"{base}._bn2.bias"].astype(np.float64)
    gamma = tensors[f"{base}._bn2.weight"].astype(np.float64)
    out = _output(graph, real, f"{tag}_project", beta, np.abs(gamma))
    if not block.residual:
        return out, beta, gamma**2
    mean, variance = mean + beta, variance + gamma**2
    return _output(graph, graph.node("Add", [out.name, x.name], f"{tag}_sum"), f"{tag}_out", mean, np.sqrt(variance)), mean, variance


def add_integer_blocks(graph: GraphWriter, tensors: Tensors, image: str, last: int, mean: float = TRAINED_MEAN) -> dict[int, str]:
    """As `backbone.add_blocks`, in integers; mean must be a whole grey level."""
    start = _quantised(graph, add_preprocessing(graph, image, mean), "pre_pixels", PIXEL_SCALE, int(mean))
    x = _relu6(graph, _conv(graph, tensors, start, ("_conv_stem", "_bn0"), "stem", 2, 1), "stem")
    found: dict[int, str] = {}
    means, variances = np.zeros(1), np.zeros(1)
    for block in blocks()[: last + 1]:
        x, means, variances = _block(graph, tensors, x, block, means, variances)
        found[block.index] = x.name
    return found
