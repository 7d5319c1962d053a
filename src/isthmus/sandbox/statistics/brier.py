"""brier/1: squared errors of many heads on held-out records, by parts made of whole groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.brier import BrierParams, BrierSums
from isthmus.contracts.errors import RefusedError
from isthmus.contracts.sums import LOSS_UNIT
from isthmus.sandbox.statistics.records import Ints, Records

ROWS, HEADS = 4096, 512
"""Records and heads that are scored at a time, so that memory does not grow with either."""


def parts_of(groups: Ints, most: int, least: int) -> Ints:
    """(n,) the part of each record: as many parts as there can be, up to `most`, with at least `least` records each, no group in two.

    The largest group first into the lightest part; the same groups give the same parts. Fewer than `most` parts are spread over the numbers
    0 to most - 1. With too few records for one part all are in part 0.
    """
    codes, sizes = np.unique(groups, return_counts=True)
    order = sorted(range(len(codes)), key=lambda place: (-int(sizes[place]), place))
    for count in range(max(1, min(most, len(codes), int(sizes.sum()) // max(1, least))), 0, -1):
        weight, part = [0] * count, [0] * len(codes)
        for place in order:
            lightest = weight.index(min(weight))
            part[place], weight[lightest] = lightest, weight[lightest] + int(sizes[place])
        if min(weight) >= least or count == 1:
            break
    numbers = np.array([index * most // count for index in part], dtype=np.int64)
    return np.asarray(numbers[np.searchsorted(codes, groups)])


def smallest_part(records: Records, params: BrierParams) -> int:
    """Records of the part that has fewest, of those that have any."""
    parts = parts_of(records.groups, params.buckets, params.bucket_records_min)
    counts = np.bincount(parts, minlength=params.buckets)
    return int(counts[counts > 0].min(initial=records.size))


def brier(records: Records, q: NDArray[Any], params: BrierParams) -> BrierSums:
    """q: (n, d) features of the records. Losses are rounded to 1 / LOSS_UNIT record by record, so that their order changes nothing."""
    heads = params.heads.array()
    parts = parts_of(records.groups, params.buckets, params.bucket_records_min)
    counts = np.bincount(parts, minlength=params.buckets).astype(np.int64)
    losses = np.zeros((params.buckets, heads.shape[0]), dtype=np.int64)
    outcome = (records.y > 0).astype(np.float64)
    for first in range(0, records.size, ROWS):
        rows = slice(first, first + ROWS)
        part = q[rows].astype(np.float64)
        for begin in range(0, heads.shape[0], HEADS):
            some = heads[begin : begin + HEADS]
            chance = np.clip((part @ some[:, 1:].T + some[:, 0] + 1.0) / 2.0, 0.0, 1.0)
            missed = np.rint((chance - outcome[rows, None]) ** 2 * LOSS_UNIT).astype(np.int64)
            np.add.at(losses[:, begin : begin + HEADS], parts[rows], missed)
    return BrierSums(counts, losses)


def checked_heads(params: BrierParams, dimension: int) -> None:
    """Raises RefusedError when the heads are not numbers of this stage."""
    if params.heads.array().shape != (params.heads.shape[0], dimension + 1):
        raise RefusedError("parameters", f"heads of shape {params.heads.shape} for {dimension} features", "send one row a head")
