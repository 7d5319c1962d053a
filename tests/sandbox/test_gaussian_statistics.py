"""gaussian/1 and its rounds: exact sums of good records, scores that no record's own group took part in, and a site's share."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Array, Gaussian, Stage
from isthmus.contracts.statistic import (
    GAUSSIAN,
    GAUSSIAN_CLUSTERS,
    GAUSSIAN_FOLD_OUT,
    MOMENTS,
    SITE_GAUSSIAN,
    GaussianClustersParams,
    GaussianFoldOutParams,
    SiteGaussianParams,
    site_gaussians_from,
)
from isthmus.contracts.sums import good_moments_from, good_moments_size
from isthmus.kit.mahalanobis import scores, spread_of, squared_distances, whitening
from isthmus.sandbox.statistics.gaussian import LeftOut, gaussian_clusters, gaussian_foldout, gaussian_scores, good_moments
from isthmus.sandbox.statistics.records import Records, TrainingRecords
from isthmus.sandbox.statistics.registry import STATISTICS, parsed_params
from isthmus.sandbox.statistics.site_gaussian import blended, site_gaussians

STAGE = Stage(backbone="b", parts=("p",), dimension=3, digest="d", positions=16, zones=2)


def owner(seed: int, n: int = 24, defects: bool = True, away: float = 0.0) -> TrainingRecords:
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < (0.3 if defects else 0.0), 1, -1).astype(np.int64)
    q = np.rint(rng.normal(size=(n, 16, 3)) * 400 + 100 + away + 900 * (y[:, None, None] > 0)).astype(np.int16)
    return TrainingRecords(Records(y, np.arange(n) // 4, ("",) * n), (q.reshape(n, -1),), rng.integers(1, 3, n))


def total(*owners: TrainingRecords) -> Any:
    return good_moments_from(np.sum([good_moments(one, STAGE).packed() for one in owners], axis=0), 3, 2)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_owners_sums_add_up_to_the_pooled_gaussian(seed: int) -> None:
    first, second = owner(seed), owner(seed + 1)
    pooled = TrainingRecords(
        Records(np.concatenate([first.records.y, second.records.y]), np.arange(48) // 4, ("",) * 48),
        (np.concatenate([first.views[0], second.views[0]]),),
        np.concatenate([first.w, second.w]),
    )
    joint, alone = total(first, second), good_moments(pooled, STAGE)
    assert np.array_equal(joint.packed(), alone.packed()) and joint.packed().size == good_moments_size(3, 2)
    assert np.array_equal(whitening(spread_of(joint), 0.1).matrix, whitening(spread_of(alone), 0.1).matrix)


def test_a_group_is_scored_by_the_fit_that_never_saw_it() -> None:
    mine, other = owner(1), owner(2)
    found = LeftOut(mine, STAGE, total(mine, other)).scores(0.05, 3)
    for group in range(6):
        rows = mine.records.groups != group
        rest = dataclasses.replace(
            mine,
            records=Records(mine.records.y[rows], mine.records.groups[rows], ("",) * int(rows.sum())),
            views=(mine.views[0][rows],),
            w=mine.w[rows],
        )
        fitted = whitening(spread_of(total(rest, other)), 0.05)
        head = Gaussian(matrix=Array.of(fitted.matrix), centre=Array.of(fitted.centre), top=3)
        assert np.array_equal(found[~rows], gaussian_scores(mine.views[0][~rows], STAGE, head))


def test_defects_are_scored_and_are_in_no_sum() -> None:
    mine, other = owner(1), owner(2)
    without = dataclasses.replace(mine, records=dataclasses.replace(mine.records, y=np.full(24, -1)))
    assert total(mine).records < total(without).records
    params = GaussianFoldOutParams(total=Array.of(total(mine, other).packed()), shrinkages=(0.1,), top=3, histograms=True)
    found = gaussian_foldout(mine, params, STAGE)
    assert found.histogram[0].sum(axis=1).tolist() == [int((mine.records.y < 0).sum()), int((mine.records.y > 0).sum())]
    assert found.sum_w == int(mine.w[mine.records.y < 0].sum())


def test_alarms_count_good_records_that_are_not_called_good() -> None:
    mine, other = owner(1), owner(2)
    shared = {"total": Array.of(total(mine, other).packed()), "shrinkage": 0.1, "top": 3}
    everything = gaussian_clusters(mine, GaussianClustersParams(**shared, lo=-2.0, hi=1e6, alarms=True), STAGE)
    assert everything.a == everything.e == int((mine.records.y < 0).sum())
    nothing = gaussian_clusters(mine, GaussianClustersParams(**shared, lo=2.0, hi=1e6, alarms=True), STAGE)
    assert nothing.a == everything.a and nothing.e == 0


def test_a_total_that_does_not_hold_the_owner_is_refused() -> None:
    with pytest.raises(RefusedError, match="less than this owner's part"):
        LeftOut(owner(1), STAGE, total(owner(2, 8)))
    one_group = dataclasses.replace(owner(3), records=dataclasses.replace(owner(3).records, groups=np.zeros(24, dtype=np.int64)))
    with pytest.raises(RefusedError, match="one group"):
        LeftOut(one_group, STAGE, total(one_group))


def test_a_site_like_the_fleet_leans_on_it_and_another_on_itself() -> None:
    fleet = total(*(owner(seed, 200, False) for seed in range(3)))
    params = SiteGaussianParams(total=Array.of(fleet.packed()), fleet_shrinkage=0.05, factors=(1.0, 16.0), shrinkages=(0.05, 0.3), top=3)
    shares = {}
    for name, away in (("alike", 0.0), ("other", 1200.0)):
        site = owner(50, 24, False, away)
        packed = site_gaussians(site, fleet, params, STAGE).packed()
        found = site_gaussians_from(packed, 3, 2)
        assert np.array_equal(found.packed(), packed) and found.known.all() and found.histograms.sum() == 3 * 24
        shares[name] = float(found.factors[found.best])
        fitted = whitening(blended(spread_of(fleet), spread_of(total(site)), shares[name]), float(found.penalties[found.best]))
        assert np.array_equal(found.matrices[found.best], fitted.matrix)
    assert shares["alike"] < 0.3 < 0.9 < shares["other"]


def test_a_blend_is_the_gaussian_of_the_mixture() -> None:
    first, second = total(owner(1, defects=False)), total(owner(2, defects=False, away=300.0))
    share = float(second.weight[0] / (first.weight[0] + second.weight[0]))
    both = total(owner(1, defects=False), owner(2, defects=False, away=300.0))
    mixed, pooled = blended(spread_of(first), spread_of(second), share), spread_of(both)
    assert np.allclose(mixed.mean, pooled.mean) and np.allclose(mixed.covariance, pooled.covariance)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (GAUSSIAN, {"views": ["flip-up-down"]}),
        (GAUSSIAN_FOLD_OUT, {"shrinkages": [0.0]}),
        (GAUSSIAN_FOLD_OUT, {"shrinkages": [0.1, 0.2], "histograms": True}),
        (GAUSSIAN_FOLD_OUT, {"top": 17}),
        (GAUSSIAN_CLUSTERS, {"lo": 1.0, "hi": 0.0}),
        (SITE_GAUSSIAN, {"factors": []}),
        (SITE_GAUSSIAN, {"fleet_shrinkage": 2.0}),
        (MOMENTS, {}),
    ],
)
def test_parameters_out_of_bounds_are_refused(name: str, changes: dict[str, Any]) -> None:
    shared: dict[str, Any] = {"total": {"dtype": "<i8", "shape": [0], "data": ""}, "top": 3}
    fields: dict[str, dict[str, Any]] = {
        GAUSSIAN: {},
        MOMENTS: {},
        GAUSSIAN_FOLD_OUT: {**shared, "shrinkages": [0.1]},
        GAUSSIAN_CLUSTERS: {**shared, "shrinkage": 0.1, "lo": 0.0, "hi": 0.0},
        SITE_GAUSSIAN: {**shared, "fleet_shrinkage": 0.1, "factors": [1.0], "shrinkages": [0.1]},
    }
    if changes:
        assert parsed_params(name, fields[name], STAGE)[0] is STATISTICS[name]
    with pytest.raises(RefusedError):
        parsed_params(name, {**fields[name], **changes}, STAGE)


def test_a_score_is_of_the_farthest_places() -> None:
    q = np.zeros((1, 16, 3), dtype=np.int16)
    q[0, 5] = 1000
    matrix, centre = np.stack([np.eye(3) * 512 / 100] * 2), np.zeros((2, 3))
    squares = squared_distances(q, matrix, centre)
    assert squares[0, 5] == 3 * 5120**2 and squares.sum() == squares[0, 5]
    assert scores(squares, 1, 3)[0] > scores(squares, 2, 3)[0] > scores(squares, 16, 3)[0]
