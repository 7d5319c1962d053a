"""irls/1: one round of a logistic fit over the owner's rows; and fold-out logits, as `foldout` finds scores of a ridge fit.

The coefficients that a round is asked at are chosen by whoever asks, and they weigh the records by p (1 - p). `effective_records` says what
that leaves; terms.check_effective holds it against the agreement.
"""

from __future__ import annotations

import numpy as np

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.logistic import LogisticSums, logistic_units
from isthmus.contracts.statistic import Candidate, IrlsParams, Working
from isthmus.kit.hatmatrix import Floats, design, leave_group_out, matched_inverse
from isthmus.kit.logits import curvature, effective_share, logistic_sums, probability, working_rows
from isthmus.sandbox.statistics.records import TrainingRecords

SCALE_FLOOR = 1.0


def irls(training: TrainingRecords, params: IrlsParams) -> LogisticSums:
    """The owner's share of a round. Raises RefusedError when it does not fit these records."""
    q, y, w, _ = training.stacked()
    _check_weight(int(w.sum()), params.total_weight)
    try:
        return logistic_sums(q, w, y, params.coefficients.array(), logistic_units(params.total_weight))
    except InputError as error:
        raise RefusedError("parameters", error.message, error.next_step) from error


def effective_records(training: TrainingRecords, coefficients: Floats) -> float:
    """How many of the owner's records the weights w p (1 - p) leave (kit.logits.effective_share); a record's views count together."""
    q, _, w, _ = training.stacked()
    if coefficients.shape != (training.dimension + 1,):
        raise RefusedError("parameters", f"{coefficients.shape} coefficients for {training.dimension} features", "send the round's own")
    weights = w * curvature(probability(coefficients[0] + q.astype(np.float64) @ coefficients[1:]))
    return effective_share(weights.reshape(len(training.views), -1).sum(axis=0)) * training.records.size


def fold_out_logits(training: TrainingRecords, candidate: Candidate, working: Working, total_weight: int) -> Floats:
    """(n,) logits of the identity view, each as by one step of Newton's method that saw no view of any record of its group.

    What the others add to the curvature is estimated from the fit's effective number of parameters (kit.hatmatrix.matched_inverse).
    Raises RefusedError when the candidate is not a fit of a total that these records are part of.
    """
    d = training.dimension
    q, y, w, groups = training.stacked()
    found, at = candidate.coefficients.array(), working.coefficients.array()
    right = found.shape == (d,) and at.shape == (d + 1,) and np.isfinite(candidate.bias) and 0 < candidate.penalty < np.inf
    if not right or not 0 < working.weight < np.inf or not 0 < working.freedom <= d + 1:
        raise RefusedError("parameters", f"a candidate is no logistic fit of {d} features", "send the total's fit")
    _check_weight(int(w.sum()), total_weight)
    if total_weight == int(w.sum()) and np.unique(groups).size < 2:
        raise RefusedError("records", "leaving one group out leaves nothing to fit on", "give records of at least two groups")
    rows = q.astype(np.float64)
    curve, response = working_rows(at[0] + rows @ at[1:], y)
    weights = w * curve
    total = max(working.weight, float(weights.sum()))
    mean, plain = (weights @ rows) / weights.sum(), (w @ rows) / w.sum()
    scale = np.maximum(np.sqrt(np.maximum((w @ rows**2) / w.sum() - plain**2, 0.0)), SCALE_FLOOR)
    z = design(q, mean, scale)
    turned = np.concatenate([[candidate.bias + float(found @ mean)], found * scale])
    inverse = matched_inverse(z, weights, candidate.penalty * total_weight, total, working.freedom)
    return leave_group_out(z, weights, response, groups, inverse, turned)[: training.records.size]


def _check_weight(own: int, total: int) -> None:
    if total < own:
        raise RefusedError("parameters", "the roster's weight is less than this owner's", "send the total's weight")
