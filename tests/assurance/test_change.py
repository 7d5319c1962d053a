"""The test for a change keeps its rate of false alarms, and finds changes; without blocks it would not keep it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from isthmus.assurance.change import MEAN_UNIT, block_sums, change, look_rate
from isthmus.contracts.errors import InputError

RUNS, RATE = 1500, 0.05


def hanging_together(rng: np.random.Generator, blocks: int, size: int, shift: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values that share a part within a block, in a feature's quanta."""
    shared = np.repeat(rng.normal(size=blocks), size)
    return (shared + rng.normal(size=blocks * size) + shift) * 1000.0, np.repeat(np.arange(blocks), size)


def alarms(shift: float, blocked: bool) -> int:
    rng = np.random.default_rng(21)
    found = 0
    for _ in range(RUNS):
        before, since = hanging_together(rng, 30, 10), hanging_together(rng, 12, 10, shift)
        pair = [block_sums(values, blocks if blocked else np.arange(len(values))) for values, blocks in (before, since)]
        found += change(pair[0], pair[1], RATE).changed
    return found


def test_false_alarms_keep_their_rate() -> None:
    assert binom.ppf(1e-4, RUNS, RATE) <= alarms(0.0, True) <= binom.ppf(1 - 1e-4, RUNS, RATE)


def test_values_taken_singly_would_raise_false_alarms() -> None:
    assert alarms(0.0, False) > 3 * binom.ppf(1 - 1e-4, RUNS, RATE)


def test_changes_are_found() -> None:
    assert alarms(1.5, True) > 0.9 * RUNS


def test_looking_again_and_again_does_not_spend_more_than_the_rate() -> None:
    """Ten looks at an unchanged series: any alarm at all in at most 5 % of runs; without sharing, in more."""
    rng = np.random.default_rng(22)
    shared = single = 0
    runs = 600
    for _ in range(runs):
        reference = block_sums(*hanging_together(rng, 40, 4))
        values, blocks = hanging_together(rng, 60, 4)
        looks = [block_sums(values[blocks < 6 * k], blocks[blocks < 6 * k]) for k in range(1, 11)]
        shared += any(change(reference, recent, RATE, look=k).changed for k, recent in enumerate(looks, 1))
        single += any(change(reference, recent, RATE).changed for recent in looks)
    assert shared <= binom.ppf(1 - 1e-4, runs, RATE)
    assert single > binom.ppf(1 - 1e-4, runs, RATE)
    assert sum(look_rate(RATE, k) for k in range(1, 5000)) <= RATE


@given(seed=st.integers(0, 1000), cut=st.integers(1, 39))
def test_owners_sums_add_up_to_the_pooled_ones(seed: int, cut: int) -> None:
    values, blocks = hanging_together(np.random.default_rng(seed), 40, 2)
    parts = [block_sums(values[side], blocks[side]) for side in (blocks < cut, blocks >= cut)]
    whole = block_sums(values, blocks)
    assert parts[0] + parts[1] == whole
    means = np.rint(values.reshape(40, 2).mean(axis=1) * MEAN_UNIT) / MEAN_UNIT
    assert whole.mean == pytest.approx(means.mean()) and whole.variance == pytest.approx(means.var(ddof=1))


def test_still_series() -> None:
    flat, other = block_sums(np.zeros(9), np.arange(9)), block_sums(np.ones(9), np.arange(9))
    assert not change(flat, flat, RATE).changed
    found = change(flat, other, RATE)
    assert found.changed and found.shift == 1.0 and found.p == 0.0


def test_several_figures_share_the_rate() -> None:
    values, blocks = hanging_together(np.random.default_rng(3), 20, 2)
    sums = block_sums(values, blocks)
    assert change(sums, sums, RATE, figures=10).false_alarm_rate == pytest.approx(RATE / 10)
    assert change(sums, sums, RATE, figures=10).limit > change(sums, sums, RATE).limit


def test_bad_input_gets_one_sentence() -> None:
    some = block_sums(np.arange(9.0), np.arange(9))
    with pytest.raises(InputError, match="and 2 since"):
        change(some, block_sums(np.zeros(2), np.arange(2)), RATE)
    with pytest.raises(InputError, match="cannot be kept"):
        change(some, some, 1.0)
    with pytest.raises(InputError, match="belong together"):
        block_sums(np.array([np.nan]), np.arange(1))
    with pytest.raises(InputError, match="no look 0"):
        change(some, some, RATE, look=0)
    assert block_sums(np.zeros(0), np.zeros(0)).blocks == 0
