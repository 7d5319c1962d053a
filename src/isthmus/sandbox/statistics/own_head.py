"""own-head/1: the owner's own ridge fit, chosen by its own leave-one-group-out loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.sums import Moments
from isthmus.kit.hatmatrix import Floats, design, leave_group_out
from isthmus.sandbox.statistics.foldout import weighted_loss
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.records import TrainingRecords

VARIANCE_FLOOR = 1.0


@dataclass(frozen=True)
class Fit:
    """A ridge fit over standardised features, intercept first and not penalised."""

    mean: Floats
    scale: Floats
    inverse: Floats
    coefficients: Floats

    def raw(self) -> Floats:
        """(bias, coefficients on raw q...): (d + 1,)."""
        slopes = self.coefficients[1:] / self.scale
        return np.concatenate([[self.coefficients[0] - slopes @ self.mean], slopes])


def fit(total: Moments, penalty: float) -> Fit:
    """Minimises sum w (y - score)^2 + penalty * sum_w * |slopes|^2 over standardised features.

    A feature's variance counts as at least VARIANCE_FLOOR, in squared quanta.
    """
    d, sum_w = total.dimension, float(total.sum_w)
    mean = total.sum_wx / sum_w
    centred = total.gram - np.outer(total.sum_wx / sum_w, total.sum_wx)
    scale = np.asarray(np.sqrt(np.maximum(np.diag(centred) / sum_w, VARIANCE_FLOOR)), dtype=np.float64)
    normal = np.zeros((d + 1, d + 1))
    normal[0, 0] = sum_w
    normal[1:, 1:] = centred / np.outer(scale, scale) + penalty * sum_w * np.eye(d)
    target = np.concatenate([[float(total.sum_wy)], (total.sum_wyx - mean * total.sum_wy) / scale])
    try:
        inverse = np.linalg.inv(normal)
    except np.linalg.LinAlgError as error:
        raise RefusedError("parameters", f"a fit with penalty {penalty} has no solution", "use a larger penalty") from error
    return Fit(mean, scale, np.asarray(inverse, dtype=np.float64), np.asarray(inverse @ target, dtype=np.float64))


def _left_out(training: TrainingRecords, found: Fit) -> Floats:
    """(n,) exact leave-one-group-out scores of the identity view: here the rows are all there is."""
    q, y, w, groups = training.stacked()
    scores = leave_group_out(design(q, found.mean, found.scale), w, y, groups, found.inverse, found.coefficients)
    return scores[: training.records.size]


def own_head(training: TrainingRecords, penalties: tuple[float, ...]) -> Floats:
    """(bias, coefficients on raw q...): (d + 1,) float64, of the penalty with the least leave-one-group-out loss."""
    y = training.records.y
    if np.unique(y).size < 2:
        raise RefusedError("records", "the training records have one class only", "label records of both classes")
    if np.unique(training.records.groups).size < 2:
        raise RefusedError("records", "the training records are of one group, so that nothing can be left out", "give two groups or more")
    total = moments(training)
    fits = [fit(total, penalty) for penalty in penalties]
    try:
        losses = [weighted_loss(_left_out(training, f), y, training.w) for f in fits]
    except InputError as error:
        raise RefusedError("records", error.message, error.next_step) from error
    return fits[int(np.argmin(losses))].raw()
