"""Puts a certified artefact into service: its price version, its published split, its deployment."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from isthmus.app.catalogue import Catalogue
from isthmus.app.lives import Lives
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import ConflictError, IsthmusError, UnknownPriceError, UnknownSplitError
from isthmus.contracts.head import Head
from isthmus.contracts.life import DeployedVersion, Origin
from isthmus.contracts.price import OwnerWeight, Price, Split
from isthmus.contracts.scenario import Scenario
from isthmus.kit.canonical import digest_of
from isthmus.ledger.prices import PriceList

EXCHANGE = "exchange"
COMPUTE = "sample-compute"
MODEL_VENDOR = "sample-model-vendor"
RESIDUE = "exchange-residue"
PARTS_ID_CHARS = 12
Terms = TypeVar("Terms", Price, Split)


def price_of(scenario: Scenario, now_s: int) -> Price:
    """The scenario's price as a version of its own: other terms, another id."""
    serve = scenario.serve
    terms = {"currency": serve.currency, "inference_micros": serve.micros_per_inference}
    version = digest_of(terms).removeprefix("sha256:")[:PARTS_ID_CHARS]
    return Price(id=f"{scenario.id}-{version}", series=scenario.id, effective_at_s=now_s, **terms)  # type: ignore[arg-type]


def split_of(scenario: Scenario, records: Mapping[str, int], now_s: int) -> Split:
    """The published rule: shares of the scenario, owners by training rows."""
    serve = scenario.serve
    owners = tuple(OwnerWeight(party=party, weight=count) for party, count in sorted(records.items()))
    terms = {
        "compute_ppm": serve.compute_ppm,
        "vendor_ppm": serve.model_vendor_ppm,
        "exchange_ppm": serve.exchange_ppm,
        "owners_ppm": serve.owners_ppm,
        "owners": [[o.party, o.weight] for o in owners],
    }
    version = digest_of(terms).removeprefix("sha256:")[:PARTS_ID_CHARS]
    return Split(
        id=f"{scenario.id}-{version}",
        effective_at_s=now_s,
        compute=COMPUTE,
        compute_ppm=serve.compute_ppm,
        vendor=MODEL_VENDOR,
        vendor_ppm=serve.model_vendor_ppm,
        exchange=EXCHANGE,
        exchange_ppm=serve.exchange_ppm,
        owners_ppm=serve.owners_ppm,
        owners=owners,
        residue=RESIDUE,
    )


def _as_published(known: Terms, wanted: Terms) -> Terms:
    """The terms as published, if they differ from those wanted in nothing but their beginning."""
    if msgspec.structs.replace(wanted, effective_at_s=known.effective_at_s) != known:
        raise ConflictError(f"{wanted.id} was published with other terms", "change the scenario's version or terms, then run again")
    return known


@dataclass(frozen=True)
class Made:
    """Which run made a version, without whom, of which package; candidate: it is to be proposed only."""

    run: str
    without: tuple[str, ...] = ()
    origin: Origin | None = None
    candidate: bool = False


class Deployer:
    """Makes deployments and loads them; what is certified can be served, and nothing else."""

    def __init__(self, catalogue: Catalogue, lives: Lives, prices: PriceList) -> None:
        self._catalogue, self._lives, self._prices = catalogue, lives, prices
        self._publishing = threading.Lock()

    def deploy(
        self, scenario: Scenario, site: str, head: Head, digests: tuple[str, str], records: Mapping[str, int], now_s: int, made: Made
    ) -> Deployment:
        """Publishes price and split, then serves, or only proposes. digests: (artefact, certificate). records: training rows by owner.

        The same run again changes nothing. Raises CertificateError when the certificate does not cover the artefact.
        """
        artefact, certificate = digests
        with self._publishing:  # sites that end at the same moment publish the same price
            price, split = self._published(price_of(scenario, now_s), split_of(scenario, records, now_s))
        deployment = Deployment(
            name=scenario.id if site == "fleet" else f"{scenario.id}-{site}",
            version="",
            artefact_digest=artefact,
            certificate_digest=certificate,
            site=site,
            tier=scenario.tier,
            price_id=price.id,
            split_id=split.id,
            provider=COMPUTE,
            decoder=head.decoder,
            lo=head.lo,
            hi=head.hi,
            schema=head.stage.schema,
            targets=tuple(output.target for output in head.outputs),
            held_ppm=min((output.held_ppm for output in head.outputs), default=0),
            heat=head.gaussian is not None and head.stage.positions > 1,
            link=head.link,
        )
        version = DeployedVersion(
            number=0,
            deployment=deployment,
            run=made.run,
            scenario=f"{scenario.id}@{scenario.version}",
            scenario_digest=digest_of(scenario),
            origin=made.origin or Origin(),
            owners=tuple(sorted(records)),
            without=made.without,
        )
        left = f", after {', '.join(made.without)} left" if made.without else ""
        why = f"the run {made.run} was certified{left}"
        return self._lives.deploy(version, made.run, EXCHANGE, why, made.candidate).deployment

    def _published(self, price: Price, split: Split) -> tuple[Price, Split]:
        """The price and split of these ids as they were first published. Raises ConflictError when that was with other terms."""
        try:
            price = _as_published(self._prices.price(price.id), price)
        except UnknownPriceError:
            price = self._prices.add_price(price)
        try:
            return price, _as_published(self._prices.split(split.id), split)
        except UnknownSplitError:
            return price, self._prices.add_split(split)

    def load_all(self) -> dict[str, str]:
        """Loads what serves, and takes over what a release before the record of versions had put into service. Returns name -> refusal of
        those that may not serve."""
        known = set(self._lives.names())
        adopted = {d.name: d for d in self._catalogue.deployments() if d.state == "serving" and d.name not in known}
        refused: dict[str, str] = {}
        for name, deployment in adopted.items():
            try:
                why = "taken over from an earlier release"
                self._lives.deploy(DeployedVersion(number=0, deployment=deployment), f"adopted-{deployment.version}", EXCHANGE, why)
            except IsthmusError as error:
                refused[name] = str(error)
        return {**refused, **self._lives.load_all()}
