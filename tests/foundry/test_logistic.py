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
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.logistic import (
    LogisticFit,
    entries_told,
    fit_logistic,
    fold_out_logits,
    logistic_size,
    logistic_sums,
    logistic_sums_from,
)

Arrays = tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]


def drawn(n: int, d: int, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    q = np.clip(rng.normal(rng.uniform(-9000, 9000, d), rng.uniform(300, 12000, d), (n, d)), -32767, 32767).astype(np.int16)
    y = np.where(q @ rng.normal(0, 1e-4, d) + rng.normal(0, 2, n) > 0, 1, -1)
    y[:2] = (1, -1)
    return q, rng.integers(1, 4, n), y


def fitted(owners: list[Arrays], lam: float, **options: Any) -> LogisticFit:
    q, w, y = (np.concatenate(parts) for parts in zip(*owners, strict=True))
    moments = moments_of(q, w, y, np.arange(len(y)))

    def ask(at: NDArray[np.float64]) -> Any:
        total = sum(logistic_sums(*rows, at).packed() for rows in owners)
        return logistic_sums_from(total, q.shape[1])

    return fit_logistic(ask, moments, lam, **options)


def split(rows: Arrays, cuts: list[int]) -> list[Arrays]:
    edges = [0, *sorted(cut % len(rows[2]) for cut in cuts), len(rows[2])]
    return [tuple(part[a:b] for part in rows) for a, b in pairwise(edges)]  # type: ignore[misc]


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 300), st.integers(1, 8), st.integers(0, 10**6), st.lists(st.integers(0, 299), max_size=5))
def test_any_split_among_owners_gives_the_same_digits(n: int, d: int, seed: int, cuts: list[int]) -> None:
    rows = drawn(n, d, seed)
    assert (fitted(split(rows, cuts), 0.01).coefficients == fitted([rows], 0.01).coefficients).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(50, 400), st.integers(1, 8), st.integers(0, 10**6), st.sampled_from([1e-3, 1e-2, 0.1, 1.0]))
def test_it_is_what_pooled_rows_give(n: int, d: int, seed: int, lam: float) -> None:
    q, w, y = drawn(n, d, seed)
    found = fitted(split((q, w, y), [n // 3, n // 2]), lam)
    assert found.settled and found.rounds < 25
    z = (q - found.mean) / found.scale
    peer = LogisticRegression(C=1.0 / (lam * w.sum()), tol=1e-12, solver="newton-cholesky", max_iter=200).fit(z, y, sample_weight=w)
    assert np.abs(peer.coef_[0] - found.coefficients[1:] * found.scale).max() < 1e-8
    logits = peer.decision_function(z)
    assert np.abs(logits - found.logits(q)).max() < 1e-7


def test_a_round_is_what_it_says() -> None:
    q, w, y = drawn(50, 3, 1)
    at = np.array([0.1, 1e-4, -2e-4, 0.0])
    sums = logistic_sums(q, w, y, at)
    rows = np.concatenate([np.ones((50, 1)), q.astype(float)], axis=1)
    p = 1 / (1 + np.exp(-rows @ at))
    assert np.allclose(sums.slope / 2**30, (w * ((y > 0) - p)) @ rows, atol=1e-2)
    assert np.allclose(sums.curve / 2**14, (rows * (w * p * (1 - p))[:, None]).T @ rows, rtol=3e-3, atol=32767**2 * 0.01)
    assert sums.packed().shape == (logistic_size(3),) and entries_told(3, 4) == 4 * logistic_size(3)
    again = logistic_sums_from(sums.packed(), 3)
    assert (again.curve == sums.curve).all() and (again.slope == sums.slope).all() and again.loss == sums.loss
    with pytest.raises(ValueError, match="entries"):
        logistic_sums_from(sums.packed()[1:], 3)


def test_separable_records_are_held_by_the_penalty() -> None:
    q = np.array([[-30000], [-20000], [20000], [30000]] * 5, np.int16)
    found = fitted([(q, np.ones(20, np.int64), np.sign(q[:, 0]).astype(np.int64))], 1e-3)
    assert found.settled and 0 < found.coefficients[1] * found.scale[0] < 20


def test_scores_without_a_group_come_near_those_of_a_new_fit() -> None:
    q, w, y = drawn(120, 4, 3)
    groups = np.arange(120) // 4
    found = fitted([(q, w, y)], 0.03)
    near = fold_out_logits(found, q, w, y, groups)
    for group in range(0, 30, 5):
        keep = groups != group
        # the same penalty in total, and the same columns
        again = fitted([(q[keep], w[keep], y[keep])], 0.03 * w.sum() / w[keep].sum())
        assert np.abs(again.logits(q[~keep]) - near[~keep]).max() < 0.25
        assert np.abs(again.logits(q[~keep]) - near[~keep]).max() < np.abs(again.logits(q[~keep]) - found.logits(q[~keep])).max() + 0.05


def test_what_cannot_be_fitted_is_refused() -> None:
    q, w, y = drawn(30, 2, 1)
    with pytest.raises(InputError, match="penalty"):
        fitted([(q, w, y)], 0.0)
    with pytest.raises(InputError, match="one class"):
        fitted([(q, w, np.ones_like(y))], 0.1)
    with pytest.raises(InputError, match="coefficients"):
        logistic_sums(q, w, y, np.zeros(2))
    with pytest.raises(InputError, match="weights"):
        logistic_sums(q, w * 0, y, np.zeros(3))
    with pytest.raises(InputError, match="coefficients"):
        logistic_sums(q, w, y, np.full(3, np.nan))
