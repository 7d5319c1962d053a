"""A person labels pictures by keys in a real browser; the command is killed in the middle, and starts again where it was."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from isthmus.kit.pictures import encode_png
from isthmus.sandbox.folder import read_folder
from isthmus.sandbox.labelbook import chosen_paths
from tests.journeys.inspection import arguments_of, environment, plate, spoken

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PICTURES, ANSWERS, STOP_S = 44, 30, 20
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium on this machine")


@dataclass(frozen=True)
class Serving:
    """A running `isthmus label`."""

    url: str
    child: subprocess.Popen[str]


def folder(root: Path) -> dict[str, bool]:
    """Unlabelled plates in twelve lots; returns path -> whether it is a defect."""
    rng, truth = np.random.default_rng(11), {}
    for index in range(PICTURES):
        defect, path = bool(rng.random() < 0.45), f"unlabelled/lot-{index % 12}/p{index:03d}.png"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encode_png(plate(rng, defect)))
        truth[path] = defect
    return truth


@contextmanager
def serving(root: Path) -> Iterator[Serving]:
    words = arguments_of("label", root, "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()) as child:
        try:
            assert child.stdout is not None
            yield Serving(json.loads(child.stdout.readline())["url"], child)
        finally:
            child.terminate()
            child.wait(STOP_S)


@pytest.fixture(scope="module")
def page() -> Iterator[tuple[Page, list[str]]]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 860})
        seen: list[str] = []
        opened.on(
            "request", lambda r: seen.append(r.url) if not r.url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:")) else None
        )
        opened.on("pageerror", lambda error: seen.append(str(error)))
        yield opened, seen
        browser.close()


def rows(root: Path) -> dict[str, dict[str, str]]:
    path = root / "labels.csv"
    return {row["path"]: row for row in csv.DictReader(path.open(encoding="utf-8", newline=""))} if path.exists() else {}


def asked(page: Page) -> str:
    expect(page.locator("#name")).not_to_have_text("")
    return page.locator("#name").inner_text()


def press(page: Page, key: str) -> str:
    """Presses a key that leads to another picture; returns that one's name."""
    before = asked(page)
    page.keyboard.press(key)
    expect(page.locator("#name")).not_to_have_text(before)
    return asked(page)


def test_thirty_by_keys_one_undone_killed_and_on(tmp_path: Path, page: tuple[Page, list[str]]) -> None:
    root = tmp_path / "plates"
    truth, (view, seen) = folder(root), page
    with serving(root) as first:
        view.goto(first.url)
        asked(view)
        assert first.url.rsplit("#", 1)[1] not in view.url, "the token stays in the address"
        for number in range(1, ANSWERS + 1):
            name = asked(view)
            press(view, "d" if truth[name] else "g")
            found = rows(root)
            assert len(found) == number and found[name]["label"] == ("defect" if truth[name] else "good")
        expect(view.locator("#last")).to_contain_text("ms, and on the disk in")
        expect(view.locator("#curve svg")).to_be_visible()
        expect(view.locator("#numbers b").first).to_have_text(str(ANSWERS))
        assert press(view, "z") == name and name not in rows(root)
        view.keyboard.press("u")
        expect(view.locator("#question")).to_contain_text("Not sure")
        following = press(view, "d" if truth[name] else "g")
        assert rows(root)[name]["certainty"] == "unsure"
        assert press(view, "ArrowLeft") == name
        assert press(view, "ArrowRight") == following
        later = press(view, "ArrowRight")
        os.kill(first.child.pid, signal.SIGKILL)
        first.child.wait(STOP_S)
        view.keyboard.press("g")
        expect(view.locator("#problem")).to_contain_text("has ended")
    assert len(rows(root)) == ANSWERS
    with serving(root) as second:
        view.goto(second.url)
        expect(view.locator("#numbers b").first).to_have_text(str(ANSWERS))
        assert asked(view) == later
        expect(view.locator("#recent button")).to_have_count(12)
        for _ in range(PICTURES - ANSWERS):
            name = asked(view)
            view.locator(".key.defect" if truth[name] else ".key.good").click()  # by mouse
            expect(view.locator("#name")).not_to_have_text(name)
        expect(view.locator("#question")).to_have_text("All pictures have a label")
    assert seen == []
    found = read_folder(root)
    assert {file.path: file.label > 0 for file in found.files} == truth and {file.split for file in found.files} == {"train"}
    assert 10 < len(chosen_paths(root)) < PICTURES


def test_nothing_overflows_and_every_control_has_a_name(tmp_path: Path, page: tuple[Page, list[str]]) -> None:
    root, (view, seen) = tmp_path / "plates", page
    folder(root)
    with serving(root) as served:
        view.goto(served.url)
        for width, scheme in ((390, "light"), (390, "dark"), (1280, "light")):
            view.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            view.set_viewport_size({"width": width, "height": 844})
            press(view, "g")
            expect(view.locator("#picture")).to_have_attribute("alt", f"Picture to judge: {asked(view)}")
            assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert all(view.eval_on_selector_all("button", "found => found.map(b => b.textContent.trim() || b.querySelector('img').alt)"))
            view.locator(".key.good").focus()
            assert view.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            press(view, "Enter")
            assert view.evaluate("document.activeElement.dataset.key") == "g", "focus is kept on the button that was pressed"
        spoken("label", root, "--json").refused("storage-unavailable")
    assert seen == []


def test_what_it_says_of_places_that_cannot_be_labelled(tmp_path: Path) -> None:
    spoken("label", tmp_path / "nowhere", "--state", tmp_path / "state", "--json").refused("not-found")
    (tmp_path / "empty").mkdir()
    spoken("label", tmp_path / "empty", "--json").refused("bad-folder")
