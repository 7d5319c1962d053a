"""The data path: every attempt ends once, no answer before its receipt, one charge for one request."""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from isthmus.contracts.deployment import Caller
from isthmus.contracts.errors import (
    ArtefactEditedError,
    AuthError,
    CertificateExpiredError,
    EngineError,
    EngineFailedError,
    InferenceRequestError,
    InputError,
    InsufficientFundsError,
    IsthmusError,
    MissingKeyError,
    ModelFileError,
    PictureError,
    RequestReusedError,
    StorageError,
    UnknownModelError,
    UnknownPriceError,
)
from isthmus.contracts.schema import Schema
from isthmus.gateway import attempts, service
from isthmus.gateway.registry import Loaded
from isthmus.gateway.wire import Answer, OutputChoice, format_request, parse_answer
from isthmus.kit.pictures import decode, encode_png
from tests.gateway.fakes import KEY, PRICE_MICROS, FakeMeter, House, grey

USER = Caller("user-1")
FUNDS = 1_000_000


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, FUNDS).loaded()


def ask(house: House, images: Any = None, request_id: str | None = None, party: Caller = USER, binary: bool = True) -> Answer:
    if images is None:
        images = np.stack([grey(0), grey(255), grey(128)])
    body, header = format_request(images, request_id, binary)
    reply = house.service.infer(party, "cells", None, body, header)
    return parse_answer(reply.body, reply.header_bytes)


def test_an_answer_has_scores_verdicts_receipt_and_charge(house: House) -> None:
    answer = ask(house, request_id="r-1")
    assert answer.verdicts == ("good", "defect", "person")
    assert answer.scores.tolist() == pytest.approx([0, 1, 128 / 255])
    assert answer.request_id == "r-1"
    receipt = house.meter.receipts[str(answer.parameters["receipt"])]
    assert (receipt.outcome, receipt.usage.inferences, receipt.charge_micros) == ("reported", 3, 3 * PRICE_MICROS)
    assert answer.parameters["certificate"] == house.deployment.certificate_digest
    assert (answer.parameters["charge_micros"], answer.parameters["currency"]) == (3 * PRICE_MICROS, "EUR")
    assert (answer.parameters["lo"], answer.parameters["hi"]) == (0.25, 0.75)
    assert house.meter.funds["user-1"] == FUNDS - 3 * PRICE_MICROS
    assert [what for what, _ in house.meter.events] == ["open", "close"]


def test_a_lot_is_named_in_the_request_and_its_verdicts_are_counted(house: House) -> None:
    body, header = format_request(np.stack([grey(0), grey(255), grey(128), grey(0)]), "r1", lot="pallet-7")
    reply = house.service.infer(USER, "cells", None, body, header)
    found = parse_answer(reply.body, reply.header_bytes)
    (section,) = house.meter.lots
    assert section.lot == "pallet-7" and sum(section.counts.values()) == 4
    assert section.counts == {verdict: found.verdicts.count(verdict) for verdict in ("good", "defect", "person")}
    for wrong in ("", "a b", "../x"):
        body, header = format_request(np.stack([grey(0)]), lot=wrong)
        with pytest.raises(InferenceRequestError):
            house.service.infer(USER, "cells", None, body, header)
    for value in (7, True):
        document = json.dumps(
            {"parameters": {"lot": value}, "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [0] * 192}]}
        )
        with pytest.raises(InferenceRequestError, match="lot is not text"):
            house.service.infer(USER, "cells", None, document.encode(), None)


def test_a_request_without_id_gets_one_and_each_is_charged(house: House) -> None:
    first, second = ask(house), ask(house)
    assert first.request_id and first.request_id != second.request_id
    assert house.meter.funds["user-1"] == FUNDS - 6 * PRICE_MICROS


def test_the_same_request_twice_is_one_charge_and_one_answer(house: House) -> None:
    body, header = format_request(np.stack([grey(9)]), "r-1")
    first = house.service.infer(USER, "cells", None, body, header)
    assert house.service.infer(USER, "cells", None, body, header) == first
    assert house.engine.calls == 1
    assert house.meter.funds["user-1"] == FUNDS - PRICE_MICROS


def test_a_repeat_after_a_restart_is_computed_again_and_not_charged(house: House) -> None:
    body, header = format_request(np.stack([grey(9)]), "r-1")
    first = house.service.infer(USER, "cells", None, body, header)
    house.service = service.Service(house.registry, house.keys, house.meter, house.clock, "0.1.0")
    assert house.service.infer(USER, "cells", None, body, header) == first
    assert house.engine.calls == 2
    assert house.meter.funds["user-1"] == FUNDS - PRICE_MICROS
    other, other_header = format_request(np.stack([grey(10)]), "r-1")
    house.service = service.Service(house.registry, house.keys, house.meter, house.clock, "0.1.0")
    with pytest.raises(RequestReusedError):
        house.service.infer(USER, "cells", None, other, other_header)


def test_a_repeat_after_a_redeployment_is_refused_not_answered_by_another_model(house: House) -> None:
    ask(house, request_id="r-1")
    house.artefact.write_bytes(b"another certified model")
    raw = msgspec.structs.replace(house.deployment, artefact_digest="sha256:" + service.sha256_hex(house.artefact.read_bytes()))
    house.gate.certified = msgspec.structs.replace(house.gate.certified, artefact_digest=raw.artefact_digest)
    house.registry.load(raw, house.artefact)
    house.service = service.Service(house.registry, house.keys, house.meter, house.clock, "0.1.0")
    with pytest.raises(RequestReusedError, match="another version"):
        ask(house, request_id="r-1")


def test_an_id_with_other_content_is_refused_and_another_party_may_use_it(house: House) -> None:
    ask(house, request_id="r-1")
    with pytest.raises(RequestReusedError) as refused:
        ask(house, np.stack([grey(1)]), request_id="r-1")
    assert refused.value.http_status == 409
    ask(house, np.stack([grey(1)]), request_id="r-1", party=Caller("user-2"))
    assert house.meter.funds["user-2"] == FUNDS - PRICE_MICROS


def test_concurrent_repeats_are_one_attempt(house: House) -> None:
    house.engine.delay_s = 0.05
    body, header = format_request(np.stack([grey(9)]), "r-1")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: house.service.infer(USER, "cells", None, body, header), range(8)))
    assert len(set(replies)) == 1
    assert house.engine.calls == 1
    assert house.meter.funds["user-1"] == FUNDS - PRICE_MICROS


def test_concurrent_requests_never_spend_more_than_there_is(tmp_path: Path) -> None:
    house = House(tmp_path, 5 * PRICE_MICROS).loaded()
    house.engine.delay_s = 0.01

    def one(number: int) -> str:
        try:
            ask(house, np.stack([grey(number)]), request_id=f"r-{number}")
        except InsufficientFundsError:
            return "refused"
        return "answered"

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(one, range(20)))
    assert ends.count("answered") == 5
    assert house.meter.funds["user-1"] == 0
    assert house.meter.open_attempts() == []


@pytest.mark.parametrize(
    ("failing", "error", "status"),
    [
        (EngineError("the worker died twice", "send others"), EngineError, 503),
        (ModelFileError("the graph failed", "export it again"), EngineFailedError, 502),
        (RuntimeError("segfault"), EngineFailedError, 502),
        (BrokenPipeError(), EngineFailedError, 502),
        (InputError("image 0 is odd", "send another"), InputError, 400),
    ],
)
def test_a_crash_in_the_engine_voids_and_costs_nothing(house: House, failing: Exception, error: type[IsthmusError], status: int) -> None:
    house.engine.failing = failing
    with pytest.raises(error) as refused:
        ask(house, request_id="r-1")
    assert refused.value.http_status == status
    assert house.meter.outcomes() == ["void"]
    assert house.meter.funds["user-1"] == FUNDS
    house.engine.failing = None
    assert ask(house, request_id="r-1").verdicts == ("good", "defect", "person")
    assert house.meter.outcomes() == ["void", "reported"]


def test_an_interrupt_in_the_engine_also_ends_the_attempt(house: House) -> None:
    house.engine.failing = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ask(house)
    assert house.meter.outcomes() == ["void"]


@pytest.mark.parametrize(
    "answer",
    [
        (np.zeros(2), np.zeros(2, dtype=np.int64)),
        (np.array([0.0, np.nan, 0.0]), np.zeros(3, dtype=np.int64)),
        (np.array([0.0, np.inf, 0.0]), np.zeros(3, dtype=np.int64)),
        (np.zeros(3), np.array([0, 1, 3])),
        (np.zeros(3), np.array([0, -1, 1])),
        (np.zeros((3, 1)), np.zeros(3, dtype=np.int64)),
        (np.full(3, 1e300), np.zeros(3, dtype=np.int64)),
    ],
)
def test_an_unusable_answer_is_an_engine_failure(house: House, answer: Any) -> None:
    house.engine.answer = answer
    with pytest.raises(EngineFailedError):
        ask(house)
    assert house.meter.outcomes() == ["void"]


def test_no_answer_without_a_durable_receipt_and_the_attempt_ends_later(house: House) -> None:
    house.meter.down = {"close", "void"}
    with pytest.raises(StorageError):
        ask(house, request_id="r-1")
    assert len(house.meter.open_attempts()) == 1 and house.service.attempts.unsettled == 1
    with pytest.raises(StorageError):
        ask(house)
    house.meter.down = set()
    answer = ask(house, request_id="r-1")
    assert house.meter.open_attempts() == [] and house.service.attempts.unsettled == 0
    assert house.meter.receipts[str(answer.parameters["receipt"])].outcome == "reported"
    assert house.meter.funds["user-1"] == FUNDS - 3 * PRICE_MICROS


def test_a_book_that_is_down_dispatches_nothing(house: House) -> None:
    for down in ({"open"}, {"find"}):
        house.meter.down = down
        with pytest.raises(StorageError) as refused:
            ask(house)
        assert refused.value.http_status == 503
    assert house.engine.calls == 0


def test_a_hold_written_by_an_open_that_failed_is_given_back(house: House) -> None:
    house.meter.down = {"opened"}
    with pytest.raises(StorageError):
        ask(house)
    assert len(house.meter.open_attempts()) == 1 and house.engine.calls == 0
    house.meter.down = set()
    ask(house)
    assert house.meter.open_attempts() == []
    assert house.meter.funds["user-1"] == FUNDS - 3 * PRICE_MICROS


def test_too_many_unsettled_attempts_stop_the_dispatch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "UNSETTLED_MAX", 2)
    house.meter.down = {"close", "void"}
    for _ in range(2):
        with pytest.raises(StorageError):
            ask(house)
    calls = house.engine.calls
    with pytest.raises(StorageError, match="wait for the book"):
        ask(house)
    assert house.engine.calls == calls


def test_a_request_that_keeps_failing_needs_a_new_id(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ATTEMPTS_MAX", 2)
    house.engine.failing = RuntimeError()
    for _ in range(2):
        with pytest.raises(EngineFailedError):
            ask(house, request_id="r-1")
    with pytest.raises(RequestReusedError, match="failed 2 times"):
        ask(house, request_id="r-1")


def test_refusals_before_the_hold_leave_no_trace(house: House) -> None:
    body, header = format_request(np.stack([grey(1)]))
    with pytest.raises(UnknownModelError):
        house.service.infer(USER, "dogs", None, body, header)
    with pytest.raises(UnknownModelError):
        house.service.infer(USER, "cells", "7", body, header)
    with pytest.raises(InferenceRequestError):
        house.service.infer(USER, "cells", None, body[:-1], header)
    with pytest.raises(PictureError):
        ask(house, [b"no image"])
    house.artefact.write_bytes(b"edited")
    with pytest.raises(ArtefactEditedError):
        ask(house)
    assert house.meter.events == [] and house.engine.calls == 0


def test_an_unknown_price_is_refused(house: House) -> None:
    house.registry.load(msgspec.structs.replace(house.deployment, price_id="price-9"), house.artefact)
    with pytest.raises(UnknownPriceError):
        ask(house)
    assert house.engine.calls == 0 and house.meter.open_attempts() == []


def test_an_expired_certificate_stops_new_requests_and_repeats(house: House) -> None:
    ask(house, request_id="r-1")
    house.clock.advance(1000)
    for request_id in ("r-1", "r-2"):
        with pytest.raises(CertificateExpiredError):
            ask(house, request_id=request_id)
    assert house.engine.calls == 1


def test_an_artefact_edited_while_the_request_is_read_is_refused_at_dispatch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def edited(raw: bytes, name: str, schema: Schema | None) -> Any:
        house.artefact.write_bytes(b"edited meanwhile")
        return decode(raw, name)

    monkeypatch.setattr(service, "DECODERS", {house.deployment.decoder: edited})
    with pytest.raises(ArtefactEditedError):
        ask(house, [encode_png(grey(1))])
    assert house.meter.events == [] and house.engine.calls == 0


def encoded(mode: str, kind: str) -> bytes:
    out = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)).save(out, kind)
    else:
        Image.new(mode, (16, 16), {"L": 200, "RGB": (200, 200, 200), "CMYK": (0, 0, 0, 55), "RGBA": (200, 200, 200, 255)}[mode]).save(
            out, kind
        )
    return out.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "score"),
    [
        ("RGB", "PNG", 200 / 255),
        ("RGBA", "PNG", 200 / 255),
        ("L", "PNG", 200 / 255),
        ("RGB", "JPEG", 200 / 255),
        ("L", "JPEG", 200 / 255),
        ("CMYK", "JPEG", 200 / 255),
        ("I;16", "PNG", 40_000 / 65_535),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_image_files_are_decoded_by_the_named_decoder(house: House, mode: str, kind: str, score: float, binary: bool) -> None:
    file = encoded(mode, kind)
    answer = ask(house, [file, file], binary=binary)
    assert answer.scores.tolist() == pytest.approx([score, score], abs=0.01)
    assert np.array_equal(decode(file, "it"), service.DECODERS[house.deployment.decoder](file, "it", None))


@pytest.mark.parametrize("cut", [10, 40, 60])
def test_a_truncated_png_is_refused_and_not_charged(house: House, cut: int) -> None:
    whole = encode_png(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    with pytest.raises(PictureError) as refused:
        ask(house, [whole[: len(whole) * cut // 100]])
    assert refused.value.http_status == 400 and "image 0" in refused.value.message
    assert house.meter.events == []


def test_small_files_cannot_fill_the_memory(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REQUEST_PIXELS_MAX", 600)
    with pytest.raises(InferenceRequestError, match="pixels in all"):
        ask(house, [encode_png(grey(1))] * 3)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic abc", KEY])
def test_a_missing_key_is_401(house: House, header: str | None) -> None:
    with pytest.raises(MissingKeyError) as refused:
        house.service.caller(header)
    assert refused.value.http_status == 401


def test_keys(house: House) -> None:
    assert house.service.caller(f"bearer {KEY}").party == "user-1"
    with pytest.raises(AuthError):
        house.service.caller("Bearer other")
    house.keys.down = True
    with pytest.raises(StorageError):
        house.service.caller(f"Bearer {KEY}")


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 1), st.sampled_from(["well", "engine", "close", "close+void", "open", "opened", "restart"])
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_whatever_fails_the_book_balances_and_an_id_is_charged_once(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    house = House(tmp_path_factory.mktemp("house"), FUNDS).loaded()
    answered: dict[str, bytes] = {}
    for number, shade, fault in steps:
        house.engine.failing = RuntimeError() if fault == "engine" else None
        house.meter.down = set() if fault in ("well", "engine", "restart") else set(fault.split("+"))
        if fault == "restart":
            house.service = service.Service(house.registry, house.keys, house.meter, house.clock, "0.1.0")
        body, header = format_request(np.stack([grey(shade)]), f"r-{number}")
        try:
            reply = house.service.infer(USER, "cells", None, body, header)
        except IsthmusError:
            continue
        assert answered.setdefault(f"r-{number}", reply.body) == reply.body
    house.meter.down, house.engine.failing = set(), None
    house.service.attempts.settle()
    charged = [receipt for receipt in house.meter.receipts.values() if receipt.charge_micros]
    ids = [receipt.sections["policy"].body["decision"]["request_id"] for receipt in charged]
    assert sorted(ids) == sorted(set(ids)) and set(answered) <= set(ids)
    left_open = sum(house.meter.attempts[attempt]["held"] for attempt in house.meter.open_attempts())
    assert house.meter.funds["user-1"] == FUNDS - sum(receipt.charge_micros for receipt in charged) - left_open


def test_a_repeat_that_waits_too_long_is_told_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.service._flights._wait_s = 0.05
    house.engine.release.clear()
    first = threading.Thread(target=lambda: ask(house, request_id="r-1"))
    first.start()
    try:
        while house.engine.calls == 0:
            pass
        with pytest.raises(IsthmusError) as refused:
            ask(house, request_id="r-1")
        assert refused.value.code == "request-in-progress"
        with pytest.raises(RequestReusedError):
            ask(house, np.stack([grey(1)]), request_id="r-1")
    finally:
        house.engine.release.set()
        first.join()
    assert house.meter.outcomes() == ["reported"]


def test_answers_kept_are_bounded(house: House) -> None:
    house.service._flights._kept_max = 2
    for number in range(4):
        ask(house, np.stack([grey(1)]), request_id=f"r-{number}")
    assert len(house.service._flights._kept) == 2
    ask(house, np.stack([grey(1)]), request_id="r-0")
    assert isinstance(house.meter, FakeMeter) and len(house.meter.receipts) == 4


def test_metadata_names_what_is_served(house: House) -> None:
    found = json.loads(msgspec.json.encode(house.service.model("cells", None)))
    assert found["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert [output["name"] for output in found["outputs"]] == ["score", "verdict"]
    assert found["properties"]["certificate"] == house.deployment.certificate_digest
    assert all(isinstance(value, str) for value in found["properties"].values())


def with_heat(house: House) -> Loaded:
    """The house's deployment as one whose model gives heat maps."""
    entry = house.service.registry.find("cells", None)
    entry.deployment = msgspec.structs.replace(entry.deployment, heat=True)
    return entry


def ask_heat(house: House, binary: bool) -> Answer:
    choices = [OutputChoice(name, binary) for name in ("score", "heat", "verdict")]
    body, header = format_request(np.stack([grey(0), grey(255)]), None, binary, choices)
    reply = house.service.infer(USER, "cells", None, body, header)
    return parse_answer(reply.body, reply.header_bytes)


@pytest.mark.parametrize("binary", [True, False])
def test_a_heat_map_comes_where_it_is_asked_for_and_the_model_has_one(house: House, binary: bool) -> None:
    with pytest.raises(InferenceRequestError, match="no heat map"):
        ask_heat(house, binary)
    assert not house.meter.receipts, "refused before anything was held"
    with_heat(house)
    answer = ask_heat(house, binary)
    assert answer.heats is not None and answer.heats.shape == (2, 2, 2) and answer.heats[1, 0, 0] == 1
    assert answer.verdicts == ("good", "defect") and len(house.meter.receipts) == 1
    assert [output.name for output in house.service.model("cells", None).outputs] == ["score", "verdict", "heat"]
    assert ask(house).heats is None, "not asked for"


def test_a_heat_map_that_is_none_ends_the_attempt(house: House) -> None:
    engine = with_heat(house).engine
    assert engine is not None
    engine.heats = lambda images: np.full((1, 2, 2), np.nan)  # type: ignore[method-assign]
    with pytest.raises(EngineFailedError, match="heat map"):
        ask_heat(house, True)
    assert [receipt.outcome for receipt in house.meter.receipts.values()] == ["void"]
