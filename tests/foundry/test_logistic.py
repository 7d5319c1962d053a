"""Logistic regression from sums: split anyhow it is the same, and it is what pooled rows give."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from isthmus.contracts.errors import InputError
from isthmus.contracts.logistic import Units, logistic_size, logistic_sums_from, logistic_units
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.logistic import (
    ROUNDS_MAX,
    LogisticFit,
    Rounds,
    entries_told,
    fit_logistic,
    fold_out_logits,
    path,
    settled,
)
from isthmus.kit.logits import logistic_sums, probability

Arrays = tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]
LAMBDAS = (0.003, 0.01, 0.03, 0.1, 0.3)


def drawn(n: int, d: int, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    q = np.clip(rng.normal(rng.uniform(-9000, 9000, d), rng.uniform(300, 12000, d), (n, d)), -32767, 32767).astype(np.int16)
    y = np.where(q @ rng.normal(0, 1e-4, d) + rng.normal(0, 2, n) > 0, 1, -1)
    y[:2] = (1, -1)
    return q, rng.integers(1, 4, n), y


def asked(owners: list[Arrays]) -> Rounds:
    q, w, y = (np.concatenate(parts) for parts in zip(*owners, strict=True))
    moments = moments_of(q, w, y, np.arange(len(y)))
    units = logistic_units(moments.sum_w)

    def ask(at: NDArray[np.float64]) -> Any:
        total = sum(logistic_sums(*rows, at, units).packed() for rows in owners)
        return logistic_sums_from(total, q.shape[1], units)

    return Rounds(ask, moments)


def fitted(owners: list[Arrays], lam: float) -> LogisticFit:
    rounds = asked(owners)
    return settled(rounds, path(rounds, [lam])[0])


def split(rows: Arrays, cuts: list[int]) -> list[Arrays]:
    edges = [0, *sorted(cut % len(rows[2]) for cut in cuts), len(rows[2])]
    return [tuple(part[a:b] for part in rows) for a, b in pairwise(edges)]  # type: ignore[misc]


def peer_of(found: LogisticFit, rows: Arrays, lam: float) -> LogisticRegression:
    q, w, y = rows
    z = (q - found.mean) / found.scale
    return LogisticRegression(C=1.0 / (lam * w.sum()), tol=1e-12, solver="newton-cholesky", max_iter=200).fit(z, y, sample_weight=w)


@settings(max_examples=15, deadline=None)
@given(st.integers(20, 300), st.integers(1, 8), st.integers(0, 10**6), st.lists(st.integers(0, 299), max_size=5))
def test_any_split_among_owners_gives_the_same_digits(n: int, d: int, seed: int, cuts: list[int]) -> None:
    rows = drawn(n, d, seed)
    assert (fitted(split(rows, cuts), 0.01).raw() == fitted([rows], 0.01).raw()).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(50, 400), st.integers(1, 8), st.integers(0, 10**6), st.integers(0, 4))
def test_the_chosen_of_a_path_is_what_pooled_rows_give(n: int, d: int, seed: int, chosen: int) -> None:
    rows = drawn(n, d, seed)
    rounds = asked(split(rows, [n // 3, n // 2]))
    found = settled(rounds, path(rounds, LAMBDAS)[chosen])
    assert found.settled and found.lam == LAMBDAS[chosen] and rounds.asked <= 8
    peer = peer_of(found, rows, found.lam)
    assert np.abs(peer.coef_[0] - found.coefficients[1:]).max() < 1e-7
    assert np.abs(peer.decision_function((rows[0] - found.mean) / found.scale) - found.logits(rows[0])).max() < 1e-6


def test_few_rounds_are_asked_for_and_a_path_is_near_its_ends() -> None:
    rows = drawn(600, 12, 5)
    rounds = asked([rows])
    fits = path(rounds, LAMBDAS)
    assert rounds.asked == 2
    for fit in fits:
        end = settled(asked([rows]), fit)
        apart = probability(fit.logits(rows[0])) - probability(end.logits(rows[0]))
        assert np.abs(apart).max() < 0.06, "compared one step from a common point"


def test_a_round_is_what_it_says() -> None:
    q, w, y = drawn(50, 3, 1)
    at, units = np.array([0.1, 1e-4, -2e-4, 0.0]), logistic_units(1000)
    sums = logistic_sums(q, w, y, at, units)
    rows = np.concatenate([np.ones((50, 1)), q.astype(float)], axis=1)
    p = 1 / (1 + np.exp(-rows @ at))
    slope, curve = sums.floats()
    assert np.allclose(slope, (w * ((y > 0) - p)) @ rows, atol=1e-2)
    assert np.allclose(curve, (rows * (w * p * (1 - p))[:, None]).T @ rows, rtol=3e-3, atol=32767**2 * 0.01)
    assert sums.packed().shape == (logistic_size(3),) and entries_told(3, 4) == 4 * logistic_size(3)
    again = logistic_sums_from(sums.packed(), 3, units)
    assert (again.curve == sums.curve).all() and (again.slope == sums.slope).all() and again.loss == sums.loss
    with pytest.raises(ValueError, match="entries"):
        logistic_sums_from(sums.packed()[1:], 3, units)


@given(st.integers(1, 1 << 30))
def test_no_sum_can_leave_62_bits(weight: int) -> None:
    units = logistic_units(weight)
    assert isinstance(units, Units) and units.slope * 32767 * weight < 1 << 62 and units.curve * 32767**2 * weight // 4 < 1 << 62


def test_weights_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be summed"):
        logistic_units((1 << 30) + 1)


# Extreme data.


def test_separable_records_are_held_by_the_penalty() -> None:
    q = np.array([[-30000], [-20000], [20000], [30000]] * 5, np.int16)
    rows = (q, np.ones(20, np.int64), np.sign(q[:, 0]).astype(np.int64))
    found = fitted([rows], 1e-3)
    assert found.settled and 0 < found.coefficients[1] < 20
    assert np.abs(peer_of(found, rows, 1e-3).coef_[0] - found.coefficients[1:]).max() < 1e-6


def test_an_owner_without_one_class_and_a_column_that_never_changes_do_no_harm() -> None:
    q, w, y = drawn(200, 4, 9)
    q[:, 2] = 700
    order = np.argsort(y, kind="stable")
    lone = (q[order][:30], w[order][:30], y[order][:30])
    assert set(lone[2]) == {-1}
    owners: list[Arrays] = [lone, (q[order][30:], w[order][30:], y[order][30:])]
    found = fitted(owners, 0.03)
    assert abs(found.coefficients[3]) < 1e-12
    assert np.abs(peer_of(found, (q, w, y), 0.03).coef_[0] - found.coefficients[1:]).max() < 1e-7


def test_rounds_that_do_not_suffice_end_with_a_sentence() -> None:
    rows = drawn(100, 3, 2)
    rounds = asked([rows])
    few = Rounds(rounds.sums, rounds.moments, rounds_max=2)
    with pytest.raises(InputError, match="did not settle in 2 rounds"):
        settled(few, path(few, [1e-4])[0])
    assert rounds.asked <= ROUNDS_MAX


def test_scores_without_a_group_come_near_those_of_a_new_fit() -> None:
    q, w, y = drawn(240, 4, 3)
    groups = np.arange(240) // 4
    found = fitted([(q, w, y)], 0.03)
    near, again = fold_out_logits(found, q, w, y, groups), np.empty(240)
    for group in range(60):
        keep = groups != group
        # the same penalty in total, and the same columns
        refit = fitted([(q[keep], w[keep], y[keep])], 0.03 * w.sum() / w[keep].sum())
        again[~keep] = refit.logits(q[~keep])
    assert np.abs(probability(near) - probability(again)).max() < 0.01
    brier = [float(w @ (probability(logits) - (y > 0)) ** 2) for logits in (near, again, found.logits(q))]
    assert brier[0] == pytest.approx(brier[1], rel=0.003) and brier[2] < 0.985 * brier[1], "without its group, not with it"


def test_what_cannot_be_fitted_is_refused() -> None:
    q, w, y = drawn(30, 2, 1)
    units = logistic_units(100)
    with pytest.raises(InputError, match="penalties"):
        fitted([(q, w, y)], 0.0)
    with pytest.raises(InputError, match="one class"):
        fitted([(q, w, np.ones_like(y))], 0.1)
    with pytest.raises(InputError, match="coefficients"):
        logistic_sums(q, w, y, np.zeros(2), units)
    with pytest.raises(InputError, match="weights"):
        logistic_sums(q, w * 0, y, np.zeros(3), units)
    with pytest.raises(InputError, match="coefficients"):
        logistic_sums(q, w, y, np.full(3, np.nan), units)
    rounds = asked([(q, w, y)])
    assert fit_logistic(rounds.sums, rounds.moments, 0.1).settled
