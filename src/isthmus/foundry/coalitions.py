"""Heads of many coalitions of owners from the owners' own sums: no record is read again, and none is trained twice.

Owners' moments are first moved, in whole numbers, to one centre near the roster's mean. Sums of what remains are small, so that doubles
lose nothing when a coalition's mean is taken off. Each head is then `ridge.fit` on the coalition's sums, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import FEATURE_MAX, Ints, Moments
from isthmus.foundry.ridge import SCALE_FLOOR, SCORE_BITS

Floats = NDArray[np.float64]
BATCH = 256
"""Coalitions that are solved at a time."""


@dataclass(frozen=True)
class CoalitionHeads:
    """rows: (coalitions, d + 1), the bias first, on raw q, on grids on which every score is an exact sum. known: (coalitions,) False where
    the records are of one class or there are none: then nothing can be fitted, and the row is zeros."""

    rows: Floats
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class _Centred:
    """(owners,), (owners,), (owners, d), (owners, d), (owners, d * d): weights, labels, features, features times labels, their squares."""

    centre: Ints
    w: Ints
    wy: Ints
    wx: Ints
    wyx: Ints
    gram: Ints


def summed(parts: Sequence[Moments]) -> Moments:
    """The owners' moments added up. Raises InputError when there are none, or of different stages."""
    if not parts or len({part.dimension for part in parts}) > 1:
        raise InputError("there are no sums to add, or sums of different features", "give each owner's moments of one stage")
    total = np.sum([part.packed() for part in parts], axis=0)
    d = parts[0].dimension
    gram = np.sum([part.gram for part in parts], axis=0)
    records, groups, w, wy = (int(v) for v in total[:4])
    return Moments(records, groups, w, wy, total[4 : 4 + d], total[4 + d : 4 + 2 * d], gram, parts[0].span)


def _centred(parts: Sequence[Moments]) -> _Centred:
    total = summed(parts)
    centre = np.array([round(int(s) / max(1, total.sum_w)) for s in total.sum_wx], dtype=object)
    wx, wyx, gram = [], [], []
    for part in parts:
        s = part.sum_wx.astype(object)
        wx.append(s - part.sum_w * centre)
        wyx.append(part.sum_wyx.astype(object) - part.sum_wy * centre)
        cross = np.multiply.outer(centre, s)
        gram.append((part.gram.astype(object) - cross - cross.T + part.sum_w * np.multiply.outer(centre, centre)).reshape(-1))
    try:
        arrays = [np.array(found, dtype=np.int64) for found in (wx, wyx, gram)]
    except OverflowError as error:
        raise InputError("the owners' sums are too large to be added up by coalition", "use smaller weights") from error
    weights = np.array([[part.sum_w, part.sum_wy] for part in parts], dtype=np.int64)
    return _Centred(centre.astype(np.int64), weights[:, 0], weights[:, 1], *arrays)


def coalition_heads(parts: Sequence[Moments], masks: Sequence[int], lam: float) -> CoalitionHeads:
    """One ridge head a mask: bit i of it is owner i. lam: the penalty per unit of weight, as in `ridge.fit`.

    Raises InputError for a penalty that is not positive, or sums that no records have.
    """
    if not lam > 0:
        raise InputError(f"the penalty {lam} cannot be used", "give a positive number")
    owned = _centred(parts)
    rows = np.zeros((len(masks), owned.centre.shape[0] + 1))
    known = np.zeros(len(masks), dtype=bool)
    for begin in range(0, len(masks), BATCH):
        some = masks[begin : begin + BATCH]
        member = np.array([[mask >> owner & 1 for owner in range(len(parts))] for mask in some], dtype=np.int64)
        rows[begin : begin + len(some)], known[begin : begin + len(some)] = _solved(owned, member, lam)
    return CoalitionHeads(rows, known)


def _solved(owned: _Centred, member: Ints, lam: float) -> tuple[Floats, NDArray[np.bool_]]:
    """member: (coalitions, owners) of 0 and 1."""
    d = owned.centre.shape[0]
    weight, labels = member @ owned.w, member @ owned.wy
    known = (weight > 0) & (np.abs(labels) < weight)
    w = np.maximum(weight, 1).astype(np.float64)[:, None]
    mean, rate = (member @ owned.wx) / w, labels[:, None] / w
    spread = (member @ owned.gram).astype(np.float64).reshape(-1, d, d) / w[:, :, None] - mean[:, :, None] * mean[:, None, :]
    variance = np.einsum("cii->ci", spread)
    if bool((variance[known] < -1e-3 * (1 + np.abs(mean[known]) ** 2)).any()):
        raise InputError("the sums belong to no records: a variance is negative", "run the job again; a share was damaged")
    scale = np.maximum(np.sqrt(np.maximum(variance, 0.0)), SCALE_FLOOR)
    target = ((member @ owned.wyx) / w - rate * mean) / scale
    system = spread / scale[:, :, None] / scale[:, None, :] + lam * np.eye(d)
    slopes = np.zeros_like(mean)
    slopes[known] = np.linalg.solve(system[known], target[known][:, :, None])[:, :, 0] / scale[known]
    most = np.abs(slopes).sum(axis=1) * FEATURE_MAX * 2.0 + np.abs(rate[:, 0])
    step = 2.0 ** (np.frexp(np.maximum(most, 1e-300))[1] - SCORE_BITS)[:, None]
    slopes = np.round(slopes / step) * step
    bias = np.round((rate - (slopes * (mean + owned.centre)).sum(axis=1, keepdims=True)) / step) * step
    return np.where(known[:, None], np.concatenate([bias, slopes], axis=1), 0.0), known
