"""Penalty and thresholds from fold-out sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.assurance.bounds import korn_graubard_bounds
from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, FoldOut, bin_edge, score_bins
from isthmus.foundry.foldout import NEVER, ThresholdPlan, choose_lambda, choose_thresholds, leave_one_group_out, smoothed
from isthmus.foundry.ridge import LAMBDAS
from tests.foundry.test_ridge import sample


def bound(errors: NDArray[np.float64], n: NDArray[np.float64], design_effect: float, groups: int) -> NDArray[np.float64]:
    return korn_graubard_bounds(errors, n, design_effect, groups, 0.95)


def plan(**changes: float) -> ThresholdPlan:
    values = {"bar": 0.05, "records": 800, "groups": 20, "design_effect": 1.0, "power": 0.8} | changes
    return ThresholdPlan(bound=bound, **values)  # type: ignore[arg-type]


def histogram(good: float, defect: float, n_good: int = 1500, n_defect: int = 500, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    sides = (rng.normal(good, 0.4, n_good), rng.normal(defect, 0.4, n_defect))
    return np.stack([np.bincount(score_bins(s), minlength=SCORE_BINS) for s in sides])


def fold_out(losses: list[int]) -> FoldOut:
    return FoldOut(10, np.array(losses, np.int64), np.zeros((len(losses), 2, SCORE_BINS), np.int64))


def test_least_loss_wins_and_ties_go_to_the_larger_penalty() -> None:
    assert choose_lambda(fold_out([5, 3, 4]), [0.1, 1.0, 10.0]) == 1
    assert choose_lambda(fold_out([3, 3, 3]), [0.1, 1.0, 10.0]) == 2
    assert choose_lambda(fold_out([3, 3, 3]), [10.0, 1.0, 0.1]) == 0
    with pytest.raises(InputError):
        choose_lambda(fold_out([3, 3]), [0.1])


def test_thresholds_meet_the_plan_and_answer_what_they_say() -> None:
    counts = histogram(-0.5, 0.5)
    found = choose_thresholds(counts, plan())
    assert found.reached and found.predicted_bound <= 0.05 and not found.note
    edges = np.array([bin_edge(i) for i in range(SCORE_BINS)])
    low, high = edges < found.lo, edges >= found.hi
    answered = counts[:, low].sum() + counts[:, high].sum()
    errors = counts[1, low].sum() + counts[0, high].sum()
    assert found.share == pytest.approx(answered / counts.sum())
    assert found.error_rate == pytest.approx(errors / answered)
    assert 0.3 < found.share < 1.0


def test_more_noise_or_clusters_or_power_never_answer_more() -> None:
    share = choose_thresholds(histogram(-0.5, 0.5), plan()).share
    assert choose_thresholds(histogram(-0.4, 0.4), plan()).share < share
    assert choose_thresholds(histogram(-0.5, 0.5), plan(design_effect=3.0)).share < share
    assert choose_thresholds(histogram(-0.5, 0.5), plan(power=0.95)).share <= share
    assert choose_thresholds(histogram(-0.5, 0.5), plan(records=200)).share < share


def test_out_of_reach_says_so_and_still_gives_thresholds() -> None:
    found = choose_thresholds(histogram(0.0, 0.0), plan())
    assert not found.reached
    assert "no thresholds are expected to prove" in found.note
    assert found.lo <= found.hi
    assert not choose_thresholds(histogram(-0.5, 0.5), plan(groups=1)).reached


def test_class_bars_are_met_too() -> None:
    rare = histogram(-0.5, 0.3, 3000, 150)  # answering good alone would meet the error bar
    loose = choose_thresholds(rare, plan())
    assert loose.reached and loose.hi - loose.lo < 2
    strict = choose_thresholds(rare, plan(recall_min=0.5, records=3000, groups=40))
    edges = np.array([bin_edge(i) for i in range(SCORE_BINS)])
    caught = rare[1, edges >= strict.hi].sum()
    missed = rare[1, edges < strict.lo].sum()
    assert strict.reached
    assert missed / (missed + caught) < 0.5
    assert strict.share < loose.share


def test_scores_beyond_the_ends_are_answered_only_by_real_thresholds() -> None:
    counts = np.zeros((2, SCORE_BINS), np.int64)
    counts[0, 0] = 500  # all good ones far below the lowest edge
    counts[1, 0] = 400
    counts[1, -1] = 100
    found = choose_thresholds(counts, plan(records=1000))
    assert found.lo == -NEVER  # the mixed end bin is never answered
    assert found.hi < 2.0 and found.share == pytest.approx(0.1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=30))
def test_any_histogram_gives_ordered_thresholds_and_true_shares(bins: list[tuple[int, int, int]]) -> None:
    counts = np.zeros((2, SCORE_BINS), np.int64)
    for at, good, defect in bins:
        counts[:, at] += (good, defect)
    if counts.sum() == 0:
        with pytest.raises(InputError):
            choose_thresholds(counts, plan())
        return
    found = choose_thresholds(counts, plan())
    edges = np.array([bin_edge(i) for i in range(SCORE_BINS)])
    low, high = edges < found.lo, edges >= found.hi
    assert found.lo <= found.hi
    assert found.share == pytest.approx((counts[:, low].sum() + counts[:, high].sum()) / counts.sum())


def test_the_chance_of_a_pass_is_about_the_power() -> None:
    """Thresholds chosen on one draw, then the bound computed on fresh draws of the planned size."""
    rng, passed, runs = np.random.default_rng(4), 0, 60
    for seed in range(runs):
        found = choose_thresholds(histogram(-0.5, 0.5, 1500, 500, seed=seed), plan())
        good, defect = rng.normal(-0.5, 0.4, 600), rng.normal(0.5, 0.4, 200)
        errors = (good >= found.hi).sum() + (defect <= found.lo).sum()
        answered = errors + (good <= found.lo).sum() + (defect >= found.hi).sum()
        passed += bool(korn_graubard_bounds(errors, answered, 1.0, 20, 0.95) <= 0.05)
    assert 0.65 <= passed / runs <= 0.97


def test_in_process_run_sends_the_same_sums_as_its_scores() -> None:
    q, w, y, groups = sample(9, n=200)
    run = leave_one_group_out(q, w, y, groups, [0.01, 0.1])
    assert run.scores.shape == (2, 200)
    assert run.sums.histogram.sum(axis=(1, 2)).tolist() == [200, 200]
    assert run.sums.histogram[0, 1].sum() == (y == 1).sum()
    expected = (w * (y - run.scores[1]) ** 2).sum()
    assert run.sums.loss[1] / LOSS_UNIT == pytest.approx(expected, rel=1e-9)
    assert len(leave_one_group_out(q, w, y, groups).candidates) == len(LAMBDAS)
    with pytest.raises(InputError):
        leave_one_group_out(q, w, y, np.zeros(200), [0.1])


def test_smoothing_keeps_every_count_and_where_it_lies() -> None:
    few = histogram(-0.5, 0.5, 60, 25, seed=3)
    found, edges = smoothed(few), np.array([bin_edge(i) for i in range(SCORE_BINS)])
    assert found.sum(axis=1) == pytest.approx([60, 25]) and found.min() >= 0
    assert found @ edges == pytest.approx(few @ edges, rel=0.02, abs=0.3)
    assert np.count_nonzero(found[1] > 1e-6) > 2 * np.count_nonzero(few[1])
    lone = np.zeros((2, SCORE_BINS), np.int64)
    lone[0, 7], lone[1, 9] = 1, 40
    assert np.array_equal(smoothed(lone), lone), "one score, or scores without a spread, stay"
    empty = np.zeros((2, SCORE_BINS), np.int64)
    assert np.array_equal(smoothed(empty), empty)


def test_thresholds_on_few_scores_pass_more_often_when_these_are_smoothed() -> None:
    """100 scores chosen on, 200 fresh ones judged: the smoothed choice holds at more of the same 120 sites."""
    rng, passed = np.random.default_rng(8), {"raw": 0, "smoothed": 0}
    for seed in range(120):
        few = histogram(-0.4, 0.4, 70, 30, seed=seed)
        good, defect = rng.normal(-0.4, 0.4, 140), rng.normal(0.4, 0.4, 60)
        for name, counts in (("raw", few), ("smoothed", smoothed(few))):
            found = choose_thresholds(counts, plan(bar=0.1, records=200, groups=200, power=0.9))
            errors = (good >= found.hi).sum() + (defect <= found.lo).sum()
            answered = errors + (good <= found.lo).sum() + (defect >= found.hi).sum()
            passed[name] += bool(korn_graubard_bounds(errors, answered, 1.0, 200, 0.95) <= 0.1)
    assert passed["smoothed"] > passed["raw"] + 8 and passed["smoothed"] >= 84, passed
