"""The book over HTTP and at the command line: who may see what, and errors as {code, message, next}."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.testclient import TestClient

from isthmus.access.keys import KeyRing, open_keys
from isthmus.app.ledger_routes import LedgerService, ledger_routes
from isthmus.app.openapi import operation_of
from isthmus.cli import deployment as deployment_cli
from isthmus.cli import receipt as receipt_cli
from isthmus.cli import statement as statement_cli
from isthmus.cli.book import book
from isthmus.cli.receipt import receipt
from isthmus.cli.statement import statement
from isthmus.client.http import ExchangeClient
from isthmus.contracts.lot import LotSection
from isthmus.kit.clock import SetClock
from isthmus.ledger.meter import Meter
from isthmus.ledger.verify import verify_receipt, verify_statement
from tests.ledger.world import KEY, ONE, PRICE, SPLIT, new_meter, opened

PUBLIC = [KEY.public_hex]


class Site:
    """A running API with keys for everyone."""

    def __init__(self, folder: Path) -> None:
        self.meter: Meter = new_meter(folder, SetClock(), amount=0)
        self.keys = KeyRing(open_keys(folder / "keys.db"), SetClock())
        self.api = Starlette(routes=ledger_routes(LedgerService(self.meter, self.keys)))
        self.http = TestClient(self.api)
        self.bearer = {party: self.keys.create(party).bearer for party in ("line", "north", "south", "edge", "stranger")}
        self.bearer["operator"] = self.keys.create("exchange", operator=True).bearer

    def ask(self, method: str, path: str, who: str | None = None, body: Any = None, status: int = 200) -> Any:
        headers = {"authorization": f"Bearer {self.bearer[who]}"} if who else {}
        answer = self.http.request(method, path, headers=headers, content=None if body is None else json.dumps(body))
        assert answer.status_code == status, answer.text
        found = answer.json()
        if status >= 400:
            assert set(found) == {"code", "message", "next"} and all(found.values())
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.ask("POST", "/v1/accounts/line/credit", "operator", {"id": "c1", "currency": "EUR", "amount_micros": 1_000_000})
    opened(site.meter, "r1")
    site.meter.close("r1", ONE, "reported")
    yield site
    site.http.close()


def test_credit_is_idempotent_and_the_operators(site: Site) -> None:
    body = {"id": "c1", "currency": "EUR", "amount_micros": 1_000_000}
    site.ask("POST", "/v1/accounts/line/credit", "operator", body)
    assert site.ask("GET", "/v1/accounts/line", "line")["balances"][0]["balance"] == 1_000_000 - 997
    site.ask("POST", "/v1/accounts/line/credit", "operator", {**body, "amount_micros": 2}, status=409)
    assert site.ask("POST", "/v1/accounts/line/credit", "line", body, status=403)["code"] == "forbidden"
    assert site.ask("POST", "/v1/accounts/line/credit", None, body, status=401)["code"] == "missing-key"
    for wrong in (
        {**body, "id": "c2", "amount_micros": -1},
        {**body, "id": "c2", "currency": "euro"},
        {"id": "c2"},
        [],
        {**body, "id": ""},
    ):
        site.ask("POST", "/v1/accounts/line/credit", "operator", wrong, status=400)


def test_each_sees_its_own(site: Site) -> None:
    full = site.ask("GET", "/v1/receipts/r1", "operator")
    mine = site.ask("GET", "/v1/receipts/r1", "line")
    owner = site.ask("GET", "/v1/receipts/r1", "north")
    assert set(owner["sections"]) == {"certificate", "outcome", "share-2"} and "policy" in mine["sections"]
    for document in (full, mine, owner):
        assert verify_receipt(document, PUBLIC).holds
    assert site.ask("GET", "/v1/receipts/r1/proof", "north") == owner["proof"]
    for path in ("/v1/receipts/r1", "/v1/receipts/r1/proof", "/v1/receipts/none"):
        assert site.ask("GET", path, "stranger", status=404)["code"] == "not-found"
    site.ask("GET", "/v1/accounts/line", "north", status=403)
    site.ask("GET", "/v1/statements/line", "north", status=403)
    assert site.ask("GET", "/v1/accounts/line", "operator")["party"] == "line"
    for path in ("/v1/receipts/r1", "/v1/accounts/line", "/v1/statements/line", "/v1/book/check", "/v1/prices/cells-1"):
        site.ask("GET", path, None, status=401)


def test_the_log_is_open_to_all(site: Site) -> None:
    opened(site.meter, "r2")
    site.meter.void("r2", "engine failed")
    head = site.ask("GET", "/v1/log/head")
    assert head == site.ask("GET", "/v1/log/head") and head["payloadType"].endswith("tree-head+json")
    assert site.ask("GET", "/v1/log/key")["public_key"] == KEY.public_hex
    assert site.ask("GET", "/v1/log/consistency?from=1&to=2")["first"] == 1
    for query in ("from=1&to=3", "from=0&to=2", "from=a&to=2", "to=2", "from=2&to=1", "from=-1&to=2", "from=1&to=" + "9" * 30):
        site.ask("GET", f"/v1/log/consistency?{query}", status=400)


def test_statements_and_check(site: Site) -> None:
    found = site.ask("GET", "/v1/statements/line", "line")
    assert verify_statement(found["envelope"], PUBLIC).receipts == 1 and found["statement"]["party"] == "line"
    assert site.ask("GET", "/v1/statements/line?from=2000-01-01&to=2001-01-01T00:00:00Z", "line")["statement"]["lines"] == []
    for query in ("from=yesterday", "from=2001-01-01&to=2000-01-01"):
        site.ask("GET", f"/v1/statements/line?{query}", "line", status=400)
    assert site.ask("GET", "/v1/book/check", "operator")["holds"] is True
    site.ask("GET", "/v1/book/check", "line", status=403)


def test_prices_and_splits(site: Site) -> None:
    price, rule = msgspec.to_builtins(PRICE), msgspec.to_builtins(SPLIT)
    assert site.ask("POST", "/v1/prices", "operator", price, status=201) == price
    assert site.ask("GET", "/v1/prices/cells-1", "north") == price
    assert site.ask("GET", "/v1/splits/cells-split-1", "north")["owners"][0]["weight"] == 700
    site.ask("POST", "/v1/prices", "operator", {**price, "inference_micros": 1}, status=409)
    site.ask("POST", "/v1/prices", "operator", {**price, "surprise": 1}, status=400)
    site.ask("POST", "/v1/splits", "operator", {**rule, "compute_ppm": 10**6}, status=400)
    site.ask("POST", "/v1/splits", "operator", {**rule, "id": "cells-split-2"}, status=201)
    site.ask("POST", "/v1/prices", "line", price, status=403)
    assert site.ask("GET", "/v1/prices/none", "line", status=422)["code"] == "unknown-price"


def test_keys(site: Site) -> None:
    new = site.ask("POST", "/v1/keys", "operator", {"party": "plant"}, status=201)
    site.bearer["plant"] = new["bearer"]
    assert site.ask("GET", "/v1/accounts/plant", "plant")["balances"] == []
    site.ask("DELETE", f"/v1/keys/{new['key']['id']}", "line", status=403)
    site.ask("DELETE", f"/v1/keys/{new['key']['id']}", "plant")
    site.ask("GET", "/v1/accounts/plant", "plant", status=401)
    site.ask("POST", "/v1/keys", "line", {"party": "line"}, status=403)
    site.ask("DELETE", "/v1/keys/none", "operator", status=404)
    site.keys.db.close()
    assert site.ask("GET", "/v1/accounts/line", "line", status=503)["code"] == "storage-unavailable"


def test_a_huge_body_is_refused(site: Site) -> None:
    site.ask("POST", "/v1/prices", "operator", {"id": "x" * (5 * 1024 * 1024)}, status=413)


def test_every_handler_says_what_it_does() -> None:
    service: Any = type("Service", (), {"meter": None, "keys": None})()
    for route in ledger_routes(service):
        assert operation_of(route.endpoint.__doc__).summary


@pytest.fixture
def commands(site: Site, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    def client(url: str, key: str) -> ExchangeClient:
        assert url
        return ExchangeClient("http://exchange", key, transport=_Through(site.http))

    for module in (deployment_cli, receipt_cli, statement_cli):
        monkeypatch.setattr(module, "ExchangeClient", client)
    return CliRunner()


class _Through(httpx.BaseTransport):
    """Carries the command's requests to the API in this process."""

    def __init__(self, http: TestClient) -> None:
        self.http = http

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        found = self.http.request(request.method, str(request.url.raw_path, "ascii"), headers=dict(request.headers), content=request.read())
        return httpx.Response(found.status_code, content=found.content, headers={"content-type": "application/json"})


def test_receipt_show_then_verify_then_altered(site: Site, commands: CliRunner, tmp_path: Path) -> None:
    file, key = tmp_path / "receipt.json", tmp_path / "key.hex"
    key.write_text(KEY.public_hex + "\n")
    shown = commands.invoke(receipt, ["show", "r1", "--key", site.bearer["line"], "--out", str(file)])
    assert shown.exit_code == 0, shown.output
    told = commands.invoke(receipt, ["verify", str(file), "--public-key", str(key)], standalone_mode=False)
    assert told.return_value == 0 and "The receipt verifies" in told.output
    document = json.loads(file.read_text())
    document["sections"]["usage"]["body"]["usage"]["inferences"] = 2
    file.write_text(json.dumps(document))
    told = commands.invoke(receipt, ["verify", str(file), "--public-key", KEY.public_hex], standalone_mode=False)
    assert told.return_value == 1 and "does not verify: usage" in told.output
    told = commands.invoke(receipt, ["verify", str(file), "--public-key", KEY.public_hex, "--json"], standalone_mode=False)
    lines = json.loads(told.output)["lines"]
    assert [line["part"] for line in lines if not line["holds"]] == ["usage"]


def test_statement_and_book_commands(site: Site, commands: CliRunner) -> None:
    told = commands.invoke(statement, ["line", "--key", site.bearer["line"], "--public-key", KEY.public_hex], standalone_mode=False)
    assert told.exception is None and "signature and sums verified" in told.output and "-0.000997 EUR" in told.output
    told = commands.invoke(statement, ["line", "--from", "2020-01-01", "--key", site.bearer["line"], "--json"], standalone_mode=False)
    assert json.loads(told.output)["statement"]["receipts"] == 1
    told = commands.invoke(book, ["check", "--key", site.bearer["operator"]], standalone_mode=False)
    assert told.return_value == 0 and "BROKEN" not in told.output
    told = commands.invoke(book, ["check", "--key", site.bearer["operator"], "--json"], standalone_mode=False)
    assert json.loads(told.output)["sums"]["EUR"] == 0
    told = commands.invoke(book, ["check", "--key", site.bearer["line"]], standalone_mode=False)
    assert told.exception is not None and "operator" in str(told.exception)


def test_a_lot_is_for_its_own_party(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.ask("POST", "/v1/accounts/line/credit", "operator", {"id": "c1", "currency": "EUR", "amount_micros": 1_000_000})
    opened(site.meter, "r1")
    section = LotSection(lot="pallet-7", counts={"good": 1, "defect": 0, "person": 0}, request="sha256:00")
    site.meter.close("r1", ONE, "reported", section)
    assert site.meter.close("r1", ONE, "reported", section).id == "r1", "the same again is the same receipt"
    assert site.ask("GET", "/v1/lots/line/pallet-7", "stranger", status=403)["code"] == "forbidden"
    assert site.ask("GET", "/v1/lots/line/pallet-8", "line", status=404)["code"] == "not-found"
    assert site.ask("GET", "/v1/lots/line/a%20b", "line", status=400)["code"] == "bad-input"
    assert site.ask("GET", "/v1/lots/line/pallet-7", "line", status=404)["message"].startswith("there is no certificate")
