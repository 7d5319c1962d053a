"""From a certified run to a machine that judges offline, by the real command line: export, judge away, come back, settle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from isthmus.client.http import ExchangeClient
from tests.app.edge_world import run_box
from tests.journeys.conftest import Walked
from tests.journeys.inspection import SCENARIO, isthmus, owner_folder
from tests.journeys.state import book_holds, exchange_up, running_in

PRICE_MICROS = SCENARIO["serve"]["micros_per_inference"]


@pytest.fixture(scope="module")
def state(walked: Walked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the walked state, so that other journeys' counts stay as they are."""
    assert walked.ended.code == 0, walked.ended.err
    return shutil.copytree(walked.state, tmp_path_factory.mktemp("edge") / "state")


def test_a_box_judges_away_and_settles_when_it_comes_back(state: Path, tmp_path: Path) -> None:
    before = book_holds(state)["receipts"]
    seen = owner_folder(tmp_path / "seen", seed=500, records=40)
    words = ["export", SCENARIO["id"], "--edge", tmp_path / "box", "--party", "line-4", "--allowance", "50", "--state", state]
    isthmus(*words, "--json").refused("insufficient-funds")
    made = isthmus(*words, "--credit", "--json")
    assert made.code == 0, made.err
    box = made.document
    assert box["prepaid_micros"] == 50 * PRICE_MICROS and box["box"].startswith("line-4-box-")
    files = [tmp_path / "box" / name for name in ("certificate.json", "model.onnx", "issuer.pub")]
    assert isthmus("certificate", "verify", files[0], "--artefact", files[1], "--public-key", files[2]).code == 0
    away = run_box(tmp_path / "box", seen)
    assert away.returncode == 0, away.stderr
    verdicts = [json.loads(line) for line in away.stdout.splitlines()]
    assert len(verdicts) == 40
    with exchange_up(state) as (url, token), ExchangeClient(url, token) as operator:
        back = run_box(tmp_path / "box", seen, "--url", url)
        assert back.returncode == 0, back.stderr
        assert json.loads(back.stderr.splitlines()[-1])["exchange"]["taken"] == 40
        isthmus(*words, "--credit", "--json").refused("bad-input")  # the folder is a box already
        doubtful = sum(line["verdict"] == "person" for line in verdicts)
        assert sum(ticket["box"] == box["box"] for ticket in operator.get("/v1/edge/tickets")) == doubtful
        ended = operator.post(f"/v1/edge/boxes/{box['box']}/retirement", None)
        assert ended["returned_micros"] == 10 * PRICE_MICROS
    found = book_holds(state)
    assert found["receipts"] == before + 1 and all(total == 0 for total in found["sums"].values())
    assert running_in(state) == []


def test_what_cannot_be_exported_is_told(state: Path, tmp_path: Path) -> None:
    words = ["--edge", tmp_path / "box", "--party", "line-4", "--credit", "--json"]
    isthmus("export", SCENARIO["id"], *words, "--state", tmp_path / "empty").refused("not-found")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x", encoding="utf-8")
    isthmus("export", SCENARIO["id"], "--edge", tmp_path / "full", "--party", "x", "--json", "--state", state).refused("bad-input")
    with exchange_up(state) as (url, _):
        found = isthmus("export", SCENARIO["id"], "--edge", tmp_path / "near", *words[2:], "--state", state)
        assert found.code == 0, found.err
        told = json.loads((tmp_path / "near" / "target.json").read_text(encoding="utf-8"))
        assert told["url"] == url, "the exchange that runs on the state folder is the one that was asked"
        assert SCENARIO["id"] in isthmus("export", "nothing", *words, "--state", state, "--url", url).refused("not-found")["message"]
        made = isthmus("export", SCENARIO["id"], *words, "--state", state, "--url", url)
        assert made.code == 0, made.err
        assert json.loads((tmp_path / "box" / "target.json").read_text(encoding="utf-8"))["url"] == url
        again = isthmus(
            "export", made.document["artefact_digest"][:24], "--edge", tmp_path / "two", *words[2:], "--state", state, "--url", url
        )
        assert again.code == 0 and again.document["artefact_digest"] == made.document["artefact_digest"]
