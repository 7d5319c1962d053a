"""The public basis: few features that tell defects, learned from drawn surfaces only, so that sums over them say little of anybody.

Who is in a sum can be told the better the more features it has (bench/leak.py). So the backbone's channels are not summed as they are,
but seen through two fixed kinds of linear maps, the same at every node and part of the release:

- detectors: for each kind of drawn defect a ridge regression from the channels at a position (blocks 2, 4, 7, 10 on a grid of 28 x 28)
  to whether such a defect covers it. Pooled over the picture they become the parts `defects/...`.
- directions: the leading principal components of the spatial means, over drawn surfaces: `texture/COUNT` (blocks 7 and 10) and
  `deep/COUNT` (block 11), each of mean 0 and deviation 1 there.

All of it, ranges and unit deviations too, was learned with the backbone `efficientnet-lite0-dim`; others may use it less exactly.

`bench/basis.py` makes it anew from the seed and compares it with the file that ships.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import ModelFileError
from isthmus.contracts.parts import DEEP, POOLS, SOURCES, TEXTURE
from isthmus.foundry.backbone import GraphWriter, add_blocks, blocks
from isthmus.foundry.runtime import image_input, session
from isthmus.foundry.surfaces import GRID, KINDS, surface
from isthmus.kit.canonical import digest_of

FILE = "basis_1.json"
FORMAT = "isthmus-basis/1"
SEED, PICTURES = 5, 2400
DIRECTIONS = {TEXTURE: 86, DEEP: 24}
COVERED_MIN = 0.02
DETECTOR_RIDGE = 0.003
DEVIATION_FLOOR = 1e-6
BATCH = 32
SHARE_ABOVE = 0.1
POOL_DEVIATION_MIN = 1e-3
Floats = NDArray[np.float32]
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Basis:
    """detectors: (kinds, channels at a grid position; see `grid_channels`), bias (kinds,). directions: family -> (matrix (count, channels),
    offset (count,)) on spatial means. pools: pool -> (mean, deviation) of the pooled detectors over drawn surfaces, each (kinds,)."""

    detectors: Floats
    bias: Floats
    directions: dict[str, tuple[Floats, Floats]]
    pools: dict[str, tuple[Floats, Floats]]

    def document(self) -> dict[str, Any]:
        """Plain JSON: 16-bit floats in base64, a row a string."""
        return {
            "format": FORMAT,
            "kinds": list(KINDS),
            "detectors": _rows(np.column_stack([self.detectors, self.bias])),
            "directions": {name: _rows(np.column_stack(found)) for name, found in self.directions.items()},
            "pools": {name: _rows(np.stack(found)) for name, found in self.pools.items()},
        }

    @property
    def digest(self) -> str:
        """sha256 of the document."""
        return digest_of(self.document())


def _rows(matrix: NDArray[Any]) -> list[str]:
    return [base64.b64encode(row.astype("<f2").tobytes()).decode() for row in matrix]


def _matrix(rows: list[str]) -> Floats:
    return np.stack([np.frombuffer(base64.b64decode(row, validate=True), "<f2") for row in rows]).astype(np.float32)


def basis_from(document: dict[str, Any]) -> Basis:
    """Inverse of `Basis.document`. Raises ModelFileError when it is no such document."""
    try:
        if document["format"] != FORMAT or tuple(document["kinds"]) != KINDS:
            raise ValueError("another format")
        detectors = _matrix(document["detectors"])
        directions = {name: _matrix(rows) for name, rows in document["directions"].items()}
        pools = {name: _matrix(rows) for name, rows in document["pools"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError("the basis cannot be read", "install isthmus anew, or make it with bench/basis.py --write") from error
    return Basis(
        detectors[:, :-1],
        detectors[:, -1],
        {name: (found[:, :-1], found[:, -1]) for name, found in directions.items()},
        {name: (found[0], found[1]) for name, found in pools.items()},
    )


@cache
def shipped_basis() -> Basis:
    """The basis of this release."""
    return basis_from(json.loads((resources.files("isthmus.foundry") / FILE).read_text(encoding="utf-8")))


def grid_channels() -> dict[str, int]:
    """Channels at a grid position, in order: block 2 averaged and at its largest over 2 x 2, block 4, blocks 7 and 10 enlarged."""
    width = {block.index: block.channels_out for block in blocks()}
    return {"mean2": width[2], "max2": width[2], "4": width[4], "7": width[7], "10": width[10]}


def add_grid_sources(graph: GraphWriter, known: dict[int, str]) -> tuple[str, str]:
    """(name on the 28 x 28 grid: block 2 pooled and block 4; name on the 14 x 14 grid: blocks 7 and 10)."""
    mean = graph.node("AveragePool", [known[2]], "grid_mean2", kernel_shape=[2, 2], strides=[2, 2])
    most = graph.node("MaxPool", [known[2]], "grid_max2", kernel_shape=[2, 2], strides=[2, 2])
    return graph.node("Concat", [mean, most, known[4]], "grid_fine", axis=1), graph.node(
        "Concat", [known[7], known[10]], "grid_coarse", axis=1
    )


def add_enlarged(graph: GraphWriter, name: str, output: str) -> str:
    """Twice the height and width, bilinear."""
    graph.constant("twice", np.array([1, 1, 2, 2], np.float32))
    return graph.node("Resize", [name, "", "twice"], output, mode="linear", coordinate_transformation_mode="half_pixel")


def add_detectors(graph: GraphWriter, known: dict[int, str], basis: Basis) -> str:
    """The map (n, kinds, 28, 28). Enlarging is linear, so the coarse part is weighed first and enlarged after: far less to compute."""
    if any(node.name == "detected" for node in graph.nodes):
        return "detected"
    fine, coarse = add_grid_sources(graph, known)
    split = sum(grid_channels()[name] for name in ("mean2", "max2", "4"))
    for name, weight in (("fine", basis.detectors[:, :split]), ("coarse", basis.detectors[:, split:])):
        graph.constant(f"detector_{name}", weight[:, :, None, None])
    graph.constant("detector_bias", basis.bias)
    near = graph.node("Conv", [fine, "detector_fine", "detector_bias"], "detected_fine", kernel_shape=[1, 1])
    far = graph.node("Conv", [coarse, "detector_coarse"], "detected_coarse", kernel_shape=[1, 1])
    return graph.node("Add", [near, add_enlarged(graph, far, "detected_far")], "detected")


def add_pool(graph: GraphWriter, name: str, pool: str, output: str) -> str:
    """Pools a map (n, c, h, w) to (n, c, 1, 1).

    max: the largest value; mean; share: mean of what lies above SHARE_ABOVE; spread: standard deviation over the picture.
    """
    if pool == "max":
        return graph.node("GlobalMaxPool", [name], output)
    if pool == "mean":
        return graph.node("GlobalAveragePool", [name], output)
    if pool == "share":
        graph.constant("share_above", np.array(SHARE_ABOVE, np.float32))
        above = graph.node("Relu", [graph.node("Sub", [name, "share_above"], f"{output}_less")], f"{output}_above")
        return graph.node("GlobalAveragePool", [above], output)
    centred = graph.node("Sub", [name, graph.node("GlobalAveragePool", [name], f"{output}_centre")], f"{output}_centred")
    squared = graph.node("Mul", [centred, centred], f"{output}_squared")
    return graph.node("Sqrt", [graph.node("GlobalAveragePool", [squared], f"{output}_variance")], output)


# Making it.


def _pictures(seed: int, count: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Batches of (pixels (n, h, w, 3), covered (n * GRID * GRID, kinds))."""
    rng = np.random.default_rng(seed)
    for start in range(0, count, BATCH):
        drawn = [surface(rng) for _ in range(min(BATCH, count - start))]
        covered = np.stack([one.covered for one in drawn]) > COVERED_MIN
        yield np.stack([one.pixels for one in drawn]), covered.transpose(0, 2, 3, 1).reshape(-1, len(KINDS))


def _looker(tensors: Tensors, mean: float) -> Callable[[NDArray[np.uint8]], list[Any]]:
    """pixels -> [grid channels (n, c, 28, 28), means of blocks 7 and 10, means of block 11]."""
    graph = GraphWriter()
    known = add_blocks(graph, tensors, "image", 11, mean)
    fine, coarse = add_grid_sources(graph, known)
    outputs = [graph.node("Concat", [fine, add_enlarged(graph, coarse, "grid_far")], "grid", axis=1)]
    for name in (TEXTURE, DEEP):
        pooled = [graph.node("GlobalAveragePool", [known[number]], f"{name}_{number}") for number in SOURCES[name]]
        outputs.append(graph.node("Flatten", [graph.node("Concat", pooled, f"{name}_all", axis=1)], name, axis=1))
    shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "c", "h", "w"][: 4 if name == "grid" else 2]) for name in outputs]
    run = session(graph.model("isthmus_basis", [image_input()], shown).SerializeToString(), 0)
    return lambda pixels: list(run.run(outputs, {"image": pixels}))


def _pooled(tensors: Tensors, mean: float, basis: Basis, seed: int, count: int) -> dict[str, tuple[Floats, Floats]]:
    """Mean and deviation of the pooled detectors over drawn surfaces."""
    graph = GraphWriter()
    found = add_detectors(graph, add_blocks(graph, tensors, "image", 10, mean), basis)
    outputs = [graph.node("Flatten", [add_pool(graph, found, pool, f"pooled_{pool}")], f"flat_{pool}", axis=1) for pool in POOLS]
    shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(KINDS)]) for name in outputs]
    run = session(graph.model("isthmus_pools", [image_input()], shown).SerializeToString(), 0)
    parts = [run.run(outputs, {"image": pixels}) for pixels, _ in _pictures(seed, count)]
    values = [np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True)]
    spread = [np.maximum(v.std(axis=0), POOL_DEVIATION_MIN) for v in values]
    return {pool: (v.mean(axis=0).astype(np.float32), s.astype(np.float32)) for pool, v, s in zip(POOLS, values, spread, strict=True)}


def _detectors(sums: dict[str, NDArray[np.float64]], count: int) -> tuple[Floats, Floats]:
    """Ridge regressions on standardised channels."""
    mean, seen = sums["x"] / count, sums["y"] / count
    covariance = sums["xx"] / count - np.outer(mean, mean)
    scale = np.sqrt(np.maximum(np.diag(covariance), 0)) + DEVIATION_FLOOR
    target = (sums["xy"] / count - np.outer(mean, seen)) / scale[:, None]
    weight = np.linalg.solve(covariance / np.outer(scale, scale) + DETECTOR_RIDGE * np.eye(len(mean)), target) / scale[:, None]
    return weight.T.astype(np.float32), (seen - mean @ weight).astype(np.float32)


def _directions(means: NDArray[np.float64], count: int) -> tuple[Floats, Floats]:
    """Principal components of standardised means, the leading first, each signed so that its largest entry is positive."""
    centre, scale = means.mean(axis=0), means.std(axis=0) + DEVIATION_FLOOR
    z = (means - centre) / scale
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    chosen = vectors[:, ::-1][:, :count]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(count)])
    matrix = (chosen / np.sqrt(np.maximum(values[::-1][:count], DEVIATION_FLOOR))).T / scale
    return matrix.astype(np.float32), (-matrix @ centre).astype(np.float32)


def make_basis(
    tensors: Tensors, mean: float, seed: int = SEED, count: int = PICTURES, say: Callable[[int], None] = lambda done: None
) -> Basis:
    """Draws `count` surfaces and learns from them; the same seed gives the same basis on one machine type, but for rounding elsewhere.

    mean: grey level that the backbone takes as zero. say: told how many pictures are done.
    """
    look, done, cells = _looker(tensors, mean), 0, GRID * GRID
    channels = sum(grid_channels().values())
    sizes = {"x": (channels,), "y": (len(KINDS),), "xx": (channels, channels), "xy": (channels, len(KINDS))}
    sums: dict[str, NDArray[np.float64]] = {name: np.zeros(size) for name, size in sizes.items()}
    means: dict[str, list[NDArray[Any]]] = {TEXTURE: [], DEEP: []}
    for pixels, covered in _pictures(seed, count):
        grid, texture, deep = look(pixels)
        x, y = grid.transpose(0, 2, 3, 1).reshape(-1, channels), covered.astype(np.float32)
        for name, value in (("x", x.sum(axis=0)), ("y", y.sum(axis=0)), ("xx", x.T @ x), ("xy", x.T @ y)):
            sums[name] += value
        means[TEXTURE].append(texture)
        means[DEEP].append(deep)
        done += len(pixels)
        say(done)
    detectors, bias = _detectors(sums, done * cells)
    directions = {name: _directions(np.concatenate(found).astype(np.float64), DIRECTIONS[name]) for name, found in means.items()}
    draft = basis_from(Basis(detectors, bias, directions, {}).document())
    return basis_from(Basis(draft.detectors, draft.bias, draft.directions, _pooled(tensors, mean, draft, seed, count // 2)).document())
