"""Logarithms of odds: the published score that follows from one, and the sums of a logistic fit over rows held in this process.

The score is 4 p - 2, which fills the range of all histograms of scores (contracts.sums.SCORE_LIMIT), so that p = (score + 2) / 4 is the
probability. It must be the same to the last bit wherever it is computed, in the
ONNX graph and in a node's own arithmetic, on any processor. Libraries' exp are not. So exp(-a) is made of sums, products and quotients
only, each of which IEEE 754 rounds in one way: a is cut at LOGIT_MAX and rounded to LOGIT_STEP, a thousandth part of it goes into a short
Taylor polynomial, and the result is squared HALVINGS times. Its relative error is below 1e-12, far below the step: the score never falls
where the logit rises. `foundry.linkgraph` writes the same operations in the same order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.logistic import LOSS_MAX, LogisticSums, Units
from isthmus.contracts.sums import FEATURE_MAX, LOSS_UNIT, SCORE_LIMIT

LOGIT_MAX = 32.0
LOGIT_STEP = 2.0**-20
HALVINGS = 10
TAYLOR = tuple(1.0 / math.factorial(k) for k in range(8, -1, -1))
"""Coefficients of exp's Taylor polynomial, the highest first."""
CURVE_MIN = 2.0**-14
"""A row's p (1 - p) counts as at least so much: a step is then a little shorter, and no row is divided by nothing."""
WEIGHT_MAX = 1 << 16
EXACT_BITS = 53
Floats = NDArray[np.float64]


def scores_of(logits: NDArray[Any]) -> Floats:
    """4 p - 2 of each logit, in the one way that the module states. Rises with the logit."""
    cut = np.clip(np.asarray(logits, dtype=np.float64), -LOGIT_MAX, LOGIT_MAX)
    stepped = np.round(cut * (1.0 / LOGIT_STEP)) * LOGIT_STEP
    small = np.abs(stepped) * (-(2.0**-HALVINGS))
    power = np.full_like(small, TAYLOR[0])
    for term in TAYLOR[1:]:
        power = power * small
        power = power + term
    for _ in range(HALVINGS):
        power = power * power
    return np.asarray(np.sign(stepped) * ((1.0 - power) / (1.0 + power)) * SCORE_LIMIT)


def stated(scores: NDArray[Any]) -> Floats:
    """(score + 2) / 4: the probability that each published score of a logistic head states."""
    return np.asarray((np.asarray(scores, dtype=np.float64) / SCORE_LIMIT + 1.0) / 2.0)


def probability(logits: NDArray[Any]) -> Floats:
    """1 / (1 + exp(-logit)), logits beyond +-LOGIT_MAX counted as that; for fits, whose sums are rounded anyhow."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -LOGIT_MAX, LOGIT_MAX))))


def curvature(chance: Floats) -> Floats:
    """p (1 - p), at least CURVE_MIN."""
    return np.maximum(chance * (1.0 - chance), CURVE_MIN)


def working_rows(logits: Floats, y: NDArray[Any]) -> tuple[Floats, Floats]:
    """(curvature, working response) of each row: the weighted least squares that is one step of Newton's method. y: > 0 a defect."""
    chance = probability(logits)
    curve = curvature(chance)
    return curve, logits + ((np.asarray(y) > 0) - chance) / curve


def effective_share(weights: NDArray[Any]) -> float:
    """Share of the rows that their weighting leaves, (sum w)^2 / (n sum w^2) (Kish 1965): 1 where all weigh the same."""
    found = np.asarray(weights, dtype=np.float64)
    squares = float((found**2).sum()) * found.size
    return float(found.sum()) ** 2 / squares if squares > 0 else 0.0


def _weighted_products(weights: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """sum weights * row row^T, exactly: blocks so short that doubles hold their sums."""
    most = int(np.abs(weights).max(initial=1)) * FEATURE_MAX * FEATURE_MAX
    step = max(1, (1 << EXACT_BITS) // max(1, most))
    total = np.zeros((rows.shape[1], rows.shape[1]), dtype=np.int64)
    for start in range(0, rows.shape[0], step):
        part = rows[start : start + step].astype(np.float64)
        weighted = part * weights[start : start + step, None].astype(np.float64)
        total += np.rint(weighted.T @ part).astype(np.int64)
    return total


def logistic_sums(q: NDArray[np.int16], w: NDArray[Any], y: NDArray[Any], coefficients: Floats, units: Units) -> LogisticSums:
    """A round over rows. q: (n, d); w: (n,) positive integers; y: (n,) in {-1, +1}; coefficients: (d + 1,) on (1, q).

    Raises InputError when shapes or weights do not fit.
    """
    weights, positive = np.asarray(w, dtype=np.int64), np.asarray(y) > 0
    if coefficients.shape != (q.shape[1] + 1,) or not bool(np.isfinite(coefficients).all()):
        raise InputError(f"{coefficients.shape} coefficients were given for {q.shape[1]} features", "send the round's own")
    if int(weights.min(initial=1)) < 1 or int(weights.max(initial=1)) > WEIGHT_MAX:
        raise InputError(f"the rows' weights are {weights.min()} to {weights.max()}", f"give 1 to {WEIGHT_MAX}")
    rows = np.concatenate([np.ones((q.shape[0], 1), dtype=np.int64), q.astype(np.int64)], axis=1)
    logits = rows @ coefficients
    chance = probability(logits)
    losses = np.minimum(np.logaddexp(0.0, np.where(positive, -logits, logits)), float(LOSS_MAX))
    slope = np.rint((positive - chance) * units.slope).astype(np.int64) * weights
    curve = np.maximum(np.rint(curvature(chance) * units.curve), 1.0).astype(np.int64) * weights
    loss = np.rint(losses * LOSS_UNIT).astype(np.int64) * weights
    slopes = (slope[:, None] * rows).sum(axis=0)
    return LogisticSums(int(weights.sum()), int(loss.sum()), slopes, _weighted_products(curve, rows), units)
