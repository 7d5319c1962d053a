"""The public basis of texts: few directions of meaning, learned from public texts in many languages only.

The leading principal directions of the backbone's 384 numbers over public translations of one set of sentences, once the mean of each
language is taken away: what is left says what is meant, and not in which language. The first are `meaning`, those behind them `nuance`, so
that a roster after a leaver has features none of which follows from the first ones. Each has mean 0 and deviation 1 over the public texts.

`bench/textbasis.py` fetches the texts, makes the basis anew and compares it with the file that ships.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import ModelFileError
from isthmus.contracts.textparts import MEANING, NUANCE
from isthmus.kit.canonical import digest_of

FILE, FORMAT = "textbasis_1.json", "isthmus-text-basis/1"
COUNTS = {MEANING: 48, NUANCE: 96}
"""Directions of each family, in the order of the basis."""

DIRECTIONS = sum(COUNTS.values())
WIDTH = 384
DEVIATION_FLOOR = 1e-9
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TextBasis:
    """matrix (DIRECTIONS, WIDTH), each family's behind the other's. offset (DIRECTIONS,). source: what it was learned from."""

    matrix: Floats
    offset: Floats
    source: str

    def document(self) -> dict[str, Any]:
        """Plain JSON: 16-bit floats in base64, a row a string, the offset last in it."""
        rows = np.column_stack([self.matrix, self.offset]).astype("<f2")
        return {"format": FORMAT, "source": self.source, "rows": [base64.b64encode(row.tobytes()).decode() for row in rows]}

    @property
    def digest(self) -> str:
        """sha256 of the document."""
        return digest_of(self.document())


def text_basis_from(document: dict[str, Any]) -> TextBasis:
    """Inverse of `TextBasis.document`. Raises ModelFileError when it is no such document."""
    try:
        rows = [np.frombuffer(base64.b64decode(row, validate=True), "<f2") for row in document["rows"]]
        found = np.stack(rows).astype(np.float32)
        if document["format"] != FORMAT or found.shape != (DIRECTIONS, WIDTH + 1) or not np.isfinite(found).all():
            raise ValueError("another format")
        return TextBasis(found[:, :-1], found[:, -1], str(document["source"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError("the basis of texts cannot be read", "install isthmus anew, or make it with bench/textbasis.py") from error


@cache
def shipped_text_basis() -> TextBasis:
    """The basis of this release. Raises ModelFileError."""
    return text_basis_from(json.loads((resources.files("isthmus.foundry") / FILE).read_text(encoding="utf-8")))


def blank_text_basis() -> TextBasis:
    """Of the right shape, and blind: for making the first one."""
    return TextBasis(np.zeros((DIRECTIONS, WIDTH), np.float32), np.zeros(DIRECTIONS, np.float32), "")


def made_text_basis(embedded: NDArray[np.floating[Any]], languages: Sequence[str], source: str) -> TextBasis:
    """embedded (n, WIDTH) of public texts; languages: of each. Directions as the module says, each signed so that its largest entry is
    positive. The offset takes the mean over all texts away, so that a text's language does not move the mean of many."""
    values = np.asarray(embedded, dtype=np.float64)
    codes = np.unique(np.asarray(languages), return_inverse=True)[1]
    means = np.stack([values[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
    within = values - means[codes]
    spread, vectors = np.linalg.eigh(within.T @ within / len(within))
    chosen = vectors[:, ::-1][:, :DIRECTIONS]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(DIRECTIONS)])
    matrix = (chosen / np.sqrt(np.maximum(spread[::-1][:DIRECTIONS], DEVIATION_FLOOR))).T
    return text_basis_from(TextBasis(matrix.astype(np.float32), (-matrix @ values.mean(axis=0)).astype(np.float32), source).document())
