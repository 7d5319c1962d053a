"""Prices: exact, rounded up once, immutable, unknown ones refused."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import AmountError, ConflictError, InputError, UnknownPriceError, UnknownSplitError
from isthmus.contracts.price import Usage
from isthmus.ledger.prices import checked_price
from tests.ledger.world import PRICE, new_meter

USAGES = st.builds(Usage, inferences=st.integers(0, 10**6), tokens_in=st.integers(0, 10**8), tokens_out=st.integers(0, 10**8))


@given(USAGES)
def test_a_charge_is_exact_and_rounded_up_once(usage: Usage) -> None:
    exact = usage.inferences * 997 + Fraction(usage.tokens_in * 150_000 + usage.tokens_out * 600_000, 1_000_000)
    assert PRICE.charge_micros(usage) == ceil(exact)


@given(USAGES, USAGES)
def test_more_usage_never_costs_less(one: Usage, other: Usage) -> None:
    both = Usage(
        inferences=one.inferences + other.inferences,
        tokens_in=one.tokens_in + other.tokens_in,
        tokens_out=one.tokens_out + other.tokens_out,
    )
    assert PRICE.charge_micros(both) >= PRICE.charge_micros(one)
    assert one.within(both)


def test_a_version_is_immutable_and_the_latest_in_effect_counts(tmp_path: Path) -> None:
    prices = new_meter(tmp_path).prices
    assert prices.add_price(PRICE) == PRICE
    with pytest.raises(ConflictError):
        prices.add_price(msgspec.structs.replace(PRICE, inference_micros=1))
    later = msgspec.structs.replace(PRICE, id="cells-2", effective_at_s=1_900_000_000)
    prices.add_price(later)
    assert prices.current("cells", 1_800_000_000) == PRICE
    assert prices.current("cells", 1_900_000_000) == later
    assert prices.prices() == (PRICE, later)
    with pytest.raises(UnknownPriceError):
        prices.in_effect("cells-2", 1_800_000_000)
    with pytest.raises(UnknownPriceError):
        prices.current("cells", 0)
    with pytest.raises(UnknownPriceError):
        prices.price("none")
    with pytest.raises(UnknownSplitError):
        prices.split("none")


@pytest.mark.parametrize(
    ("change", "error"),
    [({"currency": "euro"}, InputError), ({"inference_micros": -1}, AmountError), ({"id": "A B"}, InputError)],
)
def test_impossible_prices_are_refused(change: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        checked_price(msgspec.structs.replace(PRICE, **change))
