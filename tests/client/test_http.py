"""The client: refusals as the exchange gave them, one sentence for everything else, and no key in any message."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import InputError, RemoteError, UnreachableError

TOKEN = "iso_0123456789ab_" + "c" * 64


def client(answer: Callable[[httpx.Request], httpx.Response], token: str = TOKEN) -> ExchangeClient:
    return ExchangeClient("http://exchange/", token, transport=httpx.MockTransport(answer))


def test_requests_carry_the_key_and_answers_come_back() -> None:
    seen: list[httpx.Request] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        return httpx.Response(200, json={"n": 1})

    with client(answer) as exchange:
        assert exchange.get("/v1/runs") == exchange.post("/v1/runs", {"ü": 1}) == {"n": 1}
    assert [str(a.url) for a in seen] == ["http://exchange/v1/runs"] * 2
    assert all(a.headers["authorization"] == f"Bearer {TOKEN}" for a in seen)
    with client(answer, token="") as exchange:
        exchange.get("/x")
    assert "authorization" not in seen[-1].headers


def test_a_refusal_keeps_its_code_message_and_next_step() -> None:
    told = {"code": "forbidden", "message": "this needs the operator's key", "next": "use it"}
    with client(lambda asked: httpx.Response(403, json=told)) as exchange, pytest.raises(RemoteError) as caught:
        exchange.get("/v1/runs")
    assert caught.value.as_dict() == told and caught.value.status == 403


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, text="<html>oops"),
        httpx.Response(404, json=["no", "object"]),
        httpx.Response(400, json={"detail": "of another server"}),
        httpx.Response(200, text="<html>a portal"),
        httpx.Response(200, content=b"\xff\xfe"),
        httpx.Response(302, headers={"location": "http://elsewhere/"}),
    ],
)
def test_what_is_no_exchange_is_said(answer: httpx.Response) -> None:
    with client(lambda asked: answer) as exchange, pytest.raises(RemoteError) as caught:
        exchange.get("/v1/runs")
    assert caught.value.as_dict()["code"] == "bad-answer" and str(answer.status_code) in str(caught.value)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")])
def test_no_answer_is_unreachable(error: httpx.HTTPError) -> None:
    def answer(asked: httpx.Request) -> httpx.Response:
        raise error

    with client(answer) as exchange, pytest.raises(UnreachableError, match="http://exchange does not answer"):
        exchange.send("GET", "/v1/runs")


@pytest.mark.parametrize("token", [TOKEN + "\n", "schlüssel", "two words", "\x00" + TOKEN, TOKEN + "\r\nX-More: 1"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(InputError) as caught:
        ExchangeClient("http://exchange", token)
    assert token.strip() not in str(caught.value) and TOKEN not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port", "http://a:99999999"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises((InputError, UnreachableError)):
        ExchangeClient(url, timeout_s=0.5).get("/v1/runs")


def test_nobody_listening() -> None:
    with ExchangeClient("http://127.0.0.1:9", timeout_s=2.0) as exchange, pytest.raises(UnreachableError):
        exchange.get("/v1/runs")
