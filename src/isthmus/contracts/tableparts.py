"""The parts of a table's stage, as documents name them: which public features of its columns a model sees.

    columns              each number on its declared range, one feature a level of a category, one that says a number is missing
    bins/COUNT           hats on COUNT equally spaced knots over each number's range: a head on them is linear between knots
    pairs                products of two numbers on their ranges, squares among them
    fourier/COUNT/WIDTH  random Fourier features of `columns`: a head on them is a smooth function that changes over about WIDTH, where a
                         number's range is 2 wide (Rahimi and Recht, "Random features for large-scale kernel machines", NIPS 2007)

All follow from the declared schema alone. They are made in foundry.tablefeatures.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from isthmus.contracts.errors import InputError

COLUMNS, BINS, PAIRS, FOURIER = "columns", "bins", "pairs", "fourier"
BINS_MAX, FOURIER_MAX = 64, 1024
WIDTH_MIN, WIDTH_MAX = 0.05, 100.0
COUNT = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
WIDTH = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.[0-9]{0,2}[1-9])?", re.ASCII)


class TablePart(NamedTuple):
    """family: columns, bins, pairs or fourier. number: of knots or of Fourier features, else 0. width: of Fourier features, as written,
    else empty."""

    family: str
    number: int = 0
    width: str = ""

    @property
    def text(self) -> str:
        return "/".join([self.family, *([str(self.number)] if self.number else []), *([self.width] if self.width else [])])

    @property
    def shelf(self) -> str:
        """What two parts share when one's features begin with the other's, or say the same."""
        return f"{self.family}/{self.width}" if self.width else self.family


def parsed_table_part(text: str) -> TablePart:
    """Raises InputError when it is no part's name, or its numbers are out of reach."""
    family, *details = text.split("/")
    if family in (COLUMNS, PAIRS) and not details:
        return TablePart(family)
    if family == BINS and len(details) == 1 and COUNT.fullmatch(details[0]):
        count = int(details[0])
        if 2 <= count <= BINS_MAX:
            return TablePart(family, count)
        raise InputError(f"{text!r} asks for {count} knots", f"use {BINS}/2 to {BINS}/{BINS_MAX}")
    if family == FOURIER and len(details) == 2 and COUNT.fullmatch(details[0]) and WIDTH.fullmatch(details[1]):
        count, width = int(details[0]), float(details[1])
        if count > FOURIER_MAX:
            raise InputError(f"{text!r} asks for {count} features", f"use at most {FOURIER_MAX}")
        if WIDTH_MIN <= width <= WIDTH_MAX:
            return TablePart(family, count, details[1])
        raise InputError(f"{text!r} has the width {details[1]}", f"use {WIDTH_MIN:g} to {WIDTH_MAX:g}; a number's range is 2 wide")
    raise InputError(
        f"{text!r} names no features of a table",
        f"use {COLUMNS}, {BINS}/COUNT, {PAIRS} or {FOURIER}/COUNT/WIDTH, as in {BINS}/8 or {FOURIER}/200/1.5",
    )
