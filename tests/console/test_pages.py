"""The console of a running exchange: what it shows, to whom, and what it does when the state cannot be read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Route as BrowserRoute
from playwright.sync_api import expect, sync_playwright
from starlette.applications import Starlette
from starlette.testclient import TestClient

from isthmus.console.pages import (
    DeploymentRow,
    HoldRow,
    LifeRow,
    Overview,
    ReceiptRow,
    RefusalRow,
    ScenarioRow,
    StepRow,
    console_routes,
)
from isthmus.contracts.errors import StorageError

NOW_MS = 1_767_600_000_000
HOSTILE = "<img src=x onerror='window.pwned=1'>"


class Fixed:
    """A read model that answers with one overview, or fails."""

    def __init__(self, error: StorageError | None = None) -> None:
        self.error = error
        self.asked: list[int] = []

    def overview(self, rows_max: int) -> Overview:
        self.asked.append(rows_max)
        if self.error:
            raise self.error
        return Overview(
            at_ms=NOW_MS,
            scenarios=(ScenarioRow(name="test-inspection", state="certified", progress=0.5, updated_at_ms=NOW_MS),),
            deployments=(
                DeploymentRow(
                    name="inspect",
                    site="fleet",
                    tier="T2",
                    serving=True,
                    artefact_digest="sha256:" + "a" * 64,
                    expires_at_ms=NOW_MS + 10 * 86_400_000,
                ),
                DeploymentRow(
                    name="late",
                    site=HOSTILE,
                    tier="T2",
                    serving=False,
                    artefact_digest="sha256:" + "b" * 64,
                    expires_at_ms=NOW_MS - 1,
                    problem="certificate-expired",
                ),
            ),
            lives=(
                LifeRow(
                    name="inspect",
                    site="fleet",
                    state="retired",
                    current=None,
                    scenario="",
                    problem="",
                    shadow="version 2 as shadow of 1: 20 of 20 requests compared, 3 verdicts differ (done)",
                    earlier=4,
                    steps=(
                        StepRow(at_ms=NOW_MS, action="deploy", before=None, after=1, brought=1, who="exchange", why="it was certified"),
                        StepRow(at_ms=NOW_MS, action="propose", before=None, after=None, brought=2, who="exchange", why="another"),
                        StepRow(at_ms=NOW_MS, action="upgrade", before=1, after=2, brought=None, who=HOSTILE, why=HOSTILE),
                        StepRow(at_ms=NOW_MS, action="rollback", before=2, after=1, brought=None, who="op", why="dents"),
                        StepRow(at_ms=NOW_MS, action="retire", before=1, after=None, brought=None, who="op", why="sold"),
                    ),
                ),
            ),
            holds=(HoldRow(id="h-1", party="sample-user", amount_micros=12_024, currency="EUR", expires_at_ms=NOW_MS + 1000),),
            receipts=(ReceiptRow(id="r-1", at_ms=NOW_MS, outcome="reported", charge_micros=6012, currency="EUR"),),
            refusals=(RefusalRow(at_ms=NOW_MS, code="artefact-edited", message=HOSTILE),),
            receipts_total=41,
            entries_sum_micros=0,
        )


def client(model: Fixed, address: str = "127.0.0.1", base: str = "http://127.0.0.1:8080") -> TestClient:
    return TestClient(Starlette(routes=[*console_routes(model)]), base_url=base, client=(address, 5000))


def test_the_overview_is_json_and_bounded() -> None:
    model = Fixed()
    answer = client(model).get("/console/overview.json")
    assert answer.status_code == 200
    assert msgspec.json.decode(answer.content, type=Overview) == Fixed().overview(1)
    assert model.asked == [50]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/console", "/console/console.css", "/console/console.js"])
def test_pages_come_with_a_strict_policy(path: str) -> None:
    answer = client(Fixed()).get(path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("address", "base"),
    [("10.0.0.8", "http://127.0.0.1:8080"), ("127.0.0.1", "http://evil.example:8080"), ("127.0.0.1", "http://127.0.0.1.evil.example")],
)
@pytest.mark.parametrize("path", ["/console", "/console/overview.json", "/console/console.js"])
def test_other_machines_and_other_names_are_refused(address: str, base: str, path: str) -> None:
    model = Fixed()
    answer = client(model, address, base).get(path)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "console-only-here"
    assert model.asked == []


@pytest.mark.parametrize("base", ["http://localhost", "http://[::1]:8080", "http://127.0.0.1"])
def test_this_machine_is_let_in(base: str) -> None:
    assert client(Fixed(), "::1", base).get("/console/overview.json").status_code == 200


def test_a_database_that_is_down_is_503_with_its_reason() -> None:
    answer = client(Fixed(StorageError("the state cannot be read", "check the disk"))).get("/console/overview.json")
    assert answer.status_code == 503
    assert answer.json()["error"] == {"code": "storage-unavailable", "message": "the state cannot be read", "next": "check the disk"}


def test_only_reading_is_possible() -> None:
    assert client(Fixed()).post("/console/overview.json").status_code == 405


@pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="needs the system's Chromium")
def test_the_page_draws_what_it_polls_and_says_when_it_cannot() -> None:
    model, complaints = Fixed(), list[str]()
    served = client(model)

    def answer(route: BrowserRoute) -> None:
        got = served.get(route.request.url.removeprefix("http://127.0.0.1:8080"))
        route.fulfill(status=got.status_code, headers=dict(got.headers), body=got.content)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.route("**/*", answer)
        page.goto("http://127.0.0.1:8080/console")
        page.wait_for_selector("#deployments table")
        text = page.inner_text("body")
        for shown in ("1 of 2", "10 days left", "certificate-expired", "artefact-edited", "41", HOSTILE, "r-1", "0.012024"):
            assert shown in text
        assert [row.inner_text().split()[0] for row in page.locator("#lives li").all()] == [
            "deployed",
            "proposed",
            "upgraded",
            "rolled",
            "retired",
        ]
        assert "1 → 2" in page.inner_text("#lives") and "3 verdicts differ" in page.inner_text("#lives")
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.inner_text("#state").startswith("Live")
        assert page.evaluate("window.pwned === undefined")
        assert complaints == []
        model.error = StorageError("the state cannot be read")
        expect(page.locator("#state")).to_contain_text("Not live: the state cannot be read", timeout=6000)
        browser.close()
