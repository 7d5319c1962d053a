"""The noise is a discrete Gaussian, also in its low digits and at the slow path of its coins."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from isthmus.sandbox import noise
from isthmus.sandbox.noise import discrete_gaussian, exponential_coins


def seeded(seed: int) -> noise.Source:
    return random.Random(seed).randbytes


def chi_square(drawn: noise.Ints, variance: float) -> float:
    """Of counts against exact probabilities, in standard deviations above its mean."""
    reach = int(12 * math.sqrt(variance)) + 2
    places = np.arange(-reach, reach + 1)
    chance = np.exp(-(places**2) / (2 * variance))
    expected = chance / chance.sum() * drawn.size
    counts = np.bincount(drawn + reach, minlength=places.size)
    kept = expected > 8
    rest = max(float(expected[~kept].sum()), 1e-9)
    value = float(((counts - expected)[kept] ** 2 / expected[kept]).sum()) + float((counts[~kept].sum() - rest) ** 2 / max(rest, 1.0))
    return (value - kept.sum()) / math.sqrt(2.0 * kept.sum())


@pytest.mark.parametrize("variance", [0.1, 0.3, 1.0, 2.5, 4.0, 37.0])
def test_frequencies_are_those_of_a_discrete_gaussian(variance: float) -> None:
    assert chi_square(discrete_gaussian(variance, 200_000, seeded(int(variance * 10))), variance) < 4.0


@pytest.mark.parametrize("variance", [1e4, 2.0**40 + 0.5, 2.0**80])
def test_wide_noise_has_its_moments(variance: float) -> None:
    drawn = discrete_gaussian(variance, 100_000, seeded(5)).astype(np.float64) / math.sqrt(variance)
    assert abs(drawn.mean()) < 5 / math.sqrt(drawn.size)
    assert abs(drawn.var() - 1.0) < 5 * math.sqrt(2.0 / drawn.size)
    assert abs((drawn**4).mean() - 3.0) < 5 * math.sqrt(96.0 / drawn.size)


def test_wide_noise_has_uniform_low_digits() -> None:
    digits = np.bincount(discrete_gaussian(2.0**60, 80_000, seeded(6)) & 15, minlength=16)
    assert abs(digits - 5000).max() < 5 * math.sqrt(5000)


def test_the_slow_path_of_a_coin_gives_the_same_coins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every coin worked out in long decimals from the same bits falls as the fast one does."""
    x = np.linspace(0.0, 40.0, 4000)
    fractions = [Fraction(float(value)) for value in x]
    fast = exponential_coins(x, fractions.__getitem__, seeded(7))
    slow = exponential_coins(x, fractions.__getitem__, seeded(7), error=2.0)
    assert np.array_equal(fast, slow)
    assert 0 < fast.sum() < fast.size


def test_a_coin_at_the_edge_draws_until_it_is_told() -> None:
    """The first 62 bits equal those of exp(-1): only further bits can tell, and both ends are met."""
    edge = int(Fraction(noise._exp_between(Fraction(1), 60)[0]) * 2**noise.COIN_BITS)
    assert noise._below_exp(edge, Fraction(1), lambda n: b"\x00" * n)
    assert not noise._below_exp(edge, Fraction(1), lambda n: b"\xff" * n)
    assert noise._below_exp(edge - 1, Fraction(1), lambda n: b"\xff" * n)
    assert not noise._below_exp(edge + 1, Fraction(1), lambda n: b"\x00" * n)


def test_far_numbers_are_decided_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond SIGMAS_MAX a double is not believed; the sampler still ends, and stays a Gaussian."""
    monkeypatch.setattr(noise, "SIGMAS_MAX", 0.5)
    assert chi_square(discrete_gaussian(9.0, 4000, seeded(8)), 9.0) < 4.0


def test_two_draws_are_not_the_same() -> None:
    assert not np.array_equal(discrete_gaussian(2.0**40, 50), discrete_gaussian(2.0**40, 50))
    assert discrete_gaussian(4.0, 0).shape == (0,)


@pytest.mark.parametrize("variance", [0.0, -1.0, math.inf, math.nan, 2.0**81])
def test_a_variance_that_is_none_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variance"):
        discrete_gaussian(variance, 3)
