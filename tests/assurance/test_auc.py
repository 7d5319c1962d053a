"""Area under the ROC curve from bins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from isthmus.assurance.auc import auc, auc_area, roc_points
from isthmus.contracts.sums import SCORE_BINS, bin_edge, score_bins


def histogram(good: np.ndarray, defect: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(score_bins(s), minlength=SCORE_BINS) for s in (good, defect)])


def test_equals_scikit_learn_on_binned_scores() -> None:
    rng = np.random.default_rng(0)
    good, defect = rng.normal(-0.3, 0.5, 700), rng.normal(0.3, 0.6, 300)
    binned = score_bins(np.concatenate([good, defect]))
    wanted = roc_auc_score([0] * 700 + [1] * 300, binned)
    assert auc(histogram(good, defect)) == pytest.approx(wanted, abs=1e-12)
    assert auc(histogram(good, defect)) == pytest.approx(roc_auc_score([0] * 700 + [1] * 300, np.concatenate([good, defect])), abs=2e-3)


def test_edges() -> None:
    none = np.zeros((2, SCORE_BINS), int)
    assert auc(none) == 0.5
    assert (auc_area(none, 0.95).lower, auc_area(none, 0.95).upper) == (0.0, 1.0)
    assert roc_points(none) == []
    same = histogram(np.zeros(50), np.zeros(50))
    assert auc_area(same, 0.95).value == 0.5
    assert auc_area(same, 0.95).lower <= 0.5
    perfect = auc_area(histogram(-np.ones(100), np.ones(30)), 0.95)
    assert perfect.value == 1.0
    assert perfect.lower == pytest.approx(0.05 ** (1 / 30))
    one = auc_area(histogram(-np.ones(100), np.ones(1)), 0.95)
    assert one.lower == 0.0


def test_clusters_widen() -> None:
    rng = np.random.default_rng(1)
    counts = histogram(rng.normal(-0.3, 0.5, 200), rng.normal(0.3, 0.5, 100))
    assert auc_area(counts, 0.95, 4.0).lower < auc_area(counts, 0.95).lower < auc(counts) < auc_area(counts, 0.95).upper


def test_roc_runs_from_all_to_none_and_its_area_is_the_auc() -> None:
    rng = np.random.default_rng(2)
    counts = histogram(rng.normal(-0.3, 0.9, 400), rng.normal(0.3, 0.9, 200))
    points = roc_points(counts)
    assert (points[0].false_alarm_rate, points[0].recall) == (1.0, 1.0)
    assert (points[-1].false_alarm_rate, points[-1].recall) == (0.0, 0.0)
    x, y = (np.array([getattr(p, n) for p in points]) for n in ("false_alarm_rate", "recall"))
    assert (np.diff(x) <= 0).all() and (np.diff(y) <= 0).all()
    assert -np.trapezoid(y, x) == pytest.approx(auc(counts), abs=1e-12)
    assert points[0].threshold == bin_edge(0)


def test_the_lower_bound_holds_as_often_as_promised() -> None:
    rng, runs = np.random.default_rng(3), 2000
    true = 0.8023  # of two unit normals 1.2 apart: Phi(1.2 / sqrt 2)
    above = sum(auc_area(histogram(rng.normal(-0.3, 0.5, 120), rng.normal(0.3, 0.5, 80)), 0.95).lower > true for _ in range(runs))
    assert above <= binom.ppf(0.999, runs, 0.06)  # normal approximation: about 5 %
