"""foldout/2 and clusters/2: performance on groups left out, without a second fit and without sight of the others' sums.

The exact leave-group-out identity (kit.hatmatrix) needs the inverse of the roster's Gram matrix. A roster member that held it could
subtract its own share and attack the rest (bench/leak.py: far the strongest sight of all), so it is not sent. A node knows the fit's
coefficients, the roster's total weight, and its own Gram matrix, and estimates the roster's from them (kit.hatmatrix.scaled_inverse).
bench/elpv.py prints how far the fold-out loss so found is from the exact one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.statistic import Candidate, FoldOutParams
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, SCORE_LIMIT, FoldOut, GroupSums, score_bins
from isthmus.kit.hatmatrix import Floats, design, leave_group_out, scaled_inverse
from isthmus.kit.logits import scores_of
from isthmus.sandbox.statistics.irls import fold_out_logits
from isthmus.sandbox.statistics.records import Ints, Records, TrainingRecords, sums_by_group

RESIDUAL_MAX = 1024.0
SCALE_FLOOR = 1.0


def fold_out_scores(training: TrainingRecords, penalty: float, bias: float, coefficients: Floats, total_weight: int) -> Floats:
    """(n,) scores of the identity view, each as by the fit that saw no view of any record of its group.

    Raises RefusedError when the candidate is not a fit of a total that these records are part of.
    """
    d = training.dimension
    q, y, w, groups = training.stacked()
    if coefficients.shape != (d,) or not np.isfinite(bias) or not 0 < penalty < np.inf:
        raise RefusedError("parameters", f"a candidate is no fit of {d} features", "send the total's fit")
    if total_weight < int(w.sum()):
        raise RefusedError("parameters", "the roster's weight is less than this owner's", "send the total's weight")
    mean = (w @ q) / w.sum()
    scale = np.maximum(np.sqrt(np.maximum((w @ q.astype(np.float64) ** 2) / w.sum() - mean**2, 0.0)), SCALE_FLOOR)
    z = design(q, mean, scale)
    turned = np.concatenate([[bias + float(coefficients @ mean)], coefficients * scale])
    scores = leave_group_out(z, w, y, groups, scaled_inverse(z, w, penalty, float(total_weight)), turned)
    return scores[: training.records.size]


def candidate_scores(training: TrainingRecords, candidate: Candidate, total_weight: int) -> Floats:
    """`fold_out_scores` of a candidate document; of a logistic one, the scores of its logits."""
    if candidate.working is not None:
        return scores_of(fold_out_logits(training, candidate, candidate.working, total_weight))
    return fold_out_scores(training, candidate.penalty, candidate.bias, candidate.coefficients.array(), total_weight)


def weighted_loss(scores: Floats, y: Ints, w: Ints) -> int:
    """Sum of w (y - score)^2 in units of 1 / LOSS_UNIT; a residual counts as at most RESIDUAL_MAX."""
    residuals = np.clip(y - scores, -RESIDUAL_MAX, RESIDUAL_MAX)
    return int((w * np.rint(residuals**2 * LOSS_UNIT).astype(np.int64)).sum())


def score_histogram(scores: Floats, y: Ints, bins: int = SCORE_BINS) -> Ints:
    """(2, bins) unweighted counts by class."""
    places = score_bins(scores, bins)
    return np.stack([np.bincount(places[y == label], minlength=bins) for label in (-1, 1)]).astype(np.int64)


def _aimed(scores: Floats, candidate: Candidate) -> Floats:
    """Scores that aim at -1 and +1: a logistic candidate's 4 p - 2 as 2 p - 1, so that its loss is four times Brier's."""
    return scores if candidate.working is None else scores / SCORE_LIMIT


def foldout(training: TrainingRecords, params: FoldOutParams) -> FoldOut:
    """One row of loss and histograms a candidate; zeros where histograms are not told."""
    y, w = training.records.y, training.w
    scores = [candidate_scores(training, candidate, params.total_weight) for candidate in params.candidates]
    loss = np.array([weighted_loss(_aimed(s, c), y, w) for s, c in zip(scores, params.candidates, strict=True)], dtype=np.int64)
    counted = np.stack([score_histogram(s, y) for s in scores])
    return FoldOut(int(w.sum()), loss, counted if params.histograms else np.zeros_like(counted))


def verdicts(scores: Floats, lo: float, hi: float) -> Ints:
    """-1 good (score <= lo), +1 defect (score >= hi, which wins at lo = hi), 0 a person decides (also for no number)."""
    return np.where(scores >= hi, 1, np.where(scores <= lo, -1, 0)).astype(np.int64)


def group_sums(answered: NDArray[np.bool_], wrong: NDArray[np.bool_], groups: Ints) -> GroupSums:
    """Sums over groups with at least one answered record."""
    if answered.size == 0:
        return GroupSums(0, 0, 0, 0, 0, 0)
    a, e = sums_by_group(answered, groups), sums_by_group(answered & wrong, groups)
    return GroupSums(int((a > 0).sum()), int(a.sum()), int(e.sum()), int((a * a).sum()), int((e * e).sum()), int((a * e).sum()))


def clusters(records: Records, scores: Floats, lo: float, hi: float) -> GroupSums:
    """Answered and wrong fold-out verdicts by group."""
    found = verdicts(scores, lo, hi)
    return group_sums(found != 0, found != records.y, records.groups)
