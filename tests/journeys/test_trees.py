"""Boosted trees through the real command lines: three owners' nodes, rounds of histograms, a certificate, requests, reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from isthmus.contracts.treesums import HISTOGRAMS
from isthmus.sandbox.nodehome import open_home
from isthmus.sandbox.outlog import verify_log
from tests.journeys.inspection import scenario_folder
from tests.journeys.state import logs_hold
from tests.journeys.test_tables import OWNERS, TABLE, run, table_folder

TREES: dict[str, Any] = {"start": "ridge", "trees": 3, "depth": 2, "rate": 0.4, "features": 3, "cuts": 2}
RECIPE = {**TABLE["recipe"], "parts": ["columns"], "head": "trees", "trees": TREES}
CERTIFY = {**TABLE["certify"], "families": ["noise"], "severities": [1], "promises_ppm": [200_000]}


def test_trees_are_certified_served_explained_and_only_declared_sums_left(tmp_path: Path) -> None:
    scenario = scenario_folder(tmp_path / "pumps", **{**TABLE, "recipe": RECIPE, "certify": CERTIFY})
    folders = [table_folder(tmp_path / name, place, 240) for place, name in enumerate(OWNERS)]
    state = tmp_path / "state"
    ended = run(scenario, folders, state)
    assert ended.code == 0, ended.err
    found = ended.document
    assert found["certificate"]["digest"].startswith("sha256:") and found["answered_error_bound"] <= 0.20
    assert found["auc"]["joint"] > 0.85 and found["images_left"] == 0 and found["entries_sum_micros"] == 0
    assert found["requests"] == found["receipts"] > 0
    assert "would-reveal" in found["leave"]["refusal"]["message"], "an owner that leaves takes its trees with it by refusal, as tables do"
    logs_hold(state, OWNERS)

    told = verify_log(state / "nodes" / OWNERS[0] / "left.jsonl", open_home(state / "nodes" / OWNERS[0]).key.public_hex)
    rounds = [entry for entry in told if entry.statistic == HISTOGRAMS and entry.kind == "vector"]
    assert 3 <= len(rounds) <= 6 and all(entry.shape[0] % 3 == 0 and entry.dtype == "uint64" for entry in rounds)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = json.loads(page.split('id="report-data">')[1].split("</script>")[0])
    assert shown["cells"] and "forest" in shown["head"]["text"]
    for cell in shown["cells"]:
        parts = cell["bias"] + cell["rest"] + sum(item["contribution"] for item in cell["attributions"])
        assert abs(parts - cell["score"]) < 1e-6, "the reasons add up to the score"
