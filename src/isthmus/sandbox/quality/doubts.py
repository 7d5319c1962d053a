"""Labels that are probably wrong, from the scores of a closed-form head that never saw a record's group.

The head is the owner's own ridge fit (sandbox.statistics.own_head) on the scenario's features, its scores by the exact leave-group-out
identity (kit.hatmatrix). Scores become chances by a logistic fit on the labels as given. How many labels are wrong, class by class, is read
where the head is surest: there hardly any record is hard, so who contradicts it is mislabelled (the anchor points of Liu and Tao,
"Classification with noisy labels by importance reweighting", IEEE TPAMI 2016). With these rates each label has a posterior chance of being
wrong. Listed are those above DOUBT_MIN; the list is ordered by expected gain, as confident learning orders by self-confidence (Northcutt,
Jiang and Chuang, JAIR 2021). The head is fitted a second time without what was listed, and the list is made anew. Where features say little
of the label, records that are merely hard are listed too: bench/refine.py measures how many.

Only training records are looked at: a held-out label that is put right because a model doubts it would flatter that model's proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.kit.hatmatrix import design, leave_group_out
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.own_head import Fit, fit
from isthmus.sandbox.statistics.records import Records, TrainingRecords

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
CHOOSING_ROWS_MAX = 4000
"""The penalty is chosen on so many rows, whole groups drawn in a fixed order."""
RECORDS_MIN, CLASS_MIN, GROUPS_MIN = 40, 10, 5
SURE_SHARE, SURE_MIN = 0.1, 30
"""Of the records on each side: those that the head is surest of, where contradiction is counted; at least so many, or half a class."""
RATE_MAX = 0.4
DOUBT_MIN = 0.3
LEVERAGE_LEFT_MIN = 1e-6
ROUNDS = 2
SEED = 20_240_612
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Doubts:
    """Of n records. wrong: (n,) chance that the label is wrong. listed: (n,) whether it is told. gain: (n,) expected gain of putting it
    right: that chance times how far the right label would move all scores (root mean square). rates: estimated chance that a true defect is
    labelled good, and that a true good one is labelled defect. share: of wrong labels over all. auc: of the fold-out scores against the
    labels as given. scores: (n,)."""

    wrong: Floats
    listed: Flags
    gain: Floats
    rates: tuple[float, float]
    share: float
    auc: float
    scores: Floats


def label_doubts(q: NDArray[np.int16], y: NDArray[Any], groups: NDArray[Any]) -> Doubts:
    """q: (n, d) features, y: (n,) in {-1, +1}, groups: (n,) codes; records of one group are left out together. Raises InputError when there
    are too few records, classes or groups to say anything."""
    labels = np.asarray(y, dtype=np.int64)
    counts = [int((labels == side).sum()) for side in (-1, 1)]
    if len(labels) < RECORDS_MIN or min(counts) < CLASS_MIN:
        raise InputError(
            f"{len(labels)} records with {counts[0]} good and {counts[1]} defects are too few to doubt labels by",
            f"give {RECORDS_MIN} with {CLASS_MIN} of each class",
        )
    codes = np.asarray(groups) if len(np.unique(groups)) >= GROUPS_MIN else np.arange(len(labels))
    penalty = _penalty(q, labels, codes)
    weights = np.ones(len(labels), dtype=np.int64)
    found = _judged(q, labels, codes, weights, penalty)
    for _ in range(ROUNDS - 1):
        kept = ~found.listed
        if not found.listed.any() or min(int((labels[kept] == side).sum()) for side in (-1, 1)) < CLASS_MIN:
            break
        found = _judged(q, labels, codes, kept.astype(np.int64), penalty)
    return found


def _penalty(q: NDArray[np.int16], y: NDArray[np.int64], codes: NDArray[Any]) -> float:
    """Of the least leave-group-out loss, on CHOOSING_ROWS_MAX rows at most."""
    rows = np.arange(len(y))
    if len(y) > CHOOSING_ROWS_MAX:
        order = np.random.default_rng(SEED).permutation(np.unique(codes))
        place = {code: rank for rank, code in enumerate(order.tolist())}
        ranked = np.argsort([place[code] for code in codes.tolist()], kind="stable")
        rows = np.sort(ranked[:CHOOSING_ROWS_MAX])
    if len(np.unique(y[rows])) < 2 or len(np.unique(codes[rows])) < 2:
        return PENALTIES[-3]
    ones = np.ones(len(rows), dtype=np.int64)
    losses = []
    for penalty in PENALTIES:
        scores, _ = _scored(q[rows], y[rows], codes[rows], ones, penalty)
        losses.append(float(np.mean((y[rows] - scores) ** 2)))
    return PENALTIES[int(np.argmin(losses))]


def _scored(q: NDArray[np.int16], y: NDArray[np.int64], codes: NDArray[Any], w: NDArray[np.int64], penalty: float) -> tuple[Floats, Fit]:
    """(scores of all rows, the fit of those that weigh): left out where they weigh and plain where they do not."""
    used = w > 0
    training = TrainingRecords(Records(y[used], codes[used], ()), (q[used],), w[used])
    found = fit(moments(training), penalty)
    scores = np.empty(len(y))
    z = design(q[used], found.mean, found.scale)
    scores[used] = _left_out(z, w[used], y[used], codes[used], found)
    for row in np.flatnonzero(~used).tolist():
        mates = used & (codes == codes[row])
        z_row = design(q[row : row + 1], found.mean, found.scale)
        if not mates.any():
            scores[row] = float((z_row @ found.coefficients)[0])
            continue
        scores[row] = _without(z_row, design(q[mates], found.mean, found.scale), y[mates].astype(np.float64), found)
    return scores, found


def _left_out(z: Floats, w: NDArray[np.int64], y: NDArray[np.int64], codes: NDArray[Any], found: Fit) -> Floats:
    """kit.hatmatrix.leave_group_out, all records that are alone in their group at once: y - e / (1 - h) for each."""
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    alone = counts[place] == 1
    scores = np.empty(len(y))
    plain = z @ found.coefficients
    if not alone.any():
        return leave_group_out(z, w, y, codes, found.inverse, found.coefficients)
    leverage = w * ((z @ found.inverse) * z).sum(axis=1)
    alone &= leverage < 1.0 - LEVERAGE_LEFT_MIN
    scores[alone] = y[alone] - (y[alone] - plain[alone]) / (1.0 - leverage[alone])
    rest = ~alone
    if rest.any():
        scores[rest] = leave_group_out(z[rest], w[rest], y[rest], codes[rest], found.inverse, found.coefficients)
    return scores


def _without(row: Floats, mates: Floats, y: Floats, found: Fit) -> float:
    """A row's score by the fit that saw none of its group's other records."""
    kept = np.eye(len(mates)) - mates @ found.inverse @ mates.T
    change = found.inverse @ mates.T @ np.linalg.solve(kept, y - mates @ found.coefficients)
    return float((row @ (found.coefficients - change))[0])


def _judged(q: NDArray[np.int16], y: NDArray[np.int64], codes: NDArray[Any], w: NDArray[np.int64], penalty: float) -> Doubts:
    scores, found = _scored(q, y, codes, w, penalty)
    chance = _chances(scores, y > 0)
    given = np.where(y > 0, chance, 1.0 - chance)
    rates = _rates(scores, y)
    wrong = _posterior(chance, y, rates)
    listed = (wrong >= DOUBT_MIN) & (given < 0.5)
    z = design(q, found.mean, found.scale)
    turned = z @ found.inverse
    moved = np.sqrt(np.maximum(((turned @ (z.T @ z / len(z))) * turned).sum(axis=1), 0.0))
    return Doubts(wrong, listed, wrong * 2.0 * moved, rates, float(wrong.mean()), _auc(scores, y > 0), scores)


def _chances(scores: Floats, positive: Flags) -> Floats:
    """(n,) chance of the label defect at each score: a logistic fit with Platt's smoothed targets (1999), by Newton's method."""
    ones, zeros = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    columns = np.stack([np.ones_like(scores), scores], axis=1)
    at = np.zeros(2)
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(columns @ at, -30, 30)))
        curvature = (columns.T * (p * (1 - p))) @ columns + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, columns.T @ (target - p) - 1e-6 * at)
        at = at + np.clip(step, -5, 5)
        if float(np.abs(step).max()) < 1e-8:
            break
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(columns @ at, -30, 30))))


def _rates(scores: Floats, y: NDArray[np.int64]) -> tuple[float, float]:
    """(chance that a true defect is labelled good, that a true good one is labelled defect), from where the head is surest."""
    smaller = int(min((y < 0).sum(), (y > 0).sum()))
    size = max(int(SURE_SHARE * smaller), min(SURE_MIN, smaller // 2))
    order = np.argsort(scores, kind="stable")
    missed, alarmed = float((y[order[-size:]] < 0).mean()), float((y[order[:size]] > 0).mean())
    return min(RATE_MAX, missed), min(RATE_MAX, alarmed)


def _posterior(chance: Floats, y: NDArray[np.int64], rates: tuple[float, float]) -> Floats:
    """(n,) chance that a label is wrong (Bayes), from the chance of the label defect at its score and the rates."""
    missed, alarmed = rates
    true = np.clip((chance - alarmed) / max(1e-6, 1.0 - missed - alarmed), 0.0, 1.0)
    wrong_good = missed * true / np.maximum(missed * true + (1.0 - alarmed) * (1.0 - true), 1e-9)
    wrong_defect = alarmed * (1.0 - true) / np.maximum(alarmed * (1.0 - true) + (1.0 - missed) * true, 1e-9)
    return np.where(y > 0, wrong_defect, wrong_good)


def _auc(scores: Floats, positive: Flags) -> float:
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    many = int(positive.sum())
    if many in (0, len(positive)):
        return 0.5
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * (len(positive) - many)))
