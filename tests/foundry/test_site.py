"""The next site's head from the fleet's sums and a few records."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.contracts.errors import InputError
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates
from isthmus.foundry.site import LocalRows, _fits, combine, mixed, prior_of, weighted_sum
from tests.foundry.test_ridge import sample


def _rows(seed: int, n: int, shift: float = 0.0) -> LocalRows:
    q, w, y, _ = sample(seed, n=n, offset=shift)
    return LocalRows(q, w, y, np.arange(n))


def test_a_weighted_sum_is_the_fit_on_repeated_records() -> None:
    q, w, y, groups = sample(1)
    rows = _rows(2, 40)
    total = weighted_sum(moments_of(q, w, y, groups), rows.moments(), 4.0)
    again = moments_of(
        np.concatenate([q, rows.q]),
        np.concatenate([w, rows.w * 4]),
        np.concatenate([y, rows.y]),
        np.concatenate([groups, rows.groups + 99]),
    )
    assert np.allclose(candidates(total, [0.1])[0].coefficients, candidates(again, [0.1])[0].coefficients, rtol=1e-12)


def test_loss_is_that_of_leaving_each_group_out_and_fitting_again() -> None:
    q, w, y, groups = sample(1)
    rows = _rows(2, 25)
    joined = _fits(weighted_sum(moments_of(q, w, y, groups), rows.moments(), 8.0), rows, 128, 8.0, (0.1,))[0]
    fit = joined.candidate
    total_w = float(w.sum() + 8 * rows.w.sum())
    z = np.column_stack([np.ones(300), (q - fit.mean) / fit.scale])
    local = np.column_stack([np.ones(25), (rows.q - fit.mean) / fit.scale])
    penalty = np.diag([0.0] + [0.1 * total_w] * 12)
    for out in range(25):
        kept = np.arange(25) != out
        a, b = np.concatenate([z, local[kept]]), np.concatenate([w, rows.w[kept] * 8.0])
        again = np.linalg.solve(a.T @ (a * b[:, None]) + penalty, a.T @ (b * np.concatenate([y, rows.y[kept]])))
        assert joined.scores[out] == pytest.approx(local[out] @ again, abs=1e-9)


def test_a_site_like_the_fleet_gains_little_and_a_shifted_one_much() -> None:
    q, w, y, groups = sample(1, n=800)
    fleet = moments_of(q, w, y, groups)
    alike = combine(fleet, _rows(3, 40), 0.03)
    assert alike.fleet.loss < 1.0
    assert alike.combined.loss <= alike.fleet.loss * 1.05
    shifted = combine(fleet, _rows(1, 40, shift=9000.0), 0.03)
    assert shifted.combined.loss < shifted.fleet.loss * 0.8
    assert shifted.weights[0] < 0.01 and sum(shifted.weights) == pytest.approx(1.0)


def test_the_average_is_one_linear_head_and_leans_to_what_errs_least() -> None:
    q, w, y, groups = sample(1, n=800)
    fleet, rows = moments_of(q, w, y, groups), _rows(3, 40)
    found = combine(fleet, rows, 0.03, factors=(1.0, 8.0), lambdas=(0.03, 0.3))
    every = [found.fleet, *_fits(weighted_sum(fleet, rows.moments(), 8.0), rows, 128, 8.0, (0.03,))]
    mix, weight = mixed(every, rows)
    by_hand = prior_of(every, 40) * np.exp(-40 * np.array([f.loss for f in every]) / (4 * min(f.loss for f in every)))
    assert weight == pytest.approx(by_hand / by_hand.sum())
    single = [((rows.q - f.candidate.mean) / f.candidate.scale) @ f.candidate.coefficients[1:] + f.candidate.coefficients[0] for f in every]
    raw = mix.candidate.coefficients
    assert raw[0] + rows.q @ raw[1:] == pytest.approx(weight @ np.stack(single), abs=1e-9)
    assert mix.scores == pytest.approx(weight @ np.stack([f.scores for f in every]))
    assert mix.loss <= max(f.loss for f in every)


def test_many_labels_leave_one_fit_and_few_leave_several() -> None:
    q, w, y, groups = sample(1, n=800)
    fleet = moments_of(q, w, y, groups)
    few, many = (combine(fleet, _rows(1, n, shift=9000.0), 0.03) for n in (12, 300))
    assert few.weights[0] > many.weights[0] and many.weights[0] < 1e-6


def test_one_class_or_one_group_leaves_no_local_head_but_an_answer() -> None:
    q, w, y, groups = sample(1)
    fleet, rows = moments_of(q, w, y, groups), _rows(2, 20)
    one_class = combine(fleet, LocalRows(rows.q, rows.w, np.ones(20, np.int64), rows.groups), 0.1)
    assert one_class.local is None and "one class" in one_class.local_note
    one_group = combine(fleet, LocalRows(rows.q, rows.w, rows.y, np.zeros(20)), 0.1)
    assert one_group.local is None and "one group" in one_group.local_note
    assert one_group.weights[2] == 0.0 and sum(one_group.weights) == pytest.approx(1.0)


def test_inputs_that_cannot_be_used_are_refused() -> None:
    q, w, y, groups = sample(1)
    fleet, rows = moments_of(q, w, y, groups), _rows(2, 20)
    for factors in ((), (0.0,), (float("inf"),), (0.01,), (5000.0,)):
        with pytest.raises(InputError):
            combine(fleet, rows, 0.1, factors=factors)
    with pytest.raises(InputError):
        combine(fleet, LocalRows(rows.q[:0], rows.w[:0], rows.y[:0], rows.groups[:0]), 0.1)
    with pytest.raises(InputError):
        combine(fleet, LocalRows(rows.q[:, :5], rows.w, rows.y, rows.groups), 0.1)


def test_with_few_labels_a_local_head_counts_for_little_before_it_is_judged() -> None:
    q, w, y, groups = sample(1, n=800)
    fleet, rows = moments_of(q, w, y, groups), _rows(3, 40)
    every = [
        combine(fleet, rows, 0.03).fleet,
        *_fits(weighted_sum(fleet, rows.moments(), 8.0), rows, 128, 8.0, (0.03, 0.3)),
        *_fits(rows.moments(), rows, 1, float("inf"), (0.03, 0.3)),
    ]
    few, enough, many = (prior_of(every, count) for count in (3, 12, 400))
    assert few.sum() == pytest.approx(1.0) and few[3] == few[4] < 0.1 * many[3]
    assert enough == pytest.approx(many), "from as many labels as features on it is the same"
    assert many == pytest.approx([0.5, 0.2, 0.2, 0.05, 0.05])
