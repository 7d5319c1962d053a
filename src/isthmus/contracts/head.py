"""A closed-form head as a document: all that is needed, beside the public backbone, to rebuild the artefact."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import DocumentError
from isthmus.contracts.schema import Schema
from isthmus.contracts.targets import Target

Link = Literal["linear", "logistic"]


class Array(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A float64 or int64 array in a JSON document, bit for bit: little-endian bytes in base64."""

    dtype: str
    shape: tuple[int, ...]
    data: str

    @classmethod
    def of(cls, value: NDArray[Any]) -> Array:
        kind = "<i8" if np.issubdtype(value.dtype, np.integer) else "<f8"
        raw = np.ascontiguousarray(value.astype(kind))
        return cls(dtype=kind, shape=tuple(value.shape), data=base64.b64encode(raw.tobytes()).decode())

    def array(self) -> NDArray[Any]:
        """The array. Raises DocumentError when dtype, shape and bytes do not fit, or a float is not finite."""
        if self.dtype not in ("<f8", "<i8"):
            raise DocumentError(f"an array of type {self.dtype!r} is not allowed", "use <f8 or <i8")
        if min(self.shape, default=0) < 0:
            raise DocumentError(f"an array's shape {self.shape} is not possible", "send the document as it was signed")
        try:
            raw = np.frombuffer(base64.b64decode(self.data, validate=True), dtype=self.dtype)
            value = raw.reshape(self.shape).copy()
        except (binascii.Error, ValueError) as error:
            raise DocumentError(f"an array's bytes do not fit its shape {self.shape}", "send the document as it was signed") from error
        if self.dtype == "<f8" and not bool(np.isfinite(value).all()):
            raise DocumentError("an array holds a number that is not finite", "fit again")
        return value


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A public feature extractor: which backbone, which parts of it (contracts.parts, tableparts, seriesparts), and the digest of its
    definition. schema: of its records, where they are not pictures. dimension: features of each of its positions. positions: places of a
    picture that are looked at each by itself; 1 where the record is looked at as a whole. zones: sets of positions that are summed apart
    (see `zone_of`)."""

    backbone: str
    parts: tuple[str, ...]
    dimension: int
    digest: str
    schema: Schema | None = None
    positions: int = 1
    zones: int = 1

    @property
    def counted(self) -> int:
        """Features as the dimension rule counts them: so many in one zone would have as many second moments as all zones have."""
        return math.ceil(self.dimension * math.sqrt(self.zones) - 1e-9)

    @property
    def width(self) -> int:
        """Numbers that the extractor gives for one record."""
        return self.dimension * self.positions


SCORE_SHARE = 0.25
"""Of the logarithm of the odds: the score of published trees. A power of two, so that it rounds nothing."""


class Forest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Boosted trees: base + the values of the leaves that a record comes to, one a tree; of the logistic loss that is the logarithm of the
    odds of a defect, and SCORE_SHARE of it is added to a head's score, so that it fits the range in which scores are counted.

    sizes: (trees,) int64, nodes of each. nodes: one int64 a node, tree after tree, in the order in which they were opened: a leaf is twice
    its value in 2^-40, so that sums are exact in any order; a node that asks is 2 (feature 2^17 + edge + 2^16) + 1. A record goes left when
    its feature is below the edge; the n-th asking node of a tree, from 0, has its children at 2n + 1 (left) and 2n + 2.
    """

    loss: Literal["logistic", "squared"]
    base: float
    sizes: Array
    nodes: Array


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number that a head foretells, in units of its target (contracts.targets).

    score = bias + sum_i coefficients[i] * q[i]. edges part the scores, ascending, one less than there are bands; a score at an edge
    belongs to the part above it. lows, highs: what is added to a score to be the band's ends. held_ppm: share of outcomes that the band is
    promised to hold.
    """

    target: Target
    coefficients: Array
    bias: float
    edges: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    held_ppm: int


class Gaussian(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far from the good ones: squares of round(matrix q - centre), summed, are a place's squared Mahalanobis distance in units of
    1 / kit.mahalanobis.UNIT. matrix: (zones, d, d) float64; centre: (zones, d). top: of so many of the farthest places a record's score is
    the mean.
    """

    matrix: Array
    centre: Array
    top: int


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """score = bias + sum_i coefficients[i] * q[i], over quantised features q of `stage`; with a forest, plus its sum, as a float32. With
    `gaussian`, there are no coefficients and the score is that of kit.mahalanobis.

    link logistic: that sum is the logarithm of the odds of a defect, and the score is 4 p - 2 (kit.logits.scores_of), so that
    p = (score + 2) / 4 is its probability. score <= lo: good. score >= hi: defect. Between: a person decides. lo <= hi. `decoder` names
    what makes records of bytes. outputs: of a head that foretells numbers instead; its own coefficients are then none, bias, lo and hi 0.
    """

    stage: Stage
    coefficients: Array
    bias: float
    lo: float
    hi: float
    decoder: str
    outputs: tuple[Output, ...] = ()
    gaussian: Gaussian | None = None
    forest: Forest | None = None
    link: Link = "linear"
