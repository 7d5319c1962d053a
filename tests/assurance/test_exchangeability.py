"""Whether the fleet's calibration may be trusted at a site."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from isthmus.assurance.exchangeability import LEVEL, exchangeability, statistic
from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import SCORE_BINS, score_bins

Ints = NDArray[np.int64]


def scores(rng: np.random.Generator, good: int, defect: int, shift: float = 0.0, spread: float = 0.4) -> Ints:
    sides = (rng.normal(-0.6 + shift, spread, good), rng.normal(0.3 + shift, spread, defect))
    return np.stack([np.bincount(score_bins(side), minlength=SCORE_BINS) for side in sides]).astype(np.int64)


def rejected(runs: int, shift: float, spread: float = 0.4, draws: int = 99) -> int:
    found = 0
    for run in range(runs):
        rng = np.random.default_rng([3, run])
        fleet, site = scores(rng, 300, 150), scores(rng, 27, 13, shift, spread)
        found += not exchangeability(fleet, site, draws=draws, seed=run).trusted
    return found


def test_the_level_is_kept_where_site_and_fleet_are_alike() -> None:
    """250 sites just like the fleet: rejections beyond what a level of 5 % gives once in ten thousand would fail this. And the test is no
    dead one: a level far below 5 % would fail too."""
    found = rejected(250, 0.0, draws=99)
    assert binom.ppf(1e-3, 250, 0.03) <= found <= binom.ppf(1 - 1e-4, 250, LEVEL)


def test_a_shift_and_a_spread_are_found() -> None:
    assert rejected(40, 0.5) >= 36
    assert rejected(40, 0.0, spread=1.2) >= 30


def test_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(11)
    found = []
    for run in range(120):
        fleet, site = scores(rng, 200, 100), scores(rng, 20, 20)
        found += [one.p for one in exchangeability(fleet, site, draws=99, seed=run).classes if one.p is not None]
    below = np.array([np.mean(np.array(found) <= at) for at in (0.1, 0.3, 0.5, 0.7, 0.9)])
    assert np.all(np.abs(below - (0.1, 0.3, 0.5, 0.7, 0.9)) < 0.11)


def test_the_statistic_is_that_of_pettitt_without_ties() -> None:
    """Against its own formula: sum over ranks of (M_i N - m i)^2 / (i (N - i)) / (m n), at half a step, on samples without ties."""
    rng = np.random.default_rng(5)
    order = rng.permutation(60)
    site = np.zeros((1, 60), dtype=np.int64)
    site[0, order[:20]] = 1
    below, place = np.cumsum(site[0]) - 0.5 * site[0], (np.arange(60) + 0.5) / 60
    by_hand = 20 * np.mean((below / 20 - place) ** 2 / (place * (1 - place)))
    assert statistic(site, np.ones(60, dtype=np.int64))[0] == pytest.approx(by_hand)


def test_what_is_said() -> None:
    rng = np.random.default_rng(1)
    fleet = scores(rng, 800, 400)
    alike = exchangeability(fleet, scores(rng, 30, 12))
    assert alike.trusted and "not told apart" in alike.sentence and "would mostly go unseen" in alike.sentence
    assert alike.p is not None and alike.p > LEVEL and alike.statistic is not None
    other = exchangeability(fleet, scores(rng, 30, 12, shift=1.0))
    assert not other.trusted and "not trusted here: scores of" in other.sentence and other.p is not None and other.p <= LEVEL
    strange = other.classes[0]
    assert strange.strange > 2 * strange.strange_expected
    few = exchangeability(fleet, scores(rng, 36, 4))
    assert not few.trusted and "4 defect among the labels" in few.sentence and few.classes[1].p is None
    none = exchangeability(fleet, np.zeros_like(fleet))
    assert not none.trusted and none.p is None and none.statistic is None


def test_holm_costs_the_smaller_of_two_p_values_a_factor_of_two() -> None:
    rng = np.random.default_rng(2)
    found = exchangeability(scores(rng, 300, 300), scores(rng, 15, 15, shift=0.15))
    least = min(one.p or 1.0 for one in found.classes)
    assert found.p == pytest.approx(min(1.0, 2 * least))


def test_the_same_counts_give_the_same_answer() -> None:
    rng = np.random.default_rng(3)
    fleet, site = scores(rng, 200, 100), scores(rng, 20, 20)
    assert exchangeability(fleet, site) == exchangeability(fleet, site)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_any_counts_give_an_answer(bins: list[tuple[int, int, int]]) -> None:
    fleet, site = np.zeros((2, 4), dtype=np.int64), np.zeros((2, 4), dtype=np.int64)
    for place, a, b in bins:
        fleet[a % 2, place] += a
        site[b % 2, place] += b
    found = exchangeability(fleet, site, draws=99)
    assert all(one.p is None or 0.01 <= one.p <= 1.0 for one in found.classes)
    assert not (found.trusted and found.p is not None and found.p <= LEVEL)


def test_inputs_that_cannot_be_used_are_refused() -> None:
    good = np.ones((2, 4), dtype=np.int64)
    for fleet, site, level in ((good, good[:1], 0.05), (good, -good, 0.05), (good, good[:, :3], 0.05), (good, good, 0.0)):
        with pytest.raises(InputError):
            exchangeability(fleet, site, level=level)
