"""Distances are those of the Gaussian of pooled rows, exact in any order, and exist for any sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import GoodMoments, good_moments_from
from isthmus.kit.mahalanobis import (
    DIMENSION_MAX,
    UNIT,
    Spread,
    distance_ratio,
    distances,
    scores,
    spread_of,
    squared_distances,
    whitening,
    without,
    zone_of,
)


def moments(rows: np.ndarray, records: int = 1) -> GoodMoments:
    """Of rows (n, d), one zone, weight 1."""
    whole = rows.astype(np.int64)
    return GoodMoments(records, records, np.array([len(rows)]), whole.sum(axis=0)[None], (whole.T @ whole)[None])


def drawn(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.rint(rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * 300 + rng.normal(size=d) * 2000).astype(np.int16)


def test_it_is_the_mahalanobis_distance_of_the_pooled_rows() -> None:
    rows = drawn(400, 6)
    fitted = whitening(spread_of(moments(rows)), 1e-9)
    found = squared_distances(rows[:, None], fitted.matrix, fitted.centre)[:, 0] / UNIT**2
    away = rows - rows.mean(axis=0)
    expected = np.einsum("ij,jk,ik->i", away, np.linalg.inv(np.cov(rows.T, bias=True)), away)
    assert np.allclose(found, expected, rtol=2e-3, atol=2e-2)
    assert fitted.log_determinant[0] == pytest.approx(np.linalg.slogdet(np.cov(rows.T, bias=True))[1], rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(arrays(np.int16, st.tuples(st.integers(2, 12), st.integers(1, 5)), elements=st.integers(-32767, 32767)), st.data())
def test_sums_of_parts_are_those_of_the_whole_and_a_part_is_taken_out_exactly(rows: np.ndarray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(rows) - 1))
    first, second, all_of = moments(rows[:cut]), moments(rows[cut:]), moments(rows, 2)
    rest = without(all_of, first)
    assert np.array_equal(rest.gram, second.gram) and np.array_equal(rest.sum_x, second.sum_x) and rest.weight == second.weight
    total = good_moments_from(first.packed() + second.packed(), rows.shape[1])
    whole, joint = spread_of(all_of), spread_of(total)
    assert np.array_equal(whole.mean, joint.mean) and np.array_equal(whole.covariance, joint.covariance)
    fitted = whitening(joint, 0.1)
    squares = squared_distances(rows[:, None], fitted.matrix, fitted.centre)
    assert np.isfinite(fitted.matrix).all() and (squares >= 0).all() and np.array_equal(squares, np.rint(squares))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 1000))
def test_no_order_of_summing_changes_a_digit(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = drawn(50, d, seed)
    fitted = whitening(spread_of(moments(rows)), 0.01)
    q = rng.integers(-32767, 32768, (20, 1, d)).astype(np.int16)
    once = squared_distances(q, fitted.matrix, fitted.centre)
    order = rng.permutation(d)
    shuffled = np.array(
        [[sum(float(q[n, 0, j]) * fitted.matrix[0, i, j] for j in order) - fitted.centre[0, i] for i in range(d)] for n in range(20)]
    )
    again = (np.clip(np.round(shuffled), -(2.0**23), 2.0**23) ** 2)[:, order].sum(axis=1)
    assert np.array_equal(once[:, 0], np.minimum(again, 2.0**44))


def test_the_score_rises_with_the_mean_of_the_farthest_and_stays_in_range() -> None:
    squares = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 8.0], [0.0, 0.0, 0.0, 0.0], [2.0**44] * 4]) * UNIT**2
    squares = np.minimum(squares, 2.0**44)
    found = scores(squares, 2, 1)
    assert found[2] == -2 and found[2] < found[0] < found[1] < found[3] < 2
    assert distance_ratio(float(found[0])) == pytest.approx(3.5, rel=1e-5)
    assert distances(squares[:1], 1)[0, 3] == np.float32(2.0)
    assert distance_ratio(2.0) == np.inf


def test_zones_are_rings_from_the_edge_inwards() -> None:
    zone = zone_of(196, 3).reshape(14, 14)
    assert (zone[0] == 0).all() and (zone[:, 13] == 0).all() and zone[1, 1] == 1 and (zone[2:12, 2:12] == 2).all()
    assert [int((zone == z).sum()) for z in range(3)] == [52, 44, 100]
    assert (zone_of(7, 1) == 0).all()


def test_fewer_rows_than_features_and_constant_features_have_a_shrunk_gaussian() -> None:
    rows = drawn(3, 8)
    rows[:, 0] = 5
    fitted = whitening(spread_of(moments(rows)), 0.01)
    assert np.isfinite(fitted.matrix).all()
    for bad in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="shrinkage"):
            whitening(spread_of(moments(rows)), bad)
    with pytest.raises(InputError, match="features"):
        whitening(Spread(np.zeros((1, DIMENSION_MAX + 1)), np.zeros((1, DIMENSION_MAX + 1, DIMENSION_MAX + 1))), 0.1)


def test_sums_of_nothing_and_damaged_sums_are_refused() -> None:
    with pytest.raises(InputError, match="no good record"):
        spread_of(without(moments(drawn(4, 2)), moments(drawn(4, 2))))
    damaged = moments(drawn(9, 2))
    damaged.gram[0, 0, 0] = 0
    with pytest.raises(InputError, match="negative"):
        spread_of(damaged)
    with pytest.raises(ValueError, match="entries"):
        good_moments_from(np.zeros(5, dtype=np.int64), 2)
