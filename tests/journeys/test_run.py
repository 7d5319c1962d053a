"""The whole loop by the real command lines, on small images: run, run again, verify everything offline, replicate, look at the page."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from isthmus.client.http import ExchangeClient
from tests.journeys.conftest import Walked
from tests.journeys.inspection import OWNERS, SCENARIO, isthmus, owner_folder, run_words
from tests.journeys.state import (
    book_holds,
    charged_micros,
    document_of,
    exchange_up,
    nothing_half_written,
    owners_logs_verify,
    rows,
    running_in,
)

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PRICE_MICROS = SCENARIO["serve"]["micros_per_inference"]
REQUESTS = SCENARIO["serve"]["sample_requests"]


@pytest.fixture(scope="module")
def told(walked: Walked) -> dict[str, Any]:
    return document_of(walked.ended)


@pytest.fixture(scope="module")
def again(walked: Walked, told: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The same command a second time: (its object, seconds)."""
    began = time.monotonic()
    ended = isthmus(*walked.words, cwd=walked.state.parent)
    return document_of(ended), time.monotonic() - began


def test_it_ends_well_and_leaves_no_process(walked: Walked) -> None:
    assert walked.ended.code == 0, walked.ended.err
    assert "Traceback" not in walked.ended.err
    assert running_in(walked.state) == []


def test_every_figure_of_the_list_is_there(told: dict[str, Any]) -> None:
    assert set(told["auc"]) == {"joint", "alone", "pooled"}
    assert set(told["auc"]["alone"]) == set(OWNERS)
    assert told["auc"]["joint"] > 0.9
    assert all(0.5 < value <= 1 for value in told["auc"]["alone"].values())
    for name in ("weights_max_rel_diff_to_pooled", "membership_auc"):
        assert told[name] is None, "there is no pooled reference beside private folders"
    assert told["auc"]["pooled"] is None
    assert 0.05 < told["answered_share"] <= 1
    assert 0 < told["answered_error_bound"] <= told["error_goal"] <= 0.1
    assert told["visibility"]
    assert isinstance(told["wall_s"], float)
    assert {"name", "best", "auc", "certificate", "labels", "labels_needed"} <= set(told["site"])
    assert told["site"]["name"] is None


def test_only_sums_left(told: dict[str, Any], walked: Walked) -> None:
    assert told["images_left"] == 0
    logs = owners_logs_verify(walked.state)
    assert set(told["bytes_left"]) == set(OWNERS)
    for party, log in logs.items():
        assert set(log["bytes_by_kind"]) <= {"party", "asset", "agreement", "countersign", "vector", "head", "status", "terms"}
        assert log["bytes_left"] >= told["bytes_left"][party] > 0


def test_the_certificate_and_the_money(told: dict[str, Any], walked: Walked) -> None:
    assert told["certificate"]["issued"] is True
    assert told["certificate"]["digest"].startswith("sha256:")
    assert told["requests"] == told["receipts"] == REQUESTS
    assert told["charge_micros"] == REQUESTS * PRICE_MICROS == charged_micros(walked.state)
    assert sum(told["split"].values()) == told["charge_micros"]
    assert set(OWNERS) < set(told["split"])
    assert told["entries_sum_micros"] == 0


def test_an_owner_leaves_and_the_model_is_another(told: dict[str, Any]) -> None:
    assert told["leave"]["party"] == OWNERS[-1]
    assert told["leave"]["refusal"] is None
    assert 0.5 < told["leave"]["auc"] <= 1


def last_words(log: dict[str, Any]) -> int:
    """Where the last start of the node begins in its log: with its introduction."""
    return max(place for place, entry in enumerate(log["entries"]) if entry["kind"] == "party")


def test_a_second_run_uses_again_what_stands(walked: Walked, told: dict[str, Any], again: tuple[dict[str, Any], float]) -> None:
    second, wall_s = again
    assert second["certificate"] == told["certificate"]
    assert second["runs"] == told["runs"]
    assert second["auc"] == told["auc"]
    assert wall_s < walked.wall_s
    for party, log in owners_logs_verify(walked.state).items():
        left = [entry["kind"] for entry in log["entries"]]
        assert left[last_words(log) :].count("vector") + left[last_words(log) :].count("head") == 0, f"{party} sent sums again"
    assert second["receipts"] == REQUESTS
    assert charged_micros(walked.state) == REQUESTS * PRICE_MICROS, "the same requests are charged once"
    models = rows(walked.state, "catalogue", "SELECT count(*) FROM model")[0][0]
    assert models == len(list((walked.state / "exchange" / "artefacts").glob("*.onnx"))) >= 2


def test_what_it_leaves_verifies_offline(walked: Walked, again: tuple[dict[str, Any], float], tmp_path: Path) -> None:
    second, _ = again
    book = book_holds(walked.state)
    assert book["receipts"] == REQUESTS
    assert all(total == 0 for total in book["sums"].values())
    nothing_half_written(walked.state)
    digest, receipt_id = second["certificate"]["digest"], rows(walked.state, "book", "SELECT id FROM receipts")[0][0]
    with exchange_up(walked.state) as (url, token), ExchangeClient(url, token) as operator:
        certificate, key = operator.get(f"/v1/certificates/{digest}"), operator.get("/v1/exchange")["public_key"]
        result = operator.get(f"/v1/runs/{second['runs']['fleet']}")["result"]
        artefact = operator.send("GET", f"/v1/models/{result['artefact_digest']}/artefact").content
        shown = isthmus("receipt", "show", receipt_id, "--url", url, "--key", token, "--out", tmp_path / "receipt.json")
        assert shown.code == 0, shown.err
    (tmp_path / "certificate.json").write_text(json.dumps(certificate), encoding="utf-8")
    (tmp_path / "model.onnx").write_bytes(artefact)
    words = ["certificate", "verify", tmp_path / "certificate.json", "--artefact", tmp_path / "model.onnx", "--public-key", key, "--json"]
    valid = document_of(isthmus(*words))
    assert valid["valid"] is True
    assert valid["certificate"] == digest
    assert document_of(isthmus("receipt", "verify", tmp_path / "receipt.json", "--public-key", key, "--json"))["holds"] is True
    (tmp_path / "model.onnx").write_bytes(artefact[:-1] + bytes([artefact[-1] ^ 1]))
    isthmus(*words).refused()
    altered = (tmp_path / "receipt.json").read_text(encoding="utf-8").replace(str(PRICE_MICROS), str(PRICE_MICROS + 1), 1)
    (tmp_path / "altered.json").write_text(altered, encoding="utf-8")
    found = isthmus("receipt", "verify", tmp_path / "altered.json", "--public-key", key, "--json")
    assert found.code == 1
    assert found.document["holds"] is False


def test_the_next_site_gets_its_own_answer(walked: Walked, again: tuple[dict[str, Any], float], tmp_path: Path) -> None:
    samples = owner_folder(tmp_path / "fir", seed=99, records=140)
    words = ["replicate", walked.scenario, "--site", "fir", "--samples", samples, "--fit", "40", "--state", walked.state, "--json"]
    ended = isthmus(*words)
    found = ended.document
    assert ended.code == (0 if found["passed"] else 1), ended.err
    assert found["fit"] == 40
    assert found["proof"] == 100
    assert set(found["candidates"]) >= {"fleet", "combined"}
    assert found["passed"] is (found["certificate"] is not None)
    assert found["passed"] or found["failures"]
    assert owners_logs_verify(walked.state, ("fir",))["fir"]["images_left"] == 0
    book_holds(walked.state)


def test_many_sites_in_one_go_and_one_that_cannot_be_read_fails_alone(
    walked: Walked, again: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    for place, name in enumerate(("oak", "yew")):
        owner_folder(tmp_path / name, seed=200 + place, records=110)
    (tmp_path / "sites.csv").write_text("site,samples,fit\noak,oak,30\nelm,no such folder,\nyew,yew,30\n", encoding="utf-8")
    words = ["replicate", walked.scenario, "--all", tmp_path / "sites.csv", "--state", walked.state]
    first = isthmus(*words, "--json")
    assert first.code == 1, first.err
    found = {one["site"]: one for one in first.document["sites"]}
    assert list(found) == ["oak", "elm", "yew"]
    assert found["elm"]["state"] == "failed" and "no such folder" in found["elm"]["error"]["message"]
    for name in ("oak", "yew"):
        assert found[name]["state"] in ("certified", "refused") and (found[name]["fit"], found[name]["proof"]) == (30, 80)
        assert (found[name]["certificate"] is not None) is (found[name]["state"] == "certified")
    assert {name: first.document[name] for name in ("certified", "refused", "failed")}["failed"] == 1
    told = isthmus(*words)
    assert "oak" in told.out and "1 failed" in told.out
    second = {one["site"]: one for one in isthmus(*words, "--json").document["sites"]}
    assert all(second[name]["certificate"] == found[name]["certificate"] for name in found), "what was finished is kept"
    assert running_in(walked.state) == []
    book_holds(walked.state)
    isthmus(*words, "--site", "oak", "--json").refused()


def test_a_model_that_was_edited_does_not_serve(walked: Walked, again: tuple[dict[str, Any], float], tmp_path: Path) -> None:
    """One bit of the certified file on the exchange's disk is another: the next run is refused and says which file."""
    state = tmp_path / "state"
    shutil.copytree(walked.state, state)
    for artefact in (state / "exchange" / "artefacts").glob("*.onnx"):
        raw = bytearray(artefact.read_bytes())
        raw[len(raw) // 2] ^= 1
        artefact.write_bytes(raw)
    error = isthmus(*run_words(walked.scenario, walked.folders, state), cwd=tmp_path).refused("artefact-edited")
    assert SCENARIO["id"] in error["message"]
    assert charged_micros(state) == charged_micros(walked.state), "what is refused is not charged"


def test_the_page_opens_from_its_file_without_a_complaint(walked: Walked, told: dict[str, Any]) -> None:
    assert CHROMIUM.exists(), "the journeys need the system's Chromium"
    complaints: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(walked.report.as_uri())
        text = page.inner_text("body")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert told["runs"]["fleet"][:12] in text or SCENARIO["title"] in text or SCENARIO["id"] in text
    assert not any(word in text for word in ("undefined", "NaN"))
