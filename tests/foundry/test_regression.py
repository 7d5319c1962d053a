"""Ridge regression on a number: the pooled fit from owners' sums, a penalty chosen by blocks in time, whole units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.targets import (
    TARGET_MAX,
    Target,
    checked_target,
    target_moments_from,
    target_moments_size,
    unit_step,
    units_of,
    values_of,
)
from isthmus.foundry.regression import OwnerRows, added, fit_owners, fold_out_units, squared_loss, target_total, units, variance_units
from isthmus.foundry.ridge import candidates
from isthmus.foundry.site import LocalRows, combine

RAIN = Column(name="rain", low=0.0, high=50.0)
RIVER = Column(name="river", low=0.1, high=100.0, log=True)
SCHEMA = Schema(columns=(RAIN, RIVER), steps=9)
PLAIN = Target(name="left", low=-5.0, high=200.0)
CHANGE = Target(name="river_next", low=0.1, high=100.0, log=True, change_from="river")


def owner(seed: int, count: int, d: int = 6, block: int = 10) -> OwnerRows:
    rng = np.random.default_rng(seed)
    q = rng.integers(-20000, 20000, (count, d)).astype(np.int16)
    shared = np.repeat(rng.normal(0, 800, -(-count // block)), block)[:count]
    y = np.rint(0.3 * q[:, 0] - 0.1 * q[:, 1] + 2000 + shared + rng.normal(0, 500, count)).astype(np.int64)
    return OwnerRows(q, rng.integers(1, 5, count), np.clip(y, -TARGET_MAX, TARGET_MAX), np.arange(count) // block)


def test_the_sum_of_owners_gives_the_pooled_fit_of_another_library() -> None:
    owners = [owner(seed, 80) for seed in range(3)]
    total = added([rows.moments() for rows in owners])
    q, w, y = (np.concatenate([getattr(rows, name) for rows in owners]) for name in ("q", "w", "y"))
    mine = candidates(total.moments, (0.05,))[0]
    mean = w @ q / w.sum()
    scale = np.sqrt(w @ (q - mean) ** 2 / w.sum())
    theirs = Ridge(alpha=0.05 * w.sum(), solver="cholesky").fit((q - mean) / scale, y, sample_weight=w)
    assert np.abs(units(mine, q) - theirs.predict((q - mean) / scale)).max() < 1e-6
    assert variance_units(total) == pytest.approx(float(w @ (y - w @ y / w.sum()) ** 2 / w.sum()))


def test_the_same_digits_however_records_are_split() -> None:
    rows = owner(4, 90)
    parts = [OwnerRows(rows.q[k::3], rows.w[k::3], rows.y[k::3], rows.groups[k::3]) for k in range(3)]
    whole, split = rows.moments(), added([part.moments() for part in parts])
    assert (whole.packed()[[0, *range(3, len(whole.packed()))]] == split.packed()[[0, *range(3, len(split.packed()))]]).all()


def test_sums_are_packed_and_unpacked() -> None:
    found = owner(5, 40).moments()
    again = target_moments_from(found.packed(), 6)
    assert (again.packed() == found.packed()).all() and again.moments.span == TARGET_MAX
    assert found.packed().shape == (target_moments_size(6),)
    with pytest.raises(ValueError, match="entries"):
        target_moments_from(found.packed()[:-1], 6)


def test_one_owners_fold_out_scores_are_those_of_fits_without_each_block() -> None:
    rows = owner(6, 60)
    total = rows.moments()
    fit = candidates(total.moments, (0.1,))[0]
    scores = fold_out_units(rows, fit, total.moments.sum_w)
    z = np.column_stack([np.ones(60), (rows.q - fit.mean) / fit.scale])
    penalty = np.diag([0.0, *[0.1 * total.moments.sum_w] * 6])
    for block in range(6):
        kept = rows.groups != block
        normal = (z[kept] * rows.w[kept, None]).T @ z[kept] + penalty
        wanted = z[~kept] @ np.linalg.solve(normal, z[kept].T @ (rows.w[kept] * rows.y[kept]))
        assert np.abs(scores[~kept] - wanted).max() < 1e-4


def test_the_penalty_is_chosen_on_blocks_that_took_no_part() -> None:
    fit = fit_owners([owner(seed, 100, d=20) for seed in range(7, 10)], (0.001, 0.03, 1.0, 30.0))
    assert fit.candidate.lam < 30.0 and 0.5 < fit.explained < 1.0
    assert fit.loss == sum(squared_loss(s, r.y, r.w) for s, r in zip(fit.scores, [owner(k, 100, d=20) for k in range(7, 10)], strict=True))
    noise = [OwnerRows(rows.q, rows.w, np.random.default_rng(1).permutation(rows.y), rows.groups) for rows in (owner(7, 100, d=20),)]
    assert fit_owners(noise, (0.001, 30.0)).candidate.lam == 30.0


def test_a_sites_average_of_fleet_and_own_takes_numbers_too() -> None:
    fleet, mine = added([owner(k, 200).moments() for k in range(3)]), owner(11, 40)
    found = combine(fleet.moments, LocalRows(mine.q, mine.w, mine.y, mine.groups, span=TARGET_MAX), 0.03)
    assert found.local is not None and found.combined.loss <= 1.1 * min(found.fleet.loss, found.local.loss)


@given(value=st.floats(0.1, 100.0), newest=st.floats(0.1, 100.0))
@settings(max_examples=200, deadline=None)
def test_units_go_there_and_back(value: float, newest: float) -> None:
    back = float(values_of(CHANGE, units_of(CHANGE, [value], [newest]), [newest])[0])
    assert abs(np.log(back / value)) <= unit_step(CHANGE)
    plain = float(values_of(PLAIN, units_of(PLAIN, [value]))[0])
    assert abs(plain - value) <= unit_step(PLAIN)


def test_what_lies_beyond_the_range_counts_as_its_end() -> None:
    assert units_of(PLAIN, [-1e9, 97.5, 1e9]).tolist() == [-TARGET_MAX, 0, TARGET_MAX]
    assert units_of(CHANGE, [1e9], [0.0]).tolist() == [TARGET_MAX]
    assert values_of(CHANGE, [1e12], [5.0]).tolist() == [pytest.approx(100.0)]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target(name="Left", low=0.0, high=1.0), "cannot be used"),
        (Target(name="left", low=1.0, high=1.0), "has no range"),
        (Target(name="left", low=0.0, high=1.0, log=True), "logarithmic"),
        (Target(name="left", low=0.0, high=1.0, change_from="snow"), "no number column"),
        (Target(name="left", low=0.0, high=1.0, change_from="rain"), "unlike scales"),
    ],
)
def test_targets_that_cannot_be_foretold_are_refused(target: Target, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked_target(target, SCHEMA)


def test_bad_input_gets_one_sentence() -> None:
    assert checked_target(CHANGE, SCHEMA) is CHANGE
    rows = owner(1, 20)
    with pytest.raises(InputError, match="no finite number"):
        units_of(PLAIN, [np.nan])
    with pytest.raises(InputError, match="lies beyond"):
        OwnerRows(rows.q, rows.w, rows.y * 100, rows.groups).moments()
    with pytest.raises(InputError, match="no sums"):
        added([])
    with pytest.raises(InputError, match="ran over"):
        target_total(-rows.moments().packed(), 6)
    with pytest.raises(InputError, match="less than this owner's"):
        fold_out_units(rows, candidates(rows.moments().moments, (0.1,))[0], 1)
    still = OwnerRows(rows.q, rows.w, np.full(20, TARGET_MAX), rows.groups)
    with pytest.raises(InputError, match="one end of the target's range"):
        candidates(still.moments().moments, (0.1,))
