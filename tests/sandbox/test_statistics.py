from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.sums import FEATURE_MAX, evaluation_from, moments_from
from isthmus.sandbox.statistics.evaluation import evaluation
from isthmus.sandbox.statistics.foldout import group_sums, verdicts
from isthmus.sandbox.statistics.moments import exact_gram, moments
from isthmus.sandbox.statistics.own_head import own_head
from isthmus.sandbox.statistics.records import Records, TrainingRecords, group_codes, kinds_in


def drawn(seed: int, n: int, d: int, groups: int = 4, extreme: bool = False) -> TrainingRecords:
    rng = np.random.default_rng(seed)
    q = [rng.integers(-FEATURE_MAX, FEATURE_MAX + 1, (n, d)).astype(np.int16) for _ in range(2)]
    if extreme:
        q = [np.full((n, d), -FEATURE_MAX, dtype=np.int16)] * 2
    y = rng.choice([-1, 1], n)
    y[: min(n, 2)] = [-1, 1][: min(n, 2)]
    records = Records(y.astype(np.int64), rng.integers(0, groups, n), tuple(rng.choice(["mono", "poly"], n)))
    return TrainingRecords(records, tuple(q), rng.integers(1, 17, n).astype(np.int64))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6), st.booleans())
def test_moments_are_exact_integers(seed: int, n: int, d: int, extreme: bool) -> None:
    training = drawn(seed, n, d, extreme=extreme)
    found = moments(training)
    q, y, w, _ = training.stacked()
    rows = [[int(v) for v in row] for row in q]
    assert found.sum_w == int(w.sum()) and found.sum_wy == int((w * y).sum()) and found.records == n
    for i in range(d):
        assert int(found.sum_wx[i]) == sum(int(w[r]) * rows[r][i] for r in range(2 * n))
        assert int(found.sum_wyx[i]) == sum(int(w[r]) * int(y[r]) * rows[r][i] for r in range(2 * n))
        for j in range(d):
            assert int(found.gram[i, j]) == sum(int(w[r]) * rows[r][i] * rows[r][j] for r in range(2 * n))
    again = moments_from(found.packed(), d)
    assert np.array_equal(again.gram, found.gram) and np.array_equal(again.packed(), found.packed())


def test_gram_is_exact_at_the_largest_values() -> None:
    q = np.full((10_000, 2), FEATURE_MAX, dtype=np.int16)
    q[0, 1] = -FEATURE_MAX
    gram = exact_gram(q, np.full(10_000, 16, dtype=np.int64))
    assert gram[0, 0] == 10_000 * 16 * FEATURE_MAX**2 and gram[0, 1] == 9_998 * 16 * FEATURE_MAX**2


def test_weights_beyond_exactness_and_range_are_refused() -> None:
    with pytest.raises(RefusedError):
        exact_gram(np.ones((1, 1), dtype=np.int16), np.array([1 << 30]))
    training = drawn(1, 4, 2)
    bad = training.views[0].copy()
    bad[0, 0] = -32768
    with pytest.raises(RefusedError):
        moments(TrainingRecords(training.records, (bad,), training.w))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-3, 3), st.sampled_from([-1, 1]), st.integers(0, 3)), min_size=0, max_size=30),
    st.floats(-2, 2),
    st.floats(0, 2),
)
def test_evaluation_counts_by_hand(rows: list[tuple[float, int, int]], lo: float, width: float) -> None:
    hi = lo + width
    y, groups = np.array([r[1] for r in rows], dtype=np.int64), np.array([r[2] for r in rows], dtype=np.int64)
    scores = np.array([r[0] for r in rows], dtype=np.float64)
    found = evaluation(Records(y, groups, ("",) * len(rows)), scores, lo, hi, np.ones(len(rows), dtype=bool))
    said = ["defect" if s >= hi else "good" if s <= lo else "" for s in scores]
    answered = [r for r, v in zip(rows, said, strict=True) if v]
    missed = sum(v == "good" and r[1] == 1 for r, v in zip(rows, said, strict=True))
    alarms = sum(v == "defect" and r[1] == -1 for r, v in zip(rows, said, strict=True))
    counts = found.counts
    assert (counts["records"], counts["answered"], counts["errors"]) == (len(rows), len(answered), missed + alarms)
    assert (counts["missed_defects"], counts["false_alarms"], counts["groups"]) == (missed, alarms, len({r[2] for r in rows}))
    assert found.clusters.a == len(answered) and found.clusters.e == missed + alarms and found.histogram.sum() == len(rows)
    assert evaluation_from(found.packed()).counts == counts


def test_a_score_that_is_no_number_goes_to_a_person() -> None:
    assert verdicts(np.array([np.nan, 0.0, -1.0, 1.0]), 0.0, 0.0).tolist() == [0, 1, -1, 1]


def test_group_sums_of_nothing() -> None:
    none = np.zeros(0, dtype=bool)
    assert group_sums(none, none, np.zeros(0, dtype=np.int64)).packed().tolist() == [0] * 6
    assert group_codes(["b", "a", "b"]).tolist() == [1, 0, 1]


def test_own_head_needs_two_classes_and_two_groups() -> None:
    training = drawn(3, 20, 2)
    one_class = TrainingRecords(Records(np.ones(20, dtype=np.int64), training.records.groups, ("",) * 20), training.views, training.w)
    one_group = TrainingRecords(Records(training.records.y, np.zeros(20, dtype=np.int64), ("",) * 20), training.views, training.w)
    for bad in (one_class, one_group):
        with pytest.raises(RefusedError):
            own_head(bad, (1.0,))
    assert own_head(training, (0.1, 1.0)).shape == (3,)


def test_a_record_may_be_of_several_kinds() -> None:
    records = Records(np.array([1, -1, 1], np.int64), np.arange(3), ("women; under 30", "men;from 30", ""))
    assert kinds_in("women; under 30") == ("women", "under 30") and kinds_in(" ; ") == ()
    assert records.of_kind("women").tolist() == [True, False, False] and records.of_kind("from 30").tolist() == [False, True, False]
    assert not records.of_kind("wom").any() and not records.of_kind("women; under 30").any()
