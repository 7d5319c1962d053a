"""The public feature extractor: a frozen backbone seen through public parts, as 16-bit integers, the same at every node.

Public ranges. Every feature has a range, mean +- RANGE_SDS standard deviations, that is known before any data is seen: for the means
behind a block from its batch normalisation (whose channel values, over its training images and positions, have mean beta and standard
deviation |gamma|; a residual addition adds means and, taking the branches as independent, variances), for the parts of the basis from
drawn surfaces. So it reveals nothing about anybody's data. `clipped_share` measures how often a value meets an end.

Quantisation happens inside the graph: (x - mean) * 32767 / (RANGE_SDS * sd), clipped to [-32767, 32767], rounded half to
even, carried as float32 (which holds such integers exactly).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Stage
from isthmus.contracts.parts import of_patches
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.foundry.backbone import TRAINED_MEAN, GraphWriter, add_blocks, weights_path
from isthmus.foundry.basis import Basis, shipped_basis
from isthmus.foundry.integers import add_integer_blocks
from isthmus.foundry.runtime import Images, batches, checked_images, image_input, session
from isthmus.foundry.stageparts import add_part, checked_parts, feature_count, last_block, part_range
from isthmus.foundry.torchfile import read_tensors
from isthmus.kit.canonical import digest_of, sha256_hex

BACKBONE = "efficientnet-lite0"
INTEGERS = "-int8"
BACKBONES = {BACKBONE: TRAINED_MEAN, "efficientnet-lite0-dim": 160.0, "efficientnet-lite0-dim-int8": 160.0}
"""Known backbones, and the grey level that each takes as zero. The dim one sees pictures darker than the weights were trained on;
measured on solar cells it carries over better to modules that it has not seen. One whose name ends in INTEGERS is the same in 8-bit
integers: another extractor, with features, sums, head, artefact and certificate of its own."""
Tensors = dict[str, NDArray[Any]]


def public_ranges(tensors: Tensors, parts: tuple[str, ...], basis: Basis | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(centre, half width) of each feature's public range, each (features,)."""
    found = [part_range(part, tensors, basis or shipped_basis()) for part in checked_parts(parts)]
    return np.concatenate([centre for centre, _ in found]), np.concatenate([half for _, half in found])


def checked_backbone(name: str) -> str:
    """The name if it is a known backbone; raises InputError."""
    if name not in BACKBONES:
        raise InputError(f"the backbone {name!r} is not known here", f"use one of {', '.join(BACKBONES)}")
    return name


def add_quantised_features(
    graph: GraphWriter, tensors: Tensors, image: str, parts: tuple[str, ...], backbone: str = BACKBONE, basis: Basis | None = None
) -> str:
    """Adds backbone, parts and quantisation; returns the name of the (n, features) float32 output that holds integers."""
    known, chosen = basis or shipped_basis(), checked_parts(parts)
    if of_patches(parts):
        raise InputError(f"the features {list(parts)} are of patches", "use parts of pictures")
    centre, half = public_ranges(tensors, parts, known)
    written = add_integer_blocks if checked_backbone(backbone).endswith(INTEGERS) else add_blocks
    maps = written(graph, tensors, image, last_block(chosen), BACKBONES[backbone])
    pooled = graph.node("Concat", [add_part(graph, maps, part, known) for part in chosen], "features", axis=1)
    graph.constant("range_centre", centre.astype(np.float32))
    graph.constant("range_scale", (FEATURE_MAX / half).astype(np.float32))
    graph.constant("quantum_min", np.array(-FEATURE_MAX, np.float32))
    graph.constant("quantum_max", np.array(FEATURE_MAX, np.float32))
    centred = graph.node("Sub", [pooled, "range_centre"], "features_centred")
    scaled = graph.node("Mul", [centred, "range_scale"], "features_scaled")
    clipped = graph.node("Clip", [scaled, "quantum_min", "quantum_max"], "features_clipped")
    return graph.node("Round", [clipped], "quantised")


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


class StageExtractor:
    """Chosen parts of EfficientNet-Lite0 (contracts.parts), quantised; implements `contracts.ports.Extractor`.

    threads: processor threads within one image batch. basis: another than the release's, for measurements. The session is made at first
    use.
    """

    def __init__(
        self,
        parts: tuple[str, ...],
        threads: int = 1,
        tensors: Tensors | None = None,
        backbone: str = BACKBONE,
        basis: Basis | None = None,
    ) -> None:
        self.parts = tuple(parts)
        self.backbone = checked_backbone(backbone)
        self._threads = threads
        graph = GraphWriter()
        output = add_quantised_features(graph, load_tensors() if tensors is None else tensors, "image", self.parts, backbone, basis)
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", feature_count(self.parts)])
        model = graph.model("isthmus_stage", [image_input()], [result])
        self._model = model.SerializeToString(deterministic=True)
        names = {"kind": "isthmus-stage/2", "backbone": self.backbone, "parts": list(self.parts)}
        self._digest = digest_of({**names, **graph_definition(model)})
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def digest(self) -> str:
        """sha256 of the whole graph's definition: preprocessing, folded weights, parts, ranges and quantisation."""
        return self._digest

    @property
    def dimension(self) -> int:
        return feature_count(self.parts)

    def stage(self) -> Stage:
        """The extractor as a document."""
        return Stage(backbone=self.backbone, parts=self.parts, dimension=self.dimension, digest=self.digest)

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


def stage(parts: tuple[str, ...], tensors: Tensors | None = None, backbone: str = BACKBONE) -> Stage:
    """The stage document of these parts."""
    return StageExtractor(parts, tensors=tensors, backbone=backbone).stage()
