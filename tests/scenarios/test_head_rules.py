"""What a manifest may say of heads and promises, told with the field before anything is started."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isthmus.contracts.scenario import Scenario
from isthmus.scenarios.package import load_package, shipped_folder
from isthmus.scenarios.rules import breaches

PATCHES = ("patch-defects/max", "patch-rings/3")


def scenario(recipe: dict[str, Any], certify: dict[str, Any]) -> Scenario:
    known = load_package(shipped_folder() / "solar-cell-inspection")
    replace = msgspec.structs.replace
    return replace(known, recipe=replace(known.recipe, **recipe), certify=replace(known.certify, **certify))


GOOD = {"head": "gaussian", "parts": PATCHES, "parts_after_leaving": ("patch-deep/4", "patch-rings/3"), "lambdas": (0.01, 0.1)}
ALARMS = {"promise": "alarms", "families": ("brightness", "scratch")}


def test_a_gaussian_of_good_ones_may_be_asked_for() -> None:
    assert breaches(scenario(GOOD, ALARMS)) == []
    assert breaches(scenario({**GOOD, "parts": ("defects/max",), "parts_after_leaving": ("deep/4",)}, {})) == [], "of whole pictures, too"


@pytest.mark.parametrize(
    ("recipe", "certify", "code", "steps"),
    [
        ({**GOOD, "head": "ridge"}, {}, "bad-head", ("recipe", "head")),
        ({**GOOD, "lambdas": (0.1, 3.0)}, ALARMS, "bad-lambdas", ("recipe", "lambdas", 1)),
        ({}, {"promise": "alarms"}, "bad-promise", ("certify", "promise")),
        (GOOD, {"families": ("scratch",)}, "unknown-family", ("certify", "families")),
        ({**GOOD, "parts_after_leaving": PATCHES}, ALARMS, "shared-sources", ("recipe", "parts_after_leaving")),
        ({**GOOD, "parts": ("patch-defects/max", "deep/4")}, ALARMS, "bad-parts", ("recipe", "parts")),
        ({**GOOD, "parts": ("patch-rings/3",)}, ALARMS, "bad-parts", ("recipe", "parts")),
    ],
)
def test_what_could_not_be_built_is_told_with_its_field(recipe: Any, certify: Any, code: str, steps: tuple[Any, ...]) -> None:
    found = [(one.code, one.steps) for one in breaches(scenario(recipe, certify))]
    assert (code, steps) in found, found
