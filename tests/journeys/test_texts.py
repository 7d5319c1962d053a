"""Texts through the real command lines: three owners who write in three languages, files and rows, a certificate, requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.journeys.inspection import SCENARIO, isthmus, scenario_folder
from tests.journeys.state import book_holds, exchange_up, logs_hold

OWNERS = ("alder", "birch", "cedar")
TEXT: dict[str, Any] = {
    "id": "post-check",
    "task": "text-inspection",
    "interface": {"input": "text", "output": "verdict", "classes": ["calm", "angry"]},
    "recipe": {
        **SCENARIO["recipe"],
        "backbone": "multilingual-e5-small",
        "parts": ["meaning/8"],
        "parts_after_leaving": ["nuance/8"],
        "views": ["identity"],
    },
    "certify": {**SCENARIO["certify"], "families": ["marks"], "severities": [1], "promises_ppm": [300_000]},
}
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "alder": (
        ("The lamp", "My order", "This bag", "The cup"),
        ("is wonderful", "works well", "is great"),
        ("is broken", "is awful", "is bad"),
    ),
    "birch": (
        ("Die Lampe", "Das Paket", "Der Tisch", "Die Tasse"),
        ("ist wunderbar", "ist gut", "gefällt"),
        ("ist kaputt", "ist schlecht", "enttäuscht"),
    ),
    "cedar": (("这盏灯", "包裹", "这个包", "杯子"), ("很好", "非常棒", "我喜欢"), ("坏了", "很差", "太糟糕")),
}


def sentences(party: str, count: int) -> list[tuple[str, str, str]]:
    """(text, label, split), all different."""
    things, calm, angry = WORDS[party]
    made = []
    for place in range(count):
        bad = place % 2 == 1
        said = (angry if bad else calm)[place // 2 % 3]
        split = "holdout" if place % 3 == 2 else "train"
        made.append((f"{things[place // 6 % 4]} {said} {place}", "defect" if bad else "good", split))
    return made


def text_folder(root: Path, party: str, count: int = 66) -> Path:
    root.mkdir(parents=True)
    if party == "cedar":
        lines = [f"{text},{label},{split},{place}" for place, (text, label, split) in enumerate(sentences(party, count))]
        (root / "records.csv").write_text("\n".join(["text,label,split,group", *lines]) + "\n", encoding="utf-8")
        return root
    lines = ["path,label,split,group"]
    for place, (text, label, split) in enumerate(sentences(party, count)):
        (root / f"{place:03d}.txt").write_text(text, encoding="utf-8")
        lines.append(f"{place:03d}.txt,{label},{split},{place}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("texts")
    scenario = scenario_folder(root / "post", **TEXT)
    words = [word for name in OWNERS for word in ("--data", text_folder(root / name, name))]
    ended = isthmus("run", scenario, *words, "--state", root / "state", "--report", root / "report.html", "--json", cwd=root)
    assert ended.code == 0, ended.err
    return root, ended.document


def test_texts_are_certified_served_metered_and_nothing_but_sums_left(walked: tuple[Path, dict[str, Any]]) -> None:
    root, found = walked
    assert found["certificate"]["digest"].startswith("sha256:") and found["auc"]["joint"] > 0.9 and found["images_left"] == 0
    assert found["receipts"] == found["requests"] > 0 and found["entries_sum_micros"] == 0
    logs_hold(root / "state", OWNERS)
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "of the held-out records" in page and "held-out images" not in page


def test_a_client_of_the_protocol_asks_in_any_language(walked: tuple[Path, dict[str, Any]]) -> None:
    root, _ = walked
    with exchange_up(root / "state") as (url, token):
        operator = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        operator.post("/v1/accounts/post-user/credit", json={"id": "c1", "currency": "EUR", "amount_micros": 1_000_000, "reason": "t"})
        bearer = operator.post("/v1/keys", json={"party": "post-user", "label": "t", "expires_in_s": 600}).json()["bearer"]
        headers = {"Authorization": f"Bearer {bearer}"}
        said = ["La lampe est cassée.", "المصباح رائع", "It broke 💔"]
        plain = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": said}]}
        by_json = httpx.post(f"{url}/v2/models/post-check/infer", content=json.dumps(plain), headers=headers, trust_env=False)
        assert by_json.status_code == 200, by_json.text
        scores = by_json.json()["outputs"][0]["data"]
        assert scores[0] > scores[1] < scores[2]
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        for binary in (True, False):
            given = triton.InferInput("text", [3], "BYTES")
            given.set_data_from_numpy(np.array([text.encode() for text in said], dtype=np.object_), binary_data=binary)
            answer = client.infer("post-check", [given], headers=dict(headers))  # the client writes into what it is given
            assert np.array_equal(answer.as_numpy("score"), np.array(scores, dtype=np.float32))
        for raw, why in ((b"\xff\xfe", "not UTF-8"), (b"  ", "is empty"), (b"a" * 70_000, "more than the")):
            refused = httpx.post(
                f"{url}/v2/models/post-check/infer",
                content=raw,
                headers={**headers, "Inference-Header-Content-Length": "0"},
                trust_env=False,
            )
            assert refused.status_code == 400 and why in refused.json()["message"], refused.text
    book_holds(root / "state")
