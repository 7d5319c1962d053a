"""Heads from exact sums against an independent fit on the pooled records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Stage
from isthmus.contracts.sums import FEATURE_MAX, Moments, moments_from, moments_size
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates, head_from, standard

Sample = tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def sample(seed: int, n: int = 300, d: int = 12, offset: float = 0.0, spread: float = 3000.0) -> Sample:
    """(q, w, y, groups): correlated features, labels that depend on some of them."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, d)) @ (np.eye(d) + 0.4 * rng.normal(size=(d, d)))
    y = np.where(latent[:, 0] + latent[:, 1] + rng.normal(size=n) > 0.3, 1, -1)
    q = np.clip(np.rint(latent * spread + offset), -FEATURE_MAX, FEATURE_MAX).astype(np.int16)
    return q, rng.integers(1, 3, n), y, np.arange(n) // 20


def stage_of(d: int) -> Stage:
    return Stage(backbone="b", parts=("block/1",), dimension=d, digest="sha256:0")


def pooled(q: NDArray[Any], w: NDArray[Any], y: NDArray[Any], lam: float) -> tuple[NDArray[Any], float]:
    """Raw-scale coefficients and bias by scikit-learn on all the records."""
    mean = np.average(q, axis=0, weights=w)
    scale = np.sqrt(np.average((q - mean) ** 2, axis=0, weights=w))
    model = Ridge(alpha=lam * w.sum(), solver="svd").fit((q - mean) / scale, y, sample_weight=w)
    coefficients = model.coef_ / scale
    return coefficients, float(model.intercept_ - coefficients @ mean)


@pytest.mark.parametrize("lam", [1e-4, 0.03, 1.0])
@pytest.mark.parametrize(("offset", "spread"), [(0, 3000), (30000, 300), (-32700, 4), (32000, 40)])
def test_weights_equal_scikit_learn_on_the_pooled_records(lam: float, offset: float, spread: float) -> None:
    q, w, y, groups = sample(1, offset=offset, spread=spread)
    total = moments_of(q, w, y, groups)
    head = head_from(candidates(total, [lam])[0], stage_of(12), -0.2, 0.2)
    coefficients, bias = pooled(q.astype(float), w, y, lam)
    found = head.coefficients.array()
    assert np.abs(found - coefficients).max() <= 1e-6 * np.abs(coefficients).max()
    assert abs(head.bias - bias) <= 1e-6 * max(abs(bias), 1.0)


def test_sums_of_owners_give_the_pooled_fit_bit_for_bit() -> None:
    q, w, y, groups = sample(2)
    parts = [slice(0, 60), slice(60, 200), slice(200, 300)]
    packed = sum(moments_of(q[p], w[p], y[p], groups[p]).packed() for p in parts)
    joined, whole = moments_from(np.asarray(packed), 12), moments_of(q, w, y, groups)
    assert (joined.packed() == whole.packed()).all()
    assert (candidates(joined, [0.1])[0].coefficients == candidates(whole, [0.1])[0].coefficients).all()


def test_the_inverse_is_that_of_the_normal_matrix() -> None:
    q, w, y, groups = sample(3)
    fit = candidates(moments_of(q, w, y, groups), [0.05])[0]
    z = np.column_stack([np.ones(300), (q - fit.mean) / fit.scale])
    normal = z.T @ (z * w[:, None]) + np.diag([0.0] + [0.05 * w.sum()] * 12)
    assert np.allclose(fit.inverse @ normal, np.eye(13), atol=1e-9)
    assert np.allclose(fit.coefficients, np.linalg.solve(normal, z.T @ (w * y)))


def test_a_constant_feature_gets_the_floor_and_no_weight() -> None:
    q, w, y, groups = sample(4)
    q[:, 5] = 1234
    total = moments_of(q, w, y, groups)
    assert standard(total).scale[5] == 1.0
    assert head_from(candidates(total, [0.01])[0], stage_of(12), 0, 0).coefficients.array()[5] == 0.0


def test_twins_are_solved() -> None:
    q, w, y, groups = sample(5)
    q[:, 1] = q[:, 0]
    coefficients = candidates(moments_of(q, w, y, groups), [0.001])[0].coefficients
    assert np.isfinite(coefficients).all()
    assert coefficients[1] == pytest.approx(coefficients[2], rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0003, 0.1, 3.0]), st.floats(-30000, 30000), st.floats(1, 5000))
def test_every_score_of_a_head_is_exact_in_any_order(seed: int, lam: float, offset: float, spread: float) -> None:
    q, w, y, groups = sample(seed, n=60, d=8, offset=offset, spread=spread)
    if abs(int(y.sum())) == 60:
        return
    fit = candidates(moments_of(q, w, y, groups), [lam])[0]
    head = head_from(fit, stage_of(8), -1, 1)
    c = head.coefficients.array()
    forward = [float(np.cumsum(np.append(c * row, head.bias))[-1]) for row in q.astype(float)]
    backward = [float(np.cumsum(np.append(head.bias, (c * row)[::-1]))[-1]) for row in q.astype(float)]
    assert forward == backward
    direct = fit.coefficients[0] + ((q - fit.mean) / fit.scale) @ fit.coefficients[1:]
    assert np.abs(np.array(forward) - direct).max() < 1e-7


def test_what_cannot_be_fitted_is_refused() -> None:
    q, w, y, groups = sample(6)
    with pytest.raises(InputError, match="one class"):
        candidates(moments_of(q, w, np.ones_like(y), groups), [0.1])
    with pytest.raises(InputError, match="no record"):
        candidates(moments_from(np.zeros(moments_size(12), np.int64), 12), [0.1])
    for lambdas in ([], [0.0], [-1.0], [float("nan")]):
        with pytest.raises(InputError):
            candidates(moments_of(q, w, y, groups), lambdas)
    fit = candidates(moments_of(q, w, y, groups), [0.1])[0]
    for lo, hi in ((1, 0), (float("nan"), 0), (0, float("inf"))):
        with pytest.raises(InputError):
            head_from(fit, stage_of(12), lo, hi)
    with pytest.raises(InputError):
        head_from(fit, stage_of(11), 0, 0)


def test_damaged_sums_are_refused() -> None:
    q, w, y, groups = sample(7)
    good = moments_of(q, w, y, groups)
    gram = good.gram.copy()
    gram[0, 0] = 0
    with pytest.raises(InputError, match="variance is negative"):
        standard(Moments(good.records, good.groups, good.sum_w, good.sum_wy, good.sum_wx, good.sum_wyx, gram))
    gram = good.gram.copy()
    gram[0, 1] = gram[1, 0] = gram[0, 0] * 50
    with pytest.raises(InputError, match="cannot be solved"):
        candidates(Moments(good.records, good.groups, good.sum_w, good.sum_wy, good.sum_wx, good.sum_wyx, gram), [1e-4])


def test_extreme_integers_do_not_overflow() -> None:
    n, d = 4000, 3
    q = np.full((n, d), FEATURE_MAX, np.int16)
    q[::2, 1] = -FEATURE_MAX
    y = np.where(np.arange(n) % 2 == 0, 1, -1)
    total = moments_of(q, np.full(n, 16), y, np.arange(n) // 40)
    assert int(total.gram[0, 0]) == n * 16 * FEATURE_MAX**2
    assert candidates(total, [0.1])[0].coefficients[2] == pytest.approx(-1 / 1.1)
