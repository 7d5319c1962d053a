"""Layouts of the sums: packing loses nothing, adding packed vectors is adding the sums, wrong sizes are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from isthmus.contracts.sums import (
    EVALUATION_BINS,
    EVALUATION_COUNTS,
    EVALUATION_SIZE,
    SCORE_BINS,
    SCORE_LIMIT,
    Evaluation,
    FoldOut,
    GroupSums,
    Moments,
    bin_edge,
    evaluation_from,
    foldout_from,
    foldout_size,
    group_sums_from,
    moments_from,
    moments_size,
    score_bins,
)

BIG = st.integers(-(2**62), 2**62)


def some(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).integers(-(2**40), 2**40, shape, dtype=np.int64)


def moments(seed: int, d: int) -> Moments:
    half = some(seed + 2, d, d)
    return Moments(5 + seed, 2, 7, -3, some(seed, d), some(seed + 1, d), np.triu(half) + np.triu(half, 1).T)


@given(st.integers(1, 12), st.integers(0, 1000))
def test_moments_round_trip(d: int, seed: int) -> None:
    one = moments(seed, d)
    packed = one.packed()
    assert packed.shape == (moments_size(d),) and packed.dtype == np.int64
    again = moments_from(packed, d)
    np.testing.assert_array_equal(again.gram, one.gram)
    np.testing.assert_array_equal(again.gram, again.gram.T)
    np.testing.assert_array_equal(again.packed(), packed)
    assert (again.records, again.groups, again.sum_w, again.sum_wy) == (one.records, one.groups, one.sum_w, one.sum_wy)


@given(st.integers(1, 8), st.integers(0, 1000), st.integers(0, 1000))
def test_adding_packed_moments_is_adding_moments(d: int, seed: int, other: int) -> None:
    one, two = moments(seed, d), moments(other, d)
    total = moments_from(one.packed() + two.packed(), d)
    np.testing.assert_array_equal(total.gram, one.gram + two.gram)
    np.testing.assert_array_equal(total.sum_wyx, one.sum_wyx + two.sum_wyx)
    assert total.records == one.records + two.records


def test_moments_are_what_they_say_they_are() -> None:
    rng = np.random.default_rng(3)
    q = rng.integers(-32767, 32768, (20, 4)).astype(np.int64)
    y, w = rng.choice([-1, 1], 20), rng.choice([1, 2], 20)
    one = Moments(20, 3, int(w.sum()), int((w * y).sum()), (w[:, None] * q).sum(0), ((w * y)[:, None] * q).sum(0), (q * w[:, None]).T @ q)
    np.testing.assert_array_equal(moments_from(one.packed(), 4).gram, sum(wi * np.outer(qi, qi) for wi, qi in zip(w, q, strict=True)))


@given(st.integers(1, 5), st.integers(0, 1000))
def test_foldout_round_trip(candidates: int, seed: int) -> None:
    one = FoldOut(9, some(seed, candidates), some(seed + 1, candidates, 2, SCORE_BINS))
    assert one.packed().shape == (foldout_size(candidates),)
    again = foldout_from(one.packed(), candidates)
    np.testing.assert_array_equal(again.histogram, one.histogram)
    np.testing.assert_array_equal(again.loss, one.loss)
    assert again.sum_w == 9


@given(st.tuples(*[BIG] * 6))
def test_group_sums_round_trip(values: tuple[int, ...]) -> None:
    one = GroupSums(*values)
    assert group_sums_from(one.packed()) == one


@given(st.lists(BIG, min_size=len(EVALUATION_COUNTS), max_size=len(EVALUATION_COUNTS)), st.tuples(*[BIG] * 6), st.integers(0, 1000))
def test_evaluation_round_trip(counts: list[int], clusters: tuple[int, ...], seed: int) -> None:
    one = Evaluation(dict(zip(EVALUATION_COUNTS, counts, strict=True)), GroupSums(*clusters), some(seed, 2, EVALUATION_BINS))
    packed = one.packed()
    assert packed.shape == (EVALUATION_SIZE,)
    again = evaluation_from(packed)
    assert (again.counts, again.clusters) == (one.counts, one.clusters)
    np.testing.assert_array_equal(again.histogram, one.histogram)


@pytest.mark.parametrize("off", [-1, 1])
def test_wrong_sizes_are_refused(off: int) -> None:
    for read, size in (
        (lambda v: moments_from(v, 3), moments_size(3)),
        (lambda v: foldout_from(v, 2), foldout_size(2)),
        (group_sums_from, 6),
        (evaluation_from, EVALUATION_SIZE),
    ):
        with pytest.raises(ValueError, match="entries"):
            read(np.zeros(size + off, np.int64))


@given(arrays.arrays(np.float64, 20, elements=st.floats(-10, 10)))
def test_a_score_lies_in_its_bin(scores: Any) -> None:
    for score, index in zip(scores, score_bins(scores), strict=True):
        assert 0 <= index < SCORE_BINS
        if abs(score) < SCORE_LIMIT:
            assert bin_edge(index) <= score + 1e-12 and score < bin_edge(index + 1)
        else:
            assert index == (SCORE_BINS - 1 if score > 0 else 0)


def test_edges_of_bins() -> None:
    assert bin_edge(0) == -SCORE_LIMIT and bin_edge(SCORE_BINS) == SCORE_LIMIT and bin_edge(SCORE_BINS // 2) == 0.0
    np.testing.assert_array_equal(score_bins([bin_edge(i) for i in range(SCORE_BINS)]), np.arange(SCORE_BINS))
