"""Packages of numbers: the shipped ones are whole, and a fault in one is told with its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from isthmus.contracts.scenario import Scenario
from isthmus.kit.canonical import digest_of
from isthmus.scenarios.contents import PROBES_FILE
from isthmus.scenarios.package import load_package
from isthmus.scenarios.rules import breaches
from isthmus.scenarios.structure import stated
from isthmus.scenarios.validation import validate
from tests.journeys.inspection import SCENARIO
from tests.journeys.test_forecast import RIVER

SHIPPED = Path(__file__).parents[2] / "scenarios"


def faults(tmp_path: Path, **changes: Any) -> set[tuple[str, str]]:
    """(code, what) of every error of the manifest with these changes to its sections."""
    made = {**SCENARIO, **RIVER}
    for section, fields in changes.items():
        made[section] = {**made[section], **fields} if isinstance(fields, dict) else fields
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
    return {(one.code, one.what) for one in validate(tmp_path) if one.level == "error" and one.file == "scenario.yaml"}


@pytest.mark.parametrize("name", ["discharge-forecast", "remaining-life"])
def test_a_shipped_package_is_whole(name: str) -> None:
    assert [one for one in validate(SHIPPED / name) if one.level == "error"] == []
    scenario = load_package(SHIPPED / name)
    assert scenario.interface.foretold and scenario.interface.output == "value" and not breaches(scenario)


TARGETS = RIVER["interface"]["targets"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"task": "series-inspection"}, "wrong-task", "the output is value"),
        ({"interface": {"targets": []}}, "bad-targets", "cannot foretell 0 numbers"),
        ({"interface": {"targets": [TARGETS[0], dict(TARGETS[0])]}}, "bad-targets", "one twice"),
        ({"interface": {"targets": [{**TARGETS[0], "name": "rain"}]}}, "bad-targets", "would see the answer"),
        ({"interface": {"targets": [{**TARGETS[0], "change_from": "rain"}]}}, "bad-targets", "may be missing"),
        ({"interface": {"targets": [{**TARGETS[0], "high": 70}]}}, "bad-targets", "unlike scales"),
        ({"interface": {"targets": [{**TARGETS[0], "lead": 1}]}}, "unknown-field", "interface.targets[0].lead"),
        ({"recipe": {"head": "logistic"}}, "bad-head", "a head logistic foretells no numbers"),
        ({"recipe": {"weigh": {"column": "wind", "unit": 1.0}}}, "bad-weigh", "wind"),
        ({"recipe": {"weigh": {"column": "flow", "unit": 0}}}, "bad-weigh", "units of 0"),
        ({"certify": {"values": {"skill_ppm_min": -1}}}, "out-of-range", "skill_ppm_min is -1"),
        ({"certify": {"values": {"width_ppm_max": 0}}}, "out-of-range", "width_ppm_max is 0"),
        ({"certify": {"values": {"wide": 1}}}, "unknown-field", "certify.values.wide"),
        ({"interface": {"output": "verdict"}, "task": "series-inspection"}, "bad-targets", "the output is a verdict"),
    ],
)
def test_a_fault_is_told_with_its_field(tmp_path: Path, changes: dict[str, Any], code: str, said: str) -> None:
    found = faults(tmp_path, **changes)
    assert any(one == code and said in what for one, what in found), found


def test_bars_of_numbers_and_no_probes(tmp_path: Path) -> None:
    certify = {key: value for key, value in RIVER["certify"].items() if key != "values"}
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump({**SCENARIO, **RIVER, "certify": certify}), encoding="utf-8")
    assert any(one.code == "bad-value-bars" for one in validate(tmp_path))
    probes = tmp_path / PROBES_FILE
    probes.parent.mkdir(exist_ok=True)
    probes.write_text("cases: []\n", encoding="utf-8")
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump({**SCENARIO, **RIVER}), encoding="utf-8")
    assert any(one.code == "probes-of-numbers" for one in validate(tmp_path))


def test_documents_of_verdicts_keep_their_bytes() -> None:
    """Fields of numbers are left out where they are not set."""
    scenario = msgspec.convert(SCENARIO, Scenario)
    plain = msgspec.to_builtins(scenario)
    assert "targets" not in plain["interface"] and "weigh" not in plain["recipe"] and "values" not in plain["certify"]
    assert digest_of(scenario) == digest_of(plain)
    assert stated(int | msgspec.UnsetType) is int and stated(int | str) == int | str
