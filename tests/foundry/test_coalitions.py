"""Heads of coalitions from owners' sums: those of a ridge fit on the coalition's records."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import Moments
from isthmus.foundry.coalitions import coalition_heads, summed
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates


def owned(seed: int, records: int = 60, d: int = 5, one_class: bool = False) -> tuple[Moments, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    y = np.ones(records, dtype=np.int64) if one_class else np.where(rng.random(records) < 0.4, 1, -1)
    q = np.clip(rng.normal(3000, 900, (records, d)) + 400 * y[:, None] * (np.arange(d) < 2), -32767, 32767).astype(np.int16)
    w, groups = rng.integers(1, 3, records), np.arange(records) // 3
    return moments_of(q, w, y, groups), (q, w, y, groups)


@pytest.mark.parametrize("lam", [0.001, 0.3])
def test_each_head_is_the_ridge_fit_on_the_coalitions_records(lam: float) -> None:
    found = [owned(seed) for seed in range(4)]
    parts = [moments for moments, _ in found]
    heads = coalition_heads(parts, list(range(1, 16)), lam)
    assert heads.known.all()
    for mask in range(1, 16):
        rows = [np.concatenate(arrays) for arrays in zip(*(found[i][1] for i in range(4) if mask >> i & 1), strict=True)]
        (fit,) = candidates(moments_of(*rows), [lam])
        assert np.allclose(heads.rows[mask - 1], fit.raw(), rtol=1e-7, atol=1e-12)


def test_a_coalition_of_one_class_has_no_head() -> None:
    parts = [owned(1)[0], owned(2, one_class=True)[0]]
    heads = coalition_heads(parts, [1, 2, 3], 0.1)
    assert heads.known.tolist() == [True, False, True] and not heads.rows[1].any()


def test_scores_are_exact_sums_in_any_order() -> None:
    parts, q = [owned(1)[0], owned(2)[0]], owned(1)[1][0].astype(np.float64)
    head = coalition_heads(parts, [3], 0.1).rows[0]
    forward = [float(sum([head[0], *(row * head[1:])])) for row in q]
    backward = [float(sum([*(row * head[1:])[::-1], head[0]])) for row in q]
    assert forward == backward == (q @ head[1:] + head[0]).tolist()


def test_what_cannot_be_solved_is_said() -> None:
    with pytest.raises(InputError, match="penalty"):
        coalition_heads([owned(1)[0]], [1], 0.0)
    with pytest.raises(InputError, match="different features"):
        summed([owned(1)[0], owned(1, d=4)[0]])
    with pytest.raises(InputError, match="no sums"):
        summed([])
