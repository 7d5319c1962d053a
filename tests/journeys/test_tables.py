"""Rows of tables through the real command lines: three owners' CSV folders, a certificate, requests as JSON and as tensors, a next site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.journeys.inspection import SCENARIO, Ended, isthmus, scenario_folder
from tests.journeys.state import book_holds, exchange_up, logs_hold

OWNERS = ("alder", "birch", "cedar")
TABLE: dict[str, Any] = {
    "id": "pump-check",
    "task": "table-inspection",
    "interface": {
        "input": "table",
        "output": "verdict",
        "classes": ["good", "defect"],
        "columns": [
            {"name": "heat", "unit": "degC", "low": 0, "high": 100},
            {"name": "flow", "unit": "L/s", "low": 0.1, "high": 10, "log": True, "missing": True},
            {"name": "mode", "kind": "category", "levels": ["idle", "running"]},
        ],
    },
    "recipe": {
        **SCENARIO["recipe"],
        "backbone": "table",
        "parts": ["columns", "bins/4"],
        "parts_after_leaving": [],
        "views": ["identity"],
    },
    "certify": {**SCENARIO["certify"], "families": ["noise", "missing"]},
}


def rows(seed: int, count: int) -> list[str]:
    """A pump is faulty when it is hot, or runs with little flow; a tenth of the flows is not measured."""
    rng = np.random.default_rng(seed)
    lines = ["heat,flow,mode,label,group,split"]
    for place in range(count):
        heat, flow, running = rng.uniform(10, 90), rng.lognormal(0.5, 0.8), bool(rng.random() < 0.6)
        faulty = heat > 60 or (running and flow < 1.0)
        shown = "" if rng.random() < 0.1 else f"{flow:.3f}"
        split = "holdout" if place // 5 % 3 == 1 else "train"
        lines.append(f"{heat:.2f},{shown},{'running' if running else 'idle'},{'defect' if faulty else 'good'},day-{place // 5},{split}")
    return lines


def table_folder(root: Path, seed: int, count: int = 300) -> Path:
    root.mkdir(parents=True)
    (root / "records.csv").write_text("\n".join(rows(seed, count)) + "\n", encoding="utf-8")
    return root


def run(scenario: Path, folders: list[Path], state: Path) -> Ended:
    words = [word for folder in folders for word in ("--data", folder)]
    return isthmus("run", scenario, *words, "--state", state, "--report", state.parent / "report.html", "--json", cwd=state.parent)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path], dict[str, Any]]:
    root = tmp_path_factory.mktemp("tables")
    scenario = scenario_folder(root / "pumps", **TABLE)
    folders = [table_folder(root / name, place) for place, name in enumerate(OWNERS)]
    ended = run(scenario, folders, root / "state")
    assert ended.code == 0, ended.err
    return root, scenario, folders, ended.document


def test_a_table_is_certified_served_metered_and_nothing_but_sums_left(walked: Any) -> None:
    root, _, _, found = walked
    assert found["certificate"]["digest"].startswith("sha256:") and found["answered_error_bound"] <= 0.10
    assert found["auc"]["joint"] > 0.9 and found["images_left"] == 0
    assert found["receipts"] == found["requests"] > 0 and found["entries_sum_micros"] == 0
    logs_hold(root / "state", OWNERS)
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "of the held-out records" in page and "held-out images" not in page


def test_a_client_of_the_protocol_asks_by_json_and_by_tensor(walked: Any) -> None:
    root, _, _, _ = walked
    with exchange_up(root / "state") as (url, token):
        operator = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        operator.post("/v1/accounts/pump-user/credit", json={"id": "c1", "currency": "EUR", "amount_micros": 1_000_000, "reason": "t"})
        bearer = operator.post("/v1/keys", json={"party": "pump-user", "label": "t", "expires_in_s": 600}).json()["bearer"]
        headers = {"Authorization": f"Bearer {bearer}"}
        raw = json.dumps({"heat": 88, "flow": None, "mode": "running"})
        by_json = httpx.post(
            f"{url}/v2/models/pump-check/infer",
            content=raw,
            headers={**headers, "Inference-Header-Content-Length": "0"},
            trust_env=False,
        )
        assert by_json.status_code == 200, by_json.text
        score, verdict = (output["data"][0] for output in by_json.json()["outputs"])
        assert verdict == "defect"
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        given = triton.InferInput("records", [1, 3], "FP32")
        given.set_data_from_numpy(np.array([[88, np.nan, 1]], dtype=np.float32))
        answer = client.infer("pump-check", [given], headers=headers)
        assert answer.as_numpy("score")[0] == np.float32(score)
        refused = httpx.post(
            f"{url}/v2/models/pump-check/infer",
            content=json.dumps({"heat": 88, "mode": "off"}),
            headers={**headers, "Inference-Header-Content-Length": "0"},
            trust_env=False,
        )
        assert refused.status_code == 400 and "mode is 'off'" in refused.json()["message"]
    book_holds(root / "state")


def test_the_next_site_brings_rows_and_no_code(walked: Any) -> None:
    root, scenario, _, _ = walked
    samples = table_folder(root / "fir", 77, 200)
    ended = isthmus(
        "replicate", scenario, "--site", "fir", "--samples", samples, "--fit", "40", "--state", root / "state", "--json", cwd=root
    )
    assert ended.document["state"] in ("certified", "refused"), ended.err
    assert ended.document["fit"] == 40 and ended.document["proof"] == 160 and set(ended.document["candidates"]) >= {"fleet", "combined"}


def test_a_second_run_reuses_and_bad_rows_are_told_with_their_place(walked: Any, tmp_path: Path) -> None:
    root, scenario, folders, first = walked
    again = run(scenario, folders, root / "state")
    assert again.document["certificate"]["digest"] == first["certificate"]["digest"]
    bad = table_folder(tmp_path / "dogwood", 5)
    text = (bad / "records.csv").read_text().splitlines()
    text[7] = text[7].replace(text[7].split(",")[0], "hot", 1)
    (bad / "records.csv").write_text("\n".join(text) + "\n")
    error = run(scenario, [*folders[:2], bad], tmp_path / "state").refused()
    assert "records.csv#7: column heat is 'hot'" in error["message"], error
    pictures = scenario_folder(tmp_path / "plates")
    error = run(pictures, folders, tmp_path / "state-2").refused("bad-folder")
    assert "holds rows of tables, and the scenario takes pictures" in error["message"], error
