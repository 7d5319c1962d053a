"""Confidence bounds for proportions from clustered counts.

Sources. Clopper and Pearson, Biometrika 26 (1934). Korn and Graubard, "Confidence intervals for proportions with small
expected number of positive counts estimated from survey data", Survey Methodology 24 (1998): Clopper-Pearson at the effective
sample size n* = n / deff * (t_{n-1} / t_{G-1})^2, two-sided quantiles replaced here by one-sided ones at the same confidence as
the bound. Kish, "Survey Sampling" (1965): design effect; linearised variance of a ratio under cluster sampling:
Cochran, "Sampling Techniques" (1977), section 6.3.

All bounds are one-sided at `confidence`; use them together for an interval at 2 * confidence - 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, stdtrit

from isthmus.contracts.sums import GroupSums

GROUPS_MIN = 8
Floats = NDArray[np.float64]


def _checked(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence lies between 0 and 1, not {confidence}")
    return confidence


def upper_bounds(errors: ArrayLike, n: ArrayLike, confidence: float) -> Floats:
    """Elementwise Clopper-Pearson upper bounds; counts may be effective ones (not whole). 1 where n <= 0 or errors >= n."""
    e, size = np.broadcast_arrays(np.asarray(errors, dtype=np.float64), np.asarray(n, dtype=np.float64))
    usable = (size > 0) & (e < size)
    kept, most = np.where(usable, np.maximum(e, 0.0), 0.0), np.where(usable, size, 1.0)
    return np.asarray(np.where(usable, betaincinv(kept + 1.0, most - kept, _checked(confidence)), 1.0), dtype=np.float64)


def clopper_pearson_upper(errors: float, n: float, confidence: float) -> float:
    """Upper bound on a proportion from `errors` of `n`; 1.0 when n is 0."""
    return float(upper_bounds(errors, n, confidence))


def clopper_pearson_lower(successes: float, n: float, confidence: float) -> float:
    """Lower bound on a proportion from `successes` of `n`; 0.0 when n is 0."""
    return 1.0 - clopper_pearson_upper(n - successes, n, confidence)


def design_effect(sums: GroupSums) -> float:
    """Cluster variance of the ratio errors / answered over its binomial variance; at least 1.

    Linearised: var(p) = G / (G - 1) * sum_g (e_g - p a_g)^2 / a^2. 1.0 when there is no error, nothing but errors or fewer than two groups,
    as nothing can be estimated then.
    """
    if sums.groups < 2 or sums.a <= 0 or not 0 < sums.e < sums.a:
        return 1.0
    rate = sums.e / sums.a
    squares = sums.ee - 2.0 * rate * sums.ae + rate * rate * sums.aa
    clustered = sums.groups / (sums.groups - 1) * max(squares, 0.0) / sums.a**2
    return max(1.0, clustered / (rate * (1.0 - rate) / sums.a))


def effective_n(n: ArrayLike, deff: float, groups: int, confidence: float = 0.95) -> Any:
    """Korn and Graubard's effective sample size; elementwise in n, never above n. 0 with fewer than two groups.

    t quantiles: n - 1 degrees of freedom over G - 1, at `confidence`.
    """
    size = np.asarray(n, dtype=np.float64)
    if groups < 2:
        return np.zeros_like(size)[()]
    fine = stdtrit(np.maximum(size - 1.0, 1e-9), _checked(confidence))
    coarse = float(stdtrit(float(groups - 1), confidence))
    ratio = np.where(size > 1.0, np.minimum(1.0, (fine / coarse) ** 2), 0.0) if coarse > 0 else np.zeros_like(size)
    return (size / max(1.0, deff) * ratio)[()]


def korn_graubard_bounds(errors: ArrayLike, n: ArrayLike, deff: float, groups: int, confidence: float) -> Floats:
    """Elementwise Korn-Graubard upper bounds."""
    size = np.asarray(n, dtype=np.float64)
    effective = effective_n(size, deff, groups, confidence)
    rate = np.asarray(errors, dtype=np.float64) / np.maximum(size, 1e-300)
    return upper_bounds(rate * effective, effective, confidence)


def korn_graubard_upper(errors: float, n: float, deff: float, groups: int, confidence: float) -> float:
    """Upper bound on a proportion from clustered counts; 1.0 when n is 0 or there are fewer than two groups."""
    return float(korn_graubard_bounds(errors, n, deff, groups, confidence))


def korn_graubard_lower(successes: float, n: float, deff: float, groups: int, confidence: float) -> float:
    """Lower bound on a proportion from clustered counts; 0.0 when n is 0 or there are fewer than two groups."""
    return 1.0 - korn_graubard_upper(n - successes, n, deff, groups, confidence)


def needed_samples(bar: float, confidence: float, errors: int = 0) -> int:
    """Fewest independent samples with `errors` errors that prove a rate of at most `bar`: 59 for 5 %, 299 for 1 %, at 95 %."""
    if not 0.0 < bar < 1.0:
        raise ValueError(f"a bar lies between 0 and 1, not {bar}")
    low, high = errors, max(errors + 1, math.ceil(1.0 / bar))
    while clopper_pearson_upper(errors, high, confidence) > bar:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if clopper_pearson_upper(errors, middle, confidence) <= bar else (middle, high)
    return high


def more_records(errors: float, n: float, deff: float, groups: int, bar: float, confidence: float) -> int:
    """Further held-out records without a new error, in groups of the same size, that would prove `bar`; 0 when it is proven.

    Searched by doubling and halving, up to 10 million; the answer there means out of reach.
    """

    def proven(extra: float) -> bool:
        grown = groups if n <= 0 else round(groups * (1.0 + extra / n))
        return korn_graubard_upper(errors, n + extra, deff, max(grown, groups), confidence) <= bar

    if proven(0):
        return 0
    low, high = 0, 16
    while not proven(high) and high < 10_000_000:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proven(middle) else (middle, high)
    return high


def too_few_groups(groups: int, minimum: int = GROUPS_MIN) -> str | None:
    """None when there are enough groups; else the sentence that says how many are missing."""
    return None if groups >= minimum else f"too few groups: {groups}, {minimum - groups} more needed"
