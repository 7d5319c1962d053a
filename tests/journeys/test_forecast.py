"""Numbers with bands through the real command lines: three authorities' rivers, a certificate, requests, a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.journeys.inspection import SCENARIO, Ended, isthmus, scenario_folder, spoken
from tests.journeys.state import exchange_up, logs_hold
from tests.scenarios.cap_rules import breaches

OWNERS = ("alder", "birch", "cedar")
DAYS, STEPS, BLOCK = 1200, 10, 20
RIVER: dict[str, Any] = {
    "id": "river-ahead",
    "task": "series-forecast",
    "interface": {
        "input": "series",
        "output": "value",
        "steps": STEPS,
        "columns": [
            {"name": "flow", "unit": "mm/d", "low": 0, "high": 60},
            {"name": "rain", "unit": "mm", "low": 0, "high": 80, "missing": True},
        ],
        "targets": [{"name": f"flow_{lead}d", "unit": "mm/d", "low": 0, "high": 60, "change_from": "flow"} for lead in (1, 2)],
    },
    "recipe": {
        **SCENARIO["recipe"],
        "backbone": "series",
        "parts": ["last/3", "memory/2"],
        "parts_after_leaving": [],
        "views": ["identity"],
        "lambdas": [0.001, 0.01, 0.1],
        "weigh": {"column": "flow", "unit": 2.0},
    },
    "certify": {
        "promises_ppm": [300_000, 150_000],
        "confidence_ppm": 950_000,
        "groups_min": 20,
        "slice_records_min": 40,
        "families": ["noise", "missing"],
        "severities": [1, 2],
        "planning_design_effect": 1.5,
        "planning_power": 0.9,
        "validity_days": 90,
        "values": {"skill_ppm_min": 100_000, "width_ppm_max": 500_000},
    },
}


def river(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(flow, rain) of a linear store that rain fills and that drains by a part a day; yesterday's rain is today's water."""
    rng = np.random.default_rng(seed)
    rain = 0.5 + np.where(rng.random(DAYS) < 0.25, rng.exponential(12.0, DAYS), 0.0)
    store, flow = 10.0, np.empty(DAYS)
    for day in range(DAYS):
        store += rain[day - 1] if day else 0.0
        flow[day] = 0.25 * store * np.exp(rng.normal(0, 0.04))
        store *= 0.75
    return flow, rain


def river_folder(root: Path, seed: int, lead: bool = True) -> Path:
    root.mkdir(parents=True)
    flow, rain = river(seed)
    rng = np.random.default_rng(seed + 99)
    series = ["flow,rain"] + [f"{f:.4f},{'' if rng.random() < 0.05 else f'{r:.2f}'}" for f, r in zip(flow, rain, strict=True)]
    lines = ["path,flow_1d,flow_2d,group,kind,split"]
    for day in range(STEPS - 1, DAYS - 2, 2):
        block = day // BLOCK
        split = "holdout" if day > DAYS * 0.6 else "train"
        kind = "upper" if block % 2 else "lower"
        lines.append(f"river.csv#{day - STEPS + 2}-{day + 1},{flow[day + 1]:.4f},{flow[day + 2]:.4f},block-{block},{kind},{split}")
    (root / "river.csv").write_text("\n".join(series) + "\n", encoding="utf-8")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def run(scenario: Path, folders: list[Path], state: Path) -> Ended:
    words = [word for folder in folders for word in ("--data", folder)]
    return isthmus("run", scenario, *words, "--state", state, "--report", state.parent / "report.html", "--json", cwd=state.parent)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path], dict[str, Any]]:
    root = tmp_path_factory.mktemp("rivers")
    scenario = scenario_folder(root / "rivers", **RIVER)
    folders = [river_folder(root / name, place) for place, name in enumerate(OWNERS)]
    ended = run(scenario, folders, root / "state")
    assert ended.code == 0, (ended.err, ended.document)
    return root, scenario, folders, ended.document


def test_what_takes_labels_refuses_numbers_and_says_what_to_do(walked: Any) -> None:
    root, scenario, folders, _ = walked
    words = ["replicate", scenario, "--site", "fir", "--samples", folders[0], "--state", root / "state", "--json"]
    assert "takes no labels" in spoken(*words).refused("bad-input")["message"]


def test_outcomes_that_are_missing_or_beyond_their_range_are_told_with_their_place(walked: Any, tmp_path: Path) -> None:
    _, scenario, _, _ = walked
    told = {"": "flow_1d is empty", "high": "flow_1d is 'high'", "60.5": "beyond its range 0 to 60 mm/d", "nan": "flow_1d is empty"}
    for place, (text, wanted) in enumerate(told.items()):
        folder = river_folder(tmp_path / f"elm-{place}", 5)
        lines = (folder / "labels.csv").read_text().splitlines()
        fields = lines[8].split(",")
        lines[8] = ",".join([fields[0], text, *fields[2:]])
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")
        words = ["node", "init", folder, "--state", tmp_path / f"node-{place}", "--id", "elm", "--scenario", scenario, "--json"]
        error = spoken(*words).refused("bad-folder")
        assert "labels.csv line 9" in error["message"] and wanted in error["message"], error


def test_numbers_are_certified_served_metered_and_nothing_but_sums_left(walked: Any) -> None:
    root, _, _, found = walked
    assert found["certificate"]["digest"].startswith("sha256:") and found["images_left"] == 0
    assert found["receipts"] == found["requests"] > 0 and found["entries_sum_micros"] == 0
    one, two = (row for row in found["foretold"]["values"] if "slice" not in row)
    for row in (one, two):
        assert row["miss_bound"] <= found["foretold"]["promised_miss"] and row["skill_bound"] > 0.1
        assert row["rmse"] < row["naive_rmse"] and row["naive"] == "the newest value of flow"
    assert one["efficiency"] > two["efficiency"] > 0.3
    logs_hold(root / "state", OWNERS)


LEVELS = """
sender: warnings@river.example
sender_name: River authority
gauge: Mill weir
area: {description: The valley below the mill}
levels:
  - {target: flow_1d, level: 8.0, lead_days: 1}
  - {target: flow_2d, level: 8.0, lead_days: 2}
"""


def record(rain: float, flow: float = 4.0) -> str:
    """A still river, and how much rain fell today."""
    rows = [{"flow": flow, "rain": 1.0}] * (STEPS - 1) + [{"flow": flow, "rain": rain}]
    return json.dumps(rows)


@pytest.fixture(scope="module")
def served(walked: Any) -> Any:
    root = walked[0]
    with exchange_up(root / "state") as (url, token):
        operator = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        operator.post("/v1/accounts/village/credit", json={"id": "c1", "currency": "EUR", "amount_micros": 1_000_000, "reason": "t"})
        bearer = operator.post("/v1/keys", json={"party": "village", "label": "t", "expires_in_s": 600}).json()["bearer"]
        yield root, url, bearer, operator


def test_a_client_of_the_protocol_gets_values_with_bands(served: Any) -> None:
    _, url, bearer, _ = served
    headers = {"Authorization": f"Bearer {bearer}"}
    raw = httpx.post(
        f"{url}/v2/models/river-ahead/infer",
        content=record(40.0),
        headers={**headers, "Inference-Header-Content-Length": "0"},
        trust_env=False,
    )
    assert raw.status_code == 200, raw.text
    outputs = {one["name"]: one for one in raw.json()["outputs"]}
    assert set(outputs) == {"value", "low", "high"} and outputs["value"]["shape"] == [1, 2]
    assert raw.json()["parameters"]["held_ppm"] == 850_000 and raw.json()["parameters"]["receipt"]
    value, low, high = (outputs[name]["data"] for name in ("value", "low", "high"))
    assert all(a <= v <= b for v, a, b in zip(value, low, high, strict=True)) and value[0] > 8.0
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    metadata = client.get_model_metadata("river-ahead", headers=headers)
    assert [one["name"] for one in metadata["outputs"]] == ["value", "low", "high"] and metadata["outputs"][0]["shape"] == [-1, 2]
    given = triton.InferInput("records", [1, STEPS, 2], "FP32")
    given.set_data_from_numpy(np.array([[[row["flow"], row["rain"]] for row in json.loads(record(40.0))]], dtype=np.float32))
    answer = client.infer("river-ahead", [given], headers=headers)
    assert answer.as_numpy("value").shape == (1, 2) and np.allclose(answer.as_numpy("value")[0], value)
    wrong = httpx.post(
        f"{url}/v2/models/river-ahead/infer", content="[]", headers={**headers, "Inference-Header-Content-Length": "0"}, trust_env=False
    )
    assert wrong.status_code == 400 and "0 steps" in wrong.json()["message"]


def warned(served: Any, folder: Path, at: str, rain: float, *more: str, flow: float = 4.0) -> Ended:
    root, url, bearer, _ = served
    (root / "levels.yaml").write_text(LEVELS, encoding="utf-8")
    (root / "record.json").write_text(record(rain, flow), encoding="utf-8")
    words = ["warn", "river-ahead", "--record", root / "record.json", "--levels", root / "levels.yaml", "--out", folder, "--at", at]
    return spoken(*words, "--url", url, "--key", bearer, "--json", *more)


def test_warnings_are_written_updated_and_cancelled_and_name_their_proof(served: Any, walked: Any, tmp_path: Path) -> None:
    first = warned(served, tmp_path, "2026-03-01T18:00:00+01:00", 60.0)
    assert first.code == 0, first.err
    found = first.document
    assert [row["kind"] for row in found["levels"]] == ["Alert", "Alert"]
    assert found["certificate"] == walked[3]["certificate"]["digest"]
    text = Path(found["levels"][0]["file"]).read_bytes()
    assert breaches(text) == [] and found["receipt"].encode() in text and found["certificate"].encode() in text
    assert b"<status>Exercise</status>" in text
    again = warned(served, tmp_path / "again", "2026-03-01T18:00:00+01:00", 60.0).document
    assert again["receipt"] == found["receipt"]  # the same question is one charge
    # a day later: the water that comes tomorrow was warned of as two days ahead, and is still coming; what was two days ahead now is not
    second = warned(served, tmp_path, "2026-03-02T18:00:00+01:00", 60.0, "--status", "Actual").document
    assert [row["kind"] for row in second["levels"]] == ["Update", "Alert"]
    assert second["levels"][0]["replaces"] == [Path(found["levels"][1]["file"]).stem]
    third = warned(served, tmp_path, "2026-03-03T18:00:00+01:00", 0.0, flow=2.0).document
    assert [row["kind"] for row in third["levels"]] == ["Cancel", None]
    assert all(breaches(path.read_bytes()) == [] for path in tmp_path.glob("*.xml"))
    calm = warned(served, tmp_path, "2026-03-04T18:00:00+01:00", 0.0, flow=2.0).document
    assert [row["kind"] for row in calm["levels"]] == [None, None] and len(list(tmp_path.glob("*.xml"))) == 5


def test_no_warning_without_a_certificate_and_no_half_told_levels(served: Any, walked: Any, tmp_path: Path) -> None:
    *_, operator = served
    error = warned(served, tmp_path, "2026-03-01T18:00:00", 60.0).refused()
    assert "has no zone" in error["message"]
    error = warned(served, tmp_path, "2026-03-01T18:00:00+01:00", 60.0, "--public-key", "ab" * 32).refused()
    assert "no key that is trusted here" in error["message"]
    (tmp_path / "stray.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")
    assert "no CAP 1.2 alert" in warned(served, tmp_path, "2026-03-01T18:00:00+01:00", 60.0).refused()["message"]
    (tmp_path / "stray.xml").unlink()
    operator.post(f"/v1/certificates/{walked[3]['certificate']['digest']}/revocation", json={"why": "a gauge was moved"})
    assert warned(served, tmp_path, "2026-03-01T18:00:00+01:00", 61.0).refused()["code"] == "certificate-revoked"
    assert not list(tmp_path.glob("*.xml"))
    assert all(value == 0 for value in operator.get("/v1/book/check").json()["sums"].values())
