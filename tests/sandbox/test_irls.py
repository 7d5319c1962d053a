"""Rounds of a logistic fit at an owner's node: the share, fold-out scores by estimate, and the refusal of weights that single out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isthmus.app.rounds import as_candidate
from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Array
from isthmus.contracts.logistic import logistic_sums_from, logistic_units
from isthmus.contracts.statistic import IrlsParams, Working
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.logistic import LogisticFit, Rounds, fold_out_logits, path, settled
from isthmus.kit.logits import probability, scores_of, stated
from isthmus.sandbox.statistics.foldout import candidate_scores
from isthmus.sandbox.statistics.irls import effective_records, irls
from isthmus.sandbox.statistics.records import Records, TrainingRecords

D = 6


def owner(seed: int, n: int = 150, shift: float = 0.0, views: int = 1) -> TrainingRecords:
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, (n, D))
    y = np.where(x @ np.linspace(1, -1, D) + rng.logistic(0, 1, n) > 0, 1, -1).astype(np.int64)
    pictures = tuple(np.rint(np.clip(x + 0.1 * rng.normal(size=x.shape) * (v > 0), -8, 8) * 4000).astype(np.int16) for v in range(views))
    return TrainingRecords(Records(y, np.arange(n) // 3, tuple("" for _ in y)), pictures, rng.integers(1, 3, n))


def pooled(owners: list[TrainingRecords]) -> tuple[Any, ...]:
    rows = [o.stacked() for o in owners]
    q, y, w = (np.concatenate([r[k] for r in rows]) for k in range(3))
    groups = np.concatenate([r[3] + 10_000 * k for k, r in enumerate(rows)])
    return q, y, w, groups


def fit_of(owners: list[TrainingRecords], lam: float) -> tuple[LogisticFit, int]:
    q, y, w, groups = pooled(owners)
    moments = moments_of(q, w, y, groups)

    def ask(at: Any) -> Any:
        params = IrlsParams(coefficients=Array.of(at), total_weight=moments.sum_w)
        total = np.sum([irls(o, params).packed() for o in owners], axis=0)
        return logistic_sums_from(total, D, logistic_units(moments.sum_w))

    rounds = Rounds(ask, moments)
    return settled(rounds, path(rounds, [lam])[0]), moments.sum_w


@pytest.mark.parametrize("views", [1, 2])
def test_an_owner_that_is_alone_finds_the_exact_fold_out_scores(views: int) -> None:
    alone = owner(1, views=views)
    fit, weight = fit_of([alone], 0.02)
    q, y, w, groups = alone.stacked()
    exact = fold_out_logits(fit, q, w, y, groups)[: alone.records.size]
    found = candidate_scores(alone, as_candidate(fit), weight)
    assert np.abs(found - scores_of(exact)).max() < 1e-5


def test_three_owners_estimate_the_loss_without_each_others_sums() -> None:
    owners = [owner(s, shift=0.3 * s) for s in range(3)]
    for lam in (0.003, 0.03, 0.3):
        fit, weight = fit_of(owners, lam)
        q, y, w, groups = pooled(owners)
        exact = probability(fold_out_logits(fit, q, w, y, groups))
        found = np.concatenate([candidate_scores(o, as_candidate(fit), weight) for o in owners])
        losses = [float(w @ (p - (y > 0)) ** 2) for p in (stated(found), exact, probability(fit.logits(q)))]
        assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] > losses[2]


def test_real_refits_choose_the_same_penalty_or_one_as_good() -> None:
    """Choice by estimates, one step from a common point, against leave-group-out refits of each penalty, walked to their ends."""
    lambdas = (0.001, 0.01, 0.03, 0.1, 0.3)
    owners = [owner(s, n=60, shift=0.2 * s) for s in range(10, 13)]
    q, y, w, groups = pooled(owners)
    moments = moments_of(q, w, y, groups)

    def ask(at: Any) -> Any:
        params = IrlsParams(coefficients=Array.of(at), total_weight=moments.sum_w)
        return logistic_sums_from(np.sum([irls(o, params).packed() for o in owners], axis=0), D, logistic_units(moments.sum_w))

    fits = path(Rounds(ask, moments), lambdas)
    estimated, refitted = [], []
    for fit in fits:
        scores = np.concatenate([candidate_scores(o, as_candidate(fit), moments.sum_w) for o in owners])
        estimated.append(float(w @ (y - scores / 2) ** 2))
        out = np.empty(len(y))
        for fold in range(6):  # whole groups, in six folds
            left = groups % 6 == fold
            kept = moments_of(q[~left], w[~left], y[~left], groups[~left])
            rounds = Rounds(lambda at, kept=kept, left=left: _round(q[~left], w[~left], y[~left], at, kept.sum_w), kept)  # type: ignore[misc]
            again = settled(rounds, path(rounds, [fit.lam * moments.sum_w / kept.sum_w])[0])
            out[left] = 2 * probability(again.logits(q[left])) - 1
        refitted.append(float(w @ (y - out) ** 2))
    chosen = int(np.argmin(estimated))
    assert refitted[chosen] <= 1.01 * min(refitted)
    assert np.corrcoef(estimated, refitted)[0, 1] > 0.9


def _round(q: Any, w: Any, y: Any, at: Any, weight: int) -> Any:
    one = TrainingRecords(Records(y, np.arange(len(y)), tuple("" for _ in y)), (q,), w)
    return irls(one, IrlsParams(coefficients=Array.of(at), total_weight=weight))


def test_coefficients_far_out_leave_few_records_and_those_of_a_fit_leave_most() -> None:
    alone = owner(3)
    fit, _ = fit_of([alone], 0.02)
    assert effective_records(alone, fit.at) > 0.6 * 150
    q = alone.views[0].astype(float)
    aimed = np.zeros(D + 1)
    aimed[1:] = q[0] / (q[0] @ q[0]) * 400  # a slab through one record
    aimed[0] = -400.0
    assert effective_records(alone, aimed) < 20


def test_what_does_not_fit_is_refused() -> None:
    alone = owner(4)
    fit, weight = fit_of([alone], 0.02)
    with pytest.raises(RefusedError, match="less than this owner's"):
        irls(alone, IrlsParams(coefficients=Array.of(fit.at), total_weight=weight - 1))
    with pytest.raises(RefusedError, match="coefficients"):
        irls(alone, IrlsParams(coefficients=Array.of(fit.at[1:]), total_weight=weight))
    with pytest.raises(RefusedError, match="coefficients"):
        effective_records(alone, fit.at[1:])
    document = as_candidate(fit)
    assert document.working is not None
    for broken in (
        Working(coefficients=Array.of(fit.at[1:]), weight=document.working.weight, freedom=2.0),
        Working(coefficients=Array.of(fit.at), weight=0.0, freedom=2.0),
    ):
        with pytest.raises(RefusedError, match="no logistic fit"):
            candidate_scores(alone, type(document)(penalty=0.02, bias=0.0, coefficients=document.coefficients, working=broken), weight)
    one_group = TrainingRecords(Records(alone.records.y, np.zeros(150, np.int64), alone.records.kinds), alone.views, alone.w)
    with pytest.raises(RefusedError, match="nothing to fit on"):
        candidate_scores(one_group, document, weight)
