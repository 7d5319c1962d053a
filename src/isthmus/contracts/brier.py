"""brier/1: squared errors of many heads on the same held-out records, added up; what owners' contributions are computed from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Array

BRIER = "brier/1"
HEADS_MAX = 65_536
"""Heads that one job scores."""
HEAD_NUMBERS_MAX = 1 << 22
"""Numbers of all heads of one job: 32 MiB."""
BUCKETS_MAX = 16
"""Parts of the held-out records, made of whole groups, whose sums are told apart: enough for an interval, too few to single out a group."""

Ints = NDArray[np.int64]


class BrierParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """brier/1: packed BrierSums. heads: (heads, d + 1) float64, the bias first, on raw q; a score is bias + q . coefficients and states the
    probability (score + 1) / 2 of a defect, cut to 0 and 1. buckets: parts that sums are told of, at most. bucket_records_min: fewest of an
    owner's own records in a part; an owner with too few for several parts fills fewer. records: the split."""

    heads: Array
    buckets: int
    bucket_records_min: int
    records: str = "holdout"


def brier_size(params: BrierParams) -> int:
    """Entries of packed BrierSums."""
    return params.buckets * (1 + params.heads.shape[0])


def brier_dimension(heads: int, dimension: int) -> int:
    """Features whose second moments so many losses could give away: each unclipped loss is one linear equation on the held-out records'
    (d + 1)(d + 2) / 2 second moments, so fewer heads than these tell as much as the moments of fewer features."""
    return min(dimension, math.ceil(math.sqrt(2 * heads)))


@dataclass(frozen=True)
class BrierSums:
    """records: (buckets,) counts. losses: (buckets, heads) sums of squared errors of the stated probability, in 1 / LOSS_UNIT."""

    records: Ints
    losses: Ints

    def packed(self) -> Ints:
        return np.concatenate([self.records[:, None], self.losses], axis=1).reshape(-1)


def brier_from(vector: Ints, params: BrierParams) -> BrierSums:
    """Inverse of `BrierSums.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (brier_size(params),):
        raise ValueError(f"these sums have {brier_size(params)} entries, not {vector.shape}")
    table = vector.reshape(params.buckets, -1)
    return BrierSums(table[:, 0].copy(), table[:, 1:].copy())
