"""Logistic regression from sums: Newton's method (iteratively reweighted least squares), a round of sums a step.

Each round the owners are given the current coefficients, and what leaves is three sums over their records: the weighted loss, its
slope sum w (y - p) x, and its curvature sum w p (1 - p) x x^T (Nelder and Wedderburn 1972; McCullagh and Nelder 1989, section 2.5). They
are integers in fixed point, so they may be masked, and any way of splitting the records gives the same total, digit for digit. The
slope is fine (2^-30 of a record), so the solution is that of pooled rows; the curvature only steers the step and is coarse.

The penalty is ridge regression's: lam * sum_w / 2 times the squared coefficients on standardised features, the intercept free.

What is told: a round's sums are those of ridge regression with other weights. All records' weights start equal and end as p (1 - p), so
R rounds tell at most R times the numbers of one; `entries_told` counts them. The dimension rule holds for each round; the differences
between rounds are weightings of the same records, and nobody is left out of one. Newton's steps are few (6 to 10 on the bench tables).

Penalties are compared on scores of each record by the fit without its group, from the hat matrix of the last step: exact for the last
weighted least squares, an approximation to a new fit ("approximate leave-one-out": Rad and Maleki, JRSS B 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import FEATURE_MAX, LOSS_UNIT, Ints, Moments
from isthmus.foundry.ridge import standard
from isthmus.kit.hatmatrix import leave_group_out

SLOPE_UNIT = 1 << 30
CURVE_UNIT = 1 << 14
WEIGHT_MAX = 1 << 16
TOTAL_WEIGHT_MAX = (1 << 62) // (SLOPE_UNIT * FEATURE_MAX)
"""Of all records: beyond it a sum could leave 64 bits."""
ROUNDS_MAX = 25
STEP_MIN = 1e-8
HALVINGS_MAX = 20
EXACT_BITS = 53
LOGIT_MAX = 30.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LogisticSums:
    """One round's sums. loss: sum w log(1 + exp(-+ logit)), in 1 / LOSS_UNIT. slope: (d + 1,) of w (y - p) times (1, q), in 1 / SLOPE_UNIT.
    curve: (d + 1, d + 1) of w p (1 - p) times (1, q)(1, q)^T, in 1 / CURVE_UNIT; y is 0 or 1 here."""

    sum_w: int
    loss: int
    slope: Ints
    curve: Ints

    def packed(self) -> Ints:
        """One int64 vector of `logistic_size(d)` entries; sums of such vectors are the sums of all."""
        upper = np.triu_indices(self.slope.shape[0])
        return np.concatenate([np.array([self.sum_w, self.loss], dtype=np.int64), self.slope, self.curve[upper]])


def logistic_size(dimension: int) -> int:
    """Entries of one round's packed sums with `dimension` features."""
    d = dimension + 1
    return 2 + d + d * (d + 1) // 2


def entries_told(dimension: int, rounds: int) -> int:
    """Numbers that leave in a whole fit."""
    return rounds * logistic_size(dimension)


def logistic_sums_from(vector: Ints, dimension: int) -> LogisticSums:
    """Inverse of `LogisticSums.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (logistic_size(dimension),):
        raise ValueError(f"a round over {dimension} features has {logistic_size(dimension)} entries, not {vector.shape}")
    d = dimension + 1
    curve = np.zeros((d, d), dtype=np.int64)
    curve[np.triu_indices(d)] = vector[2 + d :]
    return LogisticSums(int(vector[0]), int(vector[1]), vector[2 : 2 + d].copy(), curve + curve.T - np.diag(np.diag(curve)))


def probability(logits: Floats) -> Floats:
    """1 / (1 + exp(-logit)), logits beyond +-LOGIT_MAX counted as that."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -LOGIT_MAX, LOGIT_MAX))))


def _weighted_products(weights: Ints, rows: Ints) -> Ints:
    """sum weights * row row^T, exactly: blocks so short that doubles hold their sums."""
    most = int(np.abs(weights).max(initial=1)) * FEATURE_MAX * FEATURE_MAX
    step = max(1, (1 << EXACT_BITS) // max(1, most))
    total = np.zeros((rows.shape[1], rows.shape[1]), dtype=np.int64)
    for start in range(0, rows.shape[0], step):
        part = rows[start : start + step].astype(np.float64)
        weighted = part * weights[start : start + step, None].astype(np.float64)
        total += np.rint(weighted.T @ part).astype(np.int64)
    return total


def logistic_sums(q: NDArray[np.int16], w: NDArray[Any], y: NDArray[Any], coefficients: Floats) -> LogisticSums:
    """The owner's part of a round. q: (n, d); w: (n,) positive integers; y: (n,) in {-1, +1}; coefficients: (d + 1,) on (1, q).

    Raises InputError when shapes or weights do not fit.
    """
    weights, positive = np.asarray(w, dtype=np.int64), np.asarray(y) > 0
    if coefficients.shape != (q.shape[1] + 1,) or not bool(np.isfinite(coefficients).all()):
        raise InputError(f"{coefficients.shape} coefficients were given for {q.shape[1]} features", "send the round's own")
    if int(weights.min(initial=1)) < 1 or int(weights.max(initial=1)) > WEIGHT_MAX or int(weights.sum()) > TOTAL_WEIGHT_MAX:
        raise InputError(
            f"the records' weights are {weights.min(initial=1)} to {weights.max(initial=1)}, {weights.sum()} in total",
            f"give 1 to {WEIGHT_MAX}, at most {TOTAL_WEIGHT_MAX} in total",
        )
    rows = np.concatenate([np.ones((q.shape[0], 1), dtype=np.int64), q.astype(np.int64)], axis=1)
    logits = rows @ coefficients
    chance = probability(logits)
    losses = np.logaddexp(0.0, np.where(positive, -logits, logits))
    slope = np.rint((positive - chance) * SLOPE_UNIT).astype(np.int64) * weights
    curve = np.maximum(np.rint(chance * (1.0 - chance) * CURVE_UNIT), 1.0).astype(np.int64) * weights
    loss = np.rint(np.minimum(losses, 1e6) * LOSS_UNIT).astype(np.int64) * weights
    return LogisticSums(int(weights.sum()), int(loss.sum()), (slope[:, None] * rows).sum(axis=0), _weighted_products(curve, rows))


@dataclass(frozen=True)
class LogisticFit:
    """A fit. coefficients: (d + 1,) on (1, q), the bias first; the score is the logarithm of the odds of a defect. inverse:
    (d + 1, d + 1) of the last curvature and penalty, over (1, (q - mean) / scale). rounds: how often sums were asked for. settled: the
    last step was small, or finer than the sums."""

    lam: float
    mean: Floats
    scale: Floats
    coefficients: Floats
    inverse: Floats
    rounds: int
    settled: bool

    def logits(self, q: NDArray[np.int16]) -> Floats:
        return np.asarray(self.coefficients[0] + q.astype(np.float64) @ self.coefficients[1:])


Ask = Callable[[Floats], LogisticSums]


def _objective(sums: LogisticSums, at: Floats, scale: Floats, lam: float) -> float:
    return sums.loss / LOSS_UNIT + 0.5 * lam * sums.sum_w * float(((at[1:] * scale) ** 2).sum())


def _step(sums: LogisticSums, at: Floats, mean: Floats, scale: Floats, lam: float) -> tuple[Floats, Floats]:
    """(Newton's step on raw coefficients, inverse curvature on standardised features)."""
    d = mean.shape[0]
    turn = np.zeros((d + 1, d + 1))  # raw row (1, q) times turn is the standardised row
    turn[0, 0], turn[0, 1:] = 1.0, -mean / scale
    turn[1:, 1:] = np.diag(1.0 / scale)
    penalty = np.concatenate([[0.0], np.full(d, lam * sums.sum_w)])
    curve = turn.T @ (sums.curve / CURVE_UNIT) @ turn
    normal = (curve + curve.T) / 2.0 + np.diag(penalty)
    slope = turn.T @ (sums.slope / SLOPE_UNIT) - penalty * np.concatenate([[0.0], at[1:] * scale])
    try:
        factor = cho_factor(normal, lower=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise InputError(f"the sums cannot be solved at lambda {lam}", "use a larger lambda or give more records") from error
    return turn @ cho_solve(factor, slope), np.asarray(cho_solve(factor, np.eye(d + 1)))


def fit_logistic(ask: Ask, moments: Moments, lam: float, start: Floats | None = None, rounds_max: int = ROUNDS_MAX) -> LogisticFit:
    """Newton's method. ask: coefficients (d + 1,) -> the summed round. moments: of the same records, for means and scales; their weights
    are those of `ask`. start: coefficients to begin from. A step that does not lower the penalised loss is halved.

    Raises InputError when lam is not positive, or sums cannot be solved.
    """
    if not lam > 0:
        raise InputError(f"the penalty {lam} cannot be used", "give a positive number")
    base = standard(moments)
    mean, scale = base.mean, base.scale
    odds = (1.0 + base.target_mean) / (1.0 - base.target_mean)
    at = np.concatenate([[np.log(odds)], np.zeros(mean.shape[0])]) if start is None else start
    sums = ask(at)
    step, inverse = _step(sums, at, mean, scale, lam)
    rounds, settled = 1, False
    while rounds < rounds_max and not settled:
        size, share = float(np.abs(step[1:] * scale).max(initial=abs(float(step[0] + step[1:] @ mean)))), 1.0
        found, there = sums, at + step
        for _ in range(HALVINGS_MAX):
            there = at + share * step
            found, rounds = ask(there), rounds + 1
            slack = 1e-9 * sums.sum_w + (1 + found.sum_w) / LOSS_UNIT  # the loss is rounded
            if _objective(found, there, scale, lam) <= _objective(sums, at, scale, lam) + slack or rounds >= rounds_max:
                break
            share /= 2.0
        resolved = sums.sum_w / SLOPE_UNIT * float(np.abs(inverse).sum(axis=1).max())
        at, sums, settled = there, found, size * share < STEP_MIN + resolved
        step, inverse = _step(sums, at, mean, scale, lam)
    return LogisticFit(float(lam), mean, scale, at, inverse, rounds, settled)


def fold_out_logits(fit: LogisticFit, q: NDArray[np.int16], w: NDArray[Any], y: NDArray[Any], groups: NDArray[Any]) -> Floats:
    """(n,) logits of each row by the fit without its group, by the last weighted least squares (see above).

    Raises InputError when there are fewer than two groups.
    """
    d = fit.mean.shape[0]
    rows = np.empty((q.shape[0], d + 1))
    rows[:, 0], rows[:, 1:] = 1.0, (q.astype(np.float64) - fit.mean) / fit.scale
    standardised = np.concatenate([[fit.coefficients[0] + fit.coefficients[1:] @ fit.mean], fit.coefficients[1:] * fit.scale])
    logits = rows @ standardised
    chance = probability(logits)
    curve = np.maximum(chance * (1.0 - chance), 1.0 / CURVE_UNIT)
    working = logits + ((np.asarray(y) > 0) - chance) / curve
    return leave_group_out(rows, np.asarray(w, dtype=np.float64) * curve, working, groups, fit.inverse, standardised)
