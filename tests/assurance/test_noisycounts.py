"""Bounds on noisy counts hold as often as they say, and the counts they are taken of could have been counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.assurance.auc import auc
from isthmus.assurance.bounds import clopper_pearson_upper
from isthmus.assurance.evidence import Evidence, checked
from isthmus.assurance.noisycounts import cautious, confidence_left, reach
from isthmus.contracts.sums import EVALUATION_BINS, EVALUATION_COUNTS, Evaluation, GroupSums
from isthmus.sandbox.noise import discrete_gaussian


def told(defects: int, answered_defects: int, missed: int, answered_good: int, alarms: int) -> Evaluation:
    known = {"defects": defects, "answered_defects": answered_defects, "missed_defects": missed}
    counts = dict.fromkeys(EVALUATION_COUNTS, 0) | known | {"answered_good": answered_good, "false_alarms": alarms}
    return Evaluation(counts, GroupSums(0, 0, 0, 0, 0, 0), np.zeros((2, EVALUATION_BINS), dtype=np.int64))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-200, 2500), min_size=5, max_size=5), st.floats(0.5, 300), st.integers(20, 2000), st.integers(2, 50))
def test_whatever_came_out_the_counts_could_have_been_counted(noisy: list[int], width: float, records: int, groups: int) -> None:
    clean = cautious(told(*noisy), records, min(groups, records), (width, width))
    other = cautious(told(*noisy[::-1]), records, min(groups, records), (width, width), clean.counts["defects"])
    checked(Evidence(clean=clean, corrupted={("noise", 1): other}, design_effect=1.0))
    assert clean.counts["answered"] > 0 and other.counts["answered"] > 0


@pytest.mark.parametrize("deviation", [2.0, 12.0])
def test_the_error_bound_fails_no_more_often_than_promised(deviation: float) -> None:
    """Monte Carlo at the nominal 90 %: 400 draws of records and noise."""
    rng, confidence, rate, records = np.random.default_rng(3), 0.9, 0.06, 2000
    width, failed, covered = reach(deviation, confidence, 1), 0, 0
    noise = discrete_gaussian(deviation**2, 400 * 5).reshape(400, 5)
    for drawn in noise:
        defect = rng.random(records) < 0.3
        answered, wrong = rng.random(records) < 0.8, rng.random(records) < rate
        parts = [defect.sum(), (answered & defect).sum(), (answered & defect & wrong).sum(), (answered & ~defect).sum()]
        true = [int(v) for v in (*parts, (answered & ~defect & wrong).sum())]
        found = cautious(told(*(int(t + d) for t, d in zip(true, drawn, strict=True))), records, records, (width, width)).counts
        failed += clopper_pearson_upper(found["errors"], found["answered"], confidence_left(confidence)) < rate
        covered += found["errors"] >= true[2] + true[4] and found["answered"] <= true[1] + true[3]
    assert failed <= 400 * 0.1
    assert covered >= 400 * (1 - 0.1 * 0.2) - 6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_the_area_is_no_larger_than_that_of_any_scores_with_these_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, score = rng.random(300) < 0.4, rng.normal(size=300)
    score = score + y * rng.uniform(0, 3)
    lo, hi = -0.3, rng.uniform(-0.3, 2.0)
    up, down = score >= hi, (score <= lo) & ~(score >= hi)
    counts = (y.sum(), (y & (up | down)).sum(), (y & down).sum(), (~y & (up | down)).sum(), (~y & up).sum())
    found = cautious(told(*(int(v) for v in counts)), 300, 300, (0.0, 0.0))
    order = score[y][:, None] > score[~y][None, :]
    assert auc(found.histogram) <= order.mean() + 1e-12
