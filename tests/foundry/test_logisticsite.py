"""A site's logistic head: the fleet's parabola and a few own records, against fits on real rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isthmus.contracts.errors import InputError
from isthmus.contracts.logistic import logistic_units
from isthmus.contracts.sums import Moments
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.logistic import LogisticFit, fit_logistic
from isthmus.foundry.logisticsite import Parabola, _fits, combine_logistic
from isthmus.foundry.site import LocalRows, weighted_sum
from isthmus.kit.logits import logistic_sums, probability, scores_of

D, LAM = 5, 0.02
LAMBDAS = (0.01, 0.1, 1.0)


def drawn(seed: int, n: int, shift: float = 0.0, turn: float = 1.0) -> LocalRows:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, D))
    y = np.where(x @ (turn * np.linspace(1.2, -0.8, D)) + shift + rng.logistic(0, 1, n) > 0, 1, -1).astype(np.int64)
    y[:2] = (1, -1)
    return LocalRows(np.rint(np.clip(x, -8, 8) * 4000).astype(np.int16), np.full(n, 2), y, np.arange(n))


def fitted(rows: LocalRows, lam: float = LAM) -> tuple[Moments, LogisticFit]:
    moments = moments_of(rows.q, rows.w, rows.y, rows.groups)
    units = logistic_units(moments.sum_w)
    return moments, fit_logistic(lambda at: logistic_sums(rows.q, rows.w, rows.y, at, units), moments, lam)


@pytest.fixture(scope="module")
def fleet() -> tuple[Moments, LogisticFit]:
    return fitted(drawn(1, 1500))


def combined(fleet: tuple[Moments, LogisticFit], rows: LocalRows, **more: Any) -> Any:
    moments, fit = fleet
    return combine_logistic(moments, fit.sums, fit.at, rows, fit.lam, **{"lambdas": LAMBDAS, **more})


def area(score: Any, y: Any) -> float:
    order = score[y > 0][:, None] - score[y < 0][None, :]
    return float((order > 0).mean() + (order == 0).mean() / 2)


def test_the_fleets_head_is_the_fleets(fleet: tuple[Moments, LogisticFit]) -> None:
    rows = drawn(2, 30)
    found = combined(fleet, rows)
    assert np.allclose(found.fleet.candidate.raw(), fleet[1].raw(), rtol=1e-9)
    assert np.allclose(found.fleet.scores, scores_of(fleet[1].logits(rows.q)))


def test_the_joined_head_is_nearly_that_of_all_rows_together(fleet: tuple[Moments, LogisticFit]) -> None:
    """The fleet's loss as a parabola instead of its rows: within two hundredths in probability, nearer than either alone."""
    rows = drawn(3, 120, shift=0.7)
    whole, own = drawn(1, 1500), fleet[0]
    together = LocalRows(*(np.concatenate([getattr(whole, n), getattr(rows, n)]) for n in ("q", "w", "y", "groups")))
    _, exact = fitted(together)
    joined = weighted_sum(own, rows.moments(), 1.0)
    from_parts = _fits(Parabola.of(fleet[1].sums, fleet[1].at), joined, rows, 1.0, (LAM,))[0].candidate
    test = drawn(4, 400).q.astype(float)
    apart = probability(from_parts.raw()[0] + test @ from_parts.raw()[1:]) - probability(exact.logits(test.astype(np.int16)))
    assert np.abs(apart).max() < 0.02
    away = np.abs(fleet[1].raw() - exact.raw()).max()
    assert np.abs(from_parts.raw() - exact.raw()).max() < 0.2 * away


def test_scores_without_a_record_are_those_of_a_new_fit_without_it() -> None:
    rows = drawn(5, 40, shift=0.5)
    found = _fits(None, rows.moments(), rows, float("inf"), (0.1,))[0]
    for out in range(0, 40, 8):
        kept = np.arange(40) != out
        part = LocalRows(rows.q[kept], rows.w[kept], rows.y[kept], rows.groups[kept])
        again = fitted(part, 0.1 * 80 / 78)[1]
        gap = probability(found.scores[out : out + 1]) - probability(again.logits(rows.q[out : out + 1]))
        assert abs(float(gap[0])) < 0.03


def test_a_site_like_the_fleet_keeps_it_and_one_of_another_kind_does_not(fleet: tuple[Moments, LogisticFit]) -> None:
    alike, other = drawn(6, 40), drawn(7, 200, turn=-1.0)
    kept, left = combined(fleet, alike), combined(fleet, other)
    assert kept.combined.loss <= 1.05 * kept.fleet.loss
    assert left.combined.loss < 0.7 * left.fleet.loss and left.weights[0] < 0.01
    test = drawn(8, 800, turn=-1.0)
    raw = left.combined.candidate.raw()
    assert area(raw[0] + test.q.astype(float) @ raw[1:], test.y) > 0.75 > 0.4 > area(fleet[1].logits(test.q), test.y)
    assert (np.abs(left.combined.scores) <= 2).all() and sum(left.weights) == pytest.approx(1.0)


def test_labels_of_one_class_or_group_leave_the_local_head_out(fleet: tuple[Moments, LogisticFit]) -> None:
    rows = drawn(9, 20)
    one = LocalRows(rows.q, rows.w, np.ones(20, np.int64), rows.groups)
    found = combined(fleet, one)
    assert found.local is None and "one class" in found.local_note and np.isfinite(found.combined.loss)
    lone = combined(fleet, LocalRows(rows.q, rows.w, rows.y, np.zeros(20)))
    assert lone.local is None and "one group" in lone.local_note


def test_what_does_not_fit_is_refused(fleet: tuple[Moments, LogisticFit]) -> None:
    rows = drawn(10, 20)
    with pytest.raises(InputError, match="weightings"):
        combined(fleet, rows, factors=())
    with pytest.raises(InputError, match="no labelled records"):
        combined(fleet, LocalRows(rows.q[:0], rows.w[:0], rows.y[:0], rows.groups[:0]))
    moments, fit = fleet
    with pytest.raises(InputError, match="coefficients"):
        combine_logistic(moments, fit.sums, fit.at[1:], rows, LAM)
    narrow = LocalRows(rows.q[:, :3], rows.w, rows.y, rows.groups)
    with pytest.raises(InputError, match="features"):
        combined(fleet, narrow)
