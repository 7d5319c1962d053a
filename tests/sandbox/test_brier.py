"""brier/1: losses of many heads by parts of whole groups, and who lets them leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.brier import BRIER, BrierParams, brier_dimension, brier_from
from isthmus.contracts.errors import AgreementError, InputError
from isthmus.contracts.head import Array
from isthmus.contracts.statistic import MOMENTS
from isthmus.contracts.sums import LOSS_UNIT
from isthmus.sandbox.statistics.brier import brier, parts_of, smallest_part
from isthmus.sandbox.statistics.records import Records
from tests.sandbox.world import OPERATIONS, D, World

SCORED = {"visibility": "individual", "contribution": True, "operations": (*OPERATIONS, BRIER), "least_participants": 1}


def params(heads: int = 3, buckets: int = 4, least: int = 6, seed: int = 0, d: int = D) -> BrierParams:
    rows = np.random.default_rng(seed).normal(0, 1e-4, (heads, d + 1))
    return BrierParams(heads=Array.of(rows), buckets=buckets, bucket_records_min=least)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 16), st.integers(1, 20))
@settings(max_examples=80, deadline=None)
def test_parts_are_whole_groups_and_large_enough(sizes: list[int], most: int, least: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    parts = parts_of(groups, most, least)
    assert np.array_equal(parts, parts_of(groups, most, least)) and 0 <= parts.min() <= parts.max() < most
    assert all(len(set(parts[groups == g].tolist())) == 1 for g in range(len(sizes)))
    counts = np.bincount(parts)
    assert counts[counts > 0].min() >= min(least, len(groups))


def test_losses_are_squared_errors_of_the_stated_probability() -> None:
    rng = np.random.default_rng(1)
    records = Records(np.where(rng.random(50) < 0.4, 1, -1), np.arange(50) // 5, ("",) * 50)
    q, given_ = rng.integers(-9000, 9000, (50, D)).astype(np.int16), params(700)
    found = brier_from(brier(records, q, given_).packed(), given_)
    heads = given_.heads.array()
    chance = np.clip((q @ heads[:, 1:].T + heads[:, 0] + 1) / 2, 0, 1)
    wanted = ((chance - (records.y > 0)[:, None]) ** 2).sum(axis=0)
    assert found.records.sum() == 50 and np.allclose(found.losses.sum(axis=0) / LOSS_UNIT, wanted, atol=50 / LOSS_UNIT)
    assert smallest_part(records, given_) == found.records[found.records > 0].min()
    with pytest.raises(ValueError, match="entries"):
        brier_from(np.zeros(3, dtype=np.int64), given_)


def test_few_heads_tell_of_few_features() -> None:
    assert [brier_dimension(heads, 24) for heads in (1, 8, 16, 288, 4096)] == [2, 4, 6, 24, 24]


def agreed(tmp_path: Path, **terms: Any) -> World:
    world = World(tmp_path)
    world.terms = {**SCORED, **terms}
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    return world


def phase(world: World, asked: BrierParams, **more: Any) -> str:
    job = world.service.create_job(world.request(BRIER, msgspec.to_builtins(asked), **more))
    world.steps(4)
    return world.service.job(job.id).phase


def test_losses_leave_only_under_an_agreement_to_be_scored(tmp_path: Path) -> None:
    world = agreed(tmp_path / "a", least_group_size=2, dimension_records_min_ratio=1)
    assert phase(world, params(buckets=2, least=4)) == "done"
    assert phase(world, params(buckets=2, least=4, seed=2), round=2) == "failed", "once a run"
    assert world.owners["alfa"].refusals() == ["rounds"]
    world = agreed(tmp_path / "b", contribution=False)
    assert phase(world, params()) == "failed" and world.owners["alfa"].refusals() == ["contribution"]


@pytest.mark.parametrize("least", [1, 2])
def test_parts_that_are_too_small_are_refused_by_the_owner(tmp_path: Path, least: int) -> None:
    world = agreed(tmp_path, least_group_size=2)
    assert phase(world, params(heads=60, buckets=16, least=least)) == "failed"
    assert set(world.owners["alfa"].refusals()) <= {"dimension", "least-group-size"} and world.owners["alfa"].refusals()


@pytest.mark.parametrize(
    "changed",
    [
        {"buckets": 0},
        {"buckets": 17},
        {"bucket_records_min": 0},
        {"records": "elsewhere"},
        {"heads": Array.of(np.zeros((2, D)))},
        {"heads": Array.of(np.zeros((0, D + 1)))},
        {"heads": Array(dtype="<f8", shape=(70_000, D + 1), data="")},
    ],
)
def test_parameters_out_of_bounds(world: World, changed: dict[str, Any]) -> None:
    asked = msgspec.to_builtins(msgspec.structs.replace(params(), **changed))
    with pytest.raises(InputError):
        world.service.create_job(world.request(BRIER, asked))


def test_scoring_and_aggregate_exclude_each_other(world: World) -> None:
    home = world.owners["alfa"].home
    with pytest.raises(AgreementError, match="seen in aggregate only and for scoring each owner by its own sums"):
        home.agree(world.agreement(home, {"alfa": home.key.public_hex}, contribution=True))


def test_own_sums_are_told_alone_before_and_after_a_total(tmp_path: Path) -> None:
    world = agreed(tmp_path)
    shown = tuple(msgspec.to_builtins(o.home.store.agreements()[0][1]) for o in world.owners.values())
    job = world.service.create_job(world.request(MOMENTS))
    world.steps(4)
    assert world.service.job(job.id).phase == "done"
    alone = world.request(MOMENTS, run_id="run-1/owner-sums", roster=("alfa",))
    job = world.service.create_job(alone)
    world.steps(4)
    assert world.service.job(job.id).phase == "failed" and world.owners["alfa"].refusals() == ["would-reveal"]
    job = world.service.create_job(msgspec.structs.replace(alone, seen_singly=shown, run_id="run-2/owner-sums"))
    world.steps(4)
    assert world.service.job(job.id).phase == "done"
    assert isinstance(world.owners["alfa"].home.agreements()[0][1], Agreement)
