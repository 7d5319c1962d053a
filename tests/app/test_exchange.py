"""The exchange over one state folder: who may ask, one process at a time, secrets, upkeep, console."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

from isthmus.app.build import AFTER_LEAVING, Build
from isthmus.app.exchange import OPERATOR_TOKEN, Exchange, opened
from isthmus.app.overview import ExchangeOverview, steps_most
from isthmus.contracts.build import SiteRequest, StepRecord
from isthmus.contracts.errors import AuthError, ExchangeStateError, StorageError
from isthmus.contracts.money import Credit
from isthmus.contracts.price import OwnerWeight, Price, Split, Usage
from isthmus.kit.clock import SetClock
from isthmus.kit.log import Log
from tests.app.world import request

OPERATOR_ROUTES = [
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/runs/run_unknown"),
    ("POST", "/v1/sites"),
    ("GET", "/v1/models/sha256:0/head"),
    ("GET", "/v1/models/sha256:0/artefact"),
    ("POST", "/v1/certificates/sha256:0/revocation"),
    ("GET", "/v1/deployments"),
    ("GET", "/v1/withdrawals"),
    ("GET", "/v1/withdrawals/run_unknown"),
    ("GET", "/v1/deployments/cells"),
    ("POST", "/v1/deployments/cells/comparison"),
    ("POST", "/v1/deployments/cells/shadow"),
    ("GET", "/v1/deployments/cells/shadow"),
    ("POST", "/v1/deployments/cells/upgrade"),
    ("POST", "/v1/deployments/cells/rollback"),
    ("POST", "/v1/deployments/cells/retire"),
]


class Up:
    """An exchange that is not started: routes answer, no run is walked."""

    def __init__(self, state: Path) -> None:
        self.clock, self.written = SetClock(), io.StringIO()
        self.exchange = Exchange(state, self.clock, Log(self.written, self.clock))
        self.http = TestClient(self.exchange.app, base_url="http://127.0.0.1")

    def ask(self, method: str, path: str, token: str = "", body: object = None) -> tuple[int, dict[str, str]]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = self.http.request(method, path, headers=headers, content=None if body is None else msgspec.json.encode(body))
        return answer.status_code, answer.json()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    found = Up(tmp_path / "état Ω")
    yield found
    found.exchange.close()


@pytest.mark.parametrize(("method", "path"), OPERATOR_ROUTES)
def test_operator_routes_refuse_all_others(up: Up, method: str, path: str) -> None:
    status, told = up.ask(method, path)
    assert status == 401 and told["code"] == "missing-key"
    status, told = up.ask(method, path, "iso_" + "0" * 12 + "_" + "0" * 64)
    assert status == 401
    status, told = up.ask(method, path, up.exchange.keys.create("alba").bearer)
    assert status == 403 and told["code"] == "forbidden"


def test_what_is_not_there_is_404(up: Up) -> None:
    token = up.exchange.operator_token
    for path in ("/v1/runs/run_unknown", "/v1/models/sha256:0/head", "/v1/models/sha256:0/artefact"):
        status, told = up.ask("GET", path, token)
        assert status == 404 and told["code"] == "not-found" and told["next"]
    assert up.ask("GET", "/v1/certificates/sha256:0")[0] == up.ask("GET", "/v1/bars/sha256:0")[0] == 404
    assert up.ask("POST", "/v1/certificates/sha256:0/revocation", token, {"why": "x"})[0] == 404
    assert up.ask("POST", "/v1/sites", token, SiteRequest(run="run_none", site="line-4", fit=40, proof=0))[0] == 404


def test_a_run_needs_agreements_and_a_body(up: Up) -> None:
    token = up.exchange.operator_token
    status, told = up.ask("POST", "/v1/runs", token, request())
    assert status == 400 and told["code"] == "bad-agreement" and "alba" in told["message"]
    assert up.ask("POST", "/v1/runs", token, {"scenario": 1})[1]["code"] == "bad-document"
    assert up.ask("GET", "/v1/runs", token) == (200, [])


def test_two_exchanges_never_share_a_folder(tmp_path: Path) -> None:
    clock, log = SetClock(), Log(io.StringIO(), SetClock())
    state = tmp_path / "one state"
    with opened(state, clock, log), pytest.raises(ExchangeStateError, match="another exchange is running"), opened(state, clock, log):
        pass
    with opened(state, clock, log) as again:
        assert again.catalogue.runs() == []


def test_a_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError), opened(tmp_path / "file" / "state", SetClock(), Log(io.StringIO(), SetClock())):
        pass


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_secrets_are_the_operators_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        found = Up(tmp_path)
    finally:
        os.umask(mask)
    for name in (OPERATOR_TOKEN, "exchange.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name
    assert found.exchange.operator_token not in found.written.getvalue()
    found.exchange.close()


@pytest.mark.parametrize("damage", [b"", b"iso_wrong", "schl\u00fcssel".encode(), b"\xff\xfe"])
def test_a_token_file_that_is_of_no_use_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    first = Up(tmp_path)
    old = first.exchange.operator_token
    first.exchange.close()
    kept = Up(tmp_path)
    assert kept.exchange.operator_token == old
    kept.exchange.close()
    (tmp_path / OPERATOR_TOKEN).write_bytes(damage)
    again = Up(tmp_path)
    assert again.exchange.operator_token == (tmp_path / OPERATOR_TOKEN).read_text() != old
    assert again.ask("GET", "/v1/runs", again.exchange.operator_token)[0] == 200
    again.exchange.close()


def test_open_attempts_end_by_themselves(up: Up) -> None:
    meter, owner = up.exchange.meter, (OwnerWeight(party="alba", weight=1),)
    meter.prices.add_price(Price(id="p1", series="s", effective_at_s=0, currency="EUR", inference_micros=10))
    shares = {"compute_ppm": 500_000, "vendor_ppm": 0, "exchange_ppm": 0, "owners_ppm": 500_000}
    names = {"compute": "c", "vendor": "v", "exchange": "exchange", "residue": "r"}
    meter.prices.add_split(Split(id="s1", effective_at_s=0, owners=owner, **names, **shares))
    credit = Credit(id="c1", currency="EUR", amount_micros=1000, reason="test")
    token = up.exchange.operator_token
    assert up.ask("POST", "/v1/accounts/user/credit", token, credit)[0] in (200, 201)
    meter.open("r1", "user", "m", "sha256:" + "0" * 64, "p1", "s1", Usage(inferences=1), {})
    up.exchange.upkeep.turn()
    assert len(meter.open_holds()) == 1, "not yet"
    up.clock.advance(meter.hold_ttl_s + 1)
    up.exchange.upkeep.turn()
    assert meter.open_holds() == () and "holds-expired" in up.written.getvalue()
    found = meter.find("r1")
    assert found is not None and found.charge_micros == 0


def test_the_lifespan_starts_and_stops_its_threads(tmp_path: Path) -> None:
    found = Up(tmp_path)
    with found.http as http:
        assert http.get("/v2/health/live").status_code == 200
        assert found.exchange.upkeep._thread.is_alive() and found.exchange.worker.alive
    assert not found.exchange.upkeep._thread.is_alive() and not found.exchange.worker.alive
    found.exchange.close()


def test_basis_names_the_agreements_of_the_purpose(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(up.exchange.jobs, "agreement_digest", lambda party, purpose: asked.append((party, purpose)) or "sha256:x")
    up.exchange._basis("build", request())
    up.exchange._basis("build", request(without=("cora",)))
    purpose = request().scenario.purpose
    assert asked[:3] == [(p, purpose) for p in ("alba", "brio", "cora")]
    assert asked[3:] == [(p, purpose + AFTER_LEAVING) for p in ("alba", "brio")] and Build.purpose_of(request()) == purpose


def test_is_operator_tells_a_key_from_a_broken_store(up: Up) -> None:
    assert up.exchange.is_operator(up.exchange.operator_token) and not up.exchange.is_operator("iso_no")
    with pytest.raises(AuthError):
        up.exchange.keys.operator("iso_no")
    up.exchange.keys_db.close()
    with pytest.raises(StorageError):
        up.exchange.is_operator(up.exchange.operator_token)


def test_progress_of_a_run_is_a_share(up: Up) -> None:
    exchange = up.exchange
    wanted = request(200_000, 100_000, 50_000)
    exchange.catalogue.begin("run_1", "build", wanted)
    view = ExchangeOverview(exchange.catalogue, exchange.registry, exchange.meter, up.clock, exchange.lives, exchange.shadows)
    assert view.overview(10).scenarios[0].progress == 0.0
    for place in range(steps_most(wanted)):
        exchange.catalogue.step_done("run_1", StepRecord(name=f"step {place}", wall_s=0.1, reused=False, detail={}))
    assert steps_most(wanted) == 15 and view.overview(10).scenarios[0].progress == 1.0
    assert view.overview(10).entries_sum_micros == 0
    exchange.catalogue.end("run_1", "failed", None, {"code": "x", "message": "y", "next": "z"})
    assert view.overview(10).scenarios[0].progress is None
