"""Bounds: known values, monotone, and valid in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

from isthmus.assurance.bounds import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    design_effect,
    effective_n,
    korn_graubard_bounds,
    korn_graubard_lower,
    korn_graubard_upper,
    more_records,
    needed_samples,
    too_few_groups,
)
from isthmus.contracts.sums import GroupSums


def sums(a: np.ndarray, e: np.ndarray) -> GroupSums:
    return GroupSums(*(int(v) for v in ((a > 0).sum(), a.sum(), e.sum(), (a * a).sum(), (e * e).sum(), (a * e).sum())))


@pytest.mark.parametrize(("errors", "n"), [(0, 59), (0, 1), (3, 100), (50, 100), (99, 100), (100, 100)])
def test_clopper_pearson_is_that_of_scipy(errors: int, n: int) -> None:
    wanted = binomtest(errors, n).proportion_ci(0.90, method="exact")
    assert clopper_pearson_upper(errors, n, 0.95) == pytest.approx(wanted.high, abs=1e-12)
    assert clopper_pearson_lower(errors, n, 0.95) == pytest.approx(wanted.low, abs=1e-12)


def test_edges() -> None:
    assert clopper_pearson_upper(0, 0, 0.95) == 1.0
    assert clopper_pearson_lower(0, 0, 0.95) == 0.0
    assert clopper_pearson_upper(5, 3, 0.95) == 1.0
    assert korn_graubard_upper(0, 1000, 1.0, 1, 0.95) == 1.0
    assert korn_graubard_lower(1000, 1000, 1.0, 0, 0.95) == 0.0
    assert clopper_pearson_upper(1.5, 40.25, 0.95) == pytest.approx(beta.ppf(0.95, 2.5, 38.75))
    for confidence in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="confidence"):
            clopper_pearson_upper(0, 10, confidence)


def test_the_rule_of_three_and_more() -> None:
    assert (needed_samples(0.05, 0.95), needed_samples(0.01, 0.95)) == (59, 299)
    assert needed_samples(0.05, 0.95, errors=1) == 93
    for errors in (0, 1, 7):
        n = needed_samples(0.02, 0.9, errors)
        assert clopper_pearson_upper(errors, n, 0.9) <= 0.02 < clopper_pearson_upper(errors, n - 1, 0.9)


@given(st.integers(0, 200), st.integers(1, 400), st.floats(1, 10), st.integers(2, 60), st.sampled_from([0.9, 0.95, 0.99]))
def test_clusters_only_widen(errors: int, n: int, deff: float, groups: int, confidence: float) -> None:
    errors = min(errors, n)
    plain = clopper_pearson_upper(errors, n, confidence)
    wide = korn_graubard_upper(errors, n, deff, groups, confidence)
    assert errors / n - 1e-12 <= plain <= wide + 1e-9 <= 1.0 + 1e-9
    assert korn_graubard_upper(errors, n, deff * 1.5, groups, confidence) >= wide - 1e-9
    assert korn_graubard_upper(errors, n, deff, groups + 5, confidence) <= wide + 1e-9
    assert korn_graubard_lower(n - errors, n, deff, groups, confidence) == pytest.approx(1 - wide)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=0, max_size=30))
def test_design_effect_is_at_least_one_and_finite(pairs: list[tuple[int, int]]) -> None:
    a = np.array([max(p) for p in pairs], dtype=np.int64)
    e = np.array([min(p) for p in pairs], dtype=np.int64)
    assert 1.0 <= design_effect(sums(a, e)) < 1e6


def test_design_effect_of_whole_groups_is_their_size() -> None:
    a = np.full(400, 20)
    e = np.where(np.random.default_rng(0).random(400) < 0.3, 20, 0)
    assert design_effect(sums(a, e)) == pytest.approx(20, rel=0.01)
    rng = np.random.default_rng(1)
    assert design_effect(sums(a, rng.binomial(a, 0.3))) == pytest.approx(1.0, abs=0.2)


def test_effective_size() -> None:
    assert effective_n(1000, 1.0, 10_000) == pytest.approx(1000, rel=1e-3)
    assert effective_n(1000, 2.0, 11) == pytest.approx(500 * (1.64638 / 1.81246) ** 2, rel=1e-4)
    assert np.all(np.diff(effective_n(np.arange(1, 500), 1.5, 9)) >= 0)


def test_what_is_still_missing() -> None:
    assert too_few_groups(8) is None
    assert too_few_groups(6) == "too few groups: 6, 2 more needed"
    extra = more_records(3, 150, 1.5, 12, 0.05, 0.95)
    assert extra > 0
    assert korn_graubard_upper(3, 150 + extra, 1.5, round(12 * (1 + extra / 150)), 0.95) <= 0.05
    assert more_records(0, 1000, 1.0, 40, 0.05, 0.95) == 0


def band(chance: float, runs: int) -> float:
    """The count that a fair 5 % test exceeds in one of a thousand runs."""
    return float(binom.ppf(0.999, runs, chance))


@pytest.mark.parametrize(("groups", "size", "rho"), [(8, 60, 0.1), (12, 40, 0.0), (20, 60, 0.02), (40, 20, 0.3), (40, 60, 0.05)])
def test_false_proof_is_no_likelier_than_promised(groups: int, size: int, rho: float) -> None:
    """True error exactly at the bar, beta-binomial groups, design effect from three times as many training groups."""
    rng, bar, runs = np.random.default_rng(groups * size), 0.05, 2000
    false_proofs = 0
    for _ in range(runs):
        drawn = []
        for count in (3 * groups, groups):
            rates = rng.beta(bar * (1 - rho) / rho, (1 - bar) * (1 - rho) / rho, count) if rho else np.full(count, bar)
            a = rng.integers(size // 2, size + 1, count)
            drawn.append(sums(a, rng.binomial(a, rates)))
        deff = max(design_effect(drawn[0]), design_effect(drawn[1]))
        false_proofs += korn_graubard_upper(drawn[1].e, drawn[1].a, deff, groups, 0.95) <= bar
    assert false_proofs <= band(0.05, runs)


def test_a_bound_that_ignores_clusters_fails_the_same_exam() -> None:
    """The exam above can be failed: Clopper-Pearson on clustered counts does."""
    rng, runs = np.random.default_rng(5), 2000
    a = np.full(12, 60)
    errors = rng.binomial(a, rng.beta(0.05 * 9, 0.95 * 9, (runs, 12))).sum(axis=1)
    false_proofs = int((korn_graubard_bounds(errors, 720.0, 1.0, 10**6, 0.95) <= 0.05).sum())
    assert false_proofs > band(0.05, runs)
