"""Rho adds up, and its epsilon is the known best bound: never below the truth, never above what any order gives."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.sandbox.accounting import NANOS, epsilon_of, nanos_down, nanos_up, rho_for, rho_of, rho_of_shares

RHO, DELTA = st.floats(1e-7, 50.0), st.floats(1e-12, 0.1)


def gaussian_delta(sensitivity_ratio: float, epsilon: float) -> float:
    """The exact delta of a Gaussian release (Balle and Wang, ICML 2018, theorem 5). sensitivity_ratio: sensitivity by deviation."""

    def normal(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2.0))

    m = sensitivity_ratio
    return normal(m / 2 - epsilon / m) - math.exp(epsilon) * normal(-m / 2 - epsilon / m)


@settings(max_examples=60, deadline=None)
@given(RHO, DELTA)
def test_epsilon_is_a_bound_and_better_than_the_simple_one(rho: float, delta: float) -> None:
    epsilon = epsilon_of(rho, delta)
    assert epsilon <= rho + 2.0 * math.sqrt(rho * math.log(1.0 / delta)) + 1e-9
    if 1e-6 < epsilon < 30:
        assert gaussian_delta(math.sqrt(2.0 * rho), epsilon) <= delta * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 40.0), DELTA)
def test_rho_for_is_the_inverse_from_below(epsilon: float, delta: float) -> None:
    rho = rho_for(epsilon, delta)
    assert epsilon_of(rho, delta) <= epsilon
    assert epsilon_of(rho * 1.0001 + 1e-15, delta) > epsilon or epsilon_of(rho, delta) == 0.0


@pytest.mark.parametrize(
    ("rho", "delta", "epsilon"), [(0.01, 1e-5, 0.5457256), (0.05, 1e-5, 1.3081184), (0.5, 1e-5, 4.7283870), (0.5, 1e-9, 6.4740701)]
)
def test_known_values(rho: float, delta: float, epsilon: float) -> None:
    """dp-accounting's accountant by Renyi orders gives 0.545813, 1.308497, 4.728507 and 6.474124: its grid of orders is coarser."""
    assert epsilon_of(rho, delta) == pytest.approx(epsilon, abs=2e-7)


def test_shares_cost_what_one_gaussian_costs_from_a_moderate_variance_up() -> None:
    assert rho_of_shares(10.0, 25.0, 4, 1000) == pytest.approx(rho_of(10.0, 100.0), rel=1e-12)
    assert rho_of_shares(1.0, 0.1, 4, 1000) > rho_of(1.0, 0.4) * 10


def test_whole_nanos_err_to_the_safe_side() -> None:
    assert nanos_up(1e-15) == 1
    assert nanos_up(0.5) == NANOS // 2
    assert nanos_down(0.03) + 1 >= nanos_up(0.03) >= nanos_down(0.03)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.1), (-1.0, 0.1), (math.inf, 0.1), (1.0, 0.0), (1.0, 1.0), (math.nan, 0.1)])
def test_budgets_that_are_none(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        rho_for(epsilon, delta)
