"""foldout/1 and clusters/1: performance on groups left out, exactly, from the total's fit alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.statistic import Candidate
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, FoldOut, GroupSums, score_bins
from isthmus.kit.hatmatrix import Floats, design, leave_group_out
from isthmus.sandbox.statistics.records import Ints, Records, TrainingRecords, sums_by_group

RESIDUAL_MAX = 1024.0


def fold_out_scores(training: TrainingRecords, mean: Floats, scale: Floats, inverse: Floats, coefficients: Floats) -> Floats:
    """(n,) scores of the identity view, each by the fit that saw no view of any record of its group.

    Raises RefusedError when the candidate is not a fit of a total that these records are part of.
    """
    d = training.dimension
    if mean.shape != (d,) or scale.shape != (d,) or inverse.shape != (d + 1, d + 1) or coefficients.shape != (d + 1,):
        raise RefusedError("parameters", f"a candidate has not the shapes of {d} features", "send the total's fit")
    if not bool((scale > 0).all()):
        raise RefusedError("parameters", "a candidate's scale is not positive", "send the total's fit")
    q, y, w, groups = training.stacked()
    scores = leave_group_out(design(q, mean, scale), w, y, groups, inverse, coefficients)
    return scores[: training.records.size]


def candidate_scores(training: TrainingRecords, candidate: Candidate) -> Floats:
    """`fold_out_scores` of a candidate document."""
    return fold_out_scores(
        training, candidate.mean.array(), candidate.scale.array(), candidate.inverse.array(), candidate.coefficients.array()
    )


def weighted_loss(scores: Floats, y: Ints, w: Ints) -> int:
    """Sum of w (y - score)^2 in units of 1 / LOSS_UNIT; a residual counts as at most RESIDUAL_MAX."""
    residuals = np.clip(y - scores, -RESIDUAL_MAX, RESIDUAL_MAX)
    return int((w * np.rint(residuals**2 * LOSS_UNIT).astype(np.int64)).sum())


def score_histogram(scores: Floats, y: Ints, bins: int = SCORE_BINS) -> Ints:
    """(2, bins) unweighted counts by class."""
    places = score_bins(scores, bins)
    return np.stack([np.bincount(places[y == label], minlength=bins) for label in (-1, 1)]).astype(np.int64)


def foldout(training: TrainingRecords, candidates: tuple[Candidate, ...]) -> FoldOut:
    """One row of loss and histograms a candidate."""
    y, w = training.records.y, training.w
    scores = [candidate_scores(training, candidate) for candidate in candidates]
    loss = np.array([weighted_loss(s, y, w) for s in scores], dtype=np.int64)
    return FoldOut(int(w.sum()), loss, np.stack([score_histogram(s, y) for s in scores]))


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
