"""Parts of a stage (contracts.parts) as pieces of the graph: a map, pooled over the picture to one number a feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, ModelFileError
from isthmus.contracts.parts import BLOCK, DEFECTS, PATCH_DEFECTS, PATCH_RINGS, PATCHES, RINGS_MAX, SOURCES, Part, of_patches, parsed_part
from isthmus.foundry.backbone import GraphWriter, blocks
from isthmus.foundry.basis import DIRECTIONS, Basis, add_detectors, add_pool
from isthmus.foundry.surfaces import KINDS

RANGE_SDS = 4.0
DEFECT_RANGE_SDS = 8.0
"""Of the detectors: rare on drawn surfaces and strong where they are, they have long tails."""
POOL_WORDS = {"max": "strongest", "mean": "on average", "share": "share above a level", "spread": "spread over the picture"}
Floats = NDArray[np.float64]
Tensors = dict[str, NDArray[Any]]


def checked_parts(parts: tuple[str, ...]) -> tuple[Part, ...]:
    """The parts if they can be made and none says what another does; raises InputError."""
    found = tuple(parsed_part(text) for text in parts)
    if not found or len({part.shelf for part in found}) < len(found):
        raise InputError(f"the features {list(parts)} cannot be used together", "name at least one part, and none twice")
    if of_patches(parts) and all(part.family == PATCH_RINGS for part in found):
        raise InputError(f"the features {list(parts)} are none", "name a part with features beside the rings")
    for part in found:
        if part.family == PATCH_RINGS and not 1 <= part.number <= RINGS_MAX:
            raise InputError(f"there are no {part.number} rings", f"use {PATCH_RINGS}/1 to {PATCH_RINGS}/{RINGS_MAX}")
        if part.family == BLOCK and part.number >= len(blocks()):
            raise InputError(f"there is no block {part.number}", f"use block/0 to block/{len(blocks()) - 1}")
        most = DIRECTIONS.get(PATCHES.get(part.family, part.family))
        if most is not None and not 1 <= part.number <= most:
            raise InputError(f"{part.text} is out of reach", f"use {part.family}/1 to {part.family}/{most}")
    return found


def joined_parts(*stages: tuple[str, ...]) -> tuple[Part, ...]:
    """The parts of several stages, each shelf once, at its largest; in the order of first mention. Raises InputError."""
    shelves: dict[str, Part] = {}
    for part in (part for parts in stages for part in checked_parts(parts)):
        known = shelves.get(part.shelf)
        shelves[part.shelf] = part if known is None or part.number > known.number else known
    return tuple(shelves.values())


def part_columns(parts: tuple[Part, ...]) -> dict[str, int]:
    """shelf -> its first column in a stage of these parts."""
    return dict(zip((part.shelf for part in parts), (int(n) for n in np.cumsum([0, *(part_size(p) for p in parts)])), strict=False))


def part_size(part: Part) -> int:
    """How many features it has."""
    if part.family == PATCH_RINGS:
        return 0
    if part.family in (DEFECTS, PATCH_DEFECTS):
        return len(KINDS)
    return blocks()[part.number].channels_out if part.family == BLOCK else part.number


def part_names(part: Part) -> list[str]:
    """What each of its features is, for people."""
    if part.family in (DEFECTS, PATCH_DEFECTS):
        return [f"{kind}, {POOL_WORDS[part.pool]}" for kind in KINDS]
    word = f"block {part.number}, channel" if part.family == BLOCK else part.family
    return [f"{word} {place}" for place in range(part_size(part))]


def feature_count(parts: tuple[str, ...]) -> int:
    """Features of a stage with these parts."""
    return sum(part_size(part) for part in checked_parts(parts))


def last_block(parts: tuple[Part, ...]) -> int:
    """The last backbone block that is needed."""
    needed = [part.number for part in parts if part.family == BLOCK]
    needed += [number for part in parts for number in SOURCES.get(part.shelf, ())]
    return max([*needed, *(10 for part in parts if part.family in (DEFECTS, PATCH_DEFECTS))])


def add_part(graph: GraphWriter, known: dict[int, str], part: Part, basis: Basis) -> str:
    """Adds map and pool; returns the name of the pooled (n, size) output. The map's name stands in the node `<output>_pool`."""
    tag = part.text.replace("/", "_")
    if part.family == DEFECTS:
        shown, pool = add_detectors(graph, known, basis), part.pool
    elif part.family == BLOCK:
        shown, pool = known[part.number], "mean"
    else:
        shown, pool = add_directions(graph, known, part.family, part.number, tag, basis), "mean"
    return graph.node("Flatten", [add_pool(graph, shown, pool, f"part_{tag}_pool")], f"part_{tag}", axis=1)


def add_directions(graph: GraphWriter, known: dict[int, str], family: str, count: int, tag: str, basis: Basis) -> str:
    """The map (n, count, h, w) of a family's leading directions."""
    sources = [known[number] for number in SOURCES[family]]
    joined = graph.node("Concat", sources, f"{tag}_sources", axis=1) if len(sources) > 1 else sources[0]
    matrix, offset = basis.directions[family]
    graph.constant(f"{tag}_matrix", matrix[:, :, None, None])
    graph.constant(f"{tag}_offset", offset)
    every = graph.node("Conv", [joined, f"{tag}_matrix", f"{tag}_offset"], f"{tag}_all", kernel_shape=[1, 1])
    for name, value in (("part_begin", 0), ("part_axis", 1), (f"{tag}_end", count)):
        graph.constant(name, np.array([value], np.int64))
    # All directions are computed and the first are kept: a smaller product could round the last bit otherwise in another stage.
    return graph.node("Slice", [every, "part_begin", f"{tag}_end", "part_axis"], f"{tag}_map")


def _block_range(tensors: Tensors, number: int) -> tuple[Floats, Floats]:
    mean = variance = np.zeros(0)
    for block in blocks()[: number + 1]:
        try:
            gamma, beta = (tensors[f"_blocks.{block.index}._bn2.{part}"].astype(np.float64) for part in ("weight", "bias"))
        except KeyError as error:
            raise ModelFileError(f"the weights file has no tensor {error}; it is not EfficientNet-Lite0") from error
        mean = mean + beta if block.residual else beta
        variance = variance + gamma**2 if block.residual else gamma**2
    return mean, RANGE_SDS * np.sqrt(variance)


def part_range(part: Part, tensors: Tensors, basis: Basis) -> tuple[Floats, Floats]:
    """(centre, half width) of each feature's public range, each (size,); from batch-norm constants or drawn surfaces, never from data."""
    if part.family == BLOCK:
        return _block_range(tensors, part.number)
    if part.family == DEFECTS:
        mean, deviation = (found.astype(np.float64) for found in basis.pools[part.pool])
        return mean, DEFECT_RANGE_SDS * deviation
    return np.zeros(part.number), np.full(part.number, RANGE_SDS)
