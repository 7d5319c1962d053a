"""A whole trial on drawn parts: the promise, the split, the traps, the page's data and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isthmus.cli.main import main
from isthmus.cli.try_folder import show
from isthmus.kit.clock import SetClock
from isthmus.scenarios.trial import PERSON, Trial, run_trial
from isthmus.scenarios.trial_gallery import gallery, heat_uri
from isthmus.scenarios.trial_light import STOPS, UNCHANGED, relight
from isthmus.scenarios.trial_material import TrialSettings
from isthmus.scenarios.trial_page import rendered
from isthmus.scenarios.trial_words import bound_percent, cautions, class_rows, headline, missing_line, more_images, next_step, percent
from tests.scenarios.trial_parts import CoarseExtractor, folder_of_parts, part, save


def quiet(_done: int, _total: int, _label: str) -> None: ...


def tried(folder: Path, **settings: float) -> Trial:
    return run_trial(folder, CoarseExtractor, TrialSettings(**settings), SetClock(), quiet)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return tried(folder_of_parts(tmp_path_factory.mktemp("parts"), 120, 110))


def test_scratches_are_found_and_the_promise_is_made(easy: Trial) -> None:
    assert easy.promise.proven
    assert easy.promise.chosen.bound <= 0.05
    assert easy.promise.chosen.share > 0.6
    assert headline(easy).startswith(
        f"I can answer {percent(easy.promise.chosen.share)} of these at ≤ 5 % error, proven with 95 % confidence"
    )
    assert [m.error for m in easy.missing] == [0.01]
    missing = easy.missing[0]
    assert missing.more
    assert missing_line(missing).startswith(f"{missing.more} more")
    assert (more_images(missing) or 0) >= 2 * missing.more


def test_no_image_both_teaches_and_proves_and_both_halves_hold_every_class(easy: Trial) -> None:
    tested = np.array([o.tested for o in easy.outcomes])
    digests = np.array([o.reading.digest for o in easy.outcomes])
    assert not set(digests[tested]) & set(digests[~tested])
    for truth in (0, 1):
        own = np.array([o.truth == truth for o in easy.outcomes])
        assert abs(int((own & tested).sum()) - int((own & ~tested).sum())) <= 1


def test_the_same_folder_under_other_names_gives_the_same_figures(easy: Trial, tmp_path: Path) -> None:
    for i, outcome in enumerate(easy.outcomes):
        reading = outcome.reading
        target = tmp_path / reading.file.class_name / f"{i * 7919 % 997:03}x{i}.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(reading.file.path.read_bytes())
    again = tried(tmp_path, light_budget_s=0)
    assert [(s.answered, s.errors) for s in again.promise.steps] == [(s.answered, s.errors) for s in easy.promise.steps]
    assert again.promise.chosen.threshold == pytest.approx(easy.promise.chosen.threshold)


def test_the_slider_shows_real_scores(easy: Trial) -> None:
    study = easy.light
    assert len(study.images) >= 90
    assert len(study.stops) >= 9
    for position, row in enumerate(study.images):
        assert easy.outcomes[row].tested
        assert study.states[position, UNCHANGED] == easy.outcomes[row].state
        assert study.scores[position, UNCHANGED] == pytest.approx(easy.outcomes[row].score)
    row = study.images[3]
    reading = easy.outcomes[row].reading
    small = easy.reader.thumb(reading.file)[1]
    features = CoarseExtractor().quantised([relight(STOPS[2])(small)]).astype(np.float64)
    assert study.scores[3, 2] == pytest.approx(easy.model.score(features).outputs[0, 0])


def test_light_far_from_what_was_learned_goes_to_a_person(easy: Trial) -> None:
    states = easy.light.states
    assert (states[:, 0] == PERSON).all()
    assert (states[:, -1] == PERSON).all()
    assert (states[:, UNCHANGED] == PERSON).mean() < 0.4


def test_light_study_stops_when_time_is_up_and_says_so(easy: Trial, tmp_path: Path) -> None:
    class Running(SetClock):
        def monotonic_s(self) -> float:
            self.at_s += 1.0
            return self.at_s

    folder = folder_of_parts(tmp_path, 30, 30)
    trial = run_trial(folder, CoarseExtractor, TrialSettings(light_budget_s=5), Running(), quiet)
    assert 0 < len(trial.light.images) < trial.light.wanted
    assert "There was time for {n} of {wanted}" in rendered(trial, gallery(trial, None, quiet))


def test_relighting_is_a_gain_in_linear_light() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (relight(0.0)(ramp) == ramp).all()
    assert int(relight(1.0)(np.array([[188]], np.uint8))[0, 0]) == 255  # sRGB 188 is half of full light
    assert int(relight(-1.0)(np.array([[255]], np.uint8))[0, 0]) == 188


def test_thirty_images_say_what_can_be_promised_now_and_what_is_missing(tmp_path: Path) -> None:
    trial = tried(folder_of_parts(tmp_path, 15, 15))
    assert not trial.promise.proven
    assert trial.promise.chosen.bound < 0.5
    assert "not proven yet" in headline(trial)
    assert any("59" in c.text for c in cautions(trial))
    assert trial.missing[0].error == 0.05
    assert trial.missing[0].more == 59 - trial.promise.chosen.answered
    assert next_step(trial).startswith("Add about")


def test_labels_by_chance_promise_nothing_near_five_percent(tmp_path: Path) -> None:
    for i in range(160):
        save(part(i, i % 2 == 0), tmp_path / ("a" if (i * 7919) % 13 < 6 else "b") / f"{i * 7919 % 9973}.png")
    trial = tried(tmp_path, light_budget_s=0)
    assert not trial.promise.proven
    assert trial.promise.chosen.bound > 0.2


def test_more_than_two_classes_without_a_good_one(tmp_path: Path) -> None:
    for i in range(60):
        save(part(i, False), tmp_path / "plain" / f"{i * 7919 % 9973}.png")
        save(part(500 + i, True), tmp_path / "scratched" / f"{i * 7907 % 9973}.png")
        save(part(900 + i, False).resize((96, 96)).rotate(45).point(lambda v: 255 - v), tmp_path / "inverted" / f"{i * 7901 % 9973}.png")
    trial = tried(tmp_path)
    assert trial.gathered.answers == ("inverted", "plain", "scratched")
    assert trial.promise.proven
    page = rendered(trial, gallery(trial, None, quiet))
    assert '"binary":false' in page
    assert len(class_rows(trial)) == 3


def test_good_against_all_others(tmp_path: Path) -> None:
    folder = folder_of_parts(tmp_path, 40, 30)
    for i in range(30):
        save(part(700 + i, False, light=0.5), folder / "dark" / f"{i * 7919 % 9973}.png")
    trial = tried(folder, light_budget_s=0)
    assert trial.gathered.answers == ("good", "not good")
    assert sum(o.truth for o in trial.outcomes) == 60


@pytest.mark.parametrize("trap", ["size", "format", "mode", "light"])
def test_folders_that_differ_in_how_they_were_taken_are_warned_about(trap: str, tmp_path: Path) -> None:
    for i in range(30):
        for name, scratched in (("good", False), ("bad", True)):
            image = part(i + 1000 * scratched, scratched, (128, 96) if trap == "size" and scratched else (96, 96))
            if trap == "light" and scratched:
                image = part(i + 1000, True, light=0.6)
            if trap == "mode" and scratched:
                image = image.convert("RGB")
            save(image, tmp_path / name / f"{i * 7919 % 9973}.{'jpg' if trap == 'format' and scratched else 'png'}")
    trial = tried(tmp_path, light_budget_s=0)
    assert trap in {s.aspect for s in trial.shortcuts}
    first = cautions(trial)[0]
    assert first.title.startswith("Your folders differ in")
    assert first.level == ("care" if trap == "light" else "stop")


def test_alike_folders_are_not_warned_about(easy: Trial) -> None:
    assert not [s for s in easy.shortcuts if s.of_recording]


def test_a_rare_class_makes_the_promise_say_little(tmp_path: Path) -> None:
    trial = tried(folder_of_parts(tmp_path, 150, 6), light_budget_s=0)
    assert any("most common" in c.title for c in cautions(trial))


def test_lots_stay_together_and_are_told(tmp_path: Path) -> None:
    for lot in range(32):
        for i in range(3):
            save(part(lot * 10 + i, lot % 2 == 1), tmp_path / ("bad" if lot % 2 else "good") / f"lot{lot:03}_{i}.png")
    trial = tried(tmp_path, light_budget_s=0)
    assert trial.gathered.grouped_by == "the beginnings of the file names"
    tested = {int(g) for g, o in zip(trial.gathered.groups, trial.outcomes, strict=True) if o.tested}
    learned = {int(g) for g, o in zip(trial.gathered.groups, trial.outcomes, strict=True) if not o.tested}
    assert not tested & learned
    assert trial.promise.chosen.groups >= 8
    assert trial.promise.chosen.bound > 0.05 or trial.promise.chosen.answered > 59


def test_the_limit_takes_classes_in_proportion(tmp_path: Path) -> None:
    trial = tried(folder_of_parts(tmp_path, 60, 20), light_budget_s=0, images_max=40)
    assert trial.gathered.skipped == 40
    assert sum(o.truth == 1 for o in trial.outcomes) == 10


def test_the_page_carries_names_as_text_and_loads_nothing(tmp_path: Path) -> None:
    for i in range(10):
        save(part(i, False), tmp_path / "good" / f"a</script><img src=x onerror=alert(1)>{i}.png".replace("/", "∕"))
        save(part(90 + i, True), tmp_path / "<b>bad" / f"{i}.png")
    trial = tried(tmp_path)
    page = rendered(trial, gallery(trial, None, quiet))
    assert "<img src=x" not in page
    assert "<b>bad" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "{{" not in page


def test_heat_is_drawn_and_signed() -> None:
    heat = np.zeros((224, 224))
    heat[:100], heat[100:] = 1.0, -1.0
    assert heat_uri(heat, 1.0).startswith("data:image/png;base64,")


def test_percentages_never_promise_more_than_was_proven() -> None:
    assert [percent(v) for v in (0.7136, 0.05, 0.0489, 0.001)] == ["71 %", "5 %", "4.9 %", "0.1 %"]
    assert [bound_percent(v) for v in (0.04811, 0.05, 0.181, 0.9)] == ["4.9 %", "5 %", "19 %", "90 %"]
    for value in np.linspace(0.0001, 0.9999, 500):
        assert float(bound_percent(float(value)).split()[0]) >= 100 * value - 1e-6


def test_the_command_writes_a_page_and_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of_parts(tmp_path / "parts", 20, 20)
    monkeypatch.chdir(tmp_path)
    before = sorted(p.name for p in folder.rglob("*"))
    assert main(["try", str(folder), "--json", "--error", "10%"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["error"] == 0.1
    assert told["images"]["used"] == 40
    assert len(told["light"]) >= 9
    assert Path(told["page"]) == tmp_path / "isthmus-try.html"
    assert "data:image/png" in (tmp_path / "isthmus-try.html").read_text()  # heat from the real engine
    assert sorted(p.name for p in folder.rglob("*")) == before


def test_the_table_is_short_and_names_the_next_step(easy: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    show(easy, gallery(easy, None, quiet), Path("page.html"), 3.2)
    shown = capsys.readouterr().out
    assert "I can answer" in shown
    assert "good parts would prove 1 %" in " ".join(shown.split())
    assert "Next: " in shown
    assert len(shown.splitlines()) < 25
