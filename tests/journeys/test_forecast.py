"""Numbers with bands through the real command lines: three authorities' rivers, a certificate, requests, a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.journeys.inspection import SCENARIO, Ended, isthmus, scenario_folder
from tests.journeys.state import logs_hold

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
