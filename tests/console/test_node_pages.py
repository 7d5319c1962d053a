"""The owner's page: who may load it, and that every sentence that it asks for is there. A real browser is in tests/journeys."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from starlette.testclient import TestClient

from isthmus.console.label_pages import new_token
from isthmus.console.node_pages import ASSETS, LANGUAGES, node_app
from isthmus.contracts.errors import SettingError, StorageError
from isthmus.contracts.owner import OwnerView
from isthmus.sandbox.outlog import DECLARED_KINDS

TOKEN = new_token()


class FakeBook:
    def __init__(self) -> None:
        self.paused = False

    def view(self) -> OwnerView:
        texts = dict.fromkeys(("party", "name", "public_key", "asset", "exchange", "log_problem"), "")
        numbers = dict.fromkeys(("now_s", "messages", "bytes_left", "images_left"), 0)
        since_s = 1 if self.paused else None
        return OwnerView(**texts, **numbers, kinds={}, left=(), asked=(), agreements=(), paused_since_s=since_s, running=True)

    def pause(self) -> OwnerView:
        self.paused = True
        return self.view()

    def resume(self) -> OwnerView:
        raise StorageError("the disk is full", "free some space")


def client(host: str = "127.0.0.1") -> TestClient:
    return TestClient(node_app(FakeBook(), TOKEN), base_url=f"http://{host}:4321", client=("127.0.0.1", 5000))


def test_the_page_and_its_parts_are_there_and_load_nothing_from_elsewhere() -> None:
    for path in ("/", "/texts.json", *(f"/{name}" for name in ASSETS)):
        answer = client().get(path)
        assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "") and "https://" not in answer.text


def test_data_needs_the_token_this_host_and_this_page() -> None:
    good = {"x-isthmus-token": TOKEN}
    assert client().get("/view.json", headers=good).json()["paused_since_s"] is None
    assert client().post("/pause", headers={**good, "origin": "http://127.0.0.1:4321"}).json()["paused_since_s"] == 1
    assert client().post("/resume", headers=good).json()["error"]["code"] == StorageError.code
    for path, headers in (
        ("/pause", {}),
        ("/pause", {"x-isthmus-token": new_token()}),
        ("/resume", {**good, "origin": "http://evil.example"}),
    ):
        assert client().post(path, headers=headers).status_code in (401, 403)
    assert client("evil.example").get("/view.json", headers=good).status_code == 403
    assert client("evil.example").get("/").status_code == 403
    assert client().get("/pause", headers=good).status_code == 405


def test_every_sentence_that_the_page_asks_for_is_there() -> None:
    texts = client().get("/texts.json").json()
    script = files("isthmus.console").joinpath("node_page", "node.js").read_text(encoding="utf-8")
    asked = set(re.findall(r"""["']((?:[a-z]+\.)+[a-z0-9_]+)["']""", script)) - {"view.json", "texts.json"}
    assert {key for key in asked if key.split(".")[0] in {known.split(".")[0] for known in texts}} <= set(texts)
    assert {f"kind.{kind}" for kind in DECLARED_KINDS} <= set(texts)
    assert {f"asked.{state}" for state in ("answered", "refused", "countersigned")} <= set(texts)
    assert (LANGUAGES / "en.json").is_file()
    with pytest.raises(SettingError):
        node_app(FakeBook(), TOKEN, "xx")
