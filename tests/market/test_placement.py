"""Placement: every rule can refuse, the cheapest of the allowed is taken, and order never matters."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import ForbiddenError, InputError, NotFoundError, OfferError
from isthmus.contracts.money import AMOUNT_MAX
from isthmus.contracts.offer import Candidate, CertificateFact, NoPlacement, Offer, Placement, PlacementRequest
from isthmus.contracts.price import Price, Usage
from isthmus.market.offers import OfferBook, open_offers
from isthmus.market.placement import place

NOW_S = 1_800_000_000.0
ARTEFACT = "sha256:" + "ab" * 32
OFFER = Offer(
    id="edge-1",
    party="edge",
    engine="onnxruntime",
    accelerator="cpu",
    region="de-fra",
    residency=("de", "eu"),
    capabilities=("oip-v2", "binary-tensors"),
    artefacts=(ARTEFACT,),
    price_id="cells-1",
    requests_max=4,
)
PRICE = Price(id="cells-1", series="cells", effective_at_s=0, currency="EUR", inference_micros=100)
CERTIFICATE = CertificateFact(digest="sha256:c", artefact_digest=ARTEFACT, tier="T2", expires_at_s=1_900_000_000)
REQUEST = PlacementRequest(
    artefact_digest=ARTEFACT,
    tier="T2",
    currency="EUR",
    worst_case=Usage(inferences=2),
    residency=("eu",),
    capabilities=("oip-v2",),
    charge_micros_max=200,
)


def candidate(
    name: str = "edge-1", price: Price | None = PRICE, certificate: CertificateFact | None = CERTIFICATE, **change: Any
) -> Candidate:
    standing = {key: change.pop(key) for key in ("healthy", "requests_open") if key in change}
    offer = msgspec.structs.replace(OFFER, id=name, **change)
    return Candidate(offer=offer, price=price, certificate=certificate, **{"healthy": True, **standing})


def changed(noun: Any, **change: Any) -> Any:
    return msgspec.structs.replace(noun, **change)


REFUSED: list[tuple[Candidate, str]] = [
    (candidate(certificate=None), "certificate"),
    (candidate(certificate=changed(CERTIFICATE, revoked=True)), "certificate"),
    (candidate(certificate=changed(CERTIFICATE, expires_at_s=int(NOW_S))), "certificate"),
    (candidate(certificate=changed(CERTIFICATE, artefact_digest="sha256:other")), "certificate"),
    (candidate(certificate=changed(CERTIFICATE, tier="T1")), "tier"),
    (candidate(residency=("de",)), "residency"),
    (candidate(capabilities=()), "capability"),
    (candidate(artefacts=()), "capability"),
    (candidate(price=None), "price"),
    (candidate(price=changed(PRICE, id="other")), "price"),
    (candidate(price=changed(PRICE, effective_at_s=int(NOW_S) + 1)), "price"),
    (candidate(price=changed(PRICE, currency="CNY")), "price"),
    (candidate(price=changed(PRICE, inference_micros=101)), "price"),
    (candidate(price=changed(PRICE, inference_micros=AMOUNT_MAX)), "price"),
    (candidate(healthy=False), "health"),
    (candidate(requests_open=4), "capacity"),
]


@pytest.mark.parametrize(("of", "rule"), REFUSED)
def test_each_rule_refuses(of: Candidate, rule: str) -> None:
    found = place([of], REQUEST, NOW_S)
    assert isinstance(found, NoPlacement)
    assert [(why.offer, why.rule) for why in found.refused] == [("edge-1", rule)] and found.refused[0].reason


def test_the_cheapest_allowed_offer_is_taken() -> None:
    dear = candidate("dear", price=changed(PRICE, inference_micros=99))
    cheap = candidate("cheap", price=changed(PRICE, inference_micros=50))
    sick = candidate("sick", price=changed(PRICE, inference_micros=1), healthy=False)
    found = place([dear, sick, cheap], REQUEST, NOW_S)
    assert isinstance(found, Placement)
    assert (found.offer, found.charge_micros, found.dearer) == ("cheap", 100, ("dear",))
    assert [why.rule for why in found.refused] == ["health"]
    assert found.certificate_digest == "sha256:c"


def test_ties_go_to_less_carbon_then_less_load_then_the_smaller_id() -> None:
    a, b = candidate("a", carbon_kwh_grams=9), candidate("b", carbon_kwh_grams=8)
    assert place([a, b], REQUEST, NOW_S).offer == "b"  # type: ignore[union-attr]
    a, b = candidate("a", requests_open=2), candidate("b", requests_open=1)
    assert place([a, b], REQUEST, NOW_S).offer == "b"  # type: ignore[union-attr]
    assert place([candidate("b"), candidate("a")], REQUEST, NOW_S).offer == "a"  # type: ignore[union-attr]


@given(st.lists(st.integers(0, len(REFUSED)), min_size=1, max_size=6), st.randoms())
def test_order_of_offers_does_not_matter(kinds: list[int], chance: random.Random) -> None:
    pool = [*(of for of, _ in REFUSED), candidate()]
    given_offers = [changed(pool[kind], offer=changed(pool[kind].offer, id=f"o{place_}")) for place_, kind in enumerate(kinds)]
    shuffled = list(given_offers)
    chance.shuffle(shuffled)
    assert place(shuffled, REQUEST, NOW_S) == place(given_offers, REQUEST, NOW_S)


def test_no_offers_is_a_refusal() -> None:
    assert place([], REQUEST, NOW_S) == NoPlacement(refused=())


def test_offers_are_kept_replaced_and_withdrawn_by_their_own_party(tmp_path: Path) -> None:
    market = OfferBook(open_offers(tmp_path / "offers.db"))
    market.put(OFFER, "edge")
    market.put(changed(OFFER, requests_max=8), "edge")
    assert [offer.requests_max for offer in market.offers()] == [8]
    with pytest.raises(ForbiddenError):
        market.put(changed(OFFER, party="cloud"), "cloud")
    with pytest.raises(ForbiddenError):
        market.put(OFFER, "cloud")
    with pytest.raises(ForbiddenError):
        market.withdraw("edge-1", "cloud")
    market.withdraw("edge-1", "edge")
    assert market.offers() == ()
    with pytest.raises(NotFoundError):
        market.withdraw("none", "edge")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"requests_max": 0}, OfferError),
        ({"artefacts": ("abc",)}, OfferError),
        ({"engine": ""}, OfferError),
        ({"carbon_kwh_grams": -1}, OfferError),
        ({"residency": ("EU",)}, InputError),
        ({"residency": ("eu",) * 257}, OfferError),
        ({"id": ""}, InputError),
    ],
)
def test_impossible_offers_are_refused(tmp_path: Path, change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        OfferBook(open_offers(tmp_path / "offers.db")).put(changed(OFFER, **change), "edge")
