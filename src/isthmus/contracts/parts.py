"""The parts of a stage, as documents name them: which public features a model sees.

    block/N         spatial means of the channels behind backbone block N
    defects/POOL    how strongly each kind of drawn defect is seen: max, mean, share (above a level) or spread over the picture
    texture/COUNT   main directions of the means behind blocks 7 and 10 over drawn surfaces
    deep/COUNT      the same behind block 11

And of patches, the places of a GRID_SIDE x GRID_SIDE grid over the picture, for heads that look at each place (contracts.head.Gaussian):

    patch-defects/POOL    how strongly each kind of drawn defect is seen in the patch: max or mean
    patch-texture/COUNT   main directions behind blocks 7 and 10 there
    patch-deep/COUNT      the same behind block 11
    patch-rings/COUNT     no features: how many rings of the grid, from its edge inwards, have a Gaussian of their own; without it, one

What the drawn defects and directions are stands in foundry.basis; they are public and come with the release.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from isthmus.contracts.errors import InputError

BLOCK, DEFECTS, TEXTURE, DEEP = "block", "defects", "texture", "deep"
PATCH_DEFECTS, PATCH_TEXTURE, PATCH_DEEP, PATCH_RINGS = "patch-defects", "patch-texture", "patch-deep", "patch-rings"
PATCHES = {PATCH_DEFECTS: DEFECTS, PATCH_TEXTURE: TEXTURE, PATCH_DEEP: DEEP}
"""Families of patches, and what each is made of."""
GRID_SIDE = 14
RINGS_MAX = GRID_SIDE // 2
NUMBER = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)
POOLS = ("max", "mean", "share", "spread")
PATCH_POOLS = ("max", "mean")
SOURCES = {
    f"{DEFECTS}/mean": (2, 4, 7, 10),
    TEXTURE: (7, 10),
    DEEP: (11,),
    f"{PATCH_DEFECTS}/mean": (2, 4, 7, 10),
    PATCH_TEXTURE: (7, 10),
    PATCH_DEEP: (11,),
}
"""Blocks that a family is a linear function of: their sums and its own can be subtracted from each other. Strongest, share and
spread are linear in nothing else."""


class Part(NamedTuple):
    """family: block, defects, texture, deep, or one of patches. pool: of defects, else empty. number: which block, or how many
    directions."""

    family: str
    pool: str
    number: int

    @property
    def text(self) -> str:
        return f"{self.family}/{self.pool or self.number}"

    @property
    def shelf(self) -> str:
        """What two parts share when one's features are the other's, or begin with them."""
        return self.family if self.family in (TEXTURE, DEEP, PATCH_TEXTURE, PATCH_DEEP, PATCH_RINGS) else self.text

    @property
    def of_patches(self) -> bool:
        return self.family in PATCHES or self.family == PATCH_RINGS


def parsed_part(text: str) -> Part:
    """Raises InputError when it is no part's name."""
    family, _, detail = text.partition("/")
    if (family == DEFECTS and detail in POOLS) or (family == PATCH_DEFECTS and detail in PATCH_POOLS):
        return Part(family, detail, 0)
    if family in (BLOCK, TEXTURE, DEEP, PATCH_TEXTURE, PATCH_DEEP, PATCH_RINGS) and NUMBER.fullmatch(detail):
        return Part(family, "", int(detail))
    known = f"block/N, {DEFECTS}/{{{','.join(POOLS)}}}, {TEXTURE}/COUNT or {DEEP}/COUNT"
    patches = f"{PATCH_DEFECTS}/{{{','.join(PATCH_POOLS)}}}, {PATCH_TEXTURE}/COUNT, {PATCH_DEEP}/COUNT or {PATCH_RINGS}/COUNT"
    raise InputError(f"{text!r} names no features", f"use {known}; of patches {patches}")


def of_patches(parts: tuple[str, ...]) -> bool:
    """Whether these parts describe places of a picture. Raises InputError for an unknown part, and for a mixture of both."""
    kinds = {parsed_part(text).of_patches for text in parts}
    if len(kinds) > 1:
        raise InputError(f"the features {list(parts)} mix pictures and patches", "use parts of patches only, or none")
    return kinds == {True}


def sources_of(parts: tuple[str, ...]) -> frozenset[str]:
    """Names that two stages have in common when sums over one could be subtracted from sums over the other. An unknown name stands
    for itself."""
    found: set[str] = set()
    for text in parts:
        try:
            part = parsed_part(text)
        except InputError:
            found.add(text)
            continue
        if part.family == PATCH_RINGS:  # holds nothing
            continue
        found |= {part.shelf, *(f"{BLOCK}/{number}" for number in SOURCES.get(part.shelf, ()))}
    return frozenset(found)


def rings_of(parts: tuple[str, ...]) -> int:
    """How many rings of the grid have a Gaussian of their own. Raises InputError for an unknown part."""
    return next((part.number for part in map(parsed_part, parts) if part.family == PATCH_RINGS), 1)
