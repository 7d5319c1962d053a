"""A model that fails a case of its package is not deployed, and its certificate does not stand."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import isthmus.app.exchange as exchange_module
from isthmus.app.exchange import Exchange
from isthmus.app.worker import Worker
from isthmus.contracts.build import RunRequest
from isthmus.contracts.errors import NotFoundError
from isthmus.contracts.life import Origin
from isthmus.contracts.package import ProbeCase
from isthmus.kit.clock import SetClock
from isthmus.kit.log import Log
from isthmus.kit.pictures import encode_png
from tests.app.world import OWNERS, house, request
from tests.gateway.fakes import FakeEngine


@pytest.fixture
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    """A real exchange whose owners are synthetic and whose engine says defect to bright pictures."""
    monkeypatch.setattr(exchange_module, "EngineProcess", FakeEngine)
    clock = SetClock()
    found = Exchange(tmp_path, clock, Log(io.StringIO(), clock))
    monkeypatch.setattr(found, "jobs", house(tmp_path / "owners").jobs)
    found.registry._engines = FakeEngine
    yield found
    found.close()


def case(file: str, expect: str, grey: int) -> ProbeCase:
    image = encode_png(np.full((16, 16, 3), grey, dtype=np.uint8))
    return ProbeCase(file=file, expect=expect, why="a known one", image=image)  # type: ignore[arg-type]


def walked(exchange: Exchange, run_id: str, wanted: RunRequest) -> tuple[bool, dict[str, Any]]:
    exchange.catalogue.begin(run_id, "build", wanted)
    kind, stored = exchange.catalogue.request_of(run_id)
    assert kind == "build" and stored == wanted, "images come back from the record as they were"
    return exchange._build(run_id, stored)


def test_a_model_that_knows_its_cases_is_deployed(exchange: Exchange) -> None:
    cases = (case("golden.png", "defect", 250), case("floor.png", "refused", 128))
    certified, result = walked(exchange, "run_1", request(probes=cases))
    assert certified and [one["holds"] for one in result["probes"]] == [True, True]
    assert exchange.lives.view(result["deployment"]["name"]).ready


@pytest.mark.parametrize("failing", [case("golden.png", "good", 250), case("floor.png", "refused", 250)])
def test_a_failing_case_keeps_it_from_service(exchange: Exchange, failing: ProbeCase) -> None:
    certified, result = walked(exchange, "run_1", request(probes=(case("other.png", "good", 10), failing)))
    assert not certified and result["certificate"] is None and "deployment" not in result
    assert len(result["failures"]) == 1 and failing.file in result["failures"][0]
    assert [revoked for _, _, revoked in exchange.catalogue.certificates()] == [True]
    with pytest.raises(NotFoundError):
        exchange.lives.view(request().scenario.id)
    assert walked(exchange, "run_1", request(probes=(case("other.png", "good", 10), failing)))[0] is False, "also when it is walked again"


def test_a_failing_candidate_is_not_proposed_and_what_serves_stays(exchange: Exchange) -> None:
    name = walked(exchange, "run_1", request())[1]["deployment"]["name"]
    walked(exchange, "run_2", request(200_000, candidate=True, probes=(case("golden.png", "good", 250),)))
    assert len(exchange.lives.view(name).versions) == 1 and exchange.lives.view(name).ready


def test_requests_without_the_new_fields_are_the_runs_that_they_were(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "start", lambda self: None)
    plain = request(owners=OWNERS)
    run = exchange.worker.submit("build", plain, {})
    assert exchange.worker.submit("build", msgspec.structs.replace(plain, origin=Origin(package="sha256:x")), {}) == run
    assert exchange.worker.submit("build", msgspec.structs.replace(plain, candidate=True), {}) != run
    assert exchange.worker.submit("build", msgspec.structs.replace(plain, probes=(case("a.png", "good", 1),)), {}) != run
