"""Shapley values in whole numbers: the axioms, the split to the last part, drawn orders with a bound that holds, and forged documents."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from math import factorial
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.contribution import CONTRIBUTION_FORMAT, CONTRIBUTION_TYPE, WEIGHT_TOTAL, Contribution, ScoredOwner
from isthmus.contracts.errors import DocumentError, InputError, ReceiptError, SignatureError
from isthmus.contracts.head import Array
from isthmus.contracts.price import OwnerWeight
from isthmus.contracts.sums import LOSS_UNIT
from isthmus.kit.signing import SigningKey, seal
from isthmus.ledger.splits import divide
from isthmus.sandbox.contribution import checked_contribution, game_of, micros, seed_of, shares_of, split_of
from isthmus.sandbox.shapley import (
    Values,
    all_coalitions,
    drawn_coalitions,
    drawn_errors,
    drawn_orders,
    drawn_values,
    exact_values,
    share_intervals,
    value_matrix,
    weights_of,
)
from tests.ledger.world import SPLIT

KEY = SigningKey.from_seed(b"k" * 32)
LOSSES = st.integers(0, 100 * LOSS_UNIT)


@st.composite
def games(draw: Any, most: int = 5) -> tuple[int, dict[int, int]]:
    owners = draw(st.integers(2, most))
    return owners, {mask: draw(LOSSES) for mask in range(1 << owners)}


@given(games())
@settings(max_examples=60, deadline=None)
def test_exact_values_are_the_mean_over_all_orders(game: tuple[int, dict[int, int]]) -> None:
    owners, losses = game
    found = exact_values(losses, owners)
    orders = list(permutations(range(owners)))
    assert found.denominator == factorial(owners)
    assert found.numerators == drawn_values(losses, orders, owners).numerators
    assert sum(found.numerators) == found.denominator * (losses[0] - losses[(1 << owners) - 1]), "efficiency"
    matrix = value_matrix(all_coalitions(owners), owners, None)
    floats = matrix @ np.array([losses[mask] for mask in range(1 << owners)], dtype=np.float64)
    assert np.allclose(floats, [n / found.denominator for n in found.numerators], rtol=1e-9, atol=1e-3)


@given(games(4))
@settings(max_examples=40, deadline=None)
def test_a_dummy_gets_nothing_and_twins_get_the_same(game: tuple[int, dict[int, int]]) -> None:
    owners, losses = game
    dummy = 1 << owners
    with_dummy = {**losses, **{mask | dummy: loss for mask, loss in losses.items()}}
    found = exact_values(with_dummy, owners + 1)
    assert found.numerators[-1] == 0
    assert [Fraction(n, found.denominator) for n in found.numerators[:-1]] == [
        Fraction(n, factorial(owners)) for n in exact_values(losses, owners).numerators
    ]
    swapped = {mask: losses[_swapped(mask)] for mask in losses}
    twins = {mask: losses[mask] + swapped[mask] for mask in losses}
    assert exact_values(twins, owners).numerators[0] == exact_values(twins, owners).numerators[1]


def _swapped(mask: int) -> int:
    return (mask & ~3) | (mask & 1) << 1 | (mask >> 1 & 1)


@given(st.lists(st.integers(-(10**30), 10**30), min_size=2, max_size=50), st.data())
@settings(max_examples=80, deadline=None)
def test_weights_sum_exactly_and_negative_values_get_nothing(numerators: list[int], data: Any) -> None:
    rows = data.draw(st.lists(st.integers(0, 10**9), min_size=len(numerators), max_size=len(numerators)))
    weights, by_rows = weights_of(Values(tuple(numerators), 7), rows)
    assert sum(weights) == WEIGHT_TOTAL and min(weights) >= 0
    kept = [max(0, n) for n in numerators]
    assert by_rows == (not any(kept))
    basis = kept if any(kept) else rows if any(rows) else [1] * len(rows)
    for weight, part in zip(weights, basis, strict=True):
        assert abs(weight - Fraction(part * WEIGHT_TOTAL, sum(basis))) < 1


@given(st.lists(st.integers(-5, 50), min_size=2, max_size=12), st.integers(0, 10**12))
@settings(max_examples=80, deadline=None)
def test_charges_divided_by_weights_sum_to_the_micro_unit(numerators: list[int], charge: int) -> None:
    weights, _ = weights_of(Values(tuple(numerators), 1), [1] * len(numerators))
    owners = tuple(OwnerWeight(party=f"owner-{place}", weight=weight) for place, weight in enumerate(weights))
    rule = msgspec.structs.replace(SPLIT, owners=owners)
    lines = divide(rule, charge)
    assert sum(line.amount_micros for line in lines) == charge
    paid = {line.party: line.amount_micros for line in lines if line.role == "owner"}
    for owner in owners:
        assert abs(paid.get(owner.party, 0) - Fraction(charge * rule.owners_ppm * owner.weight, 10**6 * WEIGHT_TOTAL)) <= 1


@given(st.text(max_size=20), st.integers(2, 20), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_orders_follow_from_the_seed(seed: str, owners: int, count: int) -> None:
    orders = drawn_orders(seed, owners, count)
    assert orders == drawn_orders(seed, owners, count) and len(orders) == count
    assert all(sorted(order) == list(range(owners)) for order in orders)
    masks = drawn_coalitions(orders)
    assert masks == sorted(set(masks)) and masks[-1] == (1 << owners) - 1


def test_orders_are_fair() -> None:
    orders = drawn_orders("a", 4, 6000)
    counts = np.array([[sum(order[place] == owner for order in orders) for place in range(4)] for owner in range(4)])
    assert np.abs(counts - 1500).max() < 150
    assert orders[:50] != drawn_orders("b", 4, 50)


def test_the_bound_of_drawn_values_holds() -> None:
    rng, broken = np.random.default_rng(3), 0
    for trial in range(60):
        owners = 6
        skill = rng.uniform(0, 0.1, owners)
        losses = {m: int((0.25 - min(0.2, sum(skill[i] for i in range(owners) if m >> i & 1))) * 50 * LOSS_UNIT) for m in range(64)}
        true = exact_values(losses, owners)
        orders = drawn_orders(str(trial), owners, 200)
        found = drawn_values(losses, orders, owners)
        errors = drawn_errors(losses, orders, owners, 50 * LOSS_UNIT, 0.95)
        off = [abs(n / 200 - t / true.denominator) for n, t in zip(found.numerators, true.numerators, strict=True)]
        broken += any(o > e for o, e in zip(off, errors, strict=True))
    assert broken <= 3


def test_intervals_hold_the_share_and_narrow_with_parts() -> None:
    rng = np.random.default_rng(5)
    matrix = value_matrix(all_coalitions(2), 2, None)
    widths = []
    for parts in (5, 80):
        losses = np.array([0.25, 0.2, 0.18, 0.15]) * 1000 + rng.normal(0, 3, (parts, 4))
        (low, high), _ = share_intervals(matrix, losses, 500, 0.95, 1)
        assert low < 0.4 < high
        widths.append(high - low)
    assert widths[1] < widths[0]
    (low, high), _ = share_intervals(matrix, np.full((4, 4), 7.0), 50, 0.95, 1)
    assert (low, high) == (0.0, 1.0), "nothing has a value, so nothing is known"


# The document.


def document(owners: int = 3, **changes: Any) -> Contribution:
    rng = np.random.default_rng(owners)
    scored = tuple(
        ScoredOwner(party=f"o{i:02d}", agreement="a", asset="b", commitment=f"{i:064d}", records_train=10 + i, records_holdout=9)
        for i in range(owners)
    )
    seed, records = seed_of("run_1", scored), 90
    game = game_of(owners, seed, 60_000)
    losses = {0: 20 * LOSS_UNIT} | {
        m: int((20 - m.bit_count() - rng.random()) * LOSS_UNIT) if m.bit_count() < 19 else 1 for m in game.masks
    }
    split = split_of(game, losses, records, [one.records_train for one in scored], 0.95)
    fields: dict[str, Any] = {
        "format": CONTRIBUTION_FORMAT,
        "run": "run_1",
        "scenario": "s@1",
        "purpose": "p",
        "stage": "t",
        "penalty": 0.1,
        "owners": scored,
        "method": "exact" if game.orders is None else "drawn",
        "permutations": 0 if game.orders is None else len(game.orders),
        "seed": seed,
        "confidence_ppm": 950_000,
        "records": records,
        "parts": 4,
        "prior_loss": losses[0],
        "masks": Array.of(np.array(game.masks, dtype=np.int64)),
        "losses": Array.of(np.array([losses[m] for m in game.masks], dtype=np.int64)),
        "heads_digest": "h",
        "job": "j",
        "shares": shares_of([one.party for one in scored], split, records, [(0.1, 0.5)] * owners),
        "by_rows": split.by_rows,
        "at_s": 1,
    }
    return Contribution(**{**fields, **changes})


def sealed(found: Any) -> Any:
    return seal(KEY, CONTRIBUTION_TYPE, found)


@pytest.mark.parametrize("owners", [2, 3, 12, 13])
def test_anyone_can_recompute_the_split(owners: int) -> None:
    assert checked_contribution(sealed(document(owners)), KEY.public_hex) == document(owners)


def edited(found: Contribution, name: str) -> Contribution:
    first = msgspec.structs.replace
    losses, masks = found.losses.array(), found.masks.array()
    shares = {
        "weight": (first(found.shares[0], weight_ppm=found.shares[0].weight_ppm + 1), *found.shares[1:]),
        "value": (first(found.shares[0], value_micros=found.shares[0].value_micros + 1), *found.shares[1:]),
        "shares": found.shares[:-1],
        "interval": (first(found.shares[0], low_ppm=5, high_ppm=None), *found.shares[1:]),
        "error": (first(found.shares[0], error_micros=1000), *found.shares[1:]),
    }
    if name in shares:
        return first(found, shares=shares[name])
    other = {
        "loss": {"losses": Array.of(np.concatenate([[losses[0] + LOSS_UNIT], losses[1:]]))},
        "mask": {"masks": Array.of(masks[::-1].copy())},
        "coalition": {"masks": Array.of(masks[:-1]), "losses": Array.of(losses[:-1])},
        "huge": {"losses": Array.of(losses + 2**50)},
        "prior": {"prior_loss": found.prior_loss + LOSS_UNIT},
        "seed": {"seed": "sha256:" + "0" * 64},
        "method": {"method": "drawn", "permutations": 500},
        "rows": {"by_rows": not found.by_rows},
        "commitment": {"owners": (first(found.owners[0], commitment="9" * 64), *found.owners[1:])},
        "order": {"owners": found.owners[::-1]},
        "records": {"records": 0},
    }
    return first(found, **other[name])


EDITS = "weight value shares interval error loss mask coalition huge prior seed method rows commitment order records"


@pytest.mark.parametrize("name", EDITS.split())
def test_a_split_that_does_not_follow_from_its_scores_is_refused(name: str) -> None:
    with pytest.raises(ReceiptError):
        checked_contribution(sealed(edited(document(3), name)), KEY.public_hex)


def test_a_document_of_another_key_or_kind_is_refused() -> None:
    with pytest.raises(SignatureError):
        checked_contribution(sealed(document()), SigningKey.from_seed(b"x" * 32).public_hex)
    with pytest.raises(ReceiptError, match="no contribution"):
        checked_contribution(sealed({"run": 1}), KEY.public_hex)
    with pytest.raises((SignatureError, DocumentError)):
        checked_contribution(seal(KEY, "text/plain", document()), KEY.public_hex)


def test_bounds_of_the_game() -> None:
    for owners in (1, 51):
        with pytest.raises(InputError, match="cannot be scored"):
            game_of(owners, "s", 60_000)
    with pytest.raises(InputError, match="too few to score"):
        game_of(50, "s", 1000)
    assert len(game_of(12, "s", 10).masks) == 4095
    drawn = game_of(20, "s", 5000)
    assert drawn.orders is not None and len(drawn.masks) <= 5000
    assert [micros(1, 3), micros(-1, 3), micros(1, 2_000_000), micros(0, 5)] == [333_333, -333_333, 1, 0]
