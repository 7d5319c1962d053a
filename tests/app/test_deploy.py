"""From a certified artefact to a deployment: stable terms, and nothing served that was not certified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.app.build import Build
from isthmus.app.catalogue import Catalogue
from isthmus.app.certificate_gate import CertificateGate
from isthmus.app.deploy import Deployer, Made, price_of, split_of
from isthmus.app.lives import Lives
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import (
    ArtefactEditedError,
    CertificateArtefactError,
    CertificateMissingError,
    CertificateRevokedError,
    ConflictError,
)
from isthmus.gateway.registry import Registry
from isthmus.kit.pictures import DECODER
from isthmus.ledger.book import open_book
from isthmus.ledger.prices import PriceList
from tests.app.world import House, house, request, scenario
from tests.gateway.fakes import FakeEngine

RECORDS = {"alba": 200, "brio": 150, "cora": 100}


class Shop:
    """A certified run, and deployers over its state as new processes would have them."""

    def __init__(self, root: Path) -> None:
        self.house: House = house(root)
        wanted = request()
        self.house.begun("run_1", wanted)
        _, self.result = Build(self.house.shop, "run_1", wanted).walk()
        self.prices = PriceList(open_book(root / "book.sqlite"))

    def deployer(self) -> tuple[Deployer, Registry]:
        gate = CertificateGate(self.house.catalogue, {self.house.key.key_id: self.house.key.public_hex})
        registry = Registry(gate, FakeEngine, self.house.clock, {DECODER: None})
        self.lives = Lives(self.house.root, registry, self.house.catalogue.artefact_path, self.house.key, self.house.clock)
        return Deployer(self.house.catalogue, self.lives, self.prices), registry

    def deployed(self, deployer: Deployer, **changes: Any) -> Deployment:
        digests = (self.result["artefact_digest"], self.result["certificate"]["digest"])
        given = {"artefact": digests[0], "certificate": digests[1], "site": "fleet", "now_s": 5, "records": RECORDS, **changes}
        head = self.house.catalogue.head(digests[0])
        pair = (given["artefact"], given["certificate"])
        return deployer.deploy(scenario(), given["site"], head, pair, given["records"], given["now_s"], Made("run_1"))

    @property
    def catalogue(self) -> Catalogue:
        return self.house.catalogue


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_what_is_certified_serves_and_is_loaded_again(shop: Shop) -> None:
    deployer, registry = shop.deployer()
    found = shop.deployed(deployer)
    assert registry.ready(registry.find(found.name)) and found.name == scenario().id
    other, again = shop.deployer()
    assert other.load_all() == {} and again.ready(again.find(found.name, found.version))


def test_an_edited_artefact_is_refused_at_load_and_listed(shop: Shop) -> None:
    found = shop.deployed(shop.deployer()[0])
    path = shop.catalogue.artefact_path(found.artefact_digest)
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(bytes(raw))
    deployer, registry = shop.deployer()
    refused = deployer.load_all()
    assert list(refused) == [found.name] and "its certificate is for" in refused[found.name]
    with pytest.raises(ArtefactEditedError):
        registry.admit(registry.find(found.name))


def damaged(shop: Shop, how: str) -> None:
    if how == "missing":
        shop.catalogue.artefact_path(shop.result["artefact_digest"]).unlink()
    elif how == "revoked":
        shop.catalogue.revoke(shop.result["certificate"]["digest"], "why")
    else:
        shop.house.clock.advance(91 * 86_400)


@pytest.mark.parametrize(("how", "said"), [("missing", "cannot be read"), ("revoked", "withdrawn"), ("expired", "validity is over")])
def test_refused_at_load_with_the_reason(shop: Shop, how: str, said: str) -> None:
    found = shop.deployed(shop.deployer()[0])
    damaged(shop, how)
    deployer, registry = shop.deployer()
    assert said in deployer.load_all()[found.name] and not registry.ready(registry.find(found.name))


def test_no_certificate_no_deployment(shop: Shop) -> None:
    deployer, _ = shop.deployer()
    with pytest.raises(CertificateMissingError):
        shop.deployed(deployer, certificate="sha256:" + "0" * 64)
    with pytest.raises(CertificateArtefactError):
        shop.deployed(deployer, artefact="sha256:" + "0" * 64)
    shop.catalogue.revoke(shop.result["certificate"]["digest"], "why")
    with pytest.raises(CertificateRevokedError):
        shop.deployed(deployer)
    assert shop.lives.names() == []


def test_terms_have_stable_ids_and_keep_their_first_beginning(shop: Shop) -> None:
    deployer, _ = shop.deployer()
    first = shop.deployed(deployer, now_s=5)
    again = shop.deployed(deployer, now_s=900)
    assert (first.price_id, first.split_id) == (again.price_id, again.split_id)
    assert shop.prices.price(first.price_id).effective_at_s == 5 and len(shop.prices.prices()) == 1
    assert len(shop.lives.steps(first.name)) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda s: msgspec.structs.replace(s, serve=msgspec.structs.replace(s.serve, micros_per_inference=2001)),
        lambda s: msgspec.structs.replace(s, serve=msgspec.structs.replace(s.serve, currency="CHF")),
    ],
)
def test_other_terms_are_another_price(other: Callable[[Any], Any]) -> None:
    assert price_of(other(scenario()), 1).id != price_of(scenario(), 1).id == price_of(scenario(), 2).id


def test_other_records_are_another_split() -> None:
    one = split_of(scenario(), RECORDS, 1)
    assert split_of(scenario(), dict(reversed(RECORDS.items())), 9).id == one.id
    assert split_of(scenario(), {**RECORDS, "cora": 101}, 1).id != one.id
    assert one.compute_ppm + one.vendor_ppm + one.exchange_ppm + one.owners_ppm == 1_000_000


def test_an_id_that_was_published_with_other_terms_is_refused(shop: Shop) -> None:
    planted = msgspec.structs.replace(price_of(scenario(), 1), inference_micros=999_999)
    shop.prices.add_price(planted)
    with pytest.raises(ConflictError, match="other terms"):
        shop.deployed(shop.deployer()[0])
    assert shop.lives.names() == []


def test_a_site_has_a_name_of_its_own(shop: Shop) -> None:
    assert shop.deployed(shop.deployer()[0], site="line-4").name == f"{scenario().id}-line-4"
