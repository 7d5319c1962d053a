"""Augmentations add rows to the sums, and nothing else: not to counts, groups, fold-out scores' number, or what other owners have."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.app.nodetools import node_tools
from isthmus.assurance.corruptions import corrupt
from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Array
from isthmus.contracts.statistic import (
    AUGMENTATIONS_MAX,
    FOLD_OUT,
    MOMENTS,
    VIEWS,
    WEIGHT_MAX,
    Candidate,
    Corruption,
    FoldOutParams,
    GaussianParams,
    MomentsParams,
    TrainingParams,
)
from isthmus.contracts.sums import foldout_from, moments_from
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.surfaces import spoilt
from isthmus.kit.hatmatrix import design
from isthmus.sandbox.statistics.foldout import fold_out_scores, score_histogram
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.own_head import fit
from isthmus.sandbox.statistics.parameters import check_bounds
from isthmus.sandbox.statistics.records import Records, TrainingRecords
from isthmus.sandbox.statistics.registry import computed, parsed_params
from tests.sandbox.world import D, World, tiny_stage, tiny_tools

LIGHT = Corruption(family="brightness", severity=2)
POSE = Corruption(family="turn", severity=1)
PLAIN = TrainingParams(views=VIEWS)
MORE = TrainingParams(views=VIEWS, augmentations=(LIGHT, POSE))


def owner_data(world: World, name: str):
    return world.owners[name].home.owner_data(tiny_tools())


def test_rows_are_added_and_nothing_is_counted_twice(world: World) -> None:
    data = owner_data(world, "alfa")
    plain, more = (data.training(tiny_stage(), params) for params in (PLAIN, MORE))
    assert MORE.rows_per_record == len(more.views) == len(VIEWS) + 2
    assert all((a == b).all() for a, b in zip(plain.views, more.views, strict=False))
    changed = data.features(tiny_stage(), "train", corruption=LIGHT)
    assert (more.views[len(VIEWS)] == changed).all() and (changed != plain.views[0]).any()
    before, after = moments(plain), moments(more)
    assert (before.records, before.groups) == (after.records, after.groups)
    assert after.sum_w * len(VIEWS) == before.sum_w * MORE.rows_per_record
    assert after.sum_wy * len(VIEWS) == before.sum_wy * MORE.rows_per_record


def test_the_total_is_that_of_the_pooled_rows_and_fold_out_sums_count_records(world: World) -> None:
    changed = (LIGHT, POSE)
    job = world.service.create_job(world.request(MOMENTS, MomentsParams(views=VIEWS, augmentations=changed)))
    world.steps()
    total = moments_from(world.service.job(job.id).total.array().astype(np.int64), D)
    parts = [owner_data(world, name).training(tiny_stage(), MORE) for name in world.owners]
    assert (total.packed() == sum(moments(part).packed() for part in parts)).all()
    raw = fit(total, 0.1).raw()
    candidate = Candidate(penalty=0.1, bias=float(raw[0]), coefficients=Array.of(raw[1:]))
    asked = FoldOutParams(views=VIEWS, augmentations=changed, candidates=(candidate,), total_weight=total.sum_w, histograms=True)
    job = world.service.create_job(world.request(FOLD_OUT, asked))
    world.steps()
    found = foldout_from(world.service.job(job.id).total.array().astype(np.int64), 1)
    assert found.histogram.sum() == total.records == sum(part.records.size for part in parts)
    assert found.sum_w == sum(int(part.w.sum()) for part in parts)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_fold_out_scores_never_see_a_changed_copy_of_what_they_judge(records: int, copies: int, seed: int) -> None:
    """A group's scores do not change with its own label: not one row of it, changed or not, is in the fit that judges it."""
    rng = np.random.default_rng(seed)
    q = tuple(rng.integers(-1000, 1000, (records, 3)).astype(np.int16) for _ in range(1 + copies))
    y = np.where(rng.random(records) < 0.5, 1, -1)
    y[0], y[-1] = 1, -1
    groups, w = np.arange(records), np.full(records, 2)

    def scores(labels):
        training = TrainingRecords(Records(labels, groups, ("",) * records), q, w)
        total = moments(training)
        raw = fit(total, 0.3).raw()
        return fold_out_scores(training, 0.3, float(raw[0]), raw[1:], total.sum_w)

    if records < 4:
        return
    other = y.copy()
    other[1] = -other[1]
    if abs(int(other.sum())) == records:
        return
    first, second = scores(y), scores(other)
    assert first.shape == (records,)
    assert second[1] == pytest.approx(first[1], abs=1e-6)
    assert score_histogram(first, y).sum() == records


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ((LIGHT, LIGHT), "one twice"),
        (tuple(Corruption(family=family, severity=1) for family in "abcdefghi"), f"{AUGMENTATIONS_MAX + 1} augmentations"),
        ((Corruption(family="fog", severity=1),), "fog"),
        ((Corruption(family="noise", severity=9),), "severity 9"),
    ],
)
def test_nodes_refuse_what_is_not_declared_or_costs_too_much(world: World, changed: tuple[Corruption, ...], words: str) -> None:
    asked = msgspec.to_builtins(MomentsParams(views=VIEWS, augmentations=changed))
    real = dataclasses.replace(owner_data(world, "alfa"), tools=dataclasses.replace(tiny_tools(), corrupt=corrupt))
    with pytest.raises(RefusedError, match=words):
        statistic, params = parsed_params(MOMENTS, asked, tiny_stage())
        computed(statistic, params, tiny_stage(), real, 5)


def test_the_same_record_is_changed_the_same_way_at_every_node() -> None:
    """What a changed copy looks like follows from the record alone, so features from two nodes' own caches agree."""
    pictures = [np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8) for seed in range(3)]
    for family in ("noise", "shift", "turn"):
        first, second = ([corrupt(picture, family, 2) for picture in order] for order in (pictures, pictures[::-1]))
        assert all((a == b).all() for a, b in zip(first, second[::-1], strict=True))


DRAWN = TrainingParams(views=VIEWS, augmentations=(LIGHT,), drawn_weight=3)


def with_drawing(world: World, name: str):
    data = owner_data(world, name)
    return dataclasses.replace(data, tools=dataclasses.replace(tiny_tools(), spoilt=lambda picture: picture // 2))


def test_drawn_defects_are_rows_of_the_other_class_for_good_records_only(world: World) -> None:
    data = with_drawing(world, "alfa")
    plain, more = data.training(tiny_stage(), weighing(DRAWN, 0)), data.training(tiny_stage(), DRAWN)
    good = more.records.y < 0
    assert more.drawn is not None and len(more.drawn) == good.sum() and plain.drawn is None
    q, y, w, groups = more.stacked()
    rows = len(more.views) * more.records.size
    assert (q[rows:] == more.drawn).all() and (y[rows:] == 1).all() and (w[rows:] == 3).all()
    assert (groups[rows:] == more.records.groups[good]).all()
    found, before = moments(more), moments(plain)
    pooled = moments_of(q, w, y, groups, records=more.records.size)
    assert (found.packed() == pooled.packed()).all()
    assert (found.records, found.groups) == (before.records, before.groups)
    assert found.sum_w - before.sum_w == found.sum_wy - before.sum_wy == 3 * good.sum()


def weighing(params: TrainingParams, weight: int) -> TrainingParams:
    return msgspec.structs.replace(params, drawn_weight=weight)


def test_fold_out_scores_of_real_records_only_are_told(world: World) -> None:
    training = with_drawing(world, "alfa").training(tiny_stage(), DRAWN)
    total = moments(training)
    raw = fit(total, 0.1).raw()
    scores = fold_out_scores(training, 0.1, float(raw[0]), raw[1:], total.sum_w)
    assert scores.shape == (training.records.size,)
    q, y, w, groups = training.stacked()
    group = training.records.groups[0]
    kept = groups != group
    f = fit(total, 0.1)
    z = design(q[kept], f.mean, f.scale)
    normal = (z * w[kept, None]).T @ z + np.diag([0.0] + [0.1 * total.sum_w] * D)
    expected = design(training.views[0][:1], f.mean, f.scale) @ np.linalg.solve(normal, (z * w[kept, None]).T @ y[kept])
    assert scores[0] == pytest.approx(expected[0], abs=1e-9)


def test_a_node_that_cannot_draw_refuses(world: World) -> None:
    with pytest.raises(RefusedError, match="drawn into pictures only"):
        owner_data(world, "alfa").training(tiny_stage(), DRAWN)
    for weight in (-1, WEIGHT_MAX + 1):
        with pytest.raises(RefusedError, match="drawn_weight"):
            parsed_params(MOMENTS, {"views": VIEWS, "drawn_weight": weight}, tiny_stage())


def test_drawn_defects_darken_a_picture_and_are_the_same_each_time() -> None:
    picture = np.full((40, 60, 3), 200, np.uint8)
    picture[:, :, 1] = 100
    first, second = spoilt(picture), spoilt(picture.copy())
    assert (first == second).all() and first.shape == picture.shape and first.dtype == np.uint8
    assert (first <= picture).all() and (first < picture).any()
    assert (spoilt(picture[::-1, :30]) != first[:, :30]).any()


def test_real_nodes_draw_and_corrupt_with_the_released_functions() -> None:
    tools = node_tools()
    assert tools.spoilt is spoilt and tools.corrupt is corrupt


def test_heads_that_learn_from_whole_records_are_not_given_copies() -> None:
    training = {"views": VIEWS, "augmentations": [{"family": "turn", "severity": 1}]}
    with pytest.raises(RefusedError, match="as they are"):
        check_bounds(GaussianParams(views=VIEWS, augmentations=(POSE,)), tiny_stage())
    with pytest.raises(RefusedError, match="ridge heads only"):
        check_bounds(GaussianParams(views=VIEWS, drawn_weight=1), tiny_stage())
    check_bounds(msgspec.convert(training, MomentsParams), tiny_stage())
