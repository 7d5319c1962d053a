"""Sums of numbers that are foretold are those of the pooled records, bit for bit, whoever holds which; bad parameters are refused."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Array, Stage
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.statistic import Candidate
from isthmus.contracts.targets import TARGET_MAX, Target, Weighing, weights_of
from isthmus.contracts.valuesums import (
    Bands,
    ResidualGrid,
    ValueClustersParams,
    ValueFoldOutParams,
    ValueMomentsParams,
    value_foldout_from,
    value_moments_from,
)
from isthmus.foundry.regression import OwnerRows, fit_owners
from isthmus.sandbox.statistics.records import Records, TrainingRecords
from isthmus.sandbox.statistics.registry import parsed_params
from isthmus.sandbox.statistics.values import ValueRows, beyond, value_clusters, value_foldout, value_moments

SCHEMA = Schema(columns=(Column(name="wear", low=0.0, high=10.0), Column(name="load", low=0.0, high=5.0)))
STAGE = Stage(backbone="table", parts=("columns",), dimension=3, digest="d", schema=SCHEMA)
TARGETS = (Target(name="later", low=0.0, high=10.0, change_from="wear"), Target(name="left", low=0.0, high=100.0))


def rows(seed: int, count: int = 120) -> ValueRows:
    rng = np.random.default_rng(seed)
    q = rng.integers(-9000, 9000, (count, 3)).astype(np.int16)
    units = np.stack([q @ [0.5, -0.2, 0.1] + rng.normal(0, 400, count), q @ [-0.3, 0.4, 0.2] + rng.normal(0, 900, count)], axis=1)
    found = np.rint(units).astype(np.int64)
    records = Records(found[:, 0], np.arange(count) // 6, ("",) * count)
    return ValueRows(TrainingRecords(records, (q,), rng.integers(1, 4, count)), found)


def pooled(parts: list[ValueRows]) -> OwnerRows:
    q, w, g = [], [], []
    for place, part in enumerate(parts):
        q.append(part.training.views[0])
        w.append(part.training.w)
        g.append(part.training.records.groups + 1000 * place)
    return OwnerRows(np.concatenate(q), np.concatenate(w), np.concatenate([p.units[:, 0] for p in parts]), np.concatenate(g))


def test_one_gram_serves_all_targets_and_gives_the_pooled_fits() -> None:
    parts = [rows(seed) for seed in range(3)]
    total = value_moments_from(np.sum([value_moments(part).packed() for part in parts], axis=0), 2, 3)
    whole = pooled(parts)
    for place in range(2):
        own = replace(whole, y=np.concatenate([part.units[:, place] for part in parts])).moments()
        assert (total.of_target(place).packed() == own.packed()).all()


def _candidates(parts: list[ValueRows], lambdas: tuple[float, ...]) -> tuple[list[list[Candidate]], int]:
    whole, found = pooled(parts), []
    for place in range(2):
        y = np.concatenate([part.units[:, place] for part in parts])
        fits = [fit_owners([replace(whole, y=y)], (lam,)).candidate for lam in lambdas]
        found.append([Candidate(penalty=f.lam, bias=float(f.raw()[0]), coefficients=Array.of(f.raw()[1:])) for f in fits])
    return found, int(whole.w.sum())


def test_fold_out_losses_and_residuals_add_up_near_to_the_pooled_ones() -> None:
    parts = [rows(seed) for seed in range(3)]
    made, weight = _candidates(parts, (0.001, 0.1))
    params = ValueFoldOutParams(targets=TARGETS, candidates=tuple(map(tuple, made)), total_weight=weight)
    total = value_foldout_from(np.sum([value_foldout(part, params).packed() for part in parts], axis=0), params)
    whole = pooled(parts)
    for place in range(2):
        y = np.concatenate([part.units[:, place] for part in parts])
        for k, lam in enumerate((0.001, 0.1)):
            exact = fit_owners([replace(whole, y=y)], (lam,)).loss
            assert total.losses[place, k] == pytest.approx(exact, rel=0.03)
    grids = (ResidualGrid(edges=(0.0,), limit=8000.0, bins=64),) * 2
    params = ValueFoldOutParams(targets=TARGETS, candidates=tuple((one[0],) for one in made), total_weight=weight, grids=grids)
    total = value_foldout_from(np.sum([value_foldout(part, params).packed() for part in parts], axis=0), params)
    assert [int(counts.sum()) for counts in total.counts] == [360, 360] and total.counts[0].shape == (2, 64)


def test_misses_are_counted_by_group() -> None:
    part = rows(5)
    made, _ = _candidates([part], (0.001,))
    bands = (Bands(edges=(), lows=(-100.0,), highs=(100.0,)), Bands(edges=(0.0,), lows=(-1e9, -50.0), highs=(1e9, 50.0)))
    params = ValueClustersParams(
        targets=TARGETS, candidates=tuple(one[0] for one in made), total_weight=int(part.training.w.sum()), bands=bands
    )
    first, second = value_clusters(part, params).reshape(2, 6)
    assert first[0] == 20 and first[1] == 120 and 0 < first[2] <= 120
    assert 0 < second[2] < 120 and second[2] < first[2] * 2
    assert beyond(np.array([-1.0, 0.0]), np.array([60.0, 60.0]), bands[1]).tolist() == [False, True]  # an edge belongs to the part above


def test_records_are_weighed_by_what_is_known() -> None:
    found = weights_of(Weighing(column="wear", unit=2.0), [0.0, 2.0, 5.0, 1e9, np.nan])
    assert found.tolist() == [1, 1, 2, 16, 1]


def test_parameters_out_of_bounds_are_refused() -> None:
    good = Candidate(penalty=1.0, bias=0.0, coefficients=Array.of(np.zeros(3)))
    grid = ResidualGrid(edges=(0.0,), limit=10.0, bins=64)
    wrong: list[tuple[str, msgspec.Struct]] = [
        ("value-moments/1", ValueMomentsParams(targets=())),
        ("value-moments/1", ValueMomentsParams(targets=(TARGETS[0], TARGETS[0]))),
        ("value-moments/1", ValueMomentsParams(targets=(Target(name="load", low=0.0, high=5.0),))),
        ("value-moments/1", ValueMomentsParams(targets=TARGETS, weigh=Weighing(column="mode", unit=1.0))),
        ("value-foldout/1", ValueFoldOutParams(targets=TARGETS, candidates=((good,),), total_weight=9)),
        ("value-foldout/1", ValueFoldOutParams(targets=TARGETS, candidates=((good, good),) * 2, total_weight=9, grids=(grid, grid))),
        (
            "value-foldout/1",
            ValueFoldOutParams(
                targets=TARGETS, candidates=((good,),) * 2, total_weight=9, grids=(grid, msgspec.structs.replace(grid, bins=9999))
            ),
        ),
        (
            "value-clusters/1",
            ValueClustersParams(
                targets=TARGETS,
                candidates=(good, good),
                total_weight=9,
                bands=(Bands(edges=(1.0, 0.0), lows=(0.0,) * 3, highs=(1.0,) * 3),) * 2,
            ),
        ),
    ]
    for name, params in wrong:
        with pytest.raises(RefusedError):
            parsed_params(name, msgspec.to_builtins(params), STAGE)
    with pytest.raises(RefusedError, match="not from pictures"):
        parsed_params(
            "value-moments/1", msgspec.to_builtins(ValueMomentsParams(targets=TARGETS)), msgspec.structs.replace(STAGE, schema=None)
        )
    assert TARGET_MAX == 32767
