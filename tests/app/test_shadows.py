"""A candidate beside what serves: it counts, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from isthmus.app.shadows import Shadows
from isthmus.contracts.errors import CertificateRevokedError, ConflictError, EngineError, InputError, NotFoundError, UnknownModelError
from isthmus.contracts.life import RollbackOrder, ShadowOrder, UpgradeOrder
from isthmus.gateway.service import Service
from tests.app.test_lives import NAME, WHO, serves
from tests.app.versions import Versions
from tests.gateway.fakes import KEY, FakeEngine, House, grey


class Shop:
    """A deployment with version 1 serving and version 2 proposed."""

    def __init__(self, root: Path) -> None:
        self.versions = Versions(root)
        self.versions.put("run_1", 100_000)
        self.versions.put("run_2", 200_000, candidate=True)
        self.opened()

    def opened(self) -> None:
        versions = self.versions
        self.shadows = Shadows(versions.root, versions.lives, versions.registry, versions.house.catalogue.artefact_path)

    @property
    def shadow_engine(self) -> FakeEngine:
        return self.versions.engines[-1]

    def answered(self, count: int, value: int = 250, said: str = "good") -> None:
        """Requests of one image, answered by what serves."""
        deployment = self.versions.registry.find(NAME).deployment
        for _ in range(count):
            self.shadows.see(deployment, [grey(value)], (said,))
            self.wait_for(lambda: self.waiting == 0)

    @property
    def waiting(self) -> int:
        running = self.shadows._running.get(NAME)
        return 0 if running is None else running[1]._waiting.qsize()

    @staticmethod
    def wait_for(holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 5
        while not holds():
            assert time.monotonic() < deadline_s
            time.sleep(0.002)

    def close(self) -> None:
        self.shadows.stop()
        self.shadows.close()
        self.versions.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    found = Shop(tmp_path)
    yield found
    found.close()


def test_it_counts_how_verdicts_differ_and_ends_by_number(shop: Shop) -> None:
    view = shop.shadows.begin(NAME, ShadowOrder(requests=5))
    assert (view.old, view.new, view.state, view.requests) == (1, 2, "running", 0)
    shop.answered(3, 250, "good")
    shop.answered(2, 10, "good")
    shop.wait_for(lambda: shop.shadows.view(NAME).state == "done")
    view = shop.shadows.view(NAME)
    assert view.requests == 5 and view.table == ((2, 3, 0), (0, 0, 0), (0, 0, 0)) and view.verdicts == ("good", "defect", "person")
    shop.answered(3)
    shop.wait_for(lambda: shop.shadow_engine.closed)
    assert shop.shadows.view(NAME) == view
    assert serves(shop.versions) == 1
    second = shop.versions.lives.view(NAME).versions[1].version.deployment.version
    with pytest.raises(UnknownModelError):
        shop.versions.registry.find(NAME, second)
    assert shop.shadows.begin(NAME, ShadowOrder(requests=6)).requests == 5, "the same pair goes on"
    found = shop.shadows.of_pair(NAME, {"old": 1, "new": 2})
    assert found is not None and found["table"] == [[2, 3, 0], [0, 0, 0], [0, 0, 0]]
    assert shop.shadows.of_pair(NAME, {"old": 1, "new": 3}) is None is shop.shadows.of_pair(NAME, None)


def test_a_busy_or_failing_shadow_is_skipped_and_counted_and_holds_up_nobody(shop: Shop) -> None:
    shop.shadows.begin(NAME, ShadowOrder(requests=100))
    shop.shadow_engine.release.clear()
    deployment = shop.versions.registry.find(NAME).deployment
    began_s = time.monotonic()
    for _ in range(50):
        shop.shadows.see(deployment, [grey(1)], ("good",))
    assert time.monotonic() - began_s < 1.0
    shop.shadow_engine.release.set()
    shop.wait_for(lambda: shop.waiting == 0)
    found = shop.shadows.view(NAME)
    assert found.skipped >= 40 and found.requests + found.skipped >= 49
    shop.shadow_engine.failing = EngineError("it died", "look")
    shop.answered(3)
    shop.wait_for(lambda: shop.shadows.view(NAME).failed >= 2)


def test_only_what_the_serving_version_answered_counts(shop: Shop) -> None:
    shop.shadows.begin(NAME, ShadowOrder(requests=100))
    other = shop.versions.lives.view(NAME).versions[1].version.deployment
    shop.shadows.see(other, [grey(1)], ("good",))
    assert shop.waiting == 0 and shop.shadows.view(NAME).requests == 0


def test_it_goes_on_after_a_restart_and_ends_with_another_version(shop: Shop) -> None:
    shop.shadows.begin(NAME, ShadowOrder(requests=100))
    shop.answered(12)
    shop.shadows.stop()
    kept = shop.shadows.view(NAME)
    assert kept.state == "running" and kept.requests >= 11
    shop.shadows.close()
    shop.versions.reopened()
    shop.opened()
    shop.shadows.resume()
    shop.answered(2)
    shop.wait_for(lambda: shop.shadows.view(NAME).requests > kept.requests)
    shop.versions.lives.upgrade(NAME, UpgradeOrder(id="u", why="x", accept_worse="seen enough"), WHO, None)
    shop.shadows.settle(NAME)
    view = shop.shadows.view(NAME)
    assert view.state == "ended" and shop.shadows._running == {}
    shop.versions.lives.rollback(NAME, RollbackOrder(id="b", why="x"), WHO)
    shop.shadows.resume()
    assert shop.shadows.view(NAME) == view


def test_what_may_not_stand_beside_is_refused(shop: Shop) -> None:
    with pytest.raises(NotFoundError, match="has no shadow"):
        shop.shadows.view(NAME)
    for bad in (0, 10**6 + 1):
        with pytest.raises(InputError):
            shop.shadows.begin(NAME, ShadowOrder(requests=bad))
    with pytest.raises(ConflictError, match="serves version 1 already"):
        shop.shadows.begin(NAME, ShadowOrder(to=1))
    second = shop.versions.lives.view(NAME).versions[1].version.deployment
    shop.versions.house.catalogue.revoke(second.certificate_digest, "wrong labels")
    with pytest.raises(CertificateRevokedError):
        shop.shadows.begin(NAME, ShadowOrder())
    assert shop.shadows._running == {}


def test_the_data_path_shows_each_answer_once_after_its_receipt(tmp_path: Path) -> None:
    house, seen = House(tmp_path).loaded(), []

    def watch(deployment: object, images: list[np.ndarray], verdicts: tuple[str, ...]) -> None:
        seen.append((len(images), verdicts, list(house.meter.outcomes())))

    service = Service(house.registry, house.keys, house.meter, house.clock, "0", watch)
    caller = service.caller(f"Bearer {KEY}")
    body = b'{"id": "r1", "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [%s]}]}' % b",".join(
        [b"250"] * 192
    )
    service.infer(caller, "cells", None, body, None)
    service.infer(caller, "cells", None, body, None)
    assert seen == [(1, ("defect",), ["reported"])]
    house.engine.failing = EngineError("it died", "look")
    with pytest.raises(EngineError):
        service.infer(caller, "cells", None, body.replace(b"r1", b"r2"), None)
    assert len(seen) == 1
