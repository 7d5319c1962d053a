"""Real sums break no rule, whatever the records; made-up ones do; honest owners that differ are not accused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column
from isthmus.contracts.sums import FEATURE_MAX, Moments
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.possible import Declared, broken_rules, repeats, same_records
from isthmus.foundry.suspects import NumberFeature, Screening, screened, told
from isthmus.kit.units import CONVERSIONS

D = 8
RULE = np.array([2.0, -1.5, 1.0, 0.5, 0, 0, 0, 0])


def rows(seed: int, count: int = 200, shift: float = 0.0) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Features of unlike means, and labels by one rule with some that do not follow it."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.normal(shift, 0.25, (count, D)), -1, 1)
    y = np.where((x - shift) @ RULE + rng.normal(0, 0.35, count) > 0, 1, -1)
    return np.rint(x * FEATURE_MAX).astype(np.int16), y.astype(np.int64)


def sums(q: NDArray[np.int16], y: NDArray[np.int64], w: Any = None) -> Moments:
    return moments_of(q, np.ones(len(y), np.int64) if w is None else w, y, np.arange(len(y)))


def town(count: int = 5, size: int = 200) -> dict[str, Moments]:
    return {f"owner-{k}": sums(*rows(k, size, 0.1 * (k % 3))) for k in range(count)}


def held(owners: dict[str, Moments], **more: Any) -> Screening:
    return screened(owners, {party: Declared(m.records, m.groups) for party, m in owners.items()}, **more)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 100_000), count=st.integers(1, 60), dimension=st.integers(1, 12), weights=st.sampled_from([(1, 1), (2, 1), (5, 3)])
)
def test_no_records_break_a_rule(seed: int, count: int, dimension: int, weights: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    edge = rng.random((count, dimension)) < 0.3
    q = np.where(edge, rng.choice([-FEATURE_MAX, 0, FEATURE_MAX], edge.shape), rng.integers(-FEATURE_MAX, FEATURE_MAX + 1, edge.shape))
    y = rng.choice([-1, 1], count)
    w = rng.choice(weights, count)
    found = moments_of(q.astype(np.int16), w, y, rng.integers(0, 5, count))
    assert not broken_rules(found, Declared(count, found.groups, weights=weights))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: replace(m, sum_w=m.sum_w * 3, sum_wy=m.sum_wy * 3, sum_wx=m.sum_wx * 3, sum_wyx=m.sum_wyx * 3, gram=m.gram * 3),
        lambda m: replace(m, sum_wyx=m.sum_wyx * 3),
        lambda m: replace(m, gram=m.gram // 4 * 2),
        lambda m: replace(m, sum_wy=m.sum_w + 2),
        lambda m: replace(m, sum_wx=m.sum_wx + 1),
        lambda m: replace(m, gram=-m.gram),
        lambda m: replace(m, records=m.records + 1),
        lambda m: replace(m, sum_w=0),
        lambda m: replace(m, gram=np.diag(np.diag(m.gram)) + 0 * m.gram + np.outer(m.sum_wx, m.sum_wx) * 0 + 10**13),
    ],
)
def test_sums_that_no_records_have(spoil: Any) -> None:
    honest = town()
    spoilt = {**honest, "owner-2": spoil(honest["owner-2"])}
    found = screened(spoilt, {party: Declared(m.records, m.groups) for party, m in honest.items()})
    assert found.out == ("owner-2",) and {s.kind for s in found.suspicions} == {"impossible"}


def test_nobody_honest_is_accused_and_it_is_told_what_was_seen() -> None:
    found = held(town())
    assert not found.suspicions and not found.blind
    assert min(found.agreement.values()) > 0.5 and set(told(found)) >= {"suspicions", "agreement", "influence", "distance"}


def test_labels_turned_and_shuffled_are_told_apart() -> None:
    honest = town()
    q, y = rows(3, 200, 0.0)
    turned = held({**honest, "owner-3": sums(q, -y)})
    assert turned.out == ("owner-3",) and turned.suspicions[0].kind == "turned" and turned.influence["owner-3"] > 0
    shuffled = held({**honest, "owner-3": sums(q, np.random.default_rng(5).permutation(y))})
    assert shuffled.out == ("owner-3",) and shuffled.suspicions[0].kind == "shuffled"


def test_records_held_twice() -> None:
    honest = town()
    q, y = rows(1, 200, 0.1)
    copy = held({**honest, "owner-4": honest["owner-1"]})
    assert copy.out == ("owner-4",) and copy.suspicions[0].others == ("owner-1",)
    assert held({**honest, "owner-4": honest["owner-1"]}, order=["owner-4", "owner-1"]).out == ("owner-1",)
    thrice = sums(np.tile(q, (3, 1)), np.tile(y, 3))
    assert repeats(thrice, Declared()) == 3 and same_records(thrice, honest["owner-1"])
    assert held({**{p: m for p, m in honest.items() if p != "owner-1"}, "owner-4": thrice}).suspicions[0].kind == "repeated"
    mostly = np.concatenate([np.arange(190), np.arange(10)])
    fresh, labels = rows(77, 10, 0.1)
    near = sums(np.concatenate([q[:190], fresh]), np.concatenate([y[:190], labels]))
    assert len(mostly) == 200 and held({**honest, "owner-4": near}).out == ("owner-4",)


def test_labels_that_are_all_sure_are_no_repeated_records() -> None:
    q, y = rows(4)
    declared = Declared(200, 200, weights=(2, 1))
    assert repeats(sums(q, y, np.full(200, 2)), declared) == 1 and repeats(sums(q, y), declared) == 1
    assert repeats(sums(q, y, np.full(200, 3)), declared) == 3


def test_a_column_in_another_unit_is_named() -> None:
    column = Column(name="length", low=50, high=400)
    numbers = [NumberFeature(column, 0)]
    owners = {}
    for k in range(4):
        q, y = rows(k, 300)
        rng = np.random.default_rng(k)
        length = rng.normal(220, 40, 300)
        if k == 2:
            length = next(c for c in CONVERSIONS if c.name == "inch, not cm").undone(length)
        q[:, 0] = np.rint((2 * (np.clip(length, 50, 400) - 50) / 350 - 1) * FEATURE_MAX).astype(np.int16)
        owners[f"owner-{k}"] = sums(q, y)
    found = held(owners, numbers=numbers)
    assert found.out == ("owner-2",) and found.suspicions[0].kind == "units" and "length" in found.suspicions[0].says


def test_two_owners_accuse_nobody_by_likelihood() -> None:
    q, y = rows(0)
    found = held({"a": sums(q, y), "b": sums(rows(1)[0], -rows(1)[1])})
    assert not found.suspicions and found.blind
    with pytest.raises(InputError):
        screened({}, {})
