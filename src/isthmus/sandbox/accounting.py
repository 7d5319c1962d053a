"""What a noisy release costs: zero-concentrated differential privacy (rho), and what a rho means as epsilon at a delta.

Rho adds up over releases, whatever was asked and by whom (Bun and Steinke, "Concentrated Differential Privacy", TCC 2016). Budgets are
kept in whole nano-rho, costs rounded up and allowances down, so that no sum of doubles decides whether something may leave.
"""

from __future__ import annotations

import functools
import math

NANOS = 10**9
RHO_MAX = 10_000.0
STEPS, HALVINGS = 60, 100
ALPHA_LOG_MIN, ALPHA_LOG_MAX = -12.0, 12.0


def rho_of(sensitivity: float, variance: float) -> float:
    """Of one release of integers with discrete Gaussian noise. sensitivity: the most that one privacy unit can change them, as a Euclidean
    length. Source: Canonne, Kamath and Steinke (NeurIPS 2020), theorem 4."""
    if not (sensitivity >= 0 and variance > 0):
        raise ValueError(f"no release has sensitivity {sensitivity!r} and variance {variance!r}")
    return sensitivity**2 / (2.0 * variance)


def rho_of_shares(sensitivity: float, share_variance: float, shares: int, entries: int) -> float:
    """As `rho_of`, of noise that is the sum of `shares` independent ones, which is not quite a discrete Gaussian.

    Source: Kairouz, Liu and Steinke, "The Distributed Discrete Gaussian Mechanism" (ICML 2021), theorem 1: half the square of
    sensitivity / sqrt(shares * variance) + tau * sqrt(entries), with tau = 10 * sum over k < shares of exp(-2 pi^2 variance k / (k + 1)).
    """
    if shares < 1 or entries < 1:
        raise ValueError("noise has at least one share and one entry")
    tau = 10.0 * sum(math.exp(-2.0 * math.pi**2 * share_variance * k / (k + 1)) for k in range(1, shares))
    ratio = math.sqrt(2.0 * rho_of(sensitivity, share_variance * shares))
    return (ratio + tau * math.sqrt(entries)) ** 2 / 2.0


def _epsilon_at(log_excess: float, rho: float, delta: float) -> float:
    """For one order alpha = 1 + exp(log_excess): every one is a valid bound."""
    excess = math.exp(log_excess)
    alpha = 1.0 + excess
    return rho * alpha + math.log1p(-1.0 / alpha) - (math.log(delta) + math.log(alpha)) / excess


def epsilon_of(rho: float, delta: float) -> float:
    """The least epsilon for which rho-zCDP is known to give (epsilon, delta): the least over the orders alpha of

        rho alpha + log(1 - 1 / alpha) - (log delta + log alpha) / (alpha - 1)

    (Canonne, Kamath and Steinke, proposition 12, solved for epsilon). rho: at least 0. delta: between 0 and 1. Raises ValueError.
    """
    if not (0 <= rho < math.inf and 0 < delta < 1):
        raise ValueError(f"no privacy has rho {rho!r} and delta {delta!r}")
    if rho == 0:
        return 0.0
    middle = min(ALPHA_LOG_MAX, max(ALPHA_LOG_MIN, 0.5 * math.log(math.log(1.0 / delta) / rho)))
    grid = [min(ALPHA_LOG_MAX, max(ALPHA_LOG_MIN, middle + 0.1 * step)) for step in range(-60, 61)]
    best = min(grid, key=lambda at: _epsilon_at(at, rho, delta))
    low, high = best - 0.1, best + 0.1
    for _ in range(STEPS):
        first, second = low + (high - low) / 3.0, high - (high - low) / 3.0
        if _epsilon_at(first, rho, delta) <= _epsilon_at(second, rho, delta):
            high = second
        else:
            low = first
    return max(0.0, min(_epsilon_at(best, rho, delta), _epsilon_at((low + high) / 2.0, rho, delta)))


@functools.lru_cache(maxsize=256)
def rho_for(epsilon: float, delta: float) -> float:
    """The largest rho whose `epsilon_of` is at most epsilon, never above it. At most RHO_MAX. Raises ValueError."""
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise ValueError(f"no budget has epsilon {epsilon!r} and delta {delta!r}")
    low, high = 0.0, RHO_MAX
    if epsilon_of(high, delta) <= epsilon:
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        if epsilon_of(middle, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return low


def nanos_up(rho: float) -> int:
    """A cost in nano-rho, rounded up; at least 1, because nothing that leaves is free."""
    return max(1, math.ceil(rho * NANOS))


def nanos_down(rho: float) -> int:
    """An allowance in nano-rho, rounded down."""
    return math.floor(rho * NANOS)
