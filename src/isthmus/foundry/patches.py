"""Features of patches: the public basis seen at each place of a 14 x 14 grid, instead of pooled over the picture.

Same backbone, detectors and directions as foundry.features; ranges are wider, because a place varies more than a picture's mean does, and
public likewise. A patch's receptive field is larger than its square.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Stage
from isthmus.contracts.parts import GRID_SIDE, PATCH_DEEP, PATCH_DEFECTS, PATCH_RINGS, PATCHES, Part, of_patches, rings_of
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.foundry.backbone import GraphWriter, add_blocks
from isthmus.foundry.basis import Basis, add_detectors, add_enlarged, shipped_basis
from isthmus.foundry.features import BACKBONES, INTEGERS, Tensors, checked_backbone, graph_definition, load_tensors
from isthmus.foundry.integers import add_integer_blocks
from isthmus.foundry.runtime import Images, batches, checked_images, image_input, session
from isthmus.foundry.stageparts import add_directions, checked_parts, feature_count, last_block, part_size
from isthmus.kit.canonical import digest_of

POSITIONS = GRID_SIDE * GRID_SIDE
DETECTOR_RANGE = 4.0
DIRECTION_RANGE = 40.0
"""Half widths: detectors answer 0 to 1 where drawn defects are; directions have deviation 1 over means of drawn surfaces."""


def patch_range(part: Part) -> float:
    """Half of the width of its features' public range, around zero."""
    return DETECTOR_RANGE if part.family == PATCH_DEFECTS else DIRECTION_RANGE


def _add_map(graph: GraphWriter, known: dict[int, str], part: Part, basis: Basis) -> str:
    """The part's map (n, size, GRID_SIDE, GRID_SIDE)."""
    tag = part.text.replace("/", "_").replace("-", "_")
    if part.family == PATCH_DEFECTS:
        detected = add_detectors(graph, known, basis)
        pool = "MaxPool" if part.pool == "max" else "AveragePool"
        return graph.node(pool, [detected], f"{tag}_map", kernel_shape=[2, 2], strides=[2, 2])
    found = add_directions(graph, known, PATCHES[part.family], part.number, tag, basis)
    return add_enlarged(graph, found, f"{tag}_enlarged") if part.family == PATCH_DEEP else found


def add_patch_features(
    graph: GraphWriter, tensors: Tensors, image: str, parts: tuple[str, ...], backbone: str, basis: Basis | None = None
) -> str:
    """Adds backbone, maps and quantisation; the name of the (n, POSITIONS, features) float32 output that holds integers."""
    chosen, known = checked_parts(parts), basis or shipped_basis()
    if not of_patches(parts):
        raise InputError(f"the features {list(parts)} are not of patches", "use parts of patches")
    written = add_integer_blocks if checked_backbone(backbone).endswith(INTEGERS) else add_blocks
    maps = written(graph, tensors, image, last_block(chosen), BACKBONES[backbone])
    chosen = tuple(part for part in chosen if part.family != PATCH_RINGS)
    names = [_add_map(graph, maps, part, known) for part in chosen]
    joined = graph.node("Concat", names, "patch_maps", axis=1)
    graph.constant("patch_shape", np.array([0, feature_count(parts), POSITIONS], np.int64))
    rows = graph.node("Transpose", [graph.node("Reshape", [joined, "patch_shape"], "patch_columns")], "patch_rows", perm=[0, 2, 1])
    scale = np.concatenate([np.full(part_size(part), FEATURE_MAX / patch_range(part)) for part in chosen])
    graph.constant("range_scale", scale.astype(np.float32))
    graph.constant("quantum_min", np.array(-FEATURE_MAX, np.float32))
    graph.constant("quantum_max", np.array(FEATURE_MAX, np.float32))
    clipped = graph.node("Clip", [graph.node("Mul", [rows, "range_scale"], "patch_scaled"), "quantum_min", "quantum_max"], "patch_clipped")
    return graph.node("Round", [clipped], "quantised")


class PatchStages:
    """The extractor of a stage of patches; see contracts.ports.SharedExtractor. A row is (POSITIONS, features), laid out flat."""

    def __init__(
        self, backbone: str, parts: tuple[str, ...], threads: int = 1, tensors: Tensors | None = None, basis: Basis | None = None
    ) -> None:
        self._threads = threads
        graph = GraphWriter()
        output = add_patch_features(graph, tensors or load_tensors(), "image", tuple(parts), backbone, basis)
        count = feature_count(tuple(parts))
        shown = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", POSITIONS, count])
        model = graph.model("isthmus_patches", [image_input()], [shown])
        self._model = model.SerializeToString(deterministic=True)
        names = {"kind": "isthmus-patches/1", "backbone": backbone, "parts": list(parts)}
        digest = digest_of({**names, **graph_definition(model)})
        zones = rings_of(tuple(parts))
        self.stage = Stage(backbone=backbone, parts=tuple(parts), dimension=count, digest=digest, positions=POSITIONS, zones=zones)

    @property
    def digest(self) -> str:
        """Of the rows, which are the stage's own."""
        return self.stage.digest

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return session(self._model, self._threads)

    def rows(self, images: Images) -> NDArray[np.int16]:
        """Images (each H x W x 3 uint8, any size) -> (len(images), POSITIONS * features) int16."""
        result = np.zeros((len(images), self.stage.width), dtype=np.int16)
        for indices, batch in batches(checked_images(images)):
            (found,) = self._session.run(["quantised"], {"image": batch})
            result[indices] = found.reshape(len(indices), -1).astype(np.int16)
        return result

    def select(self, rows: NDArray[np.int16]) -> NDArray[np.int16]:
        return rows
