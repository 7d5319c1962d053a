"""Paired non-inferiority: the score statistic by its definition, bounds that are valid in simulation, and a level that clusters break."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from isthmus.assurance.noninferiority import noninferiority, records_needed, tango_score, tango_upper
from isthmus.contracts.sums import PairSums
from isthmus.sandbox.statistics.pair import pair
from isthmus.sandbox.statistics.records import Records

Z = 1.6448536269514722


def by_definition(worse: float, better: float, n: float, difference: float) -> float:
    """Tango's statistic with the constrained likelihood maximised by search, not by its closed form."""

    def minus_likelihood(q: float) -> float:
        p = q + difference
        rest = 1.0 - p - q
        terms = ((worse, p), (better, q), (n - worse - better, rest))
        return -sum(count * math.log(max(chance, 1e-300)) for count, chance in terms if count > 0)

    found = minimize_scalar(minus_likelihood, bounds=(0.0, (1.0 - difference) / 2), method="bounded", options={"xatol": 1e-12})
    return float((worse - better - n * difference) / math.sqrt(n * (2 * found.x + difference * (1 - difference))))


@pytest.mark.parametrize(("worse", "better", "n"), [(12, 2, 50), (3, 1, 44), (1, 1, 30), (5, 20, 200), (0, 3, 40), (2, 0, 40)])
@pytest.mark.parametrize("difference", [0.02, 0.1, 0.3])
def test_the_score_is_that_of_the_constrained_likelihood(worse: int, better: int, n: int, difference: float) -> None:
    assert tango_score(worse, better, n, difference) == pytest.approx(by_definition(worse, better, n, difference), rel=2e-4, abs=2e-4)


def test_the_bound_is_where_the_score_test_stops_rejecting() -> None:
    for worse, better, n in ((12, 2, 50), (3, 8, 400), (40, 40, 1000)):
        bound = tango_upper(worse, better, n, 0.95)
        assert tango_score(worse, better, n, bound) == pytest.approx(-Z, abs=1e-6)


def test_without_a_disagreement_the_bound_still_has_a_width() -> None:
    for n in (20, 100, 1000):
        assert tango_upper(0, 0, n, 0.95) == pytest.approx(Z**2 / (n + Z**2), rel=1e-6)
    assert tango_upper(0, 0, 0, 0.95) == 1.0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(81, 2000), st.sampled_from([0.9, 0.95, 0.99]))
def test_bounds_are_ordered(worse: int, better: int, n: int, confidence: float) -> None:
    bound = tango_upper(worse, better, n, confidence)
    assert (worse - better) / n <= bound <= 1
    assert tango_upper(worse + 1, better, n, confidence) >= bound - 1e-9
    assert tango_upper(worse, better + 1, n, confidence) <= bound + 1e-9
    assert tango_upper(worse, better, n, (1 + confidence) / 2) >= bound
    assert tango_upper(worse * 4, better * 4, n * 4, confidence) <= bound + 1e-9, "more records at the same rates"


def sums_of(old: np.ndarray, new: np.ndarray, groups: np.ndarray) -> PairSums:
    """Of right (True) and wrong answers."""
    y = np.ones(old.size, dtype=np.int64)
    return pair(Records(y, groups, ("",) * old.size), np.where(old, 1, -1).astype(np.int64), np.where(new, 1, -1).astype(np.int64))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 120), st.integers(1, 12))
def test_sums_are_those_of_the_records(seed: int, n: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    y, old, new = rng.choice([-1, 1], n), rng.choice([-1, 0, 1], n), rng.choice([-1, 0, 1], n)
    codes = rng.integers(0, groups, n)
    found = pair(Records(y.astype(np.int64), codes, ("",) * n), old.astype(np.int64), new.astype(np.int64))
    assert found.records == n and found.groups == np.unique(codes).size
    wrong = [(v != 0) & (v != y) for v in (old, new)]
    right = [v == y for v in (old, new)]
    assert found.table[1].sum() == wrong[0].sum() and found.table[:, 1].sum() == wrong[1].sum()
    assert found.table[0, 0] == (right[0] & right[1]).sum() and found.table[2, 2] == ((old == 0) & (new == 0)).sum()
    by_group = [(codes == g) for g in np.unique(codes)]
    w = [int(wrong[1][m].sum()) - int(wrong[0][m].sum()) for m in by_group]
    r = [int(right[0][m].sum()) - int(right[1][m].sum()) for m in by_group]
    sizes = [int(m.sum()) for m in by_group]
    assert found.nn == sum(s * s for s in sizes)
    assert (found.ww, found.rr) == (sum(v * v for v in w), sum(v * v for v in r))
    assert (found.wn, found.rn) == (sum(v * s for v, s in zip(w, sizes, strict=True)), sum(v * s for v, s in zip(r, sizes, strict=True)))


BETTER, MARGIN = 0.05, 0.03


def passing_share(rng: np.random.Generator, trials: int, groups: int, size: int, spread: float, excess: float) -> float:
    """How often a new model passes whose error is `excess` above the old one's. A record gets better with the chance BETTER and worse
    with a chance of its group's own, on average BETTER + excess; spread: of the beta distribution that it is drawn from, 0 for one chance
    for all."""
    codes, mean, passed = np.repeat(np.arange(groups), size), BETTER + excess, 0
    for _ in range(trials):
        chance = np.full(groups, mean) if spread == 0 else rng.beta(mean * spread, (1 - mean) * spread, groups)
        draws = rng.random(codes.size)
        worse = draws < np.minimum(chance[codes], 1 - BETTER)
        better = draws > 1 - BETTER
        found = noninferiority(sums_of(~better, ~worse, codes), MARGIN, 0.9, groups_min=2)
        passed += found.differences[0].holds
    return passed / trials


def test_an_inferior_model_passes_at_most_as_often_as_was_said() -> None:
    """At the margin itself: P(worse) - P(better) is 8 % - 5 % = 3 %. Independent records, then groups whose records go together."""
    rng = np.random.default_rng(3)
    trials = 1500
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert passing_share(rng, trials, 400, 1, 0, 0.03) <= allowed
    assert passing_share(rng, trials, 40, 10, 12.0, 0.03) <= allowed
    assert passing_share(rng, trials, 15, 20, 12.0, 0.03) <= allowed


def test_the_level_breaks_where_clusters_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: without the clusters' variance an inferior model passes far too often."""
    monkeypatch.setattr("isthmus.assurance.noninferiority.paired_design_effect", lambda *values: 1.0)
    monkeypatch.setattr("isthmus.assurance.noninferiority.effective_n", lambda n, deff, groups, confidence: n)
    assert passing_share(np.random.default_rng(3), 600, 40, 10, 3.0, 0.03) > 0.10


def test_an_equal_model_passes_with_enough_records() -> None:
    assert passing_share(np.random.default_rng(4), 200, 150, 10, 0, 0.0) > 0.8


def test_what_is_missing_is_said() -> None:
    rng = np.random.default_rng(5)
    old = rng.random(200) > 0.05
    new = np.where(rng.random(200) < 0.03, ~old, old)
    found = noninferiority(sums_of(old, new, np.arange(200) // 10), 0.01, 0.05)
    assert not found.passed and "wrong answers:" in found.failures[0] and "less than 1.00% is asked for" in found.failures[0]
    few = noninferiority(sums_of(old, old, np.arange(200) // 100), 0.05, 0.05)
    assert not few.passed
    assert "too few groups" in few.failures[-1]
    same = noninferiority(sums_of(old, old, np.arange(200) // 5), 0.01, 0.05)
    needed = records_needed(sums_of(old, old, np.arange(200) // 5), same)
    assert needed is not None and needed > 200
    more = np.tile(old, math.ceil(needed * 1.05 / 200))
    assert noninferiority(sums_of(more, more, np.arange(more.size) // 5), 0.01, 0.05).passed
    wrong = sums_of(old, np.zeros(200, dtype=bool), np.arange(200) // 5)
    assert records_needed(wrong, noninferiority(wrong, 0.01, 0.05)) is None
    for margin in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="margin"):
            noninferiority(sums_of(old, new, np.arange(200)), margin, 0.05)
