"""Good pictures only, by the real command lines: three nodes, a promise on alarms, a heat map by the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from isthmus.kit.pictures import encode_png
from tests.journeys.inspection import SCENARIO, isthmus, plate, run_words, scenario_folder
from tests.journeys.state import book_holds, exchange_up, logs_hold

OWNERS = ("alder", "birch", "cedar")
GOOD: dict[str, Any] = {
    "id": "plate-watch",
    "tier": "T1",
    "recipe": {
        **SCENARIO["recipe"],
        "head": "gaussian",
        "parts": ["patch-defects/max", "patch-rings/2"],
        "parts_after_leaving": ["patch-deep/4"],
        "views": ["identity"],
        "lambdas": [0.01, 0.1],
    },
    "certify": {**SCENARIO["certify"], "promise": "alarms", "promises_ppm": [150_000], "families": ["scratch"], "severities": [1, 2]},
    "serve": {**SCENARIO["serve"], "sample_requests": 6},
}


def good_folder(root: Path, seed: int, records: int = 60) -> Path:
    """Good plates only, in groups of five, every third held out."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    lines = ["path,label,group,split"]
    for place in range(records):
        (root / f"p{place:03d}.png").write_bytes(encode_png(plate(rng, False)))
        lines.append(f"p{place:03d}.png,good,lot-{place // 5},{'holdout' if place // 5 % 3 == 1 else 'train'}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("good")
    scenario = scenario_folder(root / "watch", **GOOD)
    folders = [good_folder(root / name, place) for place, name in enumerate(OWNERS)]
    ended = isthmus(*run_words(scenario, folders, root / "state"), cwd=root)
    assert ended.code == 0, ended.err + ended.out
    return root, scenario, ended.document


def test_good_pictures_alone_get_a_certificate_that_says_what_it_does_not_prove(walked: Any) -> None:
    root, _, found = walked
    assert found["certificate"]["issued"] and found["error_goal"] == 0.15 and found["answered_error_bound"] <= 0.15
    assert found["auc"]["joint"] is None and found["images_left"] == 0
    assert found["receipts"] == found["requests"] == 6 and found["entries_sum_micros"] == 0
    logs_hold(root / "state", OWNERS)
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "recall is not proven" in page.lower() and "data:image/png;base64" not in page, "no licence note, so no pictures"


def test_the_protocol_gives_the_heat_map_where_it_is_asked_for(walked: Any) -> None:
    root, _, _ = walked
    with exchange_up(root / "state") as (url, token):
        operator = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        operator.post("/v1/accounts/plate-user/credit", json={"id": "c1", "currency": "EUR", "amount_micros": 1_000_000, "reason": "t"})
        bearer = operator.post("/v1/keys", json={"party": "plate-user", "label": "t", "expires_in_s": 600}).json()["bearer"]
        headers = {"Authorization": f"Bearer {bearer}"}
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        named = client.get_model_metadata("plate-watch", headers=headers)
        assert [output["name"] for output in named["outputs"]] == ["score", "verdict", "heat"]
        picture = plate(np.random.default_rng(9), False)
        picture[30:34, 10:40] = 255
        given = triton.InferInput("image", [1, *picture.shape], "UINT8")
        given.set_data_from_numpy(picture[None])
        wanted = [triton.InferRequestedOutput(name) for name in ("score", "verdict", "heat")]
        answer = client.infer("plate-watch", [given], outputs=wanted, headers=headers)
        heat = answer.as_numpy("heat")
        assert heat.shape == (1, 14, 14) and answer.as_numpy("verdict")[0] == b"person"
        row, column = np.unravel_index(int(heat[0].argmax()), (14, 14))
        assert 5 <= row <= 8 and 1 <= column <= 9, "where the bar was drawn"
        assert "heat" not in [o["name"] for o in client.infer("plate-watch", [given], headers=headers).get_response()["outputs"]]
    book_holds(root / "state")
