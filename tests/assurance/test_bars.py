"""The bars: an honest model passes, every decoy is refused, and each refusal says what is missing."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.assurance.bars import checked_bars, judge
from isthmus.assurance.bounds import design_effect
from isthmus.assurance.evidence import Evidence, evidence_digest
from isthmus.contracts.bars import Bars, Robustness
from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import Evaluation
from tests.assurance.counts import evaluation, evidence, line

BARS = Bars(scenario="solar-cell-inspection", tier="T2")


def test_an_honest_model_passes() -> None:
    verdict = judge(BARS, evidence(*line(0), -0.3, 0.3, 1.2))
    assert verdict.passed, verdict.failures
    claims = verdict.claims
    assert claims.error_ppm < claims.error_bound_ppm <= 50_000
    assert claims.recall_bound_ppm < claims.recall_ppm <= 1_000_000
    assert claims.auc_bound_ppm < claims.auc_ppm
    assert [s.name for s in claims.slices] == ["mono", "poly"]
    assert len(claims.corruptions) == 20
    assert verdict == judge(BARS, evidence(*line(0), -0.3, 0.3, 1.2))


@pytest.mark.parametrize("defects", [0.02, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("always", [-1.0, 1.0, 0.0])
def test_a_constant_model_is_refused(defects: float, always: float) -> None:
    """Always good, always defect, always the middle; with every kind of thresholds."""
    scores, y, groups = line(1, groups=60, defects=defects)
    for lo, hi in ((-0.3, 0.3), (0.0, 0.0), (1.0, 2.0), (-2.0, -1.0), (1.5, 1.5)):
        assert not judge(BARS, evidence(np.full_like(scores, always), y, groups, lo, hi)).passed


@pytest.mark.parametrize("defects", [0.02, 0.3, 0.5])
def test_a_model_of_shuffled_labels_is_refused(defects: float) -> None:
    for seed in range(12):
        scores, y, groups = line(seed, groups=40, defects=defects)
        shuffled = np.random.default_rng(seed).permutation(scores)  # scores that belong to other records
        for lo, hi in ((-0.3, 0.3), (0.2, 0.2), (1.0, 1.3), (-1.3, -1.0)):
            assert not judge(BARS, evidence(shuffled, y, groups, lo, hi)).passed


def test_a_screen_that_only_ever_says_good_is_refused_even_when_right() -> None:
    scores, y, groups = line(2, groups=60)
    verdict = judge(BARS, evidence(scores, y, groups, -0.6, 1e6))
    assert verdict.claims.error_bound_ppm <= 50_000
    assert any("recall" in f for f in verdict.failures)


def test_too_few_groups_are_named() -> None:
    verdict = judge(BARS, evidence(*line(3, groups=6, size=200), -0.3, 0.3))
    assert "too few groups: 6, 2 more needed" in verdict.failures


def test_a_missed_error_bar_says_how_many_more() -> None:
    verdict = judge(BARS, evidence(*line(4, groups=9, size=20), -0.3, 0.3, 1.5))
    (said,) = [f for f in verdict.failures if f.startswith("error bound")]
    assert "more answered held-out records without a new error would prove it" in said
    assert " % > 5 %" in said
    worse = judge(BARS, evidence(*line(4, skill=0.3), 0.0, 0.0))
    assert any("more records alone will not prove it" in f for f in worse.failures)


def test_nothing_answered_is_refused() -> None:
    verdict = judge(BARS, evidence(*line(5), -1e6, 1e6))
    assert any(f.startswith("answered share 0 %") for f in verdict.failures)


def test_a_blind_slice_is_named() -> None:
    scores, y, groups = line(6, groups=60)
    scores = np.where((groups % 2 == 0) & (groups < 12), np.abs(scores), scores)
    found = evidence(scores, y, groups, -0.3, 0.3)
    blind = (groups % 2 == 0) & (groups < 12)
    slices = {"blind": evaluation(scores[blind], y[blind], groups[blind], -0.3, 0.3)}
    verdict = judge(BARS, changed(found, slices=slices))
    assert any(f.startswith("slice blind") for f in verdict.failures)


def changed(found: Evidence, **changes: object) -> Evidence:
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def test_a_small_slice_is_noted_not_judged() -> None:
    scores, y, groups = line(7)
    tiny = evaluation(scores[:10], y[:10], groups[:10], -0.3, 0.3)
    verdict = judge(BARS, changed(evidence(scores, y, groups, -0.3, 0.3), slices={"rare": tiny}))
    assert verdict.passed
    assert "slice rare has 10 records, too few to judge alone" in verdict.notes


def test_corruptions_are_a_fixed_sequence() -> None:
    scores, y, groups = line(8)
    found = evidence(scores, y, groups, -0.3, 0.3)
    corrupted = dict(found.corrupted)
    corrupted["noise", 5] = found.clean  # better again after it broke: not claimed
    verdict = judge(BARS, changed(found, corrupted=corrupted))
    noise = [c.holds for c in verdict.claims.corruptions if c.family == "noise"]
    assert noise[0] and not noise[-1]
    assert noise == sorted(noise, reverse=True)
    assert [c.family for c in verdict.claims.corruptions] == [f for f in BARS.families for _ in range(5)]


def test_missing_corruptions_and_missed_robustness_are_named() -> None:
    found = evidence(*line(9), -0.3, 0.3)
    fewer = {k: v for k, v in found.corrupted.items() if k != ("blur", 4)}
    assert any("not measured: blur 4" in f for f in judge(BARS, changed(found, corrupted=fewer)).failures)
    strict = msgspec.structs.replace(BARS, robust=(Robustness(family="noise", severity=5),))
    assert any(f.startswith("noise: the error bar is proven up to severity") for f in judge(strict, found).failures)
    mild = msgspec.structs.replace(BARS, robust=(Robustness(family="noise", severity=1),))
    assert judge(mild, found).passed


def test_full_abstention_under_corruption_holds() -> None:
    scores, y, groups = line(10)
    found = evidence(scores, y, groups, -0.3, 0.3)
    silent = evaluation(np.zeros_like(scores), y, groups, -0.3, 0.3)
    verdict = judge(BARS, changed(found, corrupted=dict.fromkeys(found.corrupted, silent)))
    assert all(c.holds and c.answered_ppm == 0 and c.wrong_bound_ppm < 50_000 for c in verdict.claims.corruptions)


def test_inferred_groups_are_said() -> None:
    verdict = judge(BARS, evidence(*line(11), -0.3, 0.3, groups_inferred=True))
    assert verdict.claims.groups_inferred
    assert any("inferred" in n for n in verdict.notes)


def test_a_larger_design_effect_is_never_kinder() -> None:
    bounds = [judge(BARS, evidence(*line(12), -0.3, 0.3, deff)).claims for deff in (1.0, 2.0, 5.0)]
    assert [b.error_bound_ppm for b in bounds] == sorted(b.error_bound_ppm for b in bounds)
    assert [b.recall_bound_ppm for b in bounds] == sorted((b.recall_bound_ppm for b in bounds), reverse=True)


@pytest.mark.parametrize(
    "change",
    [
        {"recall_ppm_min": 300_000, "specificity_ppm_min": 600_000},
        {"auc_ppm_min": 400_000},
        {"error_ppm_max": 0},
        {"error_ppm_max": 1_000_000},
        {"confidence_ppm": 100_000},
        {"answered_ppm_min": 0},
        {"groups_min": 1},
        {"tier": "T9"},
        {"severities": (1, 3)},
        {"families": ("noise", "noise")},
        {"robust": (Robustness(family="fog", severity=1),)},
        {"slice_records_min": 0},
    ],
)
def test_bars_that_would_let_anything_pass_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        checked_bars(msgspec.structs.replace(BARS, **change))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(evaluation(*line(0), -0.3, 0.3).counts)), st.sampled_from([-1, 1, 500]))
def test_counts_that_contradict_each_other_are_refused(name: str, change: int) -> None:
    found = evidence(*line(13), -0.3, 0.3)
    counts = dict(found.clean.counts)
    counts[name] += change
    with pytest.raises(InputError, match="contradicts"):
        judge(BARS, changed(found, clean=Evaluation(counts, found.clean.clusters, found.clean.histogram)))


def test_impossible_design_effects_are_refused() -> None:
    for deff in (0.5, float("nan"), float("inf")):
        with pytest.raises(InputError):
            judge(BARS, evidence(*line(14), -0.3, 0.3, deff))


def test_evidence_has_a_digest_that_every_count_moves() -> None:
    found = evidence(*line(15), -0.3, 0.3)
    other = changed(found, corrupted={k: v for k, v in found.corrupted.items() if k != ("blur", 5)})
    assert evidence_digest(found) == evidence_digest(evidence(*line(15), -0.3, 0.3))
    assert len({evidence_digest(e) for e in (found, other, changed(found, design_effect=1.1))}) == 3


def line_of_groups(rng: np.random.Generator, count: int) -> Evaluation:
    """Groups of 50 records whose own error rates vary around 5 %."""
    y, groups = np.where(rng.random(50 * count) < 0.4, 1, -1), np.repeat(np.arange(count), 50)
    wrong = rng.random(50 * count) < rng.beta(0.05 * 19, 0.95 * 19, count)[groups]
    return evaluation(np.where(wrong, -y, y) * rng.uniform(0.4, 1.0, 50 * count), y, groups, -0.3, 0.3)


def test_models_at_the_bar_rarely_pass() -> None:
    """Whole judgement, groups alike: true error among answered 5 % or a little above."""
    passed, runs = 0, 300
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        training, clean = line_of_groups(rng, 21), line_of_groups(rng, 12)
        bars = msgspec.structs.replace(BARS, families=(), severities=())
        passed += judge(bars, Evidence(clean=clean, design_effect=design_effect(training.clusters))).passed
    assert passed <= 0.05 * runs + 3.1 * (0.05 * 0.95 * runs) ** 0.5
