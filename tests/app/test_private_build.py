"""A build under a privacy budget: what it asks, what that costs, and that its certificate's bounds are bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.app.builders import build_of
from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Head
from isthmus.contracts.scenario import Privacy
from isthmus.contracts.statistic import EVALUATE, MOMENTS
from isthmus.kit.treewalk import head_scores
from isthmus.sandbox.accounting import NANOS, epsilon_of, rho_for
from tests.app.world import House, house, owners, request

WIDE = {"train": 4000, "holdout": 2500}


def private(*promises_ppm: int, epsilon: float = 8.0, recipe: dict[str, Any] | None = None, **more: Any) -> Any:
    wanted = request(*promises_ppm, **more)
    weights = {"sure_weight": 1, "unsure_weight": 1, "drawn_weight": 0}
    changed = msgspec.structs.replace(wanted.scenario.recipe, privacy=Privacy(epsilon=epsilon), **weights, **(recipe or {}))
    return msgspec.structs.replace(wanted, scenario=msgspec.structs.replace(wanted.scenario, recipe=changed))


def walked(of: House, wanted: Any, run_id: str = "run_1") -> tuple[bool, dict[str, Any]]:
    of.begun(run_id, wanted)
    return build_of(of.shop, run_id, wanted).walk()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, bool, dict[str, Any]]:
    of = house(tmp_path_factory.mktemp("private"), owners(**WIDE))
    return of, *walked(of, private(200_000, 150_000, clean_only=True))


def test_it_is_certified_and_asks_only_what_can_be_noisy(built: tuple[House, bool, dict[str, Any]]) -> None:
    of, _, result = built
    assert all(r.noise is not None and any(r.noise.deviations) for r in of.jobs.asked)
    assert [r.statistic for r in of.jobs.asked] == [MOMENTS, *[EVALUATE] * (1 + len(result["promises"]))]
    assert result["privacy"]["epsilon"] == 8.0 and result["own_heads"] == {}
    assert any("costs each owner epsilon 8" in note for note in result["notes"])


def test_both_splits_keep_to_the_epsilon(built: tuple[House, bool, dict[str, Any]]) -> None:
    of, _, _ = built
    spent = {"train": 0, "holdout": 0}
    for (_, nanos), asked in zip(of.jobs.costs, of.jobs.asked, strict=True):
        spent["holdout" if asked.statistic == EVALUATE and asked.params["records"] == "holdout" else "train"] += nanos
    assert 0 < spent["holdout"] <= rho_for(8.0, 1e-5) * NANOS
    assert 0.9 * rho_for(8.0, 1e-5) * NANOS < spent["train"] <= rho_for(8.0, 1e-5) * NANOS
    assert epsilon_of(max(spent.values()) / NANOS, 1e-5) <= 8.0


def test_the_certificates_counts_are_no_better_than_the_true_ones(built: tuple[House, bool, dict[str, Any]]) -> None:
    of, _, result = built
    head, claims = msgspec.convert(result["head"], Head), result["claims"]
    lo, hi, answered, errors = result["thresholds"]["lo"], result["thresholds"]["hi"], 0, 0
    for owner in of.jobs.owners.values():
        scores, y = head_scores(head, owner.features(head.stage, "holdout")), owner.parts["holdout"].y
        answered += int(((scores <= lo) | (scores >= hi)).sum())
        errors += int((((scores >= hi) & (y < 0)) | ((scores <= lo) & (scores < hi) & (y > 0))).sum())
    assert claims["errors"] >= errors and claims["answered"] <= answered
    assert claims["records"] == 3 * WIDE["holdout"] and claims["confidence_ppm"] == 950_000
    assert claims["error_bound_ppm"] > 1e6 * errors / answered


def test_walked_again_it_asks_the_same_questions(tmp_path: Path) -> None:
    of = house(tmp_path, owners(train=600, holdout=300))
    first = walked(of, private(clean_only=True))[1]
    made = of.jobs.made
    again = build_of(of.shop, "run_1", private(clean_only=True)).walk()[1]
    assert of.jobs.made == made and again["artefact_digest"] == first["artefact_digest"]


def test_with_corruptions_it_ends_and_its_evidence_agrees(tmp_path: Path) -> None:
    of = house(tmp_path, owners(train=600, holdout=600))
    _, result = walked(of, private(300_000))
    assert len(result["evaluations"]) == 3
    assert len({row["counts"]["defects"] for row in result["evaluations"]}) == 1


@pytest.mark.parametrize("recipe", [{"head": "logistic"}, {"sure_weight": 2}, {"drawn_weight": 1}])
def test_recipes_that_noise_does_not_fit(tmp_path: Path, recipe: dict[str, Any]) -> None:
    of, wanted = house(tmp_path), private()
    changed = msgspec.structs.replace(wanted.scenario.recipe, **recipe)
    wanted = msgspec.structs.replace(wanted, scenario=msgspec.structs.replace(wanted.scenario, recipe=changed))
    with pytest.raises(InputError):
        build_of(of.shop, "run_1", wanted)


def test_little_epsilon_gives_no_certificate_but_a_reason(tmp_path: Path) -> None:
    certified, result = walked(house(tmp_path, owners(train=200, holdout=100)), private(50_000, epsilon=0.1, clean_only=True))
    assert not certified and result["failures"]
