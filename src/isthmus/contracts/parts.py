"""The parts of a stage, as documents name them: which public features a model sees.

    block/N         spatial means of the channels behind backbone block N
    defects/POOL    how strongly each kind of drawn defect is seen: max, mean, share (above a level) or spread over the picture
    texture/COUNT   main directions of the means behind blocks 7 and 10 over drawn surfaces
    deep/COUNT      the same behind block 11

What the drawn defects and directions are stands in foundry.basis; they are public and come with the release.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from isthmus.contracts.errors import InputError

BLOCK, DEFECTS, TEXTURE, DEEP = "block", "defects", "texture", "deep"
NUMBER = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)
POOLS = ("max", "mean", "share", "spread")
SOURCES = {
    f"{DEFECTS}/mean": (2, 4, 7, 10),
    TEXTURE: (7, 10),
    DEEP: (11,),
}
"""Blocks that a family is a linear function of: their sums and its own can be subtracted from each other. Strongest, share and
spread are linear in nothing else."""


class Part(NamedTuple):
    """family: block, defects, texture or deep. pool: of defects, else empty. number: which block, or how many directions."""

    family: str
    pool: str
    number: int

    @property
    def text(self) -> str:
        return f"{self.family}/{self.pool or self.number}"

    @property
    def shelf(self) -> str:
        """What two parts share when one's features are the other's, or begin with them."""
        return self.family if self.family in (TEXTURE, DEEP) else self.text


def parsed_part(text: str) -> Part:
    """Raises InputError when it is no part's name."""
    family, _, detail = text.partition("/")
    if family == DEFECTS and detail in POOLS:
        return Part(family, detail, 0)
    if family in (BLOCK, TEXTURE, DEEP) and NUMBER.fullmatch(detail):
        return Part(family, "", int(detail))
    raise InputError(f"{text!r} names no features", f"use block/N, {DEFECTS}/{{{','.join(POOLS)}}}, {TEXTURE}/COUNT or {DEEP}/COUNT")


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
        found |= {part.shelf, *(f"{BLOCK}/{number}" for number in SOURCES.get(part.shelf, ()))}
    return frozenset(found)
