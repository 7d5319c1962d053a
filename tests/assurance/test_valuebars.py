"""Bars of numbers: what passes is proven, what does not says why; and the bound on skill keeps its rate."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.assurance.banding import BandPlan, expected_bound, parted, plan_bands, planned_miss
from isthmus.assurance.valuebars import ValueEvidence, efficiency, judge_values, skill, skill_lower, value_evidence_digest
from isthmus.assurance.worth import worth
from isthmus.cli.certificate import claim_sentence
from isthmus.contracts.bars import Bars, Robustness, ValueBars
from isthmus.contracts.errors import InputError
from isthmus.contracts.targets import Target
from isthmus.contracts.valuesums import ResidualGrid, ValueSums, value_sums_from
from isthmus.sandbox.statistics.values import residual_counts, value_sums

TARGET = Target(name="height", unit="m", low=0.0, high=10.0)
GRID = ResidualGrid(edges=(-500.0, 0.0, 500.0), limit=4000.0, bins=128)


def sums(seed: int = 0, groups: int = 40, error: float = 0.3, naive: float = 1.0, half: float = 0.6) -> ValueSums:
    """40 groups of ten records; errors of one group share half of their variance."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), 10)
    y = 5.0 + rng.normal(0, 1, len(group))

    def errors(size: float) -> np.ndarray:
        return size * (rng.normal(0, 1, groups)[group] + rng.normal(0, 1, len(group))) / np.sqrt(2.0)

    value = np.clip(y + errors(error), 0.0, 10.0)
    foretold = np.stack([value, np.clip(value - half, 0, 10), np.clip(value + half, 0, 10)], axis=1)
    usual = np.clip(y + errors(naive), 0.0, 10.0)
    return value_sums(TARGET, y, usual, foretold, group, np.ones(len(group), dtype=bool))


def bars(**changes: object) -> Bars:
    wanted = {"families": (), "severities": (), "groups_min": 20, "error_ppm_max": 150_000, "values": ValueBars(skill_ppm_min=300_000)}
    return Bars(scenario="s", tier="T1", **{**wanted, **changes})  # type: ignore[arg-type]


def evidence(found: ValueSums, **changes: object) -> ValueEvidence:
    whole = ValueEvidence(
        targets=(TARGET,), naive=("the newest value",), clean=(found,), slices={}, corrupted={}, effects=(1.5,), groups_inferred=False
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_figures_are_those_of_the_records() -> None:
    rng = np.random.default_rng(3)
    y, usual, value = rng.uniform(2, 8, 200), rng.uniform(2, 8, 200), rng.uniform(2, 8, 200)
    group = np.arange(200) // 10
    foretold = np.stack([value, value - 1.0, value + 1.0], axis=1)
    found = value_sums(TARGET, y, usual, foretold, group, np.arange(200) < 150)
    y, usual, value = y[:150], usual[:150], value[:150]
    assert found.counts["records"] == 150 and found.counts["groups"] == 15 and found.counts["open"] == 0
    assert found.counts["below"] == int((y < value - 1).sum()) and found.counts["above"] == int((y > value + 1).sum())
    assert skill(found) == pytest.approx(1 - ((y - value) ** 2).sum() / ((y - usual) ** 2).sum(), abs=1e-5)
    assert efficiency(found) == pytest.approx(1 - ((y - value) ** 2).sum() / ((y - y.mean()) ** 2).sum(), abs=1e-3)
    assert value_sums_from(found.packed()) == found


def test_a_model_that_keeps_its_bars_passes_and_says_what_is_claimed() -> None:
    verdict = judge_values(bars(), evidence(sums()))
    assert verdict.passed, verdict.failures
    (claim,) = verdict.claims.values  # type: ignore[misc]
    assert claim.miss_ppm <= claim.miss_bound_ppm <= 150_000 and claim.skill_bound_ppm < claim.skill_ppm
    assert claim.rmse_micros < claim.naive_rmse_micros and claim.width_ppm == pytest.approx(120_000, rel=0.02)
    assert (verdict.claims.recall_bound_ppm, verdict.claims.auc_bound_ppm) == (0, 0)  # nothing is claimed of verdicts
    assert verdict.claims.error_bound_ppm == claim.miss_bound_ppm


@pytest.mark.parametrize(
    ("changed", "given", "said"),
    [
        ({}, sums(half=0.2), "outcomes lay beyond the band"),
        ({}, sums(naive=0.3), "skill against the newest value"),
        ({"values": ValueBars(width_ppm_max=100_000)}, sums(), "a band that says so little is no forecast"),
        ({"groups_min": 50}, sums(), "too few groups"),
        ({"families": ("noise",), "severities": (1,)}, sums(), "not measured: noise 1"),
        ({"error_ppm_max": 30_000}, sums(half=0.7), "more held-out records in the band"),
    ],
)
def test_what_is_not_proven_is_refused_with_its_reason(changed: dict[str, object], given: ValueSums, said: str) -> None:
    verdict = judge_values(bars(**changed), evidence(given))
    assert not verdict.passed and any(said in failure for failure in verdict.failures), verdict.failures


def test_a_slice_that_the_naive_forecast_serves_better_refuses_and_one_beyond_the_promise_is_told() -> None:
    worse = sums(1, groups=20, error=1.0, naive=0.3)
    verdict = judge_values(bars(), evidence(sums(), slices={"upper": (worse,)}))
    assert any("slice upper: the squared error is not below" in one for one in verdict.failures)
    assert any("slice upper" in one and "over all records together" in one for one in verdict.notes)


def test_a_condition_that_must_hold_is_asked_for() -> None:
    asked = bars(families=("noise",), severities=(1, 2), robust=(Robustness(family="noise", severity=2),))
    corrupted = {("noise", 1): (sums(),), ("noise", 2): (sums(error=1.0),)}
    verdict = judge_values(asked, evidence(sums(), corrupted=corrupted))
    assert [claim.holds for claim in verdict.claims.corruptions] == [True, False]
    assert any("proven up to severity 1, 2 is asked" in one for one in verdict.failures)


def test_bars_and_evidence_that_cannot_be_are_refused() -> None:
    for wrong in (bars(values=msgspec.UNSET), bars(values=ValueBars(width_ppm_max=0)), bars(values=ValueBars(skill_ppm_min=-1))):
        with pytest.raises(InputError):
            judge_values(wrong, evidence(sums()))
    fine = sums()
    for counts, levels in (({"below": 900}, {}), ({}, {"model_naive": 1 << 60}), ({}, {"outcome": 1 << 50}), ({"groups": 3}, {})):
        broken = replace(fine, counts={**fine.counts, **counts}, levels={**fine.levels, **levels})
        with pytest.raises(InputError, match="contradicts itself"):
            judge_values(bars(), evidence(broken))
    with pytest.raises(InputError, match="other targets"):
        judge_values(bars(), evidence(fine, clean=(fine, fine)))
    assert value_evidence_digest(evidence(fine)) != value_evidence_digest(evidence(fine, effects=(1.6,)))


def test_the_bound_on_skill_keeps_its_rate() -> None:
    """Monte Carlo: the true skill is 1 - 0.25; 400 draws of 40 groups; a 95 % bound is broken in at most 8 % of them."""
    broken = sum(skill_lower(sums(seed, error=0.5, naive=1.0), 0.95) > 0.75 for seed in range(400))
    assert broken <= 32


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 0.4), st.integers(100, 5000), st.floats(1.0, 4.0))
def test_a_planned_share_of_misses_is_expected_to_prove_its_bar(bar: float, records: int, effect: float) -> None:
    plan = BandPlan(bar=bar, records=records, groups=40, design_effect=effect, confidence=0.95, power=0.9)
    miss = planned_miss(2000, plan)
    assert 0.0 <= miss < bar and (miss == 0.0 or expected_bound(miss, 2000, plan) <= bar)


def test_bands_hold_what_they_were_made_to_hold_and_hard_scores_have_wider_ones() -> None:
    rng = np.random.default_rng(7)
    scores = rng.normal(0, 500, 20_000)
    residuals = rng.normal(0, 1, 20_000) * np.where(scores > 500, 900.0, 300.0)
    counts = residual_counts(scores[:10_000], residuals[:10_000], GRID)
    plan = BandPlan(bar=0.2, records=5000, groups=500, design_effect=1.0, confidence=0.95, power=0.9)
    found = plan_bands(counts, GRID, plan)
    assert found.reached and found.edges == (0.0, 500.0)
    assert found.bands[-1].high > 2 * found.bands[0].high
    place = np.searchsorted(found.edges, scores[10_000:], side="right")
    missed = [~band.holds(residuals[10_000:][place == k]) for k, band in enumerate(found.bands)]
    assert np.concatenate(missed).mean() <= 0.2 and all(one.mean() < 0.25 for one in missed)


def test_few_residuals_make_one_part_and_none_are_refused() -> None:
    counts = residual_counts(np.zeros(50), np.zeros(50), GRID)
    assert parted(counts, GRID)[0] == ()
    with pytest.raises(InputError):
        plan_bands(np.zeros_like(counts), GRID, BandPlan(bar=0.1, records=10, groups=2, design_effect=1.0, confidence=0.95, power=0.8))


def test_what_reads_a_certificate_knows_that_it_is_of_numbers() -> None:
    claims = judge_values(bars(), evidence(sums())).claims
    assert "of outcomes beyond the band" in claim_sentence(claims) and "person" not in claim_sentence(claims)
    with pytest.raises(InputError, match="reckoned from verdicts"):
        worth(claims, None)  # type: ignore[arg-type]
