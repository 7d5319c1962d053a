"""`isthmus try` on good images alone: a promise on false alarms, what looks unlike them, and where."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isthmus.cli.main import main
from isthmus.contracts.errors import FolderError
from isthmus.foundry.patches import PatchStages
from isthmus.kit.clock import SystemClock
from isthmus.scenarios.folder import survey_good
from isthmus.scenarios.trial_good import BACKBONE, PARTS, GoodTrial, run_good_trial
from isthmus.scenarios.trial_good_page import good_page, good_summary
from isthmus.scenarios.trial_material import TrialSettings
from tests.scenarios.trial_parts import part, save


@cache
def extractor() -> PatchStages:
    return PatchStages(BACKBONE, PARTS)


def good_folder(root: Path, good: int = 70) -> Path:
    for i in range(good):
        save(part(i, False), root / "good" / f"{i * 7919 % 1000:03d}.png")
    for i in range(3):
        save(part(900 + i, False), root / "unlabelled" / f"plain{i}.png")
        save(part(950 + i, True), root / f"beside{i}.png")
    return root


def tried(root: Path, error: float = 0.1) -> GoodTrial:
    found = survey_good(root)
    assert found is not None
    return run_good_trial(found, extractor, TrialSettings(error=error), SystemClock(), lambda done, total, label: None)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> GoodTrial:
    return tried(good_folder(tmp_path_factory.mktemp("good")))


def test_false_alarms_are_promised_and_nothing_of_misses(trial: GoodTrial) -> None:
    assert trial.good == 35 and trial.proven == (trial.bound <= 0.1)
    found = good_summary(trial, Path("page.html"), 1.0)
    assert found["only_good"] and found["recall"] is None and found["images"]["unlabelled"] == 6
    assert any("0 are kept for proof, 59 more are missing" in line for line in found["prospects"])
    assert "is not known" in json.dumps(found["cautions"])


def test_what_is_unlike_the_good_ones_comes_first_with_the_place(trial: GoodTrial) -> None:
    assert {one.name for one in trial.shelves["unlabelled"][:3]} == {f"beside{i}.png" for i in range(3)}
    assert all(one.heat.startswith("data:image/png") for shelf in trial.shelves.values() for one in shelf)
    assert trial.drawn == 35 and len(trial.shelves["scratched"]) == 18


def test_the_page_has_no_script_and_escapes_names(trial: GoodTrial) -> None:
    page = good_page(trial)
    assert "<script" not in page and "{{" not in page and page.count('class="item"') >= 24


def test_each_image_is_scored_by_a_model_that_did_not_see_it(trial: GoodTrial) -> None:
    """A copy of a learned image under another name, without a label, is nearer by the whole model than the left-out score says."""
    learned = trial.of_kind("learned")
    plain = [float(trial.model.scores(one.reading.quantised[None])[0]) for one in learned]
    assert np.mean([one.score for one in learned]) > np.mean(plain)


def test_folders_that_are_no_such_question_are_left_to_the_other_trial(tmp_path: Path) -> None:
    assert survey_good(tmp_path / "none") is None
    save(part(1, False), tmp_path / "good" / "a.png")
    (tmp_path / "defect").mkdir()
    assert survey_good(tmp_path) is None, "an empty second class is told by the other trial"
    save(part(1, False), tmp_path / "parts" / "parts" / "a.png")
    assert survey_good(tmp_path / "parts") is None, "nothing says that they are good"


def test_too_few_good_ones_are_told_with_the_arithmetic(tmp_path: Path) -> None:
    for i in range(11):
        save(part(i, False), tmp_path / "ok" / f"{i}.png")
    for i in range(3):
        shutil.copy(tmp_path / "ok" / "0.png", tmp_path / "ok" / f"copy{i}.png")
    with pytest.raises(FolderError, match=r"3 copies set aside.*12 are the least") as told:
        tried(tmp_path, 0.05)
    assert "takes 59" in told.value.next_step


def test_the_command_writes_page_and_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(14):
        save(part(i, False), tmp_path / "photos" / "good" / f"{i * 37 % 100:02d}.png")
    (tmp_path / "photos" / "unlabelled").mkdir()
    (tmp_path / "photos" / "unlabelled" / "broken.png").write_bytes(b"no picture")
    Image.new("L", (40, 40)).save(tmp_path / "photos" / "unlabelled" / "<b>.png")
    monkeypatch.chdir(tmp_path)
    assert main(["try", "photos", "--json", "--out", "page.html"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert not found["proven"] and found["alarm_bound"] > 0.05 and found["images"]["unreadable"] == 1
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;.png" in page and "<b>.png" not in page
    assert main(["try", "photos"]) == 0 and "Nothing is promised about defects" in capsys.readouterr().out
