"""The public feature extractor: spatial means of middle stages as 16-bit integers, the same at every node.

Public ranges. A feature is the spatial mean of one channel behind a block. Batch normalisation made that channel's
values, over its training images and positions, have mean beta and standard deviation |gamma|; a residual addition adds
means and, taking the branches as independent, variances. The range is mean +- RANGE_SDS standard deviations. It uses the
weights file and nothing else, so it reveals nothing about anybody's data. A spatial mean varies less than a value at a
position, so clipping is rare; `clipped_share` measures it.

Quantisation happens inside the graph: (x - mean) * 32767 / (RANGE_SDS * sd), clipped to [-32767, 32767], rounded half to
even, carried as float32 (which holds such integers exactly).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from isthmus.contracts.errors import InputError, ModelFileError
from isthmus.contracts.head import Stage
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.foundry.backbone import TRAINED_MEAN, GraphWriter, add_stage_means, blocks, feature_count, weights_path
from isthmus.foundry.torchfile import read_tensors
from isthmus.kit.canonical import digest_of, sha256_hex

BACKBONE = "efficientnet-lite0"
BACKBONES = {BACKBONE: TRAINED_MEAN, "efficientnet-lite0-dim": 160.0}
"""Known backbones, and the grey level that each takes as zero. The dim one sees pictures darker than the weights were trained on;
measured on solar cells it carries over better to modules that it has not seen."""
RANGE_SDS = 4.0
BATCH_IMAGES_MAX = 16
BATCH_PIXELS_MAX = 4_000_000
RUNTIME_ERRORS = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NotImplemented,
    runtime.RuntimeException,
    RuntimeError,
    ValueError,
)
Images = list[NDArray[np.uint8]]
Tensors = dict[str, NDArray[Any]]


def public_ranges(tensors: Tensors, taps: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(centre, half width) of each feature's public range, each (features,), from batch-norm constants alone."""
    centres: list[NDArray[np.float64]] = []
    halves: list[NDArray[np.float64]] = []
    mean = variance = np.zeros(0)
    for block in blocks()[: max(taps) + 1]:
        try:
            gamma, beta = (tensors[f"_blocks.{block.index}._bn2.{part}"].astype(np.float64) for part in ("weight", "bias"))
        except KeyError as error:
            raise ModelFileError(f"the weights file has no tensor {error}; it is not EfficientNet-Lite0") from error
        mean = mean + beta if block.residual else beta
        variance = variance + gamma**2 if block.residual else gamma**2
        if block.index in taps:
            centres.append(mean)
            halves.append(RANGE_SDS * np.sqrt(variance))
    return np.concatenate(centres), np.concatenate(halves)


def checked_backbone(name: str) -> str:
    """The name if it is a known backbone; raises InputError."""
    if name not in BACKBONES:
        raise InputError(f"the backbone {name!r} is not known here", f"use one of {', '.join(BACKBONES)}")
    return name


def checked_taps(taps: tuple[int, ...]) -> tuple[int, ...]:
    """The taps if they are ascending, distinct indices of blocks; raises InputError."""
    if not taps or list(taps) != sorted(set(taps)) or not 0 <= taps[0] <= taps[-1] < len(blocks()):
        raise InputError(f"the stages {list(taps)} cannot be tapped", f"give ascending block numbers from 0 to {len(blocks()) - 1}")
    return taps


def add_quantised_features(graph: GraphWriter, tensors: Tensors, image: str, taps: tuple[int, ...], backbone: str = BACKBONE) -> str:
    """Adds backbone and quantisation; returns the name of the (n, features) float32 output that holds integers."""
    centre, half = public_ranges(tensors, taps)
    means = add_stage_means(graph, tensors, image, taps, BACKBONES[checked_backbone(backbone)])
    graph.constant("range_centre", centre.astype(np.float32))
    graph.constant("range_scale", (FEATURE_MAX / half).astype(np.float32))
    graph.constant("quantum_min", np.array(-FEATURE_MAX, np.float32))
    graph.constant("quantum_max", np.array(FEATURE_MAX, np.float32))
    centred = graph.node("Sub", [means, "range_centre"], "features_centred")
    scaled = graph.node("Mul", [centred, "range_scale"], "features_scaled")
    clipped = graph.node("Clip", [scaled, "quantum_min", "quantum_max"], "features_clipped")
    return graph.node("Round", [clipped], "quantised")


def image_input() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])


def load_tensors(path: Path | None = None) -> Tensors:
    """The backbone's tensors from `path`, or from the installed weights package."""
    return read_tensors(path or weights_path())


def graph_definition(model: onnx.ModelProto) -> dict[str, Any]:
    """All that decides what a graph computes, as plain JSON: operators, their wiring and attributes, constants' digests."""
    nodes = [
        [n.op_type, list(n.input), list(n.output), sorted([a.name, str(helper.get_attribute_value(a))] for a in n.attribute)]
        for n in model.graph.node
    ]
    constants = [
        [c.name, int(c.data_type), list(c.dims), sha256_hex(onnx.numpy_helper.to_array(c).tobytes())] for c in model.graph.initializer
    ]
    return {"opset": model.opset_import[0].version, "nodes": nodes, "constants": constants}


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A CPU session that computes the same bits every time. threads: within one operator; 0 lets the runtime choose."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        raise ModelFileError("the model's bytes are not a graph that can run", "export it again") from error


def checked_images(images: Images) -> Images:
    """The images if each is H x W x 3 uint8 with at least one pixel; raises InputError."""
    for index, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(f"image {index} has shape {image.shape} of {image.dtype}", "give height x width x 3 bytes")
    return images


def batches(images: Images) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Groups images of equal size: (indices, (n, h, w, 3)), at most BATCH_IMAGES_MAX images and BATCH_PIXELS_MAX pixels each."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(index)
    for shape, indices in sizes.items():
        step = max(1, min(BATCH_IMAGES_MAX, BATCH_PIXELS_MAX // (shape[0] * shape[1])))
        for start in range(0, len(indices), step):
            chosen = indices[start : start + step]
            yield chosen, np.stack([images[i] for i in chosen])


class StageExtractor:
    """Spatial means of chosen blocks of EfficientNet-Lite0, quantised; implements `contracts.ports.Extractor`.

    taps: ascending block numbers. threads: processor threads within one image batch. The session is made at first use.
    """

    def __init__(self, taps: tuple[int, ...], threads: int = 1, tensors: Tensors | None = None, backbone: str = BACKBONE) -> None:
        self.taps = checked_taps(tuple(taps))
        self.backbone = checked_backbone(backbone)
        self._threads = threads
        graph = GraphWriter()
        output = add_quantised_features(graph, load_tensors() if tensors is None else tensors, "image", self.taps, backbone)
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", feature_count(self.taps)])
        model = graph.model("isthmus_stage", [image_input()], [result])
        self._model = model.SerializeToString(deterministic=True)
        self._digest = digest_of({"kind": "isthmus-stage/1", "backbone": self.backbone, "taps": list(self.taps), **graph_definition(model)})
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def digest(self) -> str:
        """sha256 of the whole graph's definition: preprocessing, folded weights, taps, ranges and quantisation."""
        return self._digest

    @property
    def dimension(self) -> int:
        return feature_count(self.taps)

    def stage(self) -> Stage:
        """The extractor as a document."""
        return Stage(backbone=self.backbone, taps=self.taps, dimension=self.dimension, digest=self.digest)

    def quantised(self, images: Images) -> NDArray[np.int16]:
        """Images (each H x W x 3 uint8, any size) -> (len(images), dimension) int16 in [-32767, 32767]."""
        if self._session is None:
            self._session = session(self._model, self._threads)
        result = np.zeros((len(images), self.dimension), dtype=np.int16)
        for indices, batch in batches(checked_images(images)):
            (found,) = self._session.run(["quantised"], {"image": batch})
            result[indices] = found.astype(np.int16)
        return result


def clipped_share(quantised: NDArray[np.int16]) -> float:
    """Share of feature values that met an end of their public range."""
    return float(np.mean(np.abs(quantised.astype(np.int32)) >= FEATURE_MAX)) if quantised.size else 0.0


def stage(taps: tuple[int, ...], tensors: Tensors | None = None, backbone: str = BACKBONE) -> Stage:
    """The stage document of these taps."""
    return StageExtractor(taps, tensors=tensors, backbone=backbone).stage()
