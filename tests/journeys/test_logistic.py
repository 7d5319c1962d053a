"""A logistic head through the real command lines: rounds of sums at three nodes, a probability that is certified, served, explained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.journeys.inspection import scenario_folder
from tests.journeys.state import logs_hold
from tests.journeys.test_tables import OWNERS, TABLE, run, table_folder

LOGISTIC: dict[str, Any] = {
    **TABLE,
    "recipe": {**TABLE["recipe"], "head": "logistic", "lambdas": [0.003, 0.03, 0.3]},
    "certify": {**TABLE["certify"], "families": ["missing"], "severities": [1], "promises_ppm": [150_000]},
}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("logistic")
    scenario = scenario_folder(root / "pumps", **LOGISTIC)
    ended = run(scenario, [table_folder(root / name, place, 270) for place, name in enumerate(OWNERS)], root / "state")
    assert ended.code == 0, ended.err
    return root, ended.document


def test_a_probability_is_certified_and_told(walked: tuple[Path, dict[str, Any]]) -> None:
    root, found = walked
    stated = found["calibration"]
    assert found["certificate"]["issued"] and found["receipts"] == found["requests"] > 0 and found["entries_sum_micros"] == 0
    assert 2 <= stated["rounds"] <= 8
    assert 0 <= stated["brier"][0] <= stated["brier"][1] < stated["brier_bound"] < stated["brier_base"]
    assert stated["error"][0] <= stated["error"][1] < 0.15
    logs_hold(root / "state", OWNERS)


def test_every_round_stands_in_each_owners_log(walked: tuple[Path, dict[str, Any]]) -> None:
    root, found = walked
    for name in OWNERS:
        lines = (root / "state" / "nodes" / name / "left.jsonl").read_text(encoding="utf-8").splitlines()
        sent = [entry for entry in map(json.loads, lines) if (entry["kind"], entry["statistic"]) == ("vector", "irls/1")]
        assert len(sent) == found["calibration"]["rounds"]


def test_the_report_adds_up_log_odds(walked: tuple[Path, dict[str, Any]]) -> None:
    root, _ = walked
    page = (root / "report.html").read_text(encoding="utf-8")
    raw = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.S)
    assert raw is not None
    data = json.loads(raw.group(1))
    assert data["calibration"]["rows"] and data["cells"]
    for cell in data["cells"]:
        total = cell["bias"] + cell["rest"] + sum(part["contribution"] for part in cell["attributions"])
        assert cell["probability"] == pytest.approx(1 / (1 + np.exp(-total)), abs=1e-6)
        assert cell["score"] == pytest.approx(4 * cell["probability"] - 2, abs=1e-6)
