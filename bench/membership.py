"""Attacks that tell members from non-members by what left; each returns a score that is higher for likely members.

Sources. Leverage: the hat matrix of the visible Gram. Reference attacks: Homer et al. 2008 and Dwork et al. 2015 ("Robust
traceability from trace amounts") for means, here for second moments: the attacker compares the visible Gram with that of reference
cells of the same population, which it holds and which are neither members nor candidates. Under a Gaussian model the
ratio of both Mahalanobis norms is the likelihood ratio up to monotone terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.sums import Moments, score_bins
from isthmus.foundry.ridge import Standard, standard
from isthmus.kit.hatmatrix import design

RIDGE = 1e-9
NULL_SHARE = 1e-10
REFERENCE_RIDGES = (0.001, 0.01, 0.1)
HEAD_RIDGES = (1e-6, 1e-4, 1e-2, 0.1)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """Who is to be told apart. views: one (n, d) array a view, features as the nodes quantise them. y: (n,) labels. w: (n,)
    weights. member: (n,)."""

    views: tuple[NDArray[Any], ...]
    y: NDArray[np.int64]
    w: NDArray[np.int64]
    member: NDArray[np.bool_]


def normal_matrix(moments: Moments, mean: Floats, scale: Floats) -> Floats:
    """(d + 1, d + 1) weighted second moments of design rows (1, (q - mean) / scale), divided by the weight."""
    w = float(moments.sum_w)
    first = (moments.sum_wx.astype(np.float64) / w - mean) / scale
    raw = moments.gram.astype(np.float64) / w
    centred = raw - np.outer(mean, moments.sum_wx / w) - np.outer(moments.sum_wx / w, mean) + np.outer(mean, mean)
    inner = centred / np.outer(scale, scale)
    return np.block([[np.ones((1, 1)), first[None, :]], [first[:, None], inner]])


def _norms(rows: Floats, inverse: Floats) -> Floats:
    return np.asarray(np.einsum("ij,jk,ik->i", rows, inverse, rows))


def _inverse(matrix: Floats, ridge: float) -> Floats:
    return np.asarray(np.linalg.inv(matrix + ridge * np.trace(matrix) / len(matrix) * np.eye(len(matrix))))


def from_moments(total: Moments, reference: Moments | None, mean: Floats, scale: Floats, who: Candidates) -> dict[str, Floats]:
    """Every attack on moments/1. reference: moments of the attacker's own cells, None when it has none."""
    gram = normal_matrix(total, mean, scale)
    rows = [design(view, mean, scale) for view in who.views]
    values, vectors = np.linalg.eigh(gram)
    null = vectors[:, values < NULL_SHARE * values[-1]]
    found = {"null space": -np.asarray(((rows[0] @ null) ** 2).sum(axis=1))}
    inverse = _inverse(gram, RIDGE)
    leverages = np.stack([_norms(r, inverse) for r in rows], axis=1)
    found["leverage, one view"] = -leverages[:, 0]
    found["leverage, sum of views"] = -leverages.sum(axis=1)
    found["leverage, largest view"] = -leverages.max(axis=1)
    target = np.concatenate([[total.sum_wy], (total.sum_wyx - mean * total.sum_wy) / scale]) / float(total.sum_w)
    coefficients = inverse @ target
    found["cross moment"] = who.y * np.mean([r[:, 1:] @ target[1:] for r in rows], axis=0)
    found["residual"] = -np.abs(who.y - np.mean([r @ coefficients for r in rows], axis=0))
    if reference is not None:
        found |= _against(normal_matrix(reference, mean, scale), gram, rows)
    return found


def _against(known: Floats, gram: Floats, rows: list[Floats]) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for ridge in REFERENCE_RIDGES:
        theirs, ours = _inverse(known, ridge), _inverse(gram, ridge)
        expected, seen = (np.sum([_norms(r, inverse) for r in rows], axis=0) for inverse in (theirs, ours))
        found[f"likelihood ratio, reference cells, ridge {ridge:g}"] = expected / seen
        found[f"norm difference, reference cells, ridge {ridge:g}"] = expected - seen
        trace = ours @ (gram - known) @ ours
        found[f"trace, reference cells, ridge {ridge:g}"] = np.sum([_norms(r, trace) for r in rows], axis=0)
    return found


def from_heads(seen: list[Floats], lams: list[float], reference: Moments, ours: Candidates, theirs: Candidates) -> dict[str, Floats]:
    """Attacks on the coefficients of one or more ridge heads by an attacker with reference cells.

    What a record adds to a head is its influence, (A + lambda)^-1 z (y - score) (Hampel 1974); heads of a sum deviate from the
    reference's by the mean of its members' influences. Under a Gaussian model the likelihood ratio is the deviation's product with
    the record's influence in the metric of the influences' covariance over the reference cells.

    seen: (d + 1,) bias and coefficients on raw features, one a penalty. theirs: the reference cells themselves. ours.w, theirs.w: weights.
    """
    norm = standard(reference)
    unit = np.concatenate([[1.0], norm.scale])
    known = [_raw_head(norm, lam) for lam in lams]
    rows = {id(who): [_influences(who, norm, head, lam) for head, lam in zip(known, lams, strict=True)] for who in (ours, theirs)}
    cells, asked = (np.concatenate(rows[id(who)], axis=1) for who in (theirs, ours))
    away = np.concatenate([(s - k) * unit for s, k in zip(seen, known, strict=True)])
    spread = np.cov(cells.T)
    found = {}
    for ridge in HEAD_RIDGES:
        metric = _inverse(spread, ridge)
        found[f"{len(seen)} heads, influence, reference cells, ridge {ridge:g}"] = np.asarray((asked - cells.mean(axis=0)) @ metric @ away)
    return found


def _raw_head(norm: Standard, lam: float) -> Floats:
    slopes = np.linalg.solve(norm.correlation + lam * np.eye(len(norm.mean)), norm.target) / norm.scale
    return np.concatenate([[norm.target_mean - float(slopes @ norm.mean)], slopes])


def _influences(who: Candidates, norm: Standard, head: Floats, lam: float) -> Floats:
    """(n, d + 1): each record's influence on the head, over all its views."""
    d = len(norm.mean)
    normal = np.zeros((d + 1, d + 1))
    normal[0, 0], normal[1:, 1:] = 1.0, norm.correlation + lam * np.eye(d)
    total = np.zeros((len(who.y), d + 1))
    for view in who.views:
        wrong = (who.y - head[0] - view @ head[1:]) * who.w
        total += np.linalg.solve(normal, (design(view, norm.mean, norm.scale) * wrong[:, None]).T).T
    return total


def from_histogram(histogram: NDArray[np.int64], expected: NDArray[Any], scores: Floats, y: NDArray[np.int64]) -> Floats:
    """A member's score stands in its bin: log of the count over what the population would put there.

    histogram: (2, bins) that left. expected: (2, bins), from reference cells. scores, y: of the candidates.
    """
    side, place = (y > 0).astype(int), score_bins(scores, histogram.shape[1])
    return np.asarray(np.log(histogram[side, place] + 0.5) - np.log(expected[side, place] + 0.5))
