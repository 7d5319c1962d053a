"""Four owners join a running exchange over TLS by invitation, each with a state folder and process of its own; one pauses, one changes its
key, and each sees on a page of its own machine what left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from isthmus.contracts.party import Invitation
from isthmus.kit.clock import SystemClock
from isthmus.kit.pinning import NOT_PINNED, address_of, verification
from isthmus.kit.signing import key_id
from isthmus.sandbox.joining import join
from isthmus.sandbox.nodehome import NodeSettings, init_home
from tests.journeys.inspection import SCENARIO, isthmus
from tests.journeys.plant import COLUMNS, PURPOSE, SCHEMA, Plant, until

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
OWNERS = ("alder", "birch", "cedar", "dill")
TABLE: dict[str, Any] = {
    **SCENARIO,
    "id": "pump-check",
    "task": "table-inspection",
    "purpose": PURPOSE,
    "interface": {"input": "table", "output": "verdict", "classes": ["good", "defect"], "columns": COLUMNS},
    "recipe": {
        **SCENARIO["recipe"],
        "backbone": "table",
        "parts": ["columns", "bins/4"],
        "parts_after_leaving": [],
        "views": ["identity"],
    },
    "certify": {**SCENARIO["certify"], "families": [], "promises_ppm": [200_000]},
}


def invited(plant: Plant, party: str) -> str:
    """What the operator does; a line to hand over."""
    ended = isthmus("party", "invite", "--state", plant.state, "--purpose", PURPOSE, "--id", party, "--json")
    assert ended.code == 0, ended.err
    return str(ended.document["invitation"])


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """Three owners are there; the fourth comes while the exchange runs, by its own command line."""
    settings = {"ISTHMUS_REGISTRATION": "invited", "ISTHMUS_SILENCE_S": "5"}
    with Plant(tmp_path_factory.mktemp("four"), OWNERS, up=("--tls",), extra=settings) as found:
        found.start_exchange()
        keys = {}
        for party in OWNERS[:3]:
            told = NodeSettings(id=party, name=party.title(), kind="owner", data=str(found.data(party)), licence="test", sample=True)
            home = init_home(found.home(party), told, schema=SCHEMA)
            issued = found.call("POST", "/v1/invitations", {"purposes": [PURPOSE], "ttl_s": 600, "party": party})
            given = {"token": issued["token"], "expires_at_s": issued["expires_at_s"], "party": party}
            join(home, Invitation(exchange=found.url, public_key=found.key, purposes=(PURPOSE,), **given), SystemClock())
            keys[party] = home.key.public_hex
            home.store.close()
        ended = isthmus(
            "party", "join", invited(found, "dill"), found.data("dill"), "--state", found.home("dill"), "--name", "Dill", "--json"
        )
        assert ended.code == 0, ended.err
        keys["dill"] = ended.document["public_key"]
        assert ended.document["purposes"] == [PURPOSE] and "isthmus node agree --state" in ended.document["agree"]
        for party in OWNERS:
            found.agree(party, keys)
            found.start_node(party, exchange="")
        until(lambda: {a["owner"] for a in found.call("GET", "/v1/agreements")} == set(OWNERS), "all have agreed")
        yield found


def test_nobody_joins_without_an_invitation_or_by_a_used_one(plant: Plant) -> None:
    states = {guest["party"]: guest["state"] for guest in plant.call("GET", "/v1/invitations")}
    assert states["dill"] == "used"
    stranger = plant.root / "stranger"
    init_home(
        stranger, NodeSettings(id="ersatz", name="E", kind="owner", data=str(plant.data("ersatz")), licence="t", sample=True)
    ).store.close()
    ended = isthmus("node", "start", "--state", stranger, "--exchange", plant.url)
    assert ended.code != 0 and "ask the exchange's operator for an invitation" in ended.err


def test_a_node_tells_nothing_to_another_key(plant: Plant) -> None:
    wrong = f"{plant.url.partition('#')[0]}#sha256:{'00' * 32}"
    home = plant.home("alder")
    plant.kill("alder")
    before = (home / "left.jsonl").stat().st_size
    plant.start_node("alder", exchange=wrong)
    until(lambda: NOT_PINNED in plant.said("alder"), "the node says why")
    plant.kill("alder")
    plain = isthmus("node", "start", "--state", home, "--exchange", "http://10.1.2.3:8470")
    assert plain.code == 2 and "http://10.1.2.3:8470 is plain HTTP to another machine" in plain.err
    with pytest.raises(httpx.ConnectError):
        httpx.get(plant.url.partition("#")[0], trust_env=False)
    assert (home / "left.jsonl").stat().st_size >= before
    plant.start_node("alder", exchange="")


def test_a_run_goes_on_without_the_one_who_paused(plant: Plant) -> None:
    assert isthmus("node", "pause", "--state", plant.home("dill"), "--json").document["paused"] is True
    run = plant.call("POST", "/v1/runs", {"scenario": TABLE, "owners": list(OWNERS), "clean_only": True})["id"]
    view = until(lambda: (v := plant.call("GET", f"/v1/runs/{run}"))["state"] != "running" and v, "the run's end", 90)
    assert view["state"] == "certified", view["error"] or view["result"]["failures"]
    assert sorted(view["result"]["owners"]) == ["alder", "birch", "cedar"]
    assert view["result"]["absent"][0]["party"] == "dill" and view["result"]["absent"][0]["clause"] == "paused"
    assert "without dill" in {step["name"] for step in view["steps"]}
    assert isthmus("node", "resume", "--state", plant.home("dill"), "--json").document["was_paused"] is True


def test_a_key_that_was_changed_goes_on_and_the_old_one_does_not(plant: Plant) -> None:
    before, old = plant.public_key("birch"), (plant.home("birch") / "node.key").read_bytes()
    busy = isthmus("party", "rotate-key", "--state", plant.home("birch"), "--json")
    assert busy.refused()["message"].startswith("another process uses")
    plant.kill("birch")
    told = isthmus("party", "rotate-key", "--state", plant.home("birch"), "--json").document
    assert told["before"] == before and told["public_key"] == plant.public_key("birch")
    plant.start_node("birch", exchange="")
    new_id = key_id(told["public_key"])
    until(lambda: plant.call("GET", "/v1/parties")["birch"]["signatures"][0]["keyid"] == new_id, "the exchange knows the new key")
    job = plant.asked("after-rotation", roster=("alder", "birch", "cedar"))
    assert plant.ended(job["id"])["phase"] == "done"
    shown = isthmus("node", "log", "--state", plant.home("birch"), "--json").document
    assert "rotation" in shown["bytes_by_kind"] and shown["images_left"] == 0
    thief = plant.root / "thief"
    thief.mkdir()
    for name in ("node.sqlite", "node.sqlite-wal"):
        if (plant.home("birch") / name).exists():
            (thief / name).write_bytes((plant.home("birch") / name).read_bytes())
    (thief / "node.key").write_bytes(old)
    assert isthmus("node", "start", "--state", thief, "--exchange", plant.url).code != 0


@pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium on this machine")
def test_the_owner_sees_what_left_and_pauses_on_a_page(plant: Plant, tmp_path: Path) -> None:
    child = plant._start("page", *("node", "page", "--state", plant.home("dill"), "--json"))
    assert child.stdout is not None
    url = json.loads(child.stdout.readline())["url"]
    base, _, token = url.partition("/#")
    plain = {"x-isthmus-token": token}
    assert httpx.get(f"{base}/view.json", headers=plain, trust_env=False).status_code == 200
    for method, path, headers in (
        ("GET", "/view.json", {}),
        ("POST", "/pause", {"x-isthmus-token": "x"}),
        ("POST", "/pause", {**plain, "origin": "http://evil.example"}),
        ("GET", "/view.json", {**plain, "host": "evil.example"}),
        ("GET", "/", {"host": "evil.example"}),
    ):
        assert httpx.request(method, base + path, headers=headers, trust_env=False).status_code in (401, 403)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(base) else None)
        page.goto(url)
        expect(page.locator("h1")).to_have_text("Dill")
        expect(page.locator("#asked")).to_contain_text("clause paused")
        expect(page.locator("#left")).to_contain_text("every line is signed with your key")
        expect(page.locator("#agreements")).to_contain_text("runs left")
        page.locator("#switch").click()
        expect(page.locator("#state")).to_contain_text("Paused since")
        page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
        page.locator("#switch").click()
        expect(page.locator("#state")).to_contain_text("Your node works")
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert wrong == []


def test_the_connection_is_the_pinned_one(plant: Plant) -> None:
    address = address_of(plant.url)
    assert address.pin is not None
    with httpx.Client(verify=verification(address), trust_env=False) as client:
        assert client.get(f"{address.base_url}/v1/exchange").json()["public_key"] == plant.key
