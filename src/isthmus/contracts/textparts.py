"""The parts of a text's stage, as documents name them: which public directions of its meaning a model sees.

    meaning/COUNT   the COUNT first directions of the public basis
    nuance/COUNT    the same, of the other half of the basis: none of them is made of the first half's

What the directions are stands in foundry.textbasis; they are public and come with the release.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from isthmus.contracts.errors import InputError

MEANING, NUANCE = "meaning", "nuance"
FAMILIES = (MEANING, NUANCE)
COUNT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


class TextPart(NamedTuple):
    """family: meaning or nuance. number: how many directions."""

    family: str
    number: int

    @property
    def text(self) -> str:
        return f"{self.family}/{self.number}"


def parsed_text_part(text: str) -> TextPart:
    """Raises InputError when it is no part's name."""
    family, _, detail = text.partition("/")
    if family in FAMILIES and COUNT.fullmatch(detail):
        return TextPart(family, int(detail))
    raise InputError(f"{text!r} names no features of a text", f"use {MEANING}/COUNT or {NUANCE}/COUNT, as in {MEANING}/48")


def text_sources(parts: tuple[str, ...]) -> frozenset[str]:
    """Names that two stages have in common when sums over one could be subtracted from sums over the other: parts of one family begin
    with the same directions. An unknown name stands for itself."""
    found = set()
    for text in parts:
        try:
            found.add(parsed_text_part(text).family)
        except InputError:
            found.add(text)
    return frozenset(found)
