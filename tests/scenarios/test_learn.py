"""What a new version gained, and when reviews are too few to be summed without telling who is among them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from isthmus.contracts.errors import ConflictError, InputError
from isthmus.scenarios.learn import check_enough, gained
from tests.cli.test_certificate_command import claims
from tests.journeys.inspection import scenario_folder, spoken


def result(train: int, auc_ppm: int, answered: dict[int, tuple[int, bool]], held: int = 100) -> dict[str, Any]:
    made = msgspec.structs.replace(claims(), auc_ppm=auc_ppm)
    rows = [
        {
            "bars": {"error_ppm_max": goal},
            "claims": msgspec.to_builtins(msgspec.structs.replace(made, answered_ppm=ppm)),
            "passed": passed,
        }
        for goal, (ppm, passed) in answered.items()
    ]
    owners = {p: {"records_train": train, "records_holdout": held, "groups_holdout": 4} for p in ("alder", "birch")}
    return {"owners": owners, "claims": msgspec.to_builtins(made), "promises": rows}


def test_gain_for_each_hundred_reviews() -> None:
    before = result(100, 800_000, {100_000: (400_000, True), 50_000: (300_000, False)})
    after = result(200, 820_000, {100_000: (460_000, True)})
    found = gained(before, after)
    assert (found.training, found.added, found.auc_ppm) == ((200, 400), 200, (800_000, 820_000))
    assert found.auc_ppm_per_hundred == 10_000
    assert [p.error_ppm_max for p in found.promises] == [100_000]
    assert found.answered_ppm_per_hundred(found.promises[0]) == 30_000


def test_nothing_added_has_no_gain() -> None:
    same = result(100, 800_000, {})
    assert gained(same, same).auc_ppm_per_hundred is None


def test_other_held_out_records_are_not_compared() -> None:
    with pytest.raises(ConflictError, match="held-out records changed"):
        gained(result(100, 1, {}), result(100, 1, {}, held=101))


def test_few_reviews_are_refused() -> None:
    scenario: Any = SimpleNamespace(recipe=SimpleNamespace(records_per_feature=20))
    check_enough({"alder": 100, "birch": 40, "cedar": 40}, 20, scenario)
    with pytest.raises(InputError, match="79, too few for 20 features"):
        check_enough({"alder": 1000, "birch": 40, "cedar": 39}, 20, scenario)


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    package = scenario_folder(tmp_path / "plates")
    words = ("scenario", "learn", package, "--state", tmp_path / "state", "--json")
    spoken(*words, "--reviews", "alder").refused("bad-input")
    spoken(*words, "--reviews", "alder=x", "--reviews", "alder=y").refused("bad-input")
    spoken(*words, "--reviews", "alder=x", "--reviews", "birch=y").refused("not-found")
