"""Chooses the penalty and the abstention thresholds from fold-out sums; test data chooses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, SCORE_LIMIT, FoldOut, Ints, Moments, bin_edge, score_bins
from isthmus.foundry.ridge import LAMBDAS, Candidate, candidates
from isthmus.kit.hatmatrix import design, leave_group_out

NEVER = 1e6
EXACT_WEIGHT_MAX = 1 << 22
BIN_WIDTH = 2 * SCORE_LIMIT / SCORE_BINS
Floats = NDArray[np.float64]


class ErrorBound(Protocol):
    """Assurance's upper confidence bound on an error rate, elementwise; the confidence is already inside."""

    def __call__(self, errors: Floats, n: Floats, design_effect: float, groups: int) -> Floats: ...


@dataclass(frozen=True, kw_only=True)
class ThresholdPlan:
    """What the thresholds should be able to prove on held-out records that nobody has seen yet.

    bar: greatest error rate among answered. records, groups, design_effect: of the planned held-out part. power: wanted
    chance that the bound holds there; the fold-out rate is raised by the normal quantile of `power` times the standard error of
    (held-out rate - fold-out rate), both inflated by the design effect. recall_min, specificity_min: lower bounds wanted among
    answered defects and answered good; 0 asks for none.
    """

    bar: float
    records: int
    groups: int
    design_effect: float
    bound: ErrorBound
    power: float = 0.8
    recall_min: float = 0.0
    specificity_min: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """score <= lo: good; score >= hi: defect; between: a person. share: answered, error_rate: errors among answered, both on
    fold-out scores. predicted_bound: the error bound expected to be proven. reached: whether the plan's goals are met;
    note: one sentence when not."""

    lo: float
    hi: float
    share: float
    error_rate: float
    predicted_bound: float
    reached: bool
    note: str = ""


def choose_lambda(foldout: FoldOut, lambdas: Sequence[float]) -> int:
    """Index of the least fold-out loss; ties go to the larger lambda."""
    if len(lambdas) != foldout.loss.shape[0] or not lambdas:
        raise InputError(f"{len(lambdas)} penalties and {foldout.loss.shape[0]} losses do not belong together", "ask for the sums again")
    return min(range(len(lambdas)), key=lambda i: (int(foldout.loss[i]), -lambdas[i]))


def _edge(index: int) -> float:
    """A bin's lower edge as a threshold; the ends mean never, since end bins also count what lies beyond them."""
    return -NEVER if index == 0 else NEVER if index == SCORE_BINS else bin_edge(index)


def _predicted(plan: ThresholdPlan, errors: Floats, answered: Floats, total: float) -> Floats:
    """The bound that held-out records would prove, for fold-out counts of errors among answered (arrays of one shape)."""
    planned = np.maximum(answered * (plan.records / total), 1e-9)
    rate = errors / np.maximum(answered, 1.0)
    smooth = (errors + 0.5) / (answered + 1.0)
    spread = np.sqrt(smooth * (1.0 - smooth) * plan.design_effect * (1.0 / planned + 1.0 / np.maximum(answered, 1.0)))
    worse = np.clip(rate + float(ndtri(plan.power)) * spread, 0.0, 1.0)
    bound = np.asarray(plan.bound(worse * planned, planned, plan.design_effect, plan.groups), dtype=np.float64)
    return np.where(answered > 0, bound, 1.0)


def _family(below: Floats) -> tuple[Ints, Ints]:
    """(lo edges, hi edges) of the one-parameter family, tightest first.

    below: (2, SCORE_BINS + 1) counts under each edge. For a rate alpha, lo is the highest edge under which at most alpha are defects, hi
    the lowest edge from which at most alpha are good. One parameter instead of two leaves less room for edges that were merely
    lucky on the fold-out scores.
    """
    above = below[:, -1:] - below
    with np.errstate(invalid="ignore", divide="ignore"):
        missed = np.nan_to_num(below[1] / below.sum(axis=0), nan=0.0)
        false_alarms = np.nan_to_num(above[0] / above.sum(axis=0), nan=0.0)
    rates = np.unique(np.concatenate([missed, false_alarms]))
    lows = np.array([int(np.flatnonzero(missed <= rate)[-1]) for rate in rates])
    highs = np.array([int(np.flatnonzero(false_alarms <= rate)[0]) for rate in rates])
    crossed = lows > highs
    middle = (lows + highs) // 2
    return np.where(crossed, middle, lows), np.where(crossed, middle, highs)


def smoothed(histogram: Ints) -> Floats:
    """(2, SCORE_BINS) counts of few scores, each spread by a Gaussian over its class's neighbouring bins; the sums stay.

    Thresholds chosen on some dozens of scores lie just where these few happened not to err. One width for both classes, so that neither's
    tail is drawn out more than the other's: the normal reference rule, Silverman, "Density Estimation" (1986), equation 3.28, with the
    spread within classes and the mean size of a class. None where there are fewer than four scores or no spread.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    middles = -SCORE_LIMIT + (np.arange(SCORE_BINS) + 0.5) * BIN_WIDTH
    sizes = counts.sum(axis=1)
    if sizes.sum() < 4:
        return counts
    means = (counts @ middles) / np.maximum(sizes, 1.0)
    squares = sum(float(row @ (middles - mean) ** 2) for row, mean in zip(counts, means, strict=True))
    width = 1.06 * np.sqrt(squares / (sizes.sum() - 2)) * (sizes.sum() / 2) ** -0.2 / BIN_WIDTH
    return np.asarray(ndimage.gaussian_filter1d(counts, width, axis=1, mode="reflect")) if width > 1e-6 else counts


def choose_thresholds(histogram: Ints | Floats, plan: ThresholdPlan) -> Thresholds:
    """The member of `_family` that answers the largest share while the predicted held-out bounds meet the plan.

    histogram: (2, SCORE_BINS) fold-out counts, or `smoothed` ones, class 0 good. Equal shares: fewer errors, then the wider gap. When no
    choice meets the plan, the one that misses it by least, with reached=False.
    """
    if histogram.shape != (2, SCORE_BINS) or float(histogram.sum()) <= 0 or float(histogram.min()) < 0:
        raise InputError("the histogram of fold-out scores is empty or of the wrong shape", "ask for the sums again")
    below = np.concatenate([np.zeros((2, 1)), np.cumsum(histogram, axis=1)], axis=1)
    total_good, total_defect = below[0, -1], below[1, -1]
    i, j = _family(below)
    missed, false_alarms = below[1, i], total_good - below[0, j]
    good, defect = below[0, i] + false_alarms, missed + total_defect - below[1, j]
    answered, errors, total = good + defect, missed + false_alarms, float(total_good + total_defect)
    bound = _predicted(plan, errors, answered, total)
    miss = bound - plan.bar
    if plan.recall_min > 0:
        miss = np.maximum(miss, _predicted(plan, missed, defect, total) - (1.0 - plan.recall_min))
    if plan.specificity_min > 0:
        miss = np.maximum(miss, _predicted(plan, false_alarms, good, total) - (1.0 - plan.specificity_min))
    holds = (miss <= 0) & (answered > 0)
    reached = bool(holds.any())
    if reached:
        best = int(np.lexsort((i - j, errors, -np.where(holds, answered, -1.0)))[0])
    else:
        best = int(np.lexsort((i - j, -answered, miss))[0])
    share = float(answered[best]) / total
    rate = float(errors[best]) / max(float(answered[best]), 1.0)
    note = "" if reached else _shortfall(plan, share, rate, float(bound[best]))
    return Thresholds(
        lo=_edge(int(i[best])),
        hi=_edge(int(j[best])),
        share=share,
        error_rate=rate,
        predicted_bound=float(bound[best]),
        reached=reached,
        note=note,
    )


LOOSE_SHARES = (0.3, 0.1)
"""Of good records: above which edges their clustering is looked at. At a threshold that is worth a promise hardly any good record lies
above, so nothing can be estimated there; and alarms come by groups, one odd lot raising most of them."""


def loose_edges(histogram: Ints | Floats) -> tuple[float, ...]:
    """The edge above which about each of LOOSE_SHARES of the good records lie."""
    good = np.asarray(histogram, dtype=np.float64)[0]
    above = good.sum() - np.concatenate([[0.0], np.cumsum(good)])
    return tuple(bin_edge(int(np.flatnonzero(above <= share * good.sum())[0])) for share in LOOSE_SHARES)


def choose_alarm_threshold(histogram: Ints | Floats, plan: ThresholdPlan, good_share: float) -> Thresholds:
    """From good records alone: the lowest edge above which so few of them lie that the planned held-out bound on false alarms is met.

    What lies above it goes to a person: nothing is known of defects, so nothing is called one. histogram: as in `choose_thresholds`; only
    class 0 is looked at. good_share: of the planned held-out records. share: of good records below. error_rate: of those above. When no
    edge meets the plan, the highest that any good record reaches, with reached=False.
    """
    good = np.asarray(histogram, dtype=np.float64)[0]
    if good.shape != (SCORE_BINS,) or float(good.sum()) <= 0 or float(good.min()) < 0:
        raise InputError("the histogram of fold-out scores holds no good record", "ask for the sums again")
    total = float(good.sum())
    above = total - np.concatenate([[0.0], np.cumsum(good)])
    planned = replace(plan, records=max(1, round(plan.records * good_share)))
    bound = _predicted(planned, above, np.full(SCORE_BINS + 1, total), total)
    meets = np.flatnonzero(bound[:-1] <= plan.bar)
    reached = meets.size > 0
    edge = int(meets[0]) if reached else int(np.flatnonzero(good)[-1]) + 1
    edge = min(edge, SCORE_BINS - 1)  # the last bin counts all that lies beyond it
    note = "" if reached else f"no threshold is expected to prove at most {plan.bar:.1%} false alarms on {planned.records} good records"
    share = float(above[edge]) / total
    return Thresholds(
        lo=bin_edge(edge), hi=NEVER, share=1.0 - share, error_rate=share, predicted_bound=float(bound[edge]), reached=reached, note=note
    )


def _shortfall(plan: ThresholdPlan, share: float, rate: float, bound: float) -> str:
    return (
        f"no thresholds are expected to prove an error of at most {plan.bar:.1%} on {plan.records} held-out records"
        f" in {plan.groups} groups; the nearest answer {share:.1%} at {rate:.1%} error, with {bound:.1%} provable"
    )


def moments_of(
    q: NDArray[np.int16], w: NDArray[Any], y: NDArray[Any], groups: NDArray[Any], records: int | None = None, span: int = 1
) -> Moments:
    """Exact Moments of rows in this process. q: (n, d); w: (n,) positive integers; y: (n,) in {-1, +1}, or integers in [-span, span];
    groups: (n,) labels.

    records: unweighted count of records when rows hold several views of each; default n.
    """
    weights, targets = np.asarray(w, dtype=np.int64), np.asarray(y, dtype=np.int64)
    rows = q.astype(np.int64)
    weighted = rows * weights[:, None]
    gram = np.zeros((q.shape[1], q.shape[1]), dtype=np.int64)
    step = max(1, EXACT_WEIGHT_MAX // max(1, int(weights.max(initial=1))))
    for start in range(0, q.shape[0], step):  # each block's products sum below 2^53, so doubles hold them exactly
        part = slice(start, start + step)
        gram += np.rint(weighted[part].astype(np.float64).T @ rows[part].astype(np.float64)).astype(np.int64)
    return Moments(
        records=q.shape[0] if records is None else records,
        groups=len(np.unique(groups)),
        sum_w=int(weights.sum()),
        sum_wy=int((weights * targets).sum()),
        sum_wx=weighted.sum(axis=0),
        sum_wyx=(weighted * targets[:, None]).sum(axis=0),
        gram=gram,
        span=span,
    )


@dataclass(frozen=True)
class FoldOutRun:
    """Fits and fold-out scores of rows in this process. scores: (lambdas, n). sums: as the nodes would have sent them."""

    candidates: list[Candidate]
    scores: Floats
    sums: FoldOut


def leave_one_group_out(
    q: NDArray[np.int16], w: NDArray[Any], y: NDArray[Any], groups: NDArray[Any], lambdas: Sequence[float] = LAMBDAS
) -> FoldOutRun:
    """Exact leave-one-group-out scores for each lambda, from arrays held in this process (one row a record).

    The same identity as at the nodes (kit.hatmatrix); standardisation stays that of all rows. Raises InputError when there are
    fewer than two groups or one class.
    """
    fits = candidates(moments_of(q, w, y, groups), lambdas)
    rows = design(q, fits[0].mean, fits[0].scale)
    scores = np.stack([leave_group_out(rows, np.asarray(w), np.asarray(y), groups, c.inverse, c.coefficients) for c in fits])
    targets, weights = np.asarray(y, dtype=np.float64), np.asarray(w, dtype=np.float64)
    loss = np.rint(((targets - scores) ** 2 * weights).sum(axis=1) * LOSS_UNIT).astype(np.int64)
    histogram = np.stack([[np.bincount(score_bins(s[targets == side]), minlength=SCORE_BINS) for side in (-1, 1)] for s in scores])
    return FoldOutRun(fits, scores, FoldOut(int(weights.sum()), loss, histogram.astype(np.int64)))
