"""irls/1: one round of a logistic fit over the owner's rows; and fold-out logits, as `foldout` finds scores of a ridge fit.

The coefficients that a round is asked at are chosen by whoever asks, and they weigh the records by p (1 - p). `effective_records` says what
that leaves; terms.check_effective holds it against the agreement.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.logistic import LogisticSums, logistic_units
from isthmus.contracts.statistic import Candidate, IrlsParams, Working
from isthmus.kit.hatmatrix import Floats, design, matched_products
from isthmus.kit.logits import curvature, logistic_sums, probability, working_rows
from isthmus.sandbox.statistics.folds import Fold
from isthmus.sandbox.statistics.records import Ints, Training

SCALE_FLOOR = 1.0


def irls(training: Training, params: IrlsParams) -> LogisticSums:
    """The owner's share of a round. Raises RefusedError when it does not fit these records."""
    units, total = logistic_units(params.total_weight), None
    try:
        for chunk in training.chunks():
            q, y, w, _ = chunk.stacked()
            found = logistic_sums(q, w, y, params.coefficients.array(), units)
            total = found if total is None else _added(total, found)
    except InputError as error:
        raise RefusedError("parameters", error.message, error.next_step) from error
    if total is None:
        raise RefusedError("records", "there are no training records here", "give records to learn from")
    _check_weight(total.sum_w, params.total_weight)
    return total


def _added(one: LogisticSums, other: LogisticSums) -> LogisticSums:
    return LogisticSums(one.sum_w + other.sum_w, one.loss + other.loss, one.slope + other.slope, one.curve + other.curve, one.units)


def effective_records(training: Training, coefficients: Floats) -> float:
    """How many of the owner's records the weights w p (1 - p) leave (kit.logits.effective_share); a record's views count together."""
    if coefficients.shape != (training.dimension + 1,):
        raise RefusedError("parameters", f"{coefficients.shape} coefficients for {training.dimension} features", "send the round's own")
    total = squares = 0.0
    for chunk in training.chunks():
        q, _, w, _ = chunk.stacked()
        weights = w * curvature(probability(coefficients[0] + q.astype(np.float64) @ coefficients[1:]))
        of_record = weights.reshape(len(chunk.views), -1).sum(axis=0)
        total, squares = total + float(of_record.sum()), squares + float((of_record**2).sum())
    return total**2 / squares if squares > 0 else 0.0


def logistic_fold(training: Training, candidate: Candidate, working: Working, total_weight: int) -> Fold:
    """What leaves each group out of one step of Newton's method: logits as by a step that saw no view of any record of the group.

    What the others add to the curvature is estimated from the fit's effective number of parameters (kit.hatmatrix.matched_products).
    Raises RefusedError when the candidate is not a fit of a total that these records are part of.
    """
    d = training.dimension
    found, at = candidate.coefficients.array(), working.coefficients.array()
    right = found.shape == (d,) and at.shape == (d + 1,) and np.isfinite(candidate.bias) and 0 < candidate.penalty < np.inf
    if not right or not 0 < working.weight < np.inf or not 0 < working.freedom <= d + 1:
        raise RefusedError("parameters", f"a candidate is no logistic fit of {d} features", "send the total's fit")

    def working_of(q: NDArray[Any], y: Ints, w: Ints) -> tuple[Floats, Floats]:
        curve, response = working_rows(at[0] + q.astype(np.float64) @ at[1:], y)
        return w * curve, response

    own_w, first, second, curve_w, curve_first = 0, np.zeros(d), np.zeros(d), 0.0, np.zeros(d)
    for chunk in training.chunks():
        q, y, w, _ = chunk.stacked()
        rows, (weights, _) = q.astype(np.float64), working_of(q, y, w)
        own_w, first, second = own_w + int(w.sum()), first + w @ rows, second + w @ rows**2
        curve_w, curve_first = curve_w + float(weights.sum()), curve_first + weights @ rows
    _check_weight(own_w, total_weight)
    if total_weight == own_w and len(training.group_list) < 2:
        raise RefusedError("records", "leaving one group out leaves nothing to fit on", "give records of at least two groups")
    mean, plain = curve_first / curve_w, first / own_w
    scale = np.maximum(np.sqrt(np.maximum(second / own_w - plain**2, 0.0)), SCALE_FLOOR)
    products = np.zeros((d, d))
    for chunk in training.chunks():
        q, y, w, _ = chunk.stacked()
        z = design(q, mean, scale)[:, 1:]
        products += (z * working_of(q, y, w)[0][:, None]).T @ z
    turned = np.concatenate([[candidate.bias + float(found @ mean)], found * scale])
    total = max(working.weight, curve_w)
    inverse = matched_products(products, curve_w, candidate.penalty * total_weight, total, working.freedom)
    return Fold(mean, scale, inverse, turned, working_of)


def fold_out_logits(training: Training, candidate: Candidate, working: Working, total_weight: int) -> Floats:
    """(n,) logits of the identity view by `logistic_fold`."""
    return logistic_fold(training, candidate, working, total_weight).gathered(training)


def _check_weight(own: int, total: int) -> None:
    if total < own:
        raise RefusedError("parameters", "the roster's weight is less than this owner's", "send the total's weight")
