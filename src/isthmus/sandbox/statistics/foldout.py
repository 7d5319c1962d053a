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
from isthmus.contracts.statistic import Candidate, ClustersParams, FoldOutParams
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, SCORE_LIMIT, FoldOut, GroupSums, Moments, score_bins
from isthmus.kit.hatmatrix import Floats, scaled_products
from isthmus.kit.logits import scores_of
from isthmus.sandbox.statistics.folds import Fold, each_left_out
from isthmus.sandbox.statistics.irls import logistic_fold
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.records import GroupTally, Ints, Records, Training, sums_by_group

RESIDUAL_MAX = 1024.0
SCALE_FLOOR = 1.0


def ridge_folds(training: Training, fits: list[tuple[float, float, Floats]], total_weight: int) -> list[Fold]:
    """What leaves each group out of each fit (penalty, bias, coefficients). The owner's own products come from exact whole numbers, so that
    they are the same in whichever chunks the rows came.

    Raises RefusedError when a candidate is not a fit of a total that these records are part of.
    """
    d, own = training.dimension, moments(training)
    for penalty, bias, coefficients in fits:
        if coefficients.shape != (d,) or not np.isfinite(bias) or not 0 < penalty < np.inf:
            raise RefusedError("parameters", f"a candidate is no fit of {d} features", "send the total's fit")
    if total_weight < own.sum_w:
        raise RefusedError("parameters", "the roster's weight is less than this owner's", "send the total's weight")
    mean, centred = centred_products(own)
    scale = np.maximum(np.sqrt(np.maximum(np.diag(centred) / own.sum_w, 0.0)), SCALE_FLOOR)
    products = np.zeros((d + 1, d + 1))
    products[0, 0], products[1:, 1:] = own.sum_w, centred / np.outer(scale, scale)
    folds = []
    for penalty, bias, coefficients in fits:
        inverse = scaled_products(products, float(own.sum_w), penalty, float(total_weight))
        folds.append(Fold(mean, scale, inverse, np.concatenate([[bias + float(coefficients @ mean)], coefficients * scale])))
    return folds


def centred_products(own: Moments) -> tuple[Floats, Floats]:
    """(mean (d,), sum of w (q - mean)(q - mean)^T (d, d)). Shifted by whole numbers first, which is exact, so that nothing cancels."""
    mean = own.sum_wx / own.sum_w
    centre = np.rint(mean).astype(np.int64)
    shifted = own.sum_wx - own.sum_w * centre
    cross = np.outer(centre, own.sum_wx)
    products = own.gram - cross - cross.T + own.sum_w * np.outer(centre, centre)
    rest = np.outer(shifted, shifted.astype(np.float64) / own.sum_w)
    return mean, np.asarray(products - rest, dtype=np.float64)


def fold_out_scores(training: Training, penalty: float, bias: float, coefficients: Floats, total_weight: int) -> Floats:
    """(n,) scores of the identity view, each as by the fit that saw no view of any record of its group.

    Raises RefusedError when the candidate is not a fit of a total that these records are part of.
    """
    return ridge_folds(training, [(penalty, bias, coefficients)], total_weight)[0].gathered(training)


def candidate_folds(training: Training, candidates: tuple[Candidate, ...], total_weight: int) -> list[Fold]:
    """A fold of each candidate document, in order. Raises RefusedError."""
    ridge = [(c.penalty, c.bias, c.coefficients.array()) for c in candidates if c.working is None]
    known = iter(ridge_folds(training, ridge, total_weight) if ridge else [])
    return [next(known) if c.working is None else logistic_fold(training, c, c.working, total_weight) for c in candidates]


def told(candidate: Candidate, found: Floats) -> Floats:
    """The scores that a fold's numbers are: of a logistic candidate, which gives logits, by its link."""
    return found if candidate.working is None else scores_of(found)


def candidate_scores(training: Training, candidate: Candidate, total_weight: int) -> Floats:
    """`fold_out_scores` of a candidate document; of a logistic one, the scores of its logits."""
    return told(candidate, candidate_folds(training, (candidate,), total_weight)[0].gathered(training))


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


def foldout(training: Training, params: FoldOutParams) -> FoldOut:
    """One row of loss and histograms a candidate; zeros where histograms are not told."""
    candidates = params.candidates
    folds = candidate_folds(training, candidates, params.total_weight)
    sum_w, loss, counted = 0, np.zeros(len(folds), dtype=np.int64), np.zeros((len(folds), 2, SCORE_BINS), dtype=np.int64)
    for block, found in each_left_out(training, folds):
        y, w = block.training.records.y, block.training.w
        scores = [told(candidate, one) for candidate, one in zip(candidates, found, strict=True)]
        sum_w += int(w.sum())
        loss += [weighted_loss(_aimed(s, c), y, w) for s, c in zip(scores, candidates, strict=True)]
        if params.histograms:
            counted += np.stack([score_histogram(s, y) for s in scores])
    return FoldOut(sum_w, loss, counted)


def verdicts(scores: Floats, lo: float, hi: float) -> Ints:
    """-1 good (score <= lo), +1 defect (score >= hi, which wins at lo = hi), 0 a person decides (also for no number)."""
    return np.where(scores >= hi, 1, np.where(scores <= lo, -1, 0)).astype(np.int64)


def group_sums(answered: NDArray[np.bool_], wrong: NDArray[np.bool_], groups: Ints) -> GroupSums:
    """Sums over groups with at least one answered record."""
    if answered.size == 0:
        return GroupSums(0, 0, 0, 0, 0, 0)
    a, e = sums_by_group(answered, groups), sums_by_group(answered & wrong, groups)
    return GroupSums(int((a > 0).sum()), int(a.sum()), int(e.sum()), int((a * a).sum()), int((e * e).sum()), int((a * e).sum()))


def tally_of(answered: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Ints:
    """(n, 2) what a GroupTally takes: answered, and wrong among them."""
    return np.stack([answered, answered & wrong], axis=1).astype(np.int64)


def tallied(tally: GroupTally) -> GroupSums:
    """Sums over groups with at least one answered record, of a tally of `tally_of`."""
    done = tally.finish()
    (aa, ae), (_, ee) = done.products.tolist()
    return GroupSums(int(done.present[0]), int(done.totals[0]), int(done.totals[1]), aa, ee, ae)


def clusters(records: Records, scores: Floats, lo: float, hi: float) -> GroupSums:
    """Answered and wrong verdicts by group."""
    found = verdicts(scores, lo, hi)
    return group_sums(found != 0, found != records.y, records.groups)


def foldout_clusters(training: Training, params: ClustersParams) -> GroupSums:
    """`clusters` of the fold-out scores of a candidate."""
    fold = candidate_folds(training, (params.candidate,), params.total_weight)
    tally = GroupTally(2, contiguous=True)  # parts hold whole groups
    for block, (found,) in each_left_out(training, fold):
        records = block.training.records
        said = verdicts(told(params.candidate, found), params.lo, params.hi)
        tally.add(tally_of(said != 0, said != records.y), records.groups)
    return tallied(tally)
