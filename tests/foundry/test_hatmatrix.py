"""Leave-one-group-out by identity equals fitting again without the group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates
from isthmus.kit.hatmatrix import design, leave_group_out
from tests.foundry.test_ridge import sample


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 7, 20, 60]), st.sampled_from([0.001, 0.1, 2.0]))
def test_equals_refitting_without_each_group(seed: int, size: int, lam: float) -> None:
    q, w, y, _ = sample(seed, n=120, d=10)
    groups = np.random.default_rng(seed).permutation(120) // size  # scattered labels; size 60 exceeds the 11 columns
    fit = candidates(moments_of(q, w, y, groups), [lam])[0]
    z = design(q, fit.mean, fit.scale)
    found = leave_group_out(z, w, y, groups, fit.inverse, fit.coefficients)
    penalty = np.diag([0.0] + [lam * w.sum()] * 10)
    for group in np.unique(groups):
        out, kept = groups == group, groups != group
        again = np.linalg.solve(z[kept].T @ (z[kept] * w[kept, None]) + penalty, z[kept].T @ (w[kept] * y[kept]))
        assert np.allclose(found[out], z[out] @ again, atol=1e-8)


def test_labels_may_be_text_and_order_does_not_matter() -> None:
    q, w, y, groups = sample(3, n=100)
    fit = candidates(moments_of(q, w, y, groups), [0.1])[0]
    z = design(q, fit.mean, fit.scale)
    first = leave_group_out(z, w, y, groups, fit.inverse, fit.coefficients)
    names = np.array([f"Modul Ä{g}" for g in groups])
    order = np.random.default_rng(0).permutation(100)
    second = leave_group_out(z[order], w[order], y[order], names[order], fit.inverse, fit.coefficients)
    assert np.allclose(first[order], second, atol=1e-12)


def test_the_only_group_cannot_be_left_out() -> None:
    q, w, y, _ = sample(4, n=50, d=3)
    one = np.zeros(50)
    fit = candidates(moments_of(q, w, y, one), [0.1])[0]
    scores = []
    with pytest.raises(InputError, match="at least two groups"):
        scores.append(leave_group_out(design(q, fit.mean, fit.scale), w, y, one, fit.inverse, fit.coefficients))
    assert not scores


def test_a_shuffled_label_model_has_no_fold_out_skill() -> None:
    q, w, y, groups = sample(5, n=400)
    shuffled = np.random.default_rng(1).permutation(y)
    fit = candidates(moments_of(q, w, shuffled, groups), [0.01])[0]
    scores = leave_group_out(design(q, fit.mean, fit.scale), w, shuffled, groups, fit.inverse, fit.coefficients)
    assert abs(np.corrcoef(scores, shuffled)[0, 1]) < 0.2
