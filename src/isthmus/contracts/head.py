"""A closed-form head as a document: all that is needed, beside the public backbone, to rebuild the artefact."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import DocumentError
from isthmus.contracts.schema import Schema

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
    definition. schema: of its records, where they are not pictures."""

    backbone: str
    parts: tuple[str, ...]
    dimension: int
    digest: str
    schema: Schema | None = None


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """score = bias + sum_i coefficients[i] * q[i], over quantised features q of `stage`.

    link logistic: that sum is the logarithm of the odds of a defect, and the score is 4 p - 2 (kit.logits.scores_of), so that
    p = (score + 2) / 4 is its probability. score <= lo: good. score >= hi: defect. Between: a person decides. lo <= hi. `decoder` names
    what makes records of bytes.
    """

    stage: Stage
    coefficients: Array
    bias: float
    lo: float
    hi: float
    decoder: str
    link: Link = "linear"
