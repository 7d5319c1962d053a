"""Splits: exact, fair to a micro-unit, independent of order."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import AmountError, InputError
from isthmus.contracts.money import AMOUNT_MAX
from isthmus.contracts.price import PPM, OwnerWeight, Split
from isthmus.ledger.prices import checked_split
from isthmus.ledger.splits import claims, divide
from tests.ledger.world import SPLIT


@st.composite
def rules(draw: st.DrawFn) -> Split:
    cuts = sorted(draw(st.lists(st.integers(0, PPM), min_size=4, max_size=4)))
    names = draw(st.lists(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), unique=True, max_size=8))
    owners = tuple(OwnerWeight(party=name, weight=draw(st.integers(0, 2**40))) for name in names)
    return msgspec.structs.replace(
        SPLIT,
        compute_ppm=cuts[0],
        vendor_ppm=cuts[1] - cuts[0],
        exchange_ppm=cuts[2] - cuts[1],
        owners_ppm=cuts[3] - cuts[2],
        owners=owners,
        residue="leftover",
    )


@given(rules(), st.integers(0, AMOUNT_MAX))
def test_lines_sum_to_the_charge_and_each_is_within_one_micro_unit(rule: Split, charge: int) -> None:
    lines = divide(checked_split(rule), charge)
    assert sum(line.amount_micros for line in lines) == charge
    assert sum(line.weight for line in lines) == claims(rule, rule.compute)[1]
    for line in lines:
        assert line.amount_micros - charge * line.weight // line.weight_total in (0, 1)


@given(rules(), st.integers(0, 10**9), st.randoms())
def test_order_of_owners_does_not_matter(rule: Split, charge: int, chance: random.Random) -> None:
    owners = list(rule.owners)
    chance.shuffle(owners)
    assert divide(msgspec.structs.replace(rule, owners=tuple(owners)), charge) == divide(rule, charge)


def test_largest_remainder_gets_the_last_unit() -> None:
    # owners' 45 as 20.847, 14.920 and 9.232: two are left over, for the largest remainders, south's and north's
    assert [(line.role, line.party, line.amount_micros) for line in divide(SPLIT, 100)] == [
        ("compute", "edge", 30),
        ("vendor", "lab", 20),
        ("owner", "north", 21),
        ("owner", "south", 15),
        ("owner", "west", 9),
        ("exchange", "exchange", 2),
        ("residue", "exchange", 3),
    ]


def test_without_weights_the_owners_share_goes_to_the_residue() -> None:
    rule = msgspec.structs.replace(SPLIT, owners=())
    assert [(line.role, line.amount_micros) for line in divide(rule, 1_000)] == [
        ("compute", 300),
        ("vendor", 200),
        ("exchange", 20),
        ("residue", 480),
    ]


def test_the_serving_provider_takes_the_compute_share() -> None:
    assert divide(SPLIT, 1_000, compute="cloud")[0].party == "cloud"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"compute_ppm": 900_000}, AmountError),
        ({"vendor_ppm": -1}, AmountError),
        ({"owners": (OwnerWeight(party="north", weight=-1),)}, AmountError),
        ({"owners": (OwnerWeight(party="north", weight=1),) * 2}, InputError),
        ({"vendor": "No Slug"}, InputError),
    ],
)
def test_impossible_rules_are_refused(change: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        checked_split(msgspec.structs.replace(SPLIT, **change))
