"""Four owners by the real command lines: scored and paid, one leaves, what served lapses, and its successor never saw the leaver."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.inspection import Ended, arguments_of, environment, isthmus, scenario_folder, spoken
from tests.journeys.state import book_holds, document_of, exchange_up
from tests.journeys.test_tables import TABLE, table_folder

OWNERS = ("alder", "birch", "cedar", "dogwood")
RECORD = json.dumps({"heat": 88, "flow": None, "mode": "running"})
WAIT_S = 90


def run(root: Path, *owners: str, state: str = "state") -> Ended:
    data = [word for owner in owners for word in ("--data", root / owner)]
    words = ("--contribution", "--state", root / state, "--report", root / "report.html", "--json")
    return isthmus("run", root / "pumps", *data, *words, cwd=root)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("leaving")
    certify = {**TABLE["certify"], "promises_ppm": [250_000], "families": ["noise"], "severities": [1]}
    scenario_folder(root / "pumps", **{**TABLE, "recipe": {**TABLE["recipe"], "parts": ["columns"]}, "certify": certify})
    for place, name in enumerate(OWNERS):
        table_folder(root / name, place, 210)
    return root, document_of(run(root, *OWNERS))


@contextmanager
def node_up(home: Path, url: str) -> Iterator[None]:
    words = arguments_of("node", "start", "--state", home, "--exchange", url)
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()) as child:
        try:
            yield
        finally:
            child.terminate()
            child.wait(30)


def asked(url: str, bearer: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {bearer}", "Inference-Header-Content-Length": "0"}
    return httpx.post(f"{url}/v2/models/pump-check/infer", content=RECORD, headers=headers, trust_env=False, timeout=30)


def test_a_run_scores_its_owners_and_pays_by_it(scored: tuple[Path, dict[str, Any]]) -> None:
    root, found = scored
    told = found["contribution"]
    assert told["method"] == "exact" and told["coalitions"] == 15 and set(told["owners"]) == set(OWNERS)
    assert sum(one["share"] for one in told["owners"].values()) == pytest.approx(1.0) and not told["by_rows"]
    paid = {party: found["split"].get(party, 0) for party in OWNERS}
    for party, one in told["owners"].items():
        assert paid[party] == pytest.approx(sum(paid.values()) * one["share"], abs=found["receipts"])
    assert found["leave"]["refusal"] is None and found["leave"]["records"] < 4 * 140
    assert "paid by what their records added" in (root / "report.html").read_text(encoding="utf-8")


def test_an_owner_leaves_and_what_it_was_in_is_replaced(scored: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root, found = scored
    first = found["runs"]["fleet"]
    with ExitStack() as stack:
        url, token = stack.enter_context(exchange_up(root / "state"))
        operator = stack.enter_context(httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False))
        operator.post("/v1/accounts/u/credit", json={"id": "c", "currency": "EUR", "amount_micros": 10**6, "reason": "t"})
        bearer = operator.post("/v1/keys", json={"party": "u", "label": "t", "expires_in_s": 600}).json()["bearer"]
        before = asked(url, bearer)
        assert before.status_code == 200, before.text
        leave = ("node", "leave", "--state", root / "state" / "nodes" / "dogwood", "--purpose", "plates", "--why", "moved", "--json")
        assert document_of(spoken(*leave))["sent"].startswith("waits for the node")
        assert asked(url, bearer).status_code == 200, "nobody has told the exchange yet"
        assert document_of(spoken(*leave, "--exchange", url))["sent"] == f"told at {url}"
        refused = asked(url, bearer)
        assert refused.status_code == 403 and refused.json()["code"] == "certificate-revoked", refused.text
        shown = spoken("withdrawal", "show", first, "--url", url, "--key", token, "--json")
        assert shown.code == 1 and shown.document["leavers"][0]["why"] == "moved" and shown.document["refit"]["way"] == "same-features"
        for owner in OWNERS[:3]:
            stack.enter_context(node_up(root / "state" / "nodes" / owner, url))
        ended = _certified(operator, first)
        assert "dogwood" in spoken("withdrawal", "list", "--url", url, "--key", token).out
        assert document_of(spoken("withdrawal", "show", first, "--url", url, "--key", token, "--json"))["refit"] == ended
        after = asked(url, bearer)
        assert after.status_code == 200 and after.json()["model_version"] != before.json()["model_version"]
        _receipt_verifies(before.json()["parameters"]["receipt"], url, token, tmp_path)
        _split_verifies(ended["run"], url, token, tmp_path)
    book_holds(root / "state")
    error = run(root, *OWNERS).refused("bad-agreement")
    assert "dogwood has left" in error["message"] and "isthmus node agree" in error["next"]


def _certified(operator: httpx.Client, run_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while True:
        refit: dict[str, Any] = operator.get(f"/v1/withdrawals/{run_id}").json()["refit"]
        if refit["state"] != "running":
            assert refit["state"] == "certified" and refit["sums"]["moments/1"], refit
            return refit
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _public_key(url: str) -> str:
    return str(httpx.get(f"{url}/v1/exchange", trust_env=False).json()["public_key"])


def _receipt_verifies(receipt: str, url: str, token: str, folder: Path) -> None:
    spoken("receipt", "show", receipt, "--url", url, "--key", token, "--out", folder / "receipt.json")
    assert document_of(spoken("receipt", "verify", folder / "receipt.json", "--public-key", _public_key(url), "--json"))["holds"] is True


def _split_verifies(run_id: str, url: str, token: str, folder: Path) -> None:
    file = folder / "contribution.json"
    shown = document_of(spoken("contribution", "show", run_id, "--url", url, "--key", token, "--out", file, "--json"))
    assert [one["party"] for one in shown["shares"]] == list(OWNERS[:3])
    held = document_of(spoken("contribution", "verify", file, "--public-key", _public_key(url), "--json"))
    assert held["holds"] and held["shares"] == shown["shares"]
    spoken("contribution", "verify", file, "--public-key", "0" * 64, "--json").refused("bad-signature")
    file.write_text("{}")
    spoken("contribution", "verify", file, "--public-key", "0" * 64, "--json").refused("bad-document")


def test_scoring_and_aggregate_only_are_refused_together(tmp_path: Path) -> None:
    table_folder(tmp_path / "data", 1, 60)
    state = tmp_path / "node"
    assert spoken("node", "init", tmp_path / "data", "--state", state, "--id", "elm").code == 0
    words = ("node", "agree", "--state", state, "--purpose", "p", "--exchange-key", "ab" * 32, "--contribution", "--json")
    error = spoken(*words).refused("bad-agreement")
    assert "in aggregate only and for scoring each owner by its own sums" in error["message"] and "drop one" in error["next"]
    assert spoken(*words, "--visibility", "individual", "--least-participants", "1").code == 0
