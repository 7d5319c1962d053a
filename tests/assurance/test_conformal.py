"""Bands hold their rate: measured over many draws, with tests that a wrong band fails."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from isthmus.assurance.conformal import Adaptive, Band, ResidualBins, band, blocks_short, group_bands, records_needed
from isthmus.contracts.errors import InputError

BINS = ResidualBins(limit=8.0, count=512)
DRAWS = 3000


def held_share(count: int, alpha: float, draws: int, spread: float = 1.0, shrunk: float = 1.0) -> int:
    """Of `draws` calibrations of `count` skewed residuals, how many bands hold one further residual."""
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(draws):
        sample = rng.gamma(2.0, 1.0, count + 1) - 2.0
        found = band(BINS.counted(sample[:-1]), BINS, alpha)
        narrower = Band(found.low * shrunk, found.high * shrunk, found.records)
        held += bool(narrower.holds(sample[-1:] * spread)[0])
    return held


@pytest.mark.parametrize(("count", "alpha"), [(39, 0.1), (99, 0.1), (400, 0.2), (60, 0.05)])
def test_bands_hold_their_rate(count: int, alpha: float) -> None:
    """A right band misses the lower limit once in ten thousand runs; it is no wider than two ranks and two bins explain."""
    held = held_share(count, alpha, DRAWS)
    assert held >= binom.ppf(1e-4, DRAWS, 1.0 - alpha)
    assert held <= binom.ppf(1.0 - 1e-4, DRAWS, min(1.0, 1.0 - alpha + 2.0 / (count + 1) + 0.02))


def test_the_measurement_can_fail() -> None:
    """A band a quarter too narrow, and residuals that grew since, are both caught."""
    limit = binom.ppf(1e-4, DRAWS, 0.9)
    assert held_share(99, 0.1, DRAWS, shrunk=0.75) < limit
    assert held_share(99, 0.1, DRAWS, spread=1.5) < limit


def test_the_rate_is_kept_in_each_group_not_only_on_average() -> None:
    rng = np.random.default_rng(12)
    held = {"calm": 0, "flood": 0}
    pooled = 0
    for _ in range(1500):
        calm, flood = rng.normal(0, 0.2, 60), rng.normal(0, 1.5, 60)
        histograms = {"calm": BINS.counted(calm[:-1]), "flood": BINS.counted(flood[:-1])}
        found = group_bands(histograms, BINS, 0.1)
        held["calm"] += bool(found["calm"].holds(calm[-1:])[0])
        held["flood"] += bool(found["flood"].holds(flood[-1:])[0])
        pooled += bool(band(histograms["calm"] + histograms["flood"], BINS, 0.1).holds(flood[-1:])[0])
    limit = binom.ppf(1e-4, 1500, 0.9)
    assert min(held.values()) >= limit
    assert pooled < limit


def test_sums_over_owners_give_the_pooled_band() -> None:
    residuals = np.random.default_rng(13).normal(size=200)
    parts = sum(BINS.counted(part) for part in np.split(residuals, 4))
    assert band(np.asarray(parts), BINS, 0.1) == band(BINS.counted(residuals), BINS, 0.1)


@given(values=st.lists(st.floats(-20, 20), min_size=1, max_size=120), alpha=st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=100, deadline=None)
def test_a_band_is_never_narrower_than_the_exact_one(values: list[float], alpha: float) -> None:
    found = band(BINS.counted(np.array(values)), BINS, alpha)
    rank = math.ceil((len(values) + 1) * (1 - alpha / 2) - 1e-9)
    ordered = sorted(values)
    if rank > len(values):
        assert not math.isfinite(found.low) and not math.isfinite(found.high)
        return
    exact_low, exact_high = ordered[len(values) - rank], ordered[rank - 1]
    assert found.low <= exact_low + 1e-12 and found.high >= exact_high - 1e-12
    if found.finite:
        assert found.high - exact_high <= BINS.width + 1e-9 and exact_low - found.low <= BINS.width + 1e-9


def test_too_few_records_give_no_finite_band() -> None:
    assert (records_needed(0.1), records_needed(0.05), records_needed(0.2)) == (19, 39, 9)
    for alpha in (0.05, 0.1, 0.2, 0.33):
        needed = records_needed(alpha)
        assert band(BINS.counted(np.zeros(needed)), BINS, alpha).finite
        assert not band(BINS.counted(np.zeros(needed - 1)), BINS, alpha).finite
    assert blocks_short(19, 0.1) is None
    assert "9 more" in (blocks_short(10, 0.1) or "")


def test_what_lies_beyond_the_bins_makes_the_band_infinite_not_wrong() -> None:
    found = band(BINS.counted(np.full(100, 50.0)), BINS, 0.1)
    assert found.high == math.inf and found.low == pytest.approx(8.0 - BINS.width)


@given(outcomes=st.lists(st.booleans(), min_size=1, max_size=400), gamma=st.floats(0.005, 0.3), alpha=st.floats(0.02, 0.5))
@settings(max_examples=150, deadline=None)
def test_adaptive_bands_keep_their_rate_against_any_series(outcomes: list[bool], gamma: float, alpha: float) -> None:
    """Gibbs and Candès, proposition 4.1: an adversary chooses each outcome, save that an infinite band holds and an empty one does not."""
    state = Adaptive.begin(alpha, gamma)
    histogram = BINS.counted(np.random.default_rng(1).normal(size=50))
    for wish in outcomes:
        found = state.band(histogram, BINS)
        held = False if found is None else wish or state.current <= 0.0
        state = state.after(held)
    assert abs(state.missed / state.steps - alpha) <= state.excess_limit + 1e-9


def test_adaptive_bands_follow_a_drift_that_fixed_ones_miss() -> None:
    rng = np.random.default_rng(14)
    histogram = BINS.counted(rng.normal(size=1000))
    drifting: NDArray[np.float64] = rng.normal(size=1500) * np.linspace(1.0, 2.0, 1500)
    fixed = band(histogram, BINS, 0.1).holds(drifting).mean()
    state = Adaptive.begin(0.1, 0.02)
    for value in drifting:
        found = state.band(histogram, BINS)
        state = state.after(found is not None and bool(found.holds(np.array([value]))[0]))
    assert fixed < 0.80 and abs(state.missed / state.steps - 0.1) < 0.02


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(InputError, match="cannot miss"):
        band(np.zeros(512), BINS, 0.0)
    with pytest.raises(InputError, match="shape"):
        band(np.zeros(5), BINS, 0.1)
    with pytest.raises(InputError, match="negative"):
        band(np.full(512, -1), BINS, 0.1)
    with pytest.raises(InputError, match="no number"):
        BINS.counted(np.array([np.nan]))
    with pytest.raises(InputError, match="bins"):
        ResidualBins(limit=0.0)
    with pytest.raises(InputError, match="gamma"):
        Adaptive.begin(0.1, 1.0)
