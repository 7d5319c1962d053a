"""Stated probabilities beside what is found: brackets that hold, bounds that hold as often as they say, and what the certificate tells."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.assurance.bars import judge
from isthmus.assurance.calibration import RANGES, calibration, hoeffding_upper
from isthmus.assurance.evidence import evidence_digest
from isthmus.contracts.certificate import Claims
from isthmus.contracts.sums import EVALUATION_BINS, score_bins
from tests.assurance.counts import evidence
from tests.assurance.test_bars import BARS


def drawn(seed: int, n: int, bent: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(stated probabilities, classes 0 or 1) of a model whose log odds are `bent` times the true ones."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, n)
    return 1 / (1 + np.exp(-bent * logit)), (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)


def histogram(stated: np.ndarray, y: np.ndarray) -> np.ndarray:
    places = score_bins(4 * stated - 2, EVALUATION_BINS)
    return np.stack([np.bincount(places[y == side], minlength=EVALUATION_BINS) for side in (0, 1)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 400), st.sampled_from([0.3, 1.0, 3.0]))
def test_brackets_hold_what_rows_would_tell(seed: int, n: int, bent: float) -> None:
    stated, y = drawn(seed, n, bent)
    found = calibration(histogram(stated, y), 1.0, n, 0.95)
    assert found is not None and found.records == n
    brier = float(((stated - y) ** 2).mean())
    places = score_bins(4 * stated - 2, EVALUATION_BINS) // (EVALUATION_BINS // RANGES)
    error = sum(abs(stated[places == b].mean() - y[places == b].mean()) * (places == b).mean() for b in np.unique(places))
    assert found.brier[0] - 1e-12 <= brier <= found.brier[1] + 1e-12 and found.brier[1] <= found.brier_bound
    assert found.error[0] - 1e-12 <= error <= found.error[1] + 1e-12
    assert all(part.share_low <= part.defects / part.records <= part.share_high for part in found.ranges)
    assert all(part.low <= part.stated_low <= part.stated_high <= part.high for part in found.ranges)


def test_the_bound_holds_as_often_as_it_says() -> None:
    stated, y = drawn(0, 400_000)
    truth = float(((stated - y) ** 2).mean())
    held = contradicted = 0
    for seed in range(1, 201):
        found = calibration(histogram(*drawn(seed, 250)), 1.0, 250, 0.95)
        assert found is not None
        held += found.brier_bound >= truth
        contradicted += any(part.contradicted for part in found.ranges)
    assert held >= 190 and contradicted <= 16, (held, contradicted)


def test_a_model_that_overstates_is_contradicted_and_one_that_does_not_is_not() -> None:
    over = calibration(histogram(*drawn(5, 3000, bent=3.0)), 1.0, 3000, 0.95)
    right = calibration(histogram(*drawn(5, 3000)), 1.0, 3000, 0.95)
    assert over is not None and right is not None
    assert any(part.contradicted for part in over.ranges) and not any(part.contradicted for part in right.ranges)
    assert right.error[0] < 0.04 < over.error[0] and right.brier[1] < right.base


def test_hoeffdings_bound_at_its_ends() -> None:
    assert hoeffding_upper(0.2, 0, 0.95) == 1.0 and hoeffding_upper(1.0, 50, 0.95) == 1.0
    assert hoeffding_upper(0.0, 100, 0.95) == pytest.approx(1 - 0.05 ** (1 / 100), abs=1e-9)
    assert 0.2 < hoeffding_upper(0.2, 1000, 0.95) < hoeffding_upper(0.2, 100, 0.95)


def test_nothing_held_out_is_nothing_known() -> None:
    assert calibration(np.zeros((2, EVALUATION_BINS), np.int64), 1.0, 0, 0.95) is None


def test_a_certificate_tells_it_for_probabilities_only(bent: float = 3.0) -> None:
    stated, classes = drawn(9, 2000, bent)
    scores, y, groups = 4 * stated - 2, 2 * classes - 1, np.arange(2000) // 20
    plain, told = (evidence(scores, y, groups, -0.5, 0.5, probability=probability) for probability in (False, True))
    silent, spoken = judge(BARS, plain), judge(BARS, told)
    claim = spoken.claims.calibration
    assert silent.claims.calibration is None and claim is not None
    assert claim.brier_low_ppm <= claim.brier_high_ppm <= claim.brier_bound_ppm and sum(part.records for part in claim.ranges) == 2000
    assert any("stated probabilities of" in note for note in spoken.notes) and not any("stated" in note for note in silent.notes)
    assert evidence_digest(plain) != evidence_digest(told)
    assert msgspec.convert(msgspec.to_builtins(spoken.claims), Claims) == spoken.claims
