"""The protocol over HTTP: paths, statuses, headers, bounds, and a client that goes away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from isthmus.app import gateway_routes as routes
from isthmus.app.gateway_routes import gateway_routes
from isthmus.contracts.errors import CertificateRevokedError
from isthmus.gateway.wire import HEADER_LENGTH, OutputChoice, format_request, parse_answer
from isthmus.kit.pictures import encode_png
from tests.gateway.fakes import KEY, PRICE_MICROS, House, grey

INFER = "/v2/models/cells/infer"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, 1_000_000).loaded()


def client(house: House, **bounds: int) -> httpx.AsyncClient:
    app = Starlette(routes=gateway_routes(house.service, **bounds))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


def called(house: House, method: str, path: str, **options: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        async with client(house) as http:
            return await http.request(method, path, **options)

    return anyio.run(call)


def posted(house: House, body: Any, header: int | None = None, path: str = INFER, **more: str) -> httpx.Response:
    headers = {**BEARER, **({} if header is None else {HEADER_LENGTH: str(header)}), **more}
    return called(house, "POST", path, content=body, headers=headers)


def refused(response: httpx.Response, status: int, code: str) -> httpx.Response:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.json()["error"] and response.json()["message"]
    return response


def test_server_and_health_need_no_key(house: House) -> None:
    assert called(house, "GET", "/v2").json() == {"name": "isthmus", "version": "0.1.0", "extensions": ["binary_tensor_data"]}
    assert called(house, "GET", "/v2/health/live").json() == {"live": True}
    assert called(house, "GET", "/v2/health/ready").json() == {"live": True, "ready": True}
    assert called(house, "GET", "/v2/models/cells/ready").json() == {"name": "cells", "ready": True}
    assert called(house, "GET", "/v2/models/cells/versions/1/ready").status_code == 200


def test_ready_tells_what_a_request_would_meet(house: House) -> None:
    house.gate.refusal = CertificateRevokedError("it was withdrawn", "certify again")
    for path in ("/v2/health/ready", "/v2/models/cells/ready"):
        response = called(house, "GET", path)
        assert (response.status_code, response.json()["ready"]) == (503, False)
    refused(called(house, "GET", "/v2/models/dogs/ready"), 404, "unknown-model")


def test_metadata_needs_a_key(house: House) -> None:
    for path in ("/v2/models/cells", "/v2/models/cells/versions/1"):
        assert called(house, "GET", path, headers=BEARER).json()["versions"] == ["1"]
        response = refused(called(house, "GET", path), 401, "missing-key")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    refused(called(house, "GET", "/v2/models/dogs", headers=BEARER), 404, "unknown-model")


def test_json_in_and_out(house: House) -> None:
    body, _ = format_request(np.stack([grey(0), grey(255)]), "r-1", binary=False)
    response = posted(house, body)
    assert response.headers["Content-Type"] == "application/json" and HEADER_LENGTH not in response.headers
    found = response.json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("cells", "1", "r-1")
    assert found["outputs"] == [
        {"name": "score", "datatype": "FP32", "shape": [2], "data": [0.0, 1.0]},
        {"name": "verdict", "datatype": "BYTES", "shape": [2], "data": ["good", "defect"]},
    ]
    assert found["parameters"]["charge_micros"] == 2 * PRICE_MICROS


def test_binary_in_and_out(house: House) -> None:
    body, header = format_request([encode_png(grey(255))], "r-1", True, [OutputChoice("score", True), OutputChoice("verdict", True)])
    response = posted(house, body, header, "/v2/models/cells/versions/1/infer")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert int(response.headers["Content-Length"]) == len(response.content)
    answer = parse_answer(response.content, int(response.headers[HEADER_LENGTH]))
    assert (answer.scores.tolist(), answer.verdicts) == ([1.0], ("defect",))


def test_one_image_file_as_the_whole_body(house: House) -> None:
    response = posted(house, encode_png(grey(0)), 0)
    assert response.json()["outputs"][1]["data"] == ["good"]


def test_refusals_have_their_status(house: House) -> None:
    body, header = format_request(np.stack([grey(0)]), "r-1")
    refused(called(house, "POST", INFER, content=body), 401, "missing-key")
    refused(posted(house, body, header, Authorization="Bearer other"), 401, "not-authenticated")
    refused(posted(house, body, header, "/v2/models/dogs/infer"), 404, "unknown-model")
    refused(posted(house, b"{"), 400, "bad-inference-request")
    refused(posted(house, body, len(body) + 1), 400, "bad-inference-request")
    refused(posted(house, body, header, **{"Content-Encoding": "gzip"}), 415, "unsupported-encoding")
    refused(posted(house, b"no image", 0), 400, "bad-picture")
    assert called(house, "GET", INFER).status_code == 405
    house.meter.funds["user-1"] = 0
    refused(posted(house, body, header), 402, "insufficient-funds")
    assert house.engine.calls == 0


def test_a_store_that_is_down_is_503_and_never_401(house: House) -> None:
    body, header = format_request(np.stack([grey(0)]), "r-1")
    house.keys.down = True
    assert refused(posted(house, body, header), 503, "storage-unavailable").headers["Retry-After"]
    refused(posted(house, body, header, Authorization="Bearer other"), 503, "storage-unavailable")
    house.keys.down, house.meter.down = False, {"open"}
    refused(posted(house, body, header), 503, "storage-unavailable")


def test_an_edited_artefact_is_refused_over_http_with_the_reason(house: House) -> None:
    house.artefact.write_bytes(b"Certified bytes of a model")
    response = refused(posted(house, encode_png(grey(0)), 0), 403, "artefact-edited")
    assert house.digest in response.json()["error"]


@pytest.mark.parametrize("header", ["Authorization", HEADER_LENGTH])
def test_a_header_sent_twice_is_refused(house: House, header: str) -> None:
    body, length = format_request(np.stack([grey(0)]), "r-1")
    values = [*BEARER.items(), (HEADER_LENGTH, str(length))]
    twice = values + [pair for pair in values if pair[0] == header]
    refused(called(house, "POST", INFER, content=body, headers=twice), 400, "bad-inference-request")


async def _drops(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


def test_bodies_are_bounded_stated_or_not(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_BYTES_MAX", 1000)
    refused(posted(house, b"x" * 1001), 413, "body-too-large")
    refused(posted(house, _drops(11, 100)), 413, "body-too-large")
    monkeypatch.setattr(routes, "IN_FLIGHT_BYTES_MAX", 500)
    assert refused(posted(house, b"x" * 501), 429, "busy").headers["Retry-After"] == "1"


def test_a_body_that_does_not_arrive_is_408(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_READ_TIMEOUT_S", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep(1)
        yield b"}"

    refused(posted(house, slow()), 408, "body-too-slow")


def test_concurrent_requests_are_all_answered_and_charged_once(house: House) -> None:
    house.engine.delay_s = 0.01

    async def all_at_once() -> list[httpx.Response]:
        found: list[httpx.Response] = []
        async with client(house) as http, anyio.create_task_group() as group:

            async def one(number: int) -> None:
                body, header = format_request(np.stack([grey(number)]), f"r-{number % 10}-{number}")
                found.append(await http.post(INFER, content=body, headers={**BEARER, HEADER_LENGTH: str(header)}))

            for number in range(24):
                group.start_soon(one, number)
        return found

    responses = anyio.run(all_at_once)
    assert [response.status_code for response in responses] == [200] * 24
    assert len({response.json()["parameters"]["receipt"] for response in responses}) == 24
    assert house.meter.funds["user-1"] == 1_000_000 - 24 * PRICE_MICROS


def test_a_full_queue_is_429_and_drains(house: House) -> None:
    house.engine.release.clear()
    seen: list[httpx.Response] = []

    async def flood() -> None:
        async with client(house, workers=1, queue_max=2) as http, anyio.create_task_group() as group:

            async def one(number: int) -> None:
                body, header = format_request(np.stack([grey(number)]), f"r-{number}")
                seen.append(await http.post(INFER, content=body, headers={**BEARER, HEADER_LENGTH: str(header)}))

            for number in range(8):
                group.start_soon(one, number)
            with anyio.fail_after(5):
                while len(seen) < 5:
                    await anyio.sleep(0.005)
            live = await http.get("/v2/health/live")
            assert live.status_code == 200
            house.engine.release.set()

    anyio.run(flood)
    assert sorted(response.status_code for response in seen) == [200] * 3 + [429] * 5
    assert all(response.headers["Retry-After"] == "1" for response in seen if response.status_code == 429)
    assert house.meter.outcomes() == ["reported"] * 3


def test_places_and_bytes_are_given_back_after_answers_and_refusals(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    file = encode_png(grey(0))
    monkeypatch.setattr(routes, "IN_FLIGHT_BYTES_MAX", len(file) + 10)

    async def one_by_one() -> list[int]:
        async with client(house, workers=1, queue_max=0) as http:
            headers = {**BEARER, HEADER_LENGTH: "0"}
            return [(await http.post(INFER, content=body, headers=headers)).status_code for body in (file, b"no image", file, file)]

    assert anyio.run(one_by_one) == [200, 400, 200, 200]


def spoken(house: House, body: bytes, header: int | None) -> list[dict[str, Any]]:
    """Sends a request by hand and hangs up as soon as the body is sent; gives what the server sent."""
    app = Starlette(routes=gateway_routes(house.service))
    sent: list[dict[str, Any]] = []
    told = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(told, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {KEY}".encode()), (HEADER_LENGTH.lower().encode(), str(header).encode())]
    scope = {"type": "http", "method": "POST", "path": INFER, "headers": headers, "query_string": b"", "http_version": "1.1"}
    anyio.run(app, scope, receive, send)
    return sent


def test_a_client_that_leaves_before_dispatch_costs_nothing(house: House) -> None:
    body, header = format_request(np.stack([grey(0)]), "r-1")
    sent = spoken(house, body, header)
    assert sent[0]["status"] == 499
    assert house.meter.events == [] and house.engine.calls == 0


def test_a_client_that_leaves_after_dispatch_finds_its_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def still_here(request: Any) -> bool:
        return False

    monkeypatch.setattr("starlette.requests.Request.is_disconnected", still_here)
    body, header = format_request(np.stack([grey(0)]), "r-1")
    spoken(house, body, header)
    assert house.meter.outcomes() == ["reported"]
    assert posted(house, body, header).status_code == 200
    assert house.meter.outcomes() == ["reported"] and house.engine.calls == 1


def test_every_route_says_what_it_does(house: House) -> None:
    paths = [(route.path, sorted(route.methods or ())) for route in gateway_routes(house.service)]
    assert len(paths) == len({json.dumps(path) for path in paths}) == 9
    assert all(route.endpoint.__doc__ for route in gateway_routes(house.service))
