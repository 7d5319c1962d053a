"""Certified versions of one deployment over a state folder, made from synthetic owners in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from isthmus.app.build import Build
from isthmus.app.certificate_gate import CertificateGate
from isthmus.app.deploy import Deployer, Made
from isthmus.app.lives import Lives
from isthmus.contracts.deployment import Deployment
from isthmus.gateway.registry import Registry
from isthmus.kit.clock import SetClock
from isthmus.kit.pictures import DECODER
from isthmus.kit.signing import SigningKey
from isthmus.ledger.book import open_book
from isthmus.ledger.prices import PriceList
from tests.app.world import House, house, request
from tests.gateway.fakes import FakeEngine

RECORDS = {"alba": 200, "brio": 150, "cora": 100}


class Versions:
    """An exchange's rooms around deployments. `reopened` is what the next process would have."""

    def __init__(self, root: Path, key: SigningKey | None = None, clock: SetClock | None = None) -> None:
        self.root = root
        self.house: House = house(root)
        self.house.key = key or self.house.key
        if clock is not None:
            self.house.clock = clock
        self.house.__post_init__()
        self.book = open_book(root / "book.sqlite")
        self.prices = PriceList(self.book)
        self.engines: list[FakeEngine] = []
        self.opened()

    def opened(self) -> None:
        gate = CertificateGate(self.house.catalogue, {self.house.key.key_id: self.house.key.public_hex})
        self.registry = Registry(gate, self._engine, self.house.clock, {DECODER: None})
        self.lives = Lives(self.root, self.registry, self.house.catalogue.artefact_path, self.house.key, self.house.clock)
        self.deployer = Deployer(self.house.catalogue, self.lives, self.prices)

    def reopened(self) -> dict[str, str]:
        """As after a kill: nothing of memory is left. What load_all refused."""
        self.lives.close()
        self.opened()
        return self.deployer.load_all()

    def _engine(self, artefact: bytes) -> FakeEngine:
        self.engines.append(FakeEngine(artefact))
        return self.engines[-1]

    def certified(self, run_id: str, *promises_ppm: int, **more: Any) -> tuple[Any, Any, tuple[str, str]]:
        """(request, head, (artefact, certificate)) of a run."""
        wanted = request(*promises_ppm, **more)
        self.house.begun(run_id, wanted)
        passed, result = Build(self.house.shop, run_id, wanted).walk()
        assert passed, result["failures"]
        artefact = result["artefact_digest"]
        return wanted, self.house.catalogue.head(artefact), (artefact, result["certificate"]["digest"])

    def put(self, run_id: str, *promises_ppm: int, site: str = "fleet", candidate: bool = False, **more: Any) -> Deployment:
        wanted, head, digests = self.certified(run_id, *promises_ppm, **more)
        made = Made(run_id, without=wanted.without, candidate=candidate)
        records = {party: count for party, count in RECORDS.items() if party not in wanted.without}
        scenario = msgspec.structs.replace(wanted.scenario)
        return self.deployer.deploy(scenario, site, head, digests, records, int(self.house.clock.now_s()), made)

    def close(self) -> None:
        self.lives.close()
        self.house.catalogue.close()
        self.book.close()


class Cut(BaseException):
    """The process ends here."""


def cutting(call: Callable[..., Any], after: bool) -> Callable[..., Any]:
    """The call, or not even that, and then the end of the process."""

    def cut(*args: Any, **kwargs: Any) -> Any:
        if after:
            call(*args, **kwargs)
        raise Cut

    return cut
