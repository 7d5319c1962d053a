"""The model of a trial: ridge regression on standardised features, with exact leave-group-out scores.

Two classes: targets -1 and +1, one output. More classes: one output per class (one against the rest), all from the same
Gram matrix. Leaving group B out needs no second fit: e_B = (I - H_BB)^-1 (y_B - yhat_B), with the hat matrix H (Cook and
Weisberg, 1982). Unfamiliarity of an image is the quadratic form z' (Z'Z + lambda I)^-1 z: its leverage, had it been learned
from; for a record i that was, the same form without it is H_ii / (1 - H_ii).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
LAMBDAS = tuple(float(v) for v in np.logspace(0.0, 5.0, 21))
DEVIATION_MIN = 1.0
FAMILIAR_SHARE = 0.98


@dataclass(frozen=True)
class Scored:
    """Out-of-sample view of n images. outputs: (n, 1) or (n, classes). verdict: (n,) class index. margin: (n,), 0 = undecided.

    familiar: (n,) whether the image looks like what the model learned from. unfamiliarity: (n,).
    """

    outputs: Reals
    verdict: Integers
    margin: Reals
    familiar: Flags
    unfamiliarity: Reals


class TrialModel:
    """Learns from features (n, d), class indices (n,) and group numbers (n,). `own` holds the leave-group-out scores of these n."""

    def __init__(self, features: Reals, classes: Integers, groups: Integers, class_count: int) -> None:
        self.class_count = class_count
        self._mean = features.mean(axis=0)
        self._deviation = np.maximum(features.std(axis=0), DEVIATION_MIN)
        z = self._standardised(features)
        targets = _targets(classes, class_count)
        self._intercept = targets.mean(axis=0)
        u, s, vt = np.linalg.svd(z, full_matrices=False)
        keep = s > s.max(initial=0.0) * 1e-9
        self._u, self._s, self._v = u[:, keep], s[keep], vt[keep].T
        self._n = len(z)
        blocks = _blocks(groups)
        loo = {penalty: self._left_out(targets, blocks, penalty) for penalty in LAMBDAS}
        self.penalty = min(LAMBDAS, key=lambda penalty: float(np.mean((targets - loo[penalty][0]) ** 2)))
        outputs, unfamiliarity = loo[self.penalty]
        self._unfamiliarity_max = float(np.quantile(unfamiliarity, FAMILIAR_SHARE, method="higher"))
        centred = (targets - self._intercept).T @ self._u
        self._weights = self._v @ (centred * (self._s / (self._s**2 + self.penalty))).T
        self.zero = boundary(outputs[:, 0], classes) if class_count == 2 else 0.0
        self.own = self._scored(outputs, unfamiliarity)

    def linear(self) -> tuple[Reals, float]:
        """(coefficients on raw features (d,), bias) of a two-class model: its output is bias + coefficients . features."""
        coefficients: Reals = self._weights[:, 0] / self._deviation
        return coefficients, float(self._intercept[0] - coefficients @ self._mean) - self.zero

    def _standardised(self, features: Reals) -> Reals:
        result: Reals = (features - self._mean) / self._deviation
        return result

    def _left_out(self, targets: Reals, blocks: list[Integers], penalty: float) -> tuple[Reals, Reals]:
        """(outputs (n, k), unfamiliarity (n,)) of every record with its whole group left out."""
        shrink = self._s**2 / (self._s**2 + penalty)
        fitted = self._intercept + self._u @ ((self._u.T @ (targets - self._intercept)) * shrink[:, None])
        residual = targets - fitted
        diagonal = 1.0 / self._n + (self._u**2) @ shrink
        leave = np.maximum(1.0 - diagonal, 1e-9)
        outputs, unfamiliarity = targets - residual / leave[:, None], diagonal / leave
        for rows in blocks:
            hat = 1.0 / self._n + (self._u[rows] * shrink) @ self._u[rows].T
            rest = np.eye(len(rows)) - hat + 1e-9 * np.eye(len(rows))
            outputs[rows] = targets[rows] - np.linalg.solve(rest, residual[rows])
            unfamiliarity[rows] = np.diag(np.linalg.solve(rest, hat))
        return outputs, unfamiliarity

    def score(self, features: Reals) -> Scored:
        """Scores images that the model has not learned from; features: (n, d)."""
        z = self._standardised(features)
        along = z @ self._v
        inside = (along**2) @ (1.0 / (self._s**2 + self.penalty))
        outside = np.maximum((z**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / self.penalty
        return self._scored(self._intercept + z @ self._weights, 1.0 / self._n + inside + outside)

    def _scored(self, outputs: Reals, unfamiliarity: Reals) -> Scored:
        familiar = unfamiliarity <= self._unfamiliarity_max
        if self.class_count == 2:
            centred = outputs - self.zero
            return Scored(centred, (centred[:, 0] > 0).astype(np.int64), np.abs(centred[:, 0]), familiar, unfamiliarity)
        top = np.sort(outputs, axis=1)
        return Scored(outputs, outputs.argmax(axis=1).astype(np.int64), top[:, -1] - top[:, -2], familiar, unfamiliarity)


def _blocks(groups: Integers) -> list[Integers]:
    """Rows of each group that has more than one."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [rows for rows in parts if len(rows) > 1]


def _targets(classes: Integers, class_count: int) -> Reals:
    if class_count == 2:
        return np.where(classes == 1, 1.0, -1.0)[:, None]
    return np.where(classes[:, None] == np.arange(class_count)[None, :], 1.0, -1.0)


def logistic(x: Reals, positive: Flags) -> tuple[float, float]:
    """(intercept, slope) of a logistic regression on one variable, with Platt's (1999) smoothed targets; Newton steps, slight ridge."""
    ones = int(positive.sum())
    zeros = len(x) - ones
    target = np.where(positive, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    design = np.stack([np.ones_like(x), x], axis=1)
    coefficients = np.zeros(2)
    for _ in range(50):
        p = sigmoid(design @ coefficients)
        hessian = (design.T * (p * (1 - p))) @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (target - p) - 1e-6 * coefficients)
        coefficients = coefficients + np.clip(step, -5, 5)
        if float(np.abs(step).max()) < 1e-7:
            break
    return float(coefficients[0]), float(coefficients[1])


def sigmoid(x: Reals) -> Reals:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30, 30))))


def boundary(scores: Reals, classes: Integers) -> float:
    """The score at which both classes are equally likely; the middle of the class means when there is no such score among these."""
    intercept, slope = logistic(scores, classes == 1)
    middle = float((scores[classes == 1].mean() + scores[classes == 0].mean()) / 2)
    if slope <= 1e-6:
        return middle
    zero = -intercept / slope
    return zero if scores.min() <= zero <= scores.max() else middle
