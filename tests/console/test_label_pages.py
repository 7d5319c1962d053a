"""The labelling page's server: this machine only, by its own name only, with the token only, and nothing loaded from elsewhere."""

from __future__ import annotations

import re
from importlib.resources import files

import msgspec
import pytest
from starlette.testclient import TestClient

from isthmus.console.label_pages import BODY_BYTES_MAX, LANGUAGES, label_app, new_token
from isthmus.contracts.errors import ConflictError, NotFoundError, SettingError
from isthmus.contracts.labelling import Asked, DeskState, Took

TOKEN = new_token()
GIVEN = {"x-isthmus-token": TOKEN}
STATE = DeskState(
    folder="<secret-parts>",
    asked=Asked(id="a1", name="a.png", how="drawn", put_off=False),
    labelled=0,
    good=0,
    defect=0,
    unsure=0,
    answered_here=0,
    drawn=0,
    left=1,
    put_off=0,
    unread=0,
    left_out=0,
    kept_back=0,
    recent=(),
    curve=(),
    grouped=False,
    took=Took(),
)


class FakeDesk:
    def __init__(self) -> None:
        self.said: list[tuple[str, str, bool]] = []

    def state(self) -> DeskState:
        return STATE

    def picture(self, identity: str) -> bytes:
        if identity != "a1":
            raise NotFoundError("there is no such picture on this desk", "load the page again")
        return b"\x89PNG"

    def answer(self, identity: str, verdict: str, sure: bool) -> DeskState:
        self.said.append((identity, verdict, sure))
        return STATE

    def undo(self) -> DeskState:
        raise ConflictError("there is no answer to take back", "answer first")


def client(desk: FakeDesk | None = None, address: str = "127.0.0.1", base: str = "http://127.0.0.1:9001") -> TestClient:
    return TestClient(label_app(desk or FakeDesk(), TOKEN), base_url=base, client=(address, 5000))


PRIVATE = [("GET", "/state.json"), ("GET", "/picture/a1"), ("POST", "/answer"), ("POST", "/undo")]
BODY = msgspec.json.encode({"id": "a1", "verdict": "good"})


@pytest.mark.parametrize(("method", "path"), PRIVATE)
@pytest.mark.parametrize("headers", [{}, {"x-isthmus-token": ""}, {"x-isthmus-token": TOKEN[:-1]}, {"authorization": f"Bearer {TOKEN}"}])
def test_without_the_token_nothing_is_told_or_done(method: str, path: str, headers: dict[str, str]) -> None:
    desk = FakeDesk()
    answer = client(desk).request(method, path, headers=headers, content=BODY)
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "not-authenticated"
    assert not desk.said


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/label.js"), ("GET", "/texts.json"), *PRIVATE])
@pytest.mark.parametrize("base", ["http://evil.example:9001", "http://127.0.0.1.evil.example", "http://10.0.0.7:9001"])
def test_another_name_of_this_machine_is_refused(method: str, path: str, base: str) -> None:
    desk = FakeDesk()
    answer = client(desk, base=base).request(method, path, headers=GIVEN, content=BODY)
    assert answer.status_code == 403 and not desk.said


def test_another_machine_is_refused() -> None:
    assert client(address="10.0.0.7").get("/state.json", headers=GIVEN).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9002", "https://127.0.0.1:9001"])
def test_a_page_elsewhere_is_refused_even_with_the_token(origin: str) -> None:
    desk = FakeDesk()
    assert client(desk).post("/answer", content=BODY, headers={**GIVEN, "origin": origin}).status_code == 403
    assert not desk.said
    own = client(desk).post("/answer", content=BODY, headers={**GIVEN, "origin": "http://127.0.0.1:9001"})
    assert own.status_code == 200 and desk.said == [("a1", "good", True)]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id": "a1"}', b'{"id": "a1", "verdict": "good", "more": 1}', b"\xff"])
def test_a_malformed_answer_is_refused(body: bytes) -> None:
    desk = FakeDesk()
    answer = client(desk).post("/answer", content=body, headers=GIVEN)
    assert answer.status_code == 400 and not desk.said


def test_a_large_answer_is_refused() -> None:
    assert client().post("/answer", content=b" " * (BODY_BYTES_MAX + 1), headers=GIVEN).status_code == 413


def test_errors_of_the_desk_are_told_in_its_words() -> None:
    answer = client().post("/undo", headers=GIVEN)
    assert answer.status_code == 409 and answer.json()["error"]["message"] == "there is no answer to take back"
    assert client().get("/picture/..%2f..%2flabels.csv", headers=GIVEN).status_code == 404
    assert client().get("/picture/a1", headers=GIVEN).headers["content-type"] == "image/png"


@pytest.mark.parametrize("path", ["/", "/label.css", "/label.js", "/curve.js", "/icon.svg", "/texts.json"])
def test_the_page_and_its_parts_come_with_a_strict_policy_and_hold_no_secret(path: str) -> None:
    answer = client().get(path)
    assert answer.status_code == 200 and TOKEN not in answer.text and "secret-parts" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store" and answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_tokens_differ_and_are_long() -> None:
    assert len({new_token() for _ in range(20)}) == 20 and len(TOKEN) >= 32


def test_every_sentence_that_the_page_asks_for_is_there() -> None:
    texts = client().get("/texts.json").json()
    script = files("isthmus.console").joinpath("label_page", "label.js").read_text(encoding="utf-8")
    plain = set(re.findall(r"""["']((?:[a-z]+\.)+[a-z_]+|title|private|question|alt|zoom)["']""", script))
    prefixes = set(re.findall(r"`([a-z]+)\.\$\{", script))
    assert {key for key in plain if key.split(".")[0] in {k.split(".")[0] for k in texts}} <= set(texts)
    assert all(any(key.startswith(f"{prefix}.") for key in texts) for prefix in prefixes)
    assert (LANGUAGES / "en.json").is_file()
    with pytest.raises(SettingError):
        label_app(FakeDesk(), TOKEN, "xx")
