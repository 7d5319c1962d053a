"""The report in a real browser, from a file: what a person can touch is really computed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from isthmus.console.report import render
from isthmus.contracts.receipt import Receipt
from isthmus.contracts.report import Attribution, CalibrationPart, CalibrationRow, CellPart, RunReport
from isthmus.kit.canonical import canonical_bytes
from isthmus.ledger.merkle import inclusion_path, leaf_hash, root_of
from isthmus.ledger.verify import verify_receipt
from tests.console.sample_report import KEY, full_report, logged, receipt

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--disable-component-update"]
EMPTY = RunReport(scenario="nothing", run_id="run-0", at="2026-01-01T00:00:00Z")
HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'> {n} 电池片"

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs the system's Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield found
        found.close()


class Watched:
    """A page, and all that it complained about or asked for."""

    def __init__(self, browser: Browser, path: Path, report: RunReport, width: int = 1200) -> None:
        path.write_text(render(report), encoding="utf-8")
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def text(self, selector: str = "body") -> str:
        return self.page.inner_text(selector)


@pytest.fixture(scope="module")
def full(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(browser, tmp_path_factory.mktemp("report") / "full.html", full_report())
    yield watched
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith(("file:", "data:"))] == []
    watched.page.close()


def test_the_full_report_shows_its_figures(full: Watched) -> None:
    text = full.text()
    for shown in ("71.4", "TEST DATA", "Alder Modules", "0.919", "certified T2", "line-4 gave 40 labels", "60,120 = 60,120", "adds up"):
        assert shown in text or shown in full.page.content()
    assert "the digest is the same" in full.text("#certificate")
    assert full.page.locator("section").count() == 12
    assert full.page.locator("svg.chart").count() >= 10
    assert full.page.locator("#left .bar, #left svg rect").count() >= 9


def test_no_text_is_missing_and_no_placeholder_is_left(full: Watched) -> None:
    left = full.page.evaluate("document.body.innerText.match(/\\{\\w+\\}|\\[[a-z]+\\.[a-z.]+\\]/g)")
    assert left is None


def test_everything_none_says_not_measured(browser: Browser, tmp_path: Path) -> None:
    watched = Watched(browser, tmp_path / "none.html", EMPTY)
    assert watched.complaints == []
    assert watched.page.locator(".not").count() >= 12
    assert watched.page.evaluate("document.querySelector('main').innerText.match(/\\d+\\.\\d+|undefined|NaN|null/g)") is None
    watched.page.close()


def test_parts_that_are_there_but_empty_say_so_too(browser: Browser, tmp_path: Path) -> None:
    full = msgspec.to_builtins(full_report())
    for name in ("model", "headline", "serving", "money", "site"):
        full[name] = {key: value for key, value in full[name].items() if key in ("currency", "site")}
    for owner in full["owners"]:
        for key in set(owner) - {"party"}:
            del owner[key]
    for cell in full["cells"]:
        for key in set(cell) - {"id", "owner", "licence_note"}:
            del cell[key]
    watched = Watched(browser, tmp_path / "hollow.html", msgspec.convert(full, RunReport))
    assert watched.complaints == []
    assert "undefined" not in watched.text()
    assert "NaN" not in watched.text()
    assert watched.page.locator("section").count() == 12
    watched.page.close()


def test_sha256_in_the_page_is_sha256(full: Watched) -> None:
    samples = [bytes((i * 7 + n) % 256 for i in range(n)) for n in (*range(0, 131), 1000, 4097)]
    found = full.page.evaluate("(all) => all.map((bytes) => isthmusPage.sha256(bytes))", [list(raw) for raw in samples])
    assert found == [hashlib.sha256(raw).hexdigest() for raw in samples]


def test_canonical_json_in_the_page_is_rfc_8785(full: Watched) -> None:
    documents = [
        {"b": [1, 2.5, None, True], "a": 'é"\\\n\x7f\u20ac', "\U0001f600": 1, "\ufb33": 2},
        {"x": 1e21, "y": 1e-7, "z": -0.0},
        [],
        {},
        "电池",
    ]
    found = full.page.evaluate("(all) => all.map((one) => isthmusPage.canonical(one))", documents)
    assert found == [canonical_bytes(one).decode() for one in documents]


def test_inclusion_paths_lead_to_the_root_and_only_from_their_place(full: Watched) -> None:
    cases, roots = [], []
    for size in range(1, 14):
        hashes = [leaf_hash(bytes([i])) for i in range(size)]
        for place in range(size):
            path = inclusion_path(place, size, lambda lo, hi, held=hashes: root_of(held[lo:hi]))
            cases.append([hashes[place].hex(), place, size, [step.hex() for step in path]])
            roots.append(root_of(hashes).hex())
    check = "(all) => all.map(([leaf, place, size, path]) => isthmusPage.rootFrom(leaf, place, size, path))"
    assert full.page.evaluate(check, cases) == roots
    moved = [[leaf, (place + 1) % size, size, path] for leaf, place, size, path in cases if size > 1]
    wrong = full.page.evaluate(check, moved)
    assert all(a != b for a, b in zip(wrong, [root for case, root in zip(cases, roots, strict=True) if case[2] > 1], strict=True))


def test_receipts_of_the_ledger_verify_in_the_page(full: Watched) -> None:
    documents = [msgspec.to_builtins(receipt(place, size, "é€")) for place, size in ((0, 1), (0, 2), (6, 7), (3, 8), (8, 9))]
    for found in full.page.evaluate("(all) => all.map((one) => isthmusPage.verifyReceipt(one))", documents):
        assert found["included"]
        assert found["changed"] == []
        assert all(check["ok"] for check in found["arithmetic"])
        assert {check["name"] for check in found["arithmetic"]} == {"priced", "charge", "hold", "split", "shares", "own", "time"}


def test_every_single_value_that_is_altered_is_named(full: Watched) -> None:
    """Each value of each section in turn, the salts too."""
    original = msgspec.to_builtins(receipt())
    script = """(original) => {
      const missed = []; let tried = 0;
      const walk = (at, path) => { for (const key of Object.keys(at)) {
        const old = at[key];
        if (old !== null && typeof old === 'object') { walk(old, path.concat(key)); continue; }
        at[key] = typeof old === 'number' ? old + 1 : old + 'x';
        const found = isthmusPage.verifyReceipt(original); tried += 1;
        if (found.changed.join() !== path[0]) missed.push(path.concat(key).join('.'));
        at[key] = old; } };
      walk(original.sections, []);
      return [tried, missed, isthmusPage.verifyReceipt(original).changed];
    }"""
    tried, missed, after = full.page.evaluate(script, original)
    assert tried > 90
    assert missed == []
    assert after == []


def altered() -> list[dict[str, Any]]:
    """A receipt with each whole number of it altered in turn: left as forged, and once more with all hashes made anew."""
    made: list[dict[str, Any]] = []
    original = msgspec.to_builtins(receipt())
    original.pop("proof")

    def visit(at: Any, path: tuple[Any, ...]) -> None:
        for key, value in at.items() if isinstance(at, dict) else enumerate(at):
            if isinstance(value, dict | list | tuple):
                visit(value, (*path, key))
            elif isinstance(value, int):
                forged = json.loads(json.dumps(original))
                target = forged
                for step in path:
                    target = target[step]
                target[key] = value + 1
                made.append(forged)

    visit(json.loads(json.dumps(original)), ())
    proof = msgspec.to_builtins(receipt())["proof"]
    return [{**one, "proof": proof} for one in made] + [logged(msgspec.convert(one, Receipt)) for one in made if one["leaf_index"] == 5]


def test_the_page_and_the_ledger_agree_on_every_altered_number(full: Watched) -> None:
    documents = [msgspec.to_builtins(receipt()), *altered()]
    expected = [verify_receipt(json.loads(json.dumps(one)), [KEY.public_hex]).holds for one in documents]
    found = full.page.evaluate("(all) => all.map((one) => isthmusPage.verifyReceipt(one).valid)", documents)
    assert found == expected
    assert expected[0] and expected.count(True) > 1 and expected.count(False) > 90


def test_a_byte_of_the_model_is_edited_and_refused(full: Watched) -> None:
    page, demo = full.page, full_report().head
    assert demo is not None
    assert "Same digest" in full.text("#head-result")
    page.click("#head-flip")
    assert full.text("#head-result").startswith("refused: artefact-edited — the model's head has digest ")
    at = int(page.locator("#head-bytes .edited").get_attribute("data-at") or "-1")
    edited = bytearray(demo.text.encode())
    edited[at] ^= 1
    assert full.text("#head-found") == "sha256:" + hashlib.sha256(edited).hexdigest()
    assert "coefficient" in full.text("#head-meaning")
    page.click("#head-restore")
    assert full.text("#head-found") == demo.digest
    page.focus("#head-bytes [data-at='0']")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.type("ff")
    assert page.inner_text("#head-bytes [data-at='17']") == "ff"
    assert "refused" in full.text("#head-result")
    assert "cannot be read" in full.text("#head-meaning") or "outside" in full.text("#head-meaning")
    page.click("#head-restore")
    assert "Same digest" in full.text("#head-result")


def test_a_digit_of_the_receipt_is_altered_and_named(full: Watched) -> None:
    page = full.page
    assert full.text("#receipt-result").startswith("Valid")
    page.fill('[data-path="sections.usage.body.usage.inferences"]', "5")
    assert full.text("#receipt-result").startswith("refused: section usage was changed")
    assert "price × usage is 7515 micro-units, the receipt says 6012" in full.text("#receipt-checks")
    assert page.locator("details.section.changed").get_attribute("data-section") == "usage"
    page.click("#receipt-forge")
    assert "not in the log" in full.text("#receipt-result")
    page.click("#receipt-restore")
    assert full.text("#receipt-result").startswith("Valid")
    page.fill('[data-path="sections.split.body.lines.2.amount_micros"]', "1297")
    assert "section split was changed" in full.text("#receipt-result")
    assert "the split sums to 6013, the charge is 6012" in full.text("#receipt-checks")
    page.click("#receipt-restore")


def test_an_owner_leaves_and_the_numbers_change(full: Watched) -> None:
    page = full.page
    before = full.text("#leave-result")
    assert "0.9012" not in before
    page.click("[data-owner=cedar]")
    after = full.text("#leave-result")
    for shown in ("Cedar PV left", "exact-withdrawal", "0.9012", "65.2", "−0.360", "1,516", "0.016275"):
        assert shown in after
    page.click("[data-owner=alder]")
    assert "only single owners" in full.text("#leave-result")
    page.click("[data-owner=cedar]")
    assert "Not computed in this run: Alder Modules leaving" in full.text("#leave-result")
    page.click("[data-owner=alder]")
    page.focus("[data-owner=birch]")
    page.keyboard.press("Space")
    refused = full.text("#leave-result")
    assert "refused: refused-by-node" in refused
    assert "would-reveal" in refused
    assert "0.9012" not in refused
    page.click("[data-owner=birch]")
    assert full.text("#leave-result") == before


def test_the_heat_overlay_can_be_switched(full: Watched) -> None:
    page = full.page
    page.click("#heat-toggle")
    assert page.get_attribute("#heat-toggle", "aria-pressed") == "true"
    expect(page.locator(".heat").first).to_have_css("opacity", "0.78")
    page.click("#heat-toggle")
    assert page.locator(".cell .licence").count() == page.locator(".cell .picture img:not(.heat)").count() == 8


def test_hostile_strings_are_shown_as_they_are(browser: Browser, tmp_path: Path) -> None:
    full = full_report()
    model = msgspec.structs.replace(full.model, backbone=HOSTILE, visibility=HOSTILE)  # type: ignore[type-var]
    parties = tuple(msgspec.structs.replace(p, name=HOSTILE, licence_note=HOSTILE) for p in full.parties)
    cells = tuple(msgspec.structs.replace(c, id=HOSTILE, licence_note=HOSTILE, kind=HOSTILE) for c in full.cells)
    hostile = msgspec.structs.replace(
        full,
        title=HOSTILE,
        scenario=HOSTILE,
        run_id=HOSTILE,
        parties=parties,
        cells=cells,
        model=model,
        notes=(HOSTILE,),
        receipt=receipt(unusual=HOSTILE),
    )
    watched = Watched(browser, tmp_path / "hostile.html", hostile)
    assert watched.complaints == []
    assert watched.page.evaluate("window.pwned === undefined")
    assert watched.page.inner_text("#top-title") == HOSTILE
    assert watched.page.locator("img[src=x]").count() == 0
    assert watched.text("#receipt-result").startswith("Valid")
    watched.page.close()


def test_a_refused_certificate_and_a_missed_bar_are_told_plainly(browser: Browser, tmp_path: Path) -> None:
    full = full_report()
    assert full.headline is not None
    assert full.site is not None
    headline = msgspec.structs.replace(full.headline, error_bound=0.091)
    watched = Watched(
        browser, tmp_path / "refused.html", msgspec.structs.replace(full, headline=headline, certificate=full.site.certificate)
    )
    assert "only an error of at most 9.1" in watched.text("#headline").replace("\u202f", " ")
    assert "Certificate refused" in watched.text("#headline")
    assert "too few" in watched.text("#certificate")
    assert "so it is not served" in watched.text("#head-result")
    watched.page.close()


@pytest.mark.parametrize("width", [390, 820])
def test_narrow_screens_do_not_scroll_sideways(browser: Browser, tmp_path: Path, width: int) -> None:
    watched = Watched(browser, tmp_path / "narrow.html", full_report(), width)
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    assert watched.complaints == []
    watched.page.close()


def test_probabilities_add_up_in_log_odds_and_are_held_against_what_was_found(browser: Browser, tmp_path: Path) -> None:
    cell = CellPart(id="c", owner="alder", licence_note="", score=4 / (1 + math.exp(-0.5)) - 2, probability=1 / (1 + math.exp(-0.5)))
    cell = msgspec.structs.replace(cell, bias=-0.2, attributions=(Attribution(feature="heat", index=0, contribution=0.6),), rest=0.1)
    wrong = msgspec.structs.replace(cell, id="d", rest=0.3)
    row = CalibrationRow(low=0, high=0.125, stated_low=0.05, stated_high=0.08, records=40, defects=2, share_low=0.0, share_high=0.2)
    over = msgspec.structs.replace(row, low=0.875, high=1.0, stated_low=0.93, stated_high=0.96, defects=20, share_low=0.3, share_high=0.7)
    brier = {"brier_low": 0.1, "brier_high": 0.12, "brier_bound": 0.2, "brier_base": 0.25, "error_low": 0.02, "error_high": 0.05}
    watched = Watched(
        browser,
        tmp_path / "odds.html",
        msgspec.structs.replace(EMPTY, cells=(cell, wrong), calibration=CalibrationPart(rows=(row, over), **brier)),
    )
    said = watched.text()
    assert "Stated probabilities" in said and "0.100 – 0.120" in said and "62 %" in said.replace("\u202f", " ").replace("\xa0", " ")
    for summary in watched.page.locator("details summary").all():
        summary.click()
    good, bad = (watched.page.locator(f".cell .check.{kind}").inner_text() for kind in ("ok", "bad"))
    assert "log odds add up to" in good and "not" in bad
    assert [badge.inner_text() for badge in watched.page.locator("#proof table .badge").all()] == ["holds", "fails"]
    assert watched.complaints == []
    watched.page.close()
