"""The page in a real browser, from disk: the slider moves real states, nothing is fetched, nothing overflows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from isthmus.kit.clock import SetClock
from isthmus.scenarios.trial import STATES, Trial, run_trial
from isthmus.scenarios.trial_gallery import gallery
from isthmus.scenarios.trial_light import UNCHANGED
from isthmus.scenarios.trial_material import TrialSettings
from isthmus.scenarios.trial_page import rendered, write_page
from tests.scenarios.trial_parts import CoarseExtractor, folder_of_parts

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium on this machine")


def quiet(_done: int, _total: int, _label: str) -> None: ...


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    folder = folder_of_parts(tmp_path_factory.mktemp("parts"), 60, 50)
    return run_trial(folder, CoarseExtractor, TrialSettings(error=0.1), SetClock(), quiet)


@pytest.fixture(scope="module")
def opened(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, list[str]]]:
    target = tmp_path_factory.mktemp("page") / "page.html"

    def flat(*_: object) -> object:
        return lambda pixels: pixels[:, :, 0].astype(float) - 100.0

    write_page(rendered(trial, gallery(trial, flat, quiet)), target)  # type: ignore[arg-type]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        seen: list[str] = []
        page.on("request", lambda request: seen.append(request.url) if not request.url.startswith(("data:", "file:")) else None)
        page.on("console", lambda message: seen.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.goto(target.as_uri())
        yield page, seen
        browser.close()


def states_shown(page: Page) -> list[str]:
    return page.eval_on_selector_all("#light .cell", "cells => cells.map(c => c.className.replace('cell ', ''))")


def test_each_level_shows_the_states_that_were_computed(opened: tuple[Page, list[str]], trial: Trial) -> None:
    page, _ = opened
    order = sorted(range(len(trial.light.images)), key=lambda i: trial.outcomes[trial.light.images[i]].truth)
    slider = page.locator("#light-level")
    assert states_shown(page) == [STATES[trial.light.states[i, UNCHANGED]] for i in order]
    for level in range(len(trial.light.stops)):
        slider.fill(str(level))
        expected = [STATES[trial.light.states[i, level]] for i in order]
        assert states_shown(page) == expected
        assert page.locator("#light .now").inner_text().startswith(f"{expected.count('right')} right")
    slider.fill("0")
    assert set(states_shown(page)) == {"person"}
    assert page.locator("#gain-r").get_attribute("slope") == str(2 ** trial.light.stops[0])


def test_the_slider_answers_to_the_keyboard(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    slider = page.locator("#light-level")
    slider.fill(str(UNCHANGED))
    slider.press("ArrowRight")
    assert slider.input_value() == str(UNCHANGED + 1)
    assert "light" in (slider.get_attribute("aria-valuetext") or "")


def test_heat_can_be_switched_on(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    page.locator("#heat").check()
    assert page.locator("#look.with-heat img.heat").count() > 0


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1200, "light")])
def test_nothing_overflows_nothing_is_fetched_every_picture_shows(opened: tuple[Page, list[str]], width: int, scheme: str) -> None:
    page, seen = opened
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.eval_on_selector_all("img", "images => images.every(i => i.complete && i.naturalWidth > 0)")
    assert seen == []
