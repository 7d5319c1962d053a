"""Site values by the real command lines: the price that a site sets is what is charged, and what was certified is not changed at a site."""

from __future__ import annotations

import json
from pathlib import Path

from tests.journeys.conftest import Walked
from tests.journeys.inspection import SCENARIO, isthmus, owner_folder, run_words, scenario_folder

PRICE_MICROS = 123
KNOBS = {
    "price_micros": ("serve.micros_per_inference", SCENARIO["serve"]["micros_per_inference"]),
    "validity_days": ("certify.validity_days", SCENARIO["certify"]["validity_days"]),
    "groups_min": ("certify.groups_min", SCENARIO["certify"]["groups_min"]),
}


def knobs(folder: Path) -> Path:
    properties = {name: {"title": name, "type": "integer", "default": value, "x-path": path} for name, (path, value) in KNOBS.items()}
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    (folder / "values.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    return folder


def test_a_price_that_a_site_sets_is_what_is_charged(walked: Walked, tmp_path: Path) -> None:
    scenario, state, values = knobs(scenario_folder(tmp_path / "plates")), tmp_path / "state", tmp_path / "site.yaml"
    values.write_text(f"price_micros: {PRICE_MICROS}\nvalidity_days: 5\n", encoding="utf-8")
    ended = isthmus(*run_words(scenario, walked.folders, state), "--values", values, cwd=tmp_path)
    assert ended.code == 0, ended.err
    found = ended.document
    assert found["charge_micros"] == PRICE_MICROS * found["receipts"] > 0

    samples = owner_folder(tmp_path / "fir", 99)
    words = ["replicate", scenario, "--site", "fir", "--samples", samples, "--fit", "40", "--state", state, "--json"]
    values.write_text("price_micros: 77\nvalidity_days: 5\ngroups_min: 2\n", encoding="utf-8")
    error = isthmus(*words, "--values", values, cwd=tmp_path).refused("job-failed")
    assert "another certify.groups_min than" in error["message"], error
    values.write_text("price_micros: 77\nvalidity_days: 4\n", encoding="utf-8")
    ended = isthmus(*words, "--values", values, cwd=tmp_path)
    assert ended.document["state"] in ("certified", "refused"), ended.err
